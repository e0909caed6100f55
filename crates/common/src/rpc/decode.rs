//! Decoders of names, amounts, enums, masks and pages. Dates are in `dates.rs`, free text in
//! `text.rs`.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use prost_types::FieldMask;
use tonic::Code;

use super::{
    DEFAULT_PAGE_SIZE, MAX_AMOUNT, MAX_PAGE_SIZE, PageKey, PageScope, Reason, Refusal, Violations,
    cards, refuse,
};
use crate::id::{self, Collection, Id, RequestId, ResourceId};
use crate::money::{Currency, Money, WireError};
use crate::proto::google::r#type as pb;

/// What is said of a field that must be there.
const REQUIRED: &str = "is required";

/// Refuses a batch that is over its published limit; the limit is in the metadata.
pub fn batch_limit(field: &str, len: usize, max: usize) -> Result<(), Refusal> {
    if len == 0 {
        let mut violations = Violations::new();
        violations.add(field, REQUIRED);
        return violations.check();
    }
    if len <= max {
        return Ok(());
    }
    let message = format!("{field} has {len} items, at most {max} are taken");
    Err(refuse(Code::ResourceExhausted, Reason::TooLarge, message)
        .with("field", field)
        .with("limit", max)
        .with("actual", len))
}

impl Violations {
    /// A message or another value that must be there.
    pub fn required<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.add(field, REQUIRED);
        }
        value
    }

    /// Keeps the value of a parser, or notes its error.
    pub(super) fn parsed<T, E: ToString>(
        &mut self,
        field: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Refuses a text with a card number in it, wherever texts come in: none is stored or logged (G15).
    pub(super) fn no_card_number(&mut self, field: &str, text: &str) -> Option<()> {
        if cards::holds_card_number(text) {
            self.add(field, cards::REFUSED);
            return None;
        }
        Some(())
    }

    /// The name of a resource: `accounts/x`.
    pub fn name<C: Collection>(&mut self, field: &str, name: &str) -> Option<Id<C>> {
        if name.is_empty() {
            self.add(field, REQUIRED);
            return None;
        }
        self.no_card_number(field, name)?;
        self.parsed(field, Id::from_name(name))
    }

    /// A name that may be left out.
    pub fn optional_name<C: Collection>(
        &mut self,
        field: &str,
        name: &str,
    ) -> Option<Option<Id<C>>> {
        if name.is_empty() { Some(None) } else { self.name(field, name).map(Some) }
    }

    /// The name of a resource in another: `accounts/a/transfers/t` for `["accounts", "transfers"]`.
    pub fn path2(
        &mut self,
        field: &str,
        name: &str,
        collections: [&str; 2],
    ) -> Option<[ResourceId; 2]> {
        if name.is_empty() {
            self.add(field, REQUIRED);
            return None;
        }
        self.no_card_number(field, name)?;
        self.parsed(field, id::parse_path(name, collections))
    }

    /// A bare id.
    pub fn id<C: Collection>(&mut self, field: &str, id: &str) -> Option<Id<C>> {
        if id.is_empty() {
            self.add(field, REQUIRED);
            return None;
        }
        self.no_card_number(field, id)?;
        self.parsed(field, Id::parse(id))
    }

    /// A bare id chosen by the caller, or a new one when it is left out.
    pub fn id_or_new<C: Collection>(
        &mut self,
        field: &str,
        id: &str,
        now: DateTime<Utc>,
    ) -> Option<Id<C>> {
        if id.is_empty() { Some(Id::new_v7(now)) } else { self.id(field, id) }
    }

    /// The id that makes a repeat of a changing call harmless; the field is always `request_id`.
    pub fn request_id(&mut self, id: &str) -> Option<RequestId> {
        self.no_card_number("request_id", id)?;
        self.parsed("request_id", RequestId::parse(id))
    }

    /// An amount above zero, at most [`MAX_AMOUNT`], with its currency.
    pub fn amount(&mut self, field: &str, money: Option<&pb::Money>) -> Option<(Money, Currency)> {
        let (amount, currency) = self.amount_or_zero(field, money)?;
        if amount.is_zero() {
            self.add(field, "must be above zero");
            return None;
        }
        Some((amount, currency))
    }

    /// An amount above zero in whole hundredths of the unit.
    pub fn kopecks(&mut self, field: &str, money: Option<&pb::Money>) -> Option<(Money, Currency)> {
        let (amount, currency) = self.amount(field, money)?;
        if !amount.is_whole_kopecks() {
            self.add(&sub(field, "nanos"), "at most two decimals are taken here");
            return None;
        }
        Some((amount, currency))
    }

    /// An amount of zero or more.
    pub fn amount_or_zero(
        &mut self,
        field: &str,
        money: Option<&pb::Money>,
    ) -> Option<(Money, Currency)> {
        let money = self.required(field, money)?;
        let currency = self.currency(&sub(field, "currency_code"), &money.currency_code);
        let amount = match Money::from_wire(money.units, money.nanos) {
            Ok(amount) if amount <= MAX_AMOUNT => Some(amount),
            Ok(_) => {
                self.add(&sub(field, "units"), above_maximum());
                None
            }
            Err(error @ (WireError::WrongSign | WireError::Negative)) => {
                self.add(field, error.to_string());
                None
            }
            Err(error @ WireError::MoreThanSixDecimals) => {
                self.add(&sub(field, "nanos"), error.to_string());
                None
            }
            Err(error @ WireError::OutOfRange) => {
                self.add(&sub(field, "units"), error.to_string());
                None
            }
        };
        Some((amount?, currency?))
    }

    /// An amount above zero in micro-units of an implied currency.
    pub fn micros(&mut self, field: &str, micros: i64) -> Option<Money> {
        if micros == 0 {
            self.add(field, "must be above zero");
            return None;
        }
        self.micros_or_zero(field, micros)
    }

    /// An amount of zero or more in micro-units of an implied currency.
    pub fn micros_or_zero(&mut self, field: &str, micros: i64) -> Option<Money> {
        match Money::from_micros(micros) {
            Some(amount) if amount <= MAX_AMOUNT => Some(amount),
            _ if micros < 0 => {
                self.add(field, WireError::Negative.to_string());
                None
            }
            Some(_) | None => {
                self.add(field, above_maximum());
                None
            }
        }
    }

    /// A currency that we keep accounts in.
    pub fn currency(&mut self, field: &str, code: &str) -> Option<Currency> {
        if code.is_empty() {
            self.add(field, REQUIRED);
            return None;
        }
        self.parsed(field, Currency::from_str(code))
    }

    /// A value of an enum; unspecified and unknown ones are refused.
    pub fn enumeration<E: TryFrom<i32>>(&mut self, field: &str, value: i32) -> Option<E> {
        if value == 0 {
            self.add(field, REQUIRED);
            return None;
        }
        let known = E::try_from(value).ok();
        if known.is_none() {
            self.add(field, format!("{value} is not a value of this enum"));
        }
        known
    }

    /// A value of an enum that may be left unspecified.
    pub fn optional_enumeration<E: TryFrom<i32>>(
        &mut self,
        field: &str,
        value: i32,
    ) -> Option<Option<E>> {
        if value == 0 { Some(None) } else { self.enumeration(field, value).map(Some) }
    }

    /// Which of the `allowed` paths an update is about: all of them when the mask is absent, empty
    /// or `*`.
    pub fn mask(
        &mut self,
        field: &str,
        mask: Option<&FieldMask>,
        allowed: &'static [&'static str],
    ) -> Option<Vec<&'static str>> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() || paths == ["*"] {
            return Some(allowed.to_vec());
        }
        let mut chosen = Vec::with_capacity(allowed.len());
        let mut wrong = false;
        for path in paths {
            match allowed.iter().find(|known| *known == path) {
                Some(known) if !chosen.contains(known) => chosen.push(*known),
                Some(_) => {}
                None => {
                    wrong = true;
                    self.add(field, format!("may only name {}", allowed.join(", ")));
                    break;
                }
            }
        }
        if wrong { None } else { Some(chosen) }
    }

    /// How many items the page holds: the default for zero, the maximum for more than that.
    pub fn page_size(&mut self, size: i32) -> Option<u32> {
        match u32::try_from(size) {
            Ok(0) => Some(DEFAULT_PAGE_SIZE),
            Ok(size) => Some(size.min(MAX_PAGE_SIZE)),
            Err(_) => {
                self.add("page_size", "must not be negative");
                None
            }
        }
    }

    /// Where the page starts: `Some(None)` for the first.
    pub fn page_token(
        &mut self,
        key: &PageKey,
        scope: &PageScope,
        token: &str,
    ) -> Option<Option<Vec<u8>>> {
        if token.is_empty() {
            return Some(None);
        }
        self.parsed("page_token", key.open(scope, token)).map(Some)
    }
}

