//! What a line of a statement is to us: whose it is, whether it is a payment, and
//! by what it is known again.

use adspend_common::{
    money::{Currency, Money},
    requisites::{self, Proof},
    time::Day,
};

use super::{
    reading::{Entry, Place, Section, Way},
    settings::Statements,
};
use crate::{
    ledger::payload_hash,
    payments::{NewPayment, Payer},
};

/// Why a statement is not ours to import.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{at}: the account {account} is not one of ours")]
    ForeignAccount { at: Place, account: String },
    #[error("{at}: in {found}, while the account is kept in {expected}")]
    Currency { at: Place, expected: Currency, found: Currency },
}

/// Why a line is not a payment. Names go over the wire and into the database and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// Money that left.
    Outgoing,
    /// Between accounts that the statement is not about.
    OtherAccount,
    /// Between two accounts of ours.
    OwnTransfer,
    /// Not booked by the bank.
    NotBooked,
}

impl Ignored {
    pub(crate) const ALL: [Ignored; 4] =
        [Ignored::Outgoing, Ignored::OtherAccount, Ignored::OwnTransfer, Ignored::NotBooked];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Ignored::Outgoing => "OUTGOING",
            Ignored::OtherAccount => "OTHER_ACCOUNT",
            Ignored::OwnTransfer => "OWN_TRANSFER",
            Ignored::NotBooked => "NOT_BOOKED",
        }
    }
}

/// What a person should look at, although the money counts: it has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    /// The payer's INN is missing or its check digits are wrong.
    Inn,
    /// The payer's bank has no such account.
    Account,
    /// An account of the Treasury: its key is not checked.
    AccountNotChecked,
}

/// What a line is known by again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NaturalKey {
    pub(crate) own_account: String,
    pub(crate) day: Day,
    pub(crate) number: String,
    pub(crate) amount: Money,
    pub(crate) payer_account: String,
}

impl NaturalKey {
    pub(crate) fn of(entry: &Entry) -> NaturalKey {
        NaturalKey {
            own_account: entry.account.clone(),
            day: entry.day,
            number: entry.number.clone(),
            amount: entry.amount,
            payer_account: entry.sender.account.clone(),
        }
    }

    /// One text for one key.
    pub(crate) fn text(&self) -> String {
        let NaturalKey { own_account, day, number, amount, payer_account } = self;
        // None of the parts but the number may hold a line end, and the number is the last.
        format!("{own_account}\n{day}\n{}\n{payer_account}\n{number}", amount.micros())
    }

    pub(crate) fn hash(&self) -> i64 {
        payload_hash(&[self.text().as_bytes()])
    }
}

/// An account of the statement must be ours, in the currency that it is kept in.
pub(crate) fn check_section(section: &Section, settings: &Statements) -> Result<(), Refusal> {
    let Section { at, account, currency, .. } = section;
    let Some(own) = settings.own(account) else {
        return Err(Refusal::ForeignAccount { at: *at, account: account.clone() });
    };
    in_currency(*at, own.currency.0, *currency)
}

/// A line that comes in must be in the currency of its account, which is ours.
pub(crate) fn check_entry(entry: &Entry, settings: &Statements) -> Result<(), Refusal> {
    match entry.way {
        Way::In => {}
        Way::Out | Way::Elsewhere | Way::NotBooked => return Ok(()),
    }
    let Some(own) = settings.own(&entry.account) else {
        return Err(Refusal::ForeignAccount { at: entry.at, account: entry.account.clone() });
    };
    in_currency(entry.at, own.currency.0, entry.currency)
}

fn in_currency(at: Place, expected: Currency, found: Option<Currency>) -> Result<(), Refusal> {
    match found {
        Some(found) if found != expected => Err(Refusal::Currency { at, expected, found }),
        Some(_) | None => Ok(()),
    }
}

/// Why a line is not a payment, or none when it is one.
pub(crate) fn ignored(entry: &Entry, settings: &Statements) -> Option<Ignored> {
    match entry.way {
        Way::Out => Some(Ignored::Outgoing),
        Way::Elsewhere => Some(Ignored::OtherAccount),
        Way::NotBooked => Some(Ignored::NotBooked),
        Way::In => settings.own(&entry.sender.account).map(|_| Ignored::OwnTransfer),
    }
}

/// What a person should look at.
pub(crate) fn warnings(entry: &Entry) -> Vec<Warning> {
    let sender = &entry.sender;
    let mut warnings = Vec::new();
    if requisites::inn(&sender.inn).is_none() {
        warnings.push(Warning::Inn);
    }
    // An account of another form belongs to a bank abroad.
    let russian = sender.account.len() == 20 && !sender.bik.is_empty();
    match (russian, requisites::account(&sender.account, &sender.bik)) {
        (true, None) => warnings.push(Warning::Account),
        (true, Some(Proof::FormOnly)) => warnings.push(Warning::AccountNotChecked),
        (true, Some(Proof::Checked)) | (false, _) => {}
    }
    warnings
}

