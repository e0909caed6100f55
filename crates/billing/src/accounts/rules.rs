//! What an account may be: requisites, and who may be attached or detached.

use adspend_common::money::Currency;

use super::{Account, AccountKind, AccountState, LegalEntity};
use crate::ledger::Row;

/// A wrong field and what is wrong with it; the path is relative to the message that holds it.
pub(crate) type Wrong = (&'static str, &'static str);

/// Whose INN it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inn {
    /// Ten digits: a legal entity.
    Entity,
    /// Twelve digits: a sole proprietor or another person.
    Person,
}

/// Reads an INN by its length and checksums; none when it is not one.
pub(crate) fn inn(text: &str) -> Option<Inn> {
    const TENTH: [u32; 9] = [2, 4, 10, 3, 5, 9, 4, 6, 8];
    const ELEVENTH: [u32; 10] = [7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    const TWELFTH: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    let digits = digits(text)?;
    match digits.len() {
        10 => (key(&digits, &TENTH) == digits[9]).then_some(Inn::Entity),
        12 => (key(&digits, &ELEVENTH) == digits[10] && key(&digits, &TWELFTH) == digits[11])
            .then_some(Inn::Person),
        _ => None,
    }
}

fn key(digits: &[u32], weights: &[u32]) -> u32 {
    let sum: u32 = digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum();
    sum % 11 % 10
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars().map(|c| c.to_digit(10)).collect()
}

/// Nine characters: four digits, two digits or capital Latin letters, three digits.
pub(crate) fn is_kpp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 9
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 5 => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            _ => byte.is_ascii_digit(),
        })
}

/// A state registration number by its checksum: 13 digits of an entity, 15 of a proprietor.
pub(crate) fn ogrn(text: &str) -> Option<Inn> {
    let digits = digits(text)?;
    let (modulus, whose) = match digits.len() {
        13 => (11, Inn::Entity),
        15 => (13, Inn::Person),
        _ => return None,
    };
    let (last, body) = digits.split_last()?;
    let rest = body.iter().fold(0, |rest, digit| (rest * 10 + digit) % modulus);
    (rest % 10 == *last).then_some(whose)
}

/// Everything that is wrong with the requisites of a payer.
pub(crate) fn wrong_requisites(entity: &LegalEntity) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if entity.country != "RU" {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        for (field, text) in [("inn", &entity.inn), ("kpp", &entity.kpp), ("ogrn", &entity.ogrn)] {
            if !plain(text) || text.len() > 32 {
                wrong.push((field, "must be at most 32 Latin letters, digits and hyphens"));
            }
        }
        return wrong;
    }
    let whose = inn(&entity.inn);
    if entity.inn.is_empty() {
        wrong.push(("inn", "is required in RU"));
    } else if whose.is_none() {
        wrong.push(("inn", "must be 10 or 12 digits with valid check digits"));
    }
    if !entity.kpp.is_empty() {
        if !is_kpp(&entity.kpp) {
            wrong.push(("kpp", "must be 4 digits, 2 digits or capital letters, and 3 digits"));
        } else if whose == Some(Inn::Person) {
            wrong.push(("kpp", "must be empty with an INN of 12 digits"));
        }
    }
    if !entity.ogrn.is_empty() {
        match (ogrn(&entity.ogrn), whose) {
            (None, _) => {
                wrong.push(("ogrn", "must be 13 or 15 digits with a valid check digit"));
            }
            (Some(Inn::Entity), Some(Inn::Person)) => {
                wrong.push(("ogrn", "must be 15 digits with an INN of 12 digits"));
            }
            (Some(Inn::Person), Some(Inn::Entity)) => {
                wrong.push(("ogrn", "must be 13 digits with an INN of 10 digits"));
            }
            (Some(_), _) => {}
        }
    }
    wrong
}

/// Whether two letters could be a country of ISO 3166-1.
pub(crate) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether a notice could be sent there: one `@` with something on both sides, a dot in the domain.
pub(crate) fn is_email(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text.split_once('@') {
        Some((local, domain)) => {
            plain
                && text.len() <= 254
                && !local.is_empty()
                && !domain.contains('@')
                && domain.split('.').count() > 1
                && domain.split('.').all(|label| !label.is_empty())
        }
        None => false,
    }
}

/// Why an advertiser cannot become a client of an agency: every reason at once.
pub(crate) fn not_attachable(client: &Account, agency: &Account, money: &Row) -> Vec<&'static str> {
    let mut why = Vec::new();
    match client.kind {
        AccountKind::Advertiser => {}
        AccountKind::Client => why.push("ATTACHED_ALREADY"),
        AccountKind::Agency => why.push("NOT_A_DIRECT_ADVERTISER"),
    }
    if agency.kind != AccountKind::Agency {
        why.push("NOT_AN_AGENCY");
    }
    if client.state != AccountState::Active || agency.state != AccountState::Active {
        why.push("NOT_ACTIVE");
    }
    if !same(client.currency, agency.currency) {
        why.push("CURRENCY_MISMATCH");
    }
    if !money.held.is_zero() || !money.frozen.is_zero() {
        why.push("MONEY_ON_HOLD");
    }
    why
}

