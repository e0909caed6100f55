//! Russian requisites: who somebody is and where the money goes, proved by form and check digits (R-184,
//!
//!
//! Pure functions of text. A number that passes here is well formed; that somebody bears it is another
//! question, which no arithmetic answers. Deliberately not here: numbers of other countries.

/// A wrong field and what is wrong with it, in words that follow its name.
pub type Wrong = (&'static str, &'static str);

/// Whose number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A legal entity: INN of 10 digits, OGRN of 13, and a KPP.
    Entity,
    /// A sole proprietor or another person: INN of 12 digits, OGRNIP of 15, no KPP.
    Person,
}

/// How far a number could be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By its check digit.
    Checked,
    /// By its form only: the Treasury's accounts and codes follow rules of their own. Worth a warning.
    FormOnly,
}

/// Reads an INN by its length and check digits; none when it is not one.
pub fn inn(text: &str) -> Option<Holder> {
    const TENTH: [u32; 9] = [2, 4, 10, 3, 5, 9, 4, 6, 8];
    const ELEVENTH: [u32; 10] = [7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    const TWELFTH: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    match digits(text)?.as_slice() {
        [body @ .., tenth] if body.len() == 9 => {
            (weighed(body, &TENTH) == *tenth).then_some(Holder::Entity)
        }
        [body @ .., eleventh, twelfth] if body.len() == 10 => {
            let first = weighed(body, &ELEVENTH);
            let both: Vec<u32> = body.iter().copied().chain([first]).collect();
            (first == *eleventh && weighed(&both, &TWELFTH) == *twelfth).then_some(Holder::Person)
        }
        _ => None,
    }
}

fn weighed(digits: &[u32], weights: &[u32]) -> u32 {
    let sum: u32 = digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum();
    sum % 11 % 10
}

fn digits(text: &str) -> Option<Vec<u32>> {
    text.chars().map(|c| c.to_digit(10)).collect()
}

/// Nine characters: four digits, two digits or capital Latin letters, three digits.
pub fn is_kpp(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 9
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 5 => byte.is_ascii_digit() || byte.is_ascii_uppercase(),
            _ => byte.is_ascii_digit(),
        })
}

/// Reads a state registration number by its check digit: 13 digits of an entity, 15 of a proprietor.
pub fn ogrn(text: &str) -> Option<Holder> {
    let digits = digits(text)?;
    let (modulus, whose) = match digits.len() {
        13 => (11, Holder::Entity),
        15 => (13, Holder::Person),
        _ => return None,
    };
    let (last, body) = digits.split_last()?;
    let rest = body.iter().fold(0, |rest, digit| (rest * 10 + digit) % modulus);
    (rest % 10 == *last).then_some(whose)
}

/// Reads the code of a bank: nine digits. Banks of Russia begin with 04, divisions of the Bank of Russia and
/// of the Treasury with 00 to 03; none when it is neither.
pub fn bik(text: &str) -> Option<Proof> {
    let digits = digits(text)?;
    match digits.as_slice() {
        [0, 4, ..] if digits.len() == 9 => Some(Proof::Checked),
        [0, 0..=3, ..] if digits.len() == 9 => Some(Proof::FormOnly),
        _ => None,
    }
}

/// Reads a bank account of 20 digits by its key at this bank; none when the bank has no such account.
pub fn account(number: &str, bank: &str) -> Option<Proof> {
    let digits = digits(number).filter(|digits| digits.len() == 20)?;
    if bik(bank)? == Proof::FormOnly || number.starts_with("03") {
        return Some(Proof::FormOnly);
    }
    (key_sum(&digits, bank)? == 0).then_some(Proof::Checked)
}

/// Products of the digits before and in the account with 7, 1 and 3 in turn, summed modulo 10; the key is
/// right when it is 0.
fn key_sum(account: &[u32], bank: &str) -> Option<u32> {
    let bank = digits(bank)?;
    // Correspondent accounts, and whatever else is kept at a settlement centre of the Bank of Russia, are
    // tied to the centre; all others to the bank.
    let at_a_centre =
        account.starts_with(&[3, 0, 1, 0, 1]) || matches!(bank.get(6..)?, [0, 0, 0..=2]);
    let prefix = match (at_a_centre, bank.as_slice()) {
        (true, [_, _, _, _, fifth, sixth, ..]) => [0, *fifth, *sixth],
        (false, [.., seventh, eighth, ninth]) => [*seventh, *eighth, *ninth],
        _ => return None,
    };
    let weights = [7, 1, 3].iter().cycle();
    let sum: u32 = prefix.iter().chain(account).zip(weights).map(|(d, w)| d * w % 10).sum();
    Some(sum % 10)
}