/// The path of a part of `field`. Only called for what is wrong, or once for a currency.
fn sub(field: &str, part: &str) -> String {
    if field.is_empty() { part.to_owned() } else { format!("{field}.{part}") }
}

fn above_maximum() -> String {
    format!("must be at most {MAX_AMOUNT}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Accounts;

    fn money(code: &str, units: i64, nanos: i32) -> pb::Money {
        pb::Money { currency_code: code.to_owned(), units, nanos }
    }

    fn paths(v: Violations) -> Vec<String> {
        match v.check() {
            Ok(()) => Vec::new(),
            Err(refusal) => refusal.violations.into_iter().map(|(path, _)| path).collect(),
        }
    }

    #[test]
    fn amount_table() {
        for (code, units, nanos, wrong) in [
            ("RUB", 1, 0, &[][..]),
            ("RUB", 0, 1_000, &[]),
            ("RUB", 1_000_000_000, 0, &[]),
            ("RUB", 0, 0, &["amount"]),
            ("RUB", -1, 0, &["amount"]),
            ("RUB", 1, -1, &["amount"]),
            ("RUB", 0, 1, &["amount.nanos"]),
            ("RUB", 1_000_000_000, 1_000, &["amount.units"]),
            ("RUB", i64::MAX, 0, &["amount.units"]),
            ("RUB", 0, 1_000_000_000, &["amount.units"]),
            ("XXX", 1, 0, &["amount.currency_code"]),
            ("", -1, 0, &["amount.currency_code", "amount"]),
            ("rub", 0, 1, &["amount.currency_code", "amount.nanos"]),
        ] {
            let mut v = Violations::new();
            let amount = v.amount("amount", Some(&money(code, units, nanos)));
            assert_eq!(amount.is_some(), wrong.is_empty(), "{code} {units} {nanos}");
            assert_eq!(paths(v), wrong, "{code} {units} {nanos}");
        }
        let mut v = Violations::new();
        assert_eq!(v.amount("amount", None), None);
        assert_eq!(paths(v), ["amount"]);
    }

    #[test]
    fn a_document_takes_no_fraction_of_a_kopeck() {
        let mut v = Violations::new();
        assert!(v.kopecks("amount", Some(&money("RUB", 0, 10_000_000))).is_some());
        assert!(v.kopecks("amount", Some(&money("RUB", 0, 1_000_000))).is_none());
        assert_eq!(paths(v), ["amount.nanos"]);
    }

    #[test]
    fn micros_table() {
        for (micros, above_zero, or_zero) in [
            (1, true, true),
            (0, false, true),
            (-1, false, false),
            (i64::MIN, false, false),
            (MAX_AMOUNT.micros(), true, true),
            (MAX_AMOUNT.micros() + 1, false, false),
            (i64::MAX, false, false),
        ] {
            let mut v = Violations::new();
            assert_eq!(v.micros("m", micros).is_some(), above_zero, "{micros}");
            assert_eq!(v.is_empty(), above_zero, "{micros}");
            assert_eq!(
                Violations::new().micros_or_zero("m", micros).is_some(),
                or_zero,
                "{micros}"
            );
        }
    }

    #[test]
    fn page_size_is_coerced_above_and_refused_below() {
        for (asked, given) in
            [(0, Some(50)), (1, Some(1)), (1_000, Some(1_000)), (1_001, Some(1_000)), (-1, None)]
        {
            assert_eq!(Violations::new().page_size(asked), given);
        }
    }

    #[test]
    fn a_mask_names_only_what_may_change() {
        let mask =
            |paths: &[&str]| FieldMask { paths: paths.iter().map(|p| (*p).into()).collect() };
        const ALLOWED: &[&str] = &["display_name", "notification_email"];
        let mut v = Violations::new();
        assert_eq!(v.mask("update_mask", None, ALLOWED).unwrap(), ALLOWED);
        assert_eq!(v.mask("update_mask", Some(&mask(&["*"])), ALLOWED).unwrap(), ALLOWED);
        let one = mask(&["display_name", "display_name"]);
        assert_eq!(v.mask("update_mask", Some(&one), ALLOWED).unwrap(), ["display_name"]);
        assert_eq!(v.mask("update_mask", Some(&mask(&["state"])), ALLOWED), None);
        assert_eq!(paths(v), ["update_mask"]);
    }

    #[test]
    fn enums_take_known_values_only() {
        let mut v = Violations::new();
        assert_eq!(v.enumeration::<Reason>("reason", 2), Some(Reason::NotFound));
        assert_eq!(v.optional_enumeration::<Reason>("reason", 0), Some(None));
        assert_eq!(v.enumeration::<Reason>("reason", 0), None);
        assert_eq!(v.enumeration::<Reason>("reason", 9_999), None);
        assert_eq!(paths(v), ["reason", "reason"]);
    }

    #[test]
    fn names_are_required_unless_optional() {
        let mut v = Violations::new();
        assert_eq!(v.name::<Accounts>("name", "accounts/a").unwrap().as_str(), "a");
        assert_eq!(v.optional_name::<Accounts>("agency", ""), Some(None));
        assert_eq!(v.name::<Accounts>("name", ""), None);
        assert_eq!(v.optional_name::<Accounts>("agency", "clients/a"), None);
        assert_eq!(v.request_id("two words"), None);
        assert_eq!(paths(v), ["name", "agency", "request_id"]);
    }

    #[test]
    fn no_name_or_id_is_a_card_number() {
        let number = "4111111111111111";
        let mut v = Violations::new();
        assert_eq!(v.id::<Accounts>("account_id", number), None);
        assert_eq!(v.name::<Accounts>("name", &format!("accounts/{number}")), None);
        assert_eq!(
            v.path2("card", &format!("accounts/a/cards/{number}"), ["accounts", "cards"]),
            None
        );
        assert_eq!(v.request_id(number), None);
        assert_eq!(paths(v), ["account_id", "name", "card", "request_id"]);
    }

    #[test]
    fn a_batch_over_its_limit_is_told_the_limit() {
        assert!(batch_limit("transfers", 1_000, 1_000).is_ok());
        assert_eq!(batch_limit("transfers", 0, 1_000).unwrap_err().violations.len(), 1);
        let refusal = batch_limit("transfers", 1_001, 1_000).unwrap_err();
        assert_eq!((refusal.code, refusal.reason), (Code::ResourceExhausted, Reason::TooLarge));
        assert!(refusal.metadata.contains(&("limit", "1000".to_owned())));
    }
}