/// Why a client cannot leave its agency: every reason at once.
pub(crate) fn not_detachable(client: &Account, money: &Row) -> Vec<&'static str> {
    let mut why = Vec::new();
    match client.kind {
        AccountKind::Client => {}
        AccountKind::Advertiser | AccountKind::Agency => why.push("NOT_A_CLIENT"),
    }
    if client.state != AccountState::Active {
        why.push("NOT_ACTIVE");
    }
    if !money.held.is_zero() || !money.frozen.is_zero() {
        why.push("MONEY_ON_HOLD");
    }
    if money.main > adspend_common::money::Balance::ZERO {
        why.push("BALANCE_IS_POSITIVE");
    }
    why
}

fn same(one: Currency, other: Currency) -> bool {
    one == other
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inn_table() {
        for (text, whose) in [
            ("7707083893", Some(Inn::Entity)),
            ("7743001840", Some(Inn::Entity)),
            ("7736207543", Some(Inn::Entity)),
            ("500100732259", Some(Inn::Person)),
            ("7707083894", None),
            ("500100732258", None),
            ("500100732269", None),
            ("770708389", None),
            ("77070838933", None),
            ("770708389x", None),
            ("٧٧٠٧٠٨٣٨٩٣", None),
            ("", None),
        ] {
            assert_eq!(inn(text), whose, "{text}");
        }
    }

    #[test]
    fn ogrn_table() {
        for (text, whose) in [
            ("1027739850962", Some(Inn::Entity)),
            ("1027739850963", None),
            ("304500116000157", Some(Inn::Person)),
            ("304500116000158", None),
            ("102773985096", None),
            ("", None),
        ] {
            assert_eq!(ogrn(text), whose, "{text}");
        }
    }

    #[test]
    fn kpp_table() {
        for (text, sound) in [
            ("773601001", true),
            ("7736AZ001", true),
            ("7736az001", false),
            ("77360100", false),
            ("7736010011", false),
            ("A73601001", false),
            ("", false),
        ] {
            assert_eq!(is_kpp(text), sound, "{text}");
        }
    }

    #[test]
    fn email_table() {
        for (text, sound) in [
            ("money@north.example", true),
            ("a@b.c", true),
            ("a@b", false),
            ("@b.c", false),
            ("a@", false),
            ("a@@b.c", false),
            ("a b@c.d", false),
            ("a@b..c", false),
            ("", false),
        ] {
            assert_eq!(is_email(text), sound, "{text}");
        }
    }

    fn entity(inn: &str, kpp: &str, ogrn: &str) -> LegalEntity {
        LegalEntity {
            country: "RU".into(),
            name: "North LLC".into(),
            inn: inn.into(),
            kpp: kpp.into(),
            ogrn: ogrn.into(),
            address: String::new(),
        }
    }

    #[test]
    fn all_wrong_requisites_are_named_at_once() {
        let fields = |entity: &LegalEntity| -> Vec<&str> {
            wrong_requisites(entity).into_iter().map(|(field, _)| field).collect()
        };
        for (name, entity, wrong) in [
            ("sound", entity("7707083893", "773601001", "1027739850962"), vec![]),
            ("a proprietor", entity("500100732259", "", "304500116000157"), vec![]),
            ("all wrong", entity("7707083894", "7", "1"), vec!["inn", "kpp", "ogrn"]),
            ("a proprietor with KPP", entity("500100732259", "773601001", ""), vec!["kpp"]),
            ("the other's OGRN", entity("7707083893", "", "304500116000157"), vec!["ogrn"]),
            ("no INN", entity("", "", ""), vec!["inn"]),
        ] {
            assert_eq!(fields(&entity), wrong, "{name}");
        }
        let mut foreign = entity("BIN-180740000", "", "");
        foreign.country = "KZ".into();
        assert_eq!(fields(&foreign), Vec::<&str>::new());
        foreign.inn = "п".into();
        assert_eq!(fields(&foreign), ["inn"]);
    }

    proptest! {
        /// A single wrong digit is always found: that is what the check digits are for.
        #[test]
        fn a_changed_digit_of_an_inn_is_found(body in "[0-9]{9}", at in 0..9usize, by in 1..10u32) {
            let digits = super::digits(&body).unwrap();
            let last = key(&digits, &[2, 4, 10, 3, 5, 9, 4, 6, 8]);
            let whole = format!("{body}{last}");
            prop_assert_eq!(inn(&whole), Some(Inn::Entity));
            let mut changed = digits.clone();
            changed[at] = (changed[at] + by) % 10;
            let text: String = changed.iter().chain([&last]).map(u32::to_string).collect();
            // Weights below eleven and a prime modulus: only "10 counts as 0" can hide a change.
            let sum = |digits: &[u32]| -> u32 {
                digits.iter().zip([2, 4, 10, 3, 5, 9, 4, 6, 8]).map(|(d, w)| d * w).sum::<u32>() % 11
            };
            let hidden = [sum(&digits), sum(&changed)].iter().all(|rest| [0, 10].contains(rest));
            prop_assert_eq!(inn(&text).is_some(), hidden);
        }

        /// Nothing that a caller sends panics.
        #[test]
        fn any_text_is_read(text in "\\PC{0,20}") {
            let _ = (inn(&text), ogrn(&text), is_kpp(&text), is_email(&text));
            wrong_requisites(&entity(&text, &text, &text));
        }
    }
}