/// The currency digits of an account, such as 810: characters six to eight.
pub fn account_currency(number: &str) -> Option<&str> {
    digits(number).filter(|digits| digits.len() == 20)?;
    number.get(5..8)
}

/// Everything that is wrong with the numbers of a Russian payer, all at once. The INN is
/// required, the KPP of an entity too; an OGRN may be left out.
pub fn wrong(inn_text: &str, kpp: &str, ogrn_text: &str) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    let whose = inn(inn_text);
    if inn_text.is_empty() {
        wrong.push(("inn", "is required in RU"));
    } else if whose.is_none() {
        wrong.push(("inn", "must be 10 or 12 digits with valid check digits"));
    }
    match (kpp.is_empty(), whose) {
        (true, Some(Holder::Entity)) => wrong.push(("kpp", "is required with an INN of 10 digits")),
        (true, Some(Holder::Person) | None) => {}
        (false, _) if !is_kpp(kpp) => {
            wrong.push(("kpp", "must be 4 digits, 2 digits or capital letters, and 3 digits"));
        }
        (false, Some(Holder::Person)) => {
            wrong.push(("kpp", "must be empty with an INN of 12 digits"));
        }
        (false, Some(Holder::Entity) | None) => {}
    }
    if !ogrn_text.is_empty() {
        match (ogrn(ogrn_text), whose) {
            (None, _) => {
                wrong.push(("ogrn", "must be 13 or 15 digits with a valid check digit"));
            }
            (Some(Holder::Entity), Some(Holder::Person)) => {
                wrong.push(("ogrn", "must be 15 digits with an INN of 12 digits"));
            }
            (Some(Holder::Person), Some(Holder::Entity)) => {
                wrong.push(("ogrn", "must be 13 digits with an INN of 10 digits"));
            }
            (Some(_), _) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inn_table() {
        for (text, whose) in [
            ("7707083893", Some(Holder::Entity)),
            ("7743001840", Some(Holder::Entity)),
            ("7736207543", Some(Holder::Entity)),
            ("500100732259", Some(Holder::Person)),
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
            ("1027739850962", Some(Holder::Entity)),
            ("1027739850963", None),
            ("304500116000157", Some(Holder::Person)),
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
    fn bik_table() {
        for (text, proof) in [
            ("044525225", Some(Proof::Checked)),
            ("004525988", Some(Proof::FormOnly)),
            ("017003983", Some(Proof::FormOnly)),
            ("144525225", None),
            ("054525225", None),
            ("04452522", None),
            ("0445252255", None),
            ("04452522x", None),
            ("", None),
        ] {
            assert_eq!(bik(text), proof, "{text}");
        }
    }

    /// R-185's worked figures: the account with `K` in the place of its key, the bank, and the sum and the
    /// key that belong there.
    #[test]
    fn account_keys_as_worked() {
        for (account, bank, sum, key) in [
            ("40602810K00000000025", "049805746", Some(59), 7),
            ("40702810K00000000025", "044514512", None, 9),
            ("30101810K00000000746", "049805000", None, 8),
            ("30101810K00000000225", "044525225", None, 4),
        ] {
            let zero = digits(&account.replace('K', "0")).unwrap();
            let rest = key_sum(&zero, bank).unwrap();
            assert_eq!(rest * 3 % 10, key, "{account} at {bank}");
            if let Some(sum) = sum {
                assert_eq!(rest, sum % 10, "{account} at {bank}");
            }
            for digit in 0..10 {
                let number = account.replace('K', &digit.to_string());
                let proof = (digit == key).then_some(Proof::Checked);
                assert_eq!(super::account(&number, bank), proof, "{number} at {bank}");
            }
        }
    }

    #[test]
    fn account_table() {
        for (number, bank, proof) in [
            // The payee of R-182.
            ("40702810138250123017", "044525225", Some(Proof::Checked)),
            ("40702810138250123017", "044525226", None),
            // The Treasury's: by their form only.
            ("03100643000000017300", "017003983", Some(Proof::FormOnly)),
            ("03100643000000017300", "044525225", Some(Proof::FormOnly)),
            ("40102810545370000003", "004525988", Some(Proof::FormOnly)),
            ("0310064300000001730", "017003983", None),
            ("4070281013825012301x", "044525225", None),
            ("40702810138250123017", "bank", None),
            ("", "", None),
        ] {
            assert_eq!(account(number, bank), proof, "{number} at {bank}");
        }
        assert_eq!(account_currency("40702810138250123017"), Some("810"));
        assert_eq!(account_currency("DE89370400440532013000"), None);
    }

    #[test]
    fn all_that_is_wrong_is_named_at_once() {
        let fields = |inn, kpp, ogrn| -> Vec<&str> {
            wrong(inn, kpp, ogrn).into_iter().map(|(field, _)| field).collect()
        };
        let none: [&str; 0] = [];
        for (name, (inn, kpp, ogrn), found) in [
            ("sound", ("7707083893", "773601001", "1027739850962"), none.as_slice()),
            ("a proprietor", ("500100732259", "", "304500116000157"), &none),
            ("all wrong", ("7707083894", "7", "1"), &["inn", "kpp", "ogrn"]),
            ("an entity without KPP", ("7707083893", "", ""), &["kpp"]),
            ("a proprietor with KPP", ("500100732259", "773601001", ""), &["kpp"]),
            ("the other's OGRN", ("7707083893", "773601001", "304500116000157"), &["ogrn"]),
            ("no INN", ("", "", ""), &["inn"]),
        ] {
            assert_eq!(fields(inn, kpp, ogrn), found, "{name}");
        }
    }

    proptest! {
        /// A single wrong digit is always found: that is what the check digits are for.
        #[test]
        fn a_changed_digit_of_an_inn_is_found(body in "[0-9]{9}", at in 0..9usize, by in 1..10u32) {
            let weights = [2, 4, 10, 3, 5, 9, 4, 6, 8];
            let digits = super::digits(&body).unwrap();
            let last = weighed(&digits, &weights);
            let whole = format!("{body}{last}");
            prop_assert_eq!(inn(&whole), Some(Holder::Entity));
            let mut changed = digits.clone();
            changed[at] = (changed[at] + by) % 10;
            let text: String = changed.iter().chain([&last]).map(u32::to_string).collect();
            // Weights below eleven and a prime modulus: only "10 counts as 0" can hide a change.
            let sum = |digits: &[u32]| -> u32 {
                digits.iter().zip(weights).map(|(d, w)| d * w).sum::<u32>() % 11
            };
            let hidden = [sum(&digits), sum(&changed)].iter().all(|rest| [0, 10].contains(rest));
            prop_assert_eq!(inn(&text).is_some(), hidden);
        }

        /// Every account has exactly one key at a bank, and a single wrong digit spoils it: 7, 1 and 3 are
        /// prime to 10.
        #[test]
        fn a_changed_digit_of_an_account_is_found(
            body in "4[0-9]{19}",
            bank in "04[0-9]{7}",
            at in 0..20usize,
            by in 1..10u32,
        ) {
            let with_key = |key: u32| format!("{}{key}{}", &body[..8], &body[9..]);
            let sound: Vec<String> =
                (0..10).map(with_key).filter(|number| account(number, &bank).is_some()).collect();
            prop_assert_eq!(sound.len(), 1);
            let mut changed = super::digits(&sound[0]).unwrap();
            changed[at] = (changed[at] + by) % 10;
            // An account of another kind may be tied to another prefix, or to none.
            prop_assume!(changed[0] != 0 && changed[..5] != [3, 0, 1, 0, 1]);
            let text: String = changed.iter().map(u32::to_string).collect();
            prop_assert_eq!(account(&text, &bank), None);
        }

        /// Nothing that a caller sends panics.
        #[test]
        fn any_text_is_read(text in "\\PC{0,24}", other in "\\PC{0,24}") {
            let _ = (inn(&text), ogrn(&text), is_kpp(&text), bik(&text), account(&text, &other));
            let _ = (account_currency(&text), wrong(&text, &other, &text));
        }
    }
}
