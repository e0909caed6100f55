//! What an account may be: requisites, and who may be attached or detached.

use adspend_common::{
    money::Currency,
    requisites::{self, Wrong},
};

use super::{Account, AccountKind, AccountState, LegalEntity};
use crate::ledger::Row;

/// Everything that is wrong with the requisites of a payer.
pub(crate) fn wrong_requisites(entity: &LegalEntity) -> Vec<Wrong> {
    if entity.country != "RU" {
        let mut wrong = Vec::new();
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        for (field, text) in [("inn", &entity.inn), ("kpp", &entity.kpp), ("ogrn", &entity.ogrn)] {
            if !plain(text) || text.len() > 32 {
                wrong.push((field, "must be at most 32 Latin letters, digits and hyphens"));
            }
        }
        return wrong;
    }
    requisites::wrong(&entity.inn, &entity.kpp, &entity.ogrn)
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
/// `has_credit`: it has a grant, or owes on a deferred invoice; an agency's client can have neither.
pub(crate) fn not_attachable(
    client: &Account,
    agency: &Account,
    money: &Row,
    has_credit: bool,
) -> Vec<&'static str> {
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
    if has_credit {
        why.push("CREDIT_IN_USE");
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
    fn requisites_are_proved_where_they_are_known() {
        let fields = |entity: &LegalEntity| -> Vec<&str> {
            wrong_requisites(entity).into_iter().map(|(field, _)| field).collect()
        };
        assert_eq!(fields(&entity("7707083893", "773601001", "1027739850962")), Vec::<&str>::new());
        assert_eq!(fields(&entity("7707083894", "7", "1")), ["inn", "kpp", "ogrn"]);
        assert_eq!(fields(&entity("7707083893", "", "")), ["kpp"], "an entity has a KPP (R-186)");
        let mut foreign = entity("BIN-180740000", "", "");
        foreign.country = "KZ".into();
        assert_eq!(fields(&foreign), Vec::<&str>::new());
        foreign.inn = "п".into();
        assert_eq!(fields(&foreign), ["inn"]);
    }

    proptest! {
        /// Nothing that a caller sends panics.
        #[test]
        fn any_text_is_read(text in "\\PC{0,20}") {
            let _ = is_email(&text);
            wrong_requisites(&entity(&text, &text, &text));
        }
    }
}