/// The payment that a line is.
pub(crate) fn payment(entry: &Entry, settings: &Statements) -> NewPayment {
    let kept_in = settings.own(&entry.account).map(|own| own.currency.0);
    let sender = entry.sender.clone();
    NewPayment {
        amount: entry.amount,
        currency: entry.currency.or(kept_in).unwrap_or(Currency::RUB),
        payer: Payer {
            name: sender.name,
            inn: sender.inn,
            kpp: sender.kpp,
            bank_account: sender.account,
            bik: sender.bik,
        },
        purpose: entry.purpose.clone(),
        document_number: entry.number.clone(),
        document_day: Some(entry.day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::reading::Sender;

    const OWN: &str = "40702810138250123017";
    const SECOND: &str = "40702810300000000001";

    fn settings() -> Statements {
        let own = |account: &str| crate::config::OwnAccount {
            account: account.to_owned(),
            bik: "044525225".to_owned(),
            currency: crate::config::Code(Currency::RUB),
        };
        Statements { own_accounts: vec![own(OWN), own(SECOND)], ..Statements::default() }
    }

    fn entry(way: Way, account: &str, sender: (&str, &str, &str)) -> Entry {
        let (inn, from, bik) = sender;
        Entry {
            at: Place::START,
            account: account.to_owned(),
            way,
            number: "17".to_owned(),
            day: "2026-11-20".parse().unwrap(),
            amount: Money::from_units(45_000),
            currency: None,
            sender: Sender {
                inn: inn.to_owned(),
                account: from.to_owned(),
                bik: bik.to_owned(),
                ..Sender::default()
            },
            purpose: String::new(),
        }
    }

    #[test]
    fn lines_that_are_no_payments() {
        let north = ("7707083893", "40702810900000000002", "044525225");
        for (way, from, why) in [
            (Way::In, north, None),
            (Way::In, ("7707083893", SECOND, "044525225"), Some(Ignored::OwnTransfer)),
            (Way::Out, north, Some(Ignored::Outgoing)),
            (Way::Elsewhere, north, Some(Ignored::OtherAccount)),
            (Way::NotBooked, north, Some(Ignored::NotBooked)),
        ] {
            assert_eq!(ignored(&entry(way, OWN, from), &settings()), why, "{way:?} {from:?}");
        }
    }

    #[test]
    fn warnings_table() {
        for (inn, account, bik, expected) in [
            ("7707083893", "40702810138250123017", "044525225", vec![]),
            ("7707083894", "40702810138250123017", "044525225", vec![Warning::Inn]),
            ("", "40702810138250123018", "044525225", vec![Warning::Inn, Warning::Account]),
            // the Treasury's are accepted, with a warning.
            ("7707083893", "03100643000000017300", "017003983", vec![Warning::AccountNotChecked]),
            ("500100732259", "DE89370400440532013000", "", vec![]),
            ("500100732259", "", "", vec![]),
        ] {
            let entry = entry(Way::In, OWN, (inn, account, bik));
            assert_eq!(warnings(&entry), expected, "{inn} {account} {bik}");
        }
    }

    #[test]
    fn a_statement_is_of_our_accounts_in_their_currency() {
        let section = |account: &str, currency| Section {
            at: Place::START,
            account: account.to_owned(),
            currency,
            opening: None,
            received: None,
            written_off: None,
            closing: None,
        };
        let settings = settings();
        assert_eq!(check_section(&section(OWN, None), &settings), Ok(()));
        assert_eq!(check_section(&section(OWN, Some(Currency::RUB)), &settings), Ok(()));
        let (at, found) = (Place::START, Currency::USD);
        let expected = Currency::RUB;
        assert_eq!(
            check_section(&section(OWN, Some(found)), &settings),
            Err(Refusal::Currency { at, expected, found })
        );
        let account = "40702810900000000002".to_owned();
        assert_eq!(
            check_section(&section(&account, None), &settings),
            Err(Refusal::ForeignAccount { at, account })
        );
        let mut dollars = entry(Way::In, OWN, ("", "", ""));
        dollars.currency = Some(found);
        assert!(check_entry(&dollars, &settings).is_err());
        dollars.way = Way::Out;
        assert_eq!(check_entry(&dollars, &settings), Ok(()), "it is ignored anyway");
    }

    #[test]
    fn a_line_is_known_by_five_things() {
        let first = entry(Way::In, OWN, ("7707083893", "40702810900000000002", "044525225"));
        let key = NaturalKey::of(&first);
        let same = Entry {
            purpose: "another".to_owned(),
            at: Place { line: 9, column: 9 },
            ..first.clone()
        };
        assert_eq!(NaturalKey::of(&same), key);
        let mut others = vec![first.clone(); 5];
        others[0].account = SECOND.to_owned();
        others[1].number = "18".to_owned();
        others[2].day = first.day.next();
        others[3].amount = Money::from_units(45_001);
        others[4].sender.account = SECOND.to_owned();
        for other in others {
            assert_ne!(NaturalKey::of(&other), key);
            assert_ne!(NaturalKey::of(&other).text(), key.text());
        }
    }
}
