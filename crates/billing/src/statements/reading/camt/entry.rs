//! A `Ntry`: one booking of the bank, with none, one or many transactions in it.
//!
//! With one transaction the amount is the booking's: what came in counts, not what was sent. With several
//! each must have its own, and together they must be the booking's. A transaction is passed on as soon as it
//! is known not to be the only one, so that a booking of a hundred thousand takes no more room than two.

use std::collections::VecDeque;

use adspend_common::{
    money::{Balance, Currency, Money},
    time::Day,
};

use super::{Value, currency, is_debit};
use crate::statements::reading::{
    Entry, Item, NAME_BYTES, NUMBER_BYTES, PURPOSE_BYTES, Place, Sender, Way, Wrong, amount, code,
    malformed, plain, sums::Turnover,
};

/// A `Ntry` so far.
#[derive(Debug, Clone)]
pub(super) struct Booking {
    at: Place,
    amount: Option<Value>,
    debit: Option<bool>,
    booked: bool,
    booked_on: Option<Value>,
    valued_on: Option<Value>,
    service_ref: String,
    own_ref: String,
    info: String,
    /// The transaction that is being read.
    open: Option<Part>,
    /// The first one, until it is known whether it is the only one.
    first: Option<Part>,
    /// How many are complete, and what those came to that have amounts of their own.
    parts: u32,
    total: Balance,
}

/// A `TxDtls` so far.
#[derive(Debug, Clone)]
struct Part {
    at: Place,
    amount: Option<Value>,
    debit: Option<bool>,
    end_to_end: String,
    service_ref: String,
    transaction: String,
    sender: Sender,
    /// The last `Othr/Id` of the sender, until its scheme says what it is.
    other: String,
    inn_is_sure: bool,
    purpose: String,
    info: String,
}

impl Part {
    fn new(at: Place) -> Part {
        Part {
            at,
            amount: None,
            debit: None,
            end_to_end: String::new(),
            service_ref: String::new(),
            transaction: String::new(),
            sender: Sender::default(),
            other: String::new(),
            inn_is_sure: false,
            purpose: String::new(),
            info: String::new(),
        }
    }

    /// An element within the transaction is complete.
    fn set(&mut self, path: &[&'static str], value: Value) -> Result<(), Wrong> {
        match path {
            ["Amt"] => self.amount = Some(value),
            ["AmtDtls", "TxAmt", "Amt"] => self.amount = self.amount.take().or(Some(value)),
            ["CdtDbtInd"] => self.debit = Some(is_debit(&value)?),
            ["Refs", "EndToEndId"] => self.end_to_end = reference(&value)?,
            ["Refs", "AcctSvcrRef"] => self.service_ref = reference(&value)?,
            ["Refs", "TxId"] => self.transaction = reference(&value)?,
            ["RltdPties", "DbtrAcct", "Id", "IBAN"]
            | ["RltdPties", "DbtrAcct", "Id", "Othr", "Id"] => {
                self.sender.account = code(&value.text, 34);
            }
            ["RltdPties", "Dbtr", "Pty", party @ ..] | ["RltdPties", "Dbtr", party @ ..] => {
                self.set_sender(party, &value.text);
            }
            ["RltdAgts", "DbtrAgt", "FinInstnId", "ClrSysMmbId", "MmbId"] => {
                self.sender.bik = code(&value.text, 11);
            }
            ["RmtInf", "Ustrd"]
            | ["RmtInf", "Strd", "CdtrRefInf", "Ref"]
            | ["RmtInf", "Strd", "RfrdDocInf", "Nb"]
                // More than is kept need not be gathered.
                if self.purpose.len() < PURPOSE_BYTES =>
            {
                self.purpose.push(' ');
                self.purpose.push_str(&value.text);
            }
            ["AddtlTxInf"] => self.info = value.text,
            _ => {}
        }
        Ok(())
    }

    /// The sender's name and numbers. An INN is known by its scheme, else by its look.
    fn set_sender(&mut self, path: &[&'static str], text: &str) {
        match path {
            ["Nm"] => self.sender.name = plain(text, NAME_BYTES),
            ["Id", "OrgId" | "PrvtId", "Othr", "Id"] => {
                self.other = code(text, 32);
                let digits = self.other.bytes().all(|byte| byte.is_ascii_digit());
                if digits && matches!(self.other.len(), 10 | 12) && self.sender.inn.is_empty() {
                    self.sender.inn.clone_from(&self.other);
                }
            }
            ["Id", "OrgId" | "PrvtId", "Othr", "SchmeNm", "Cd" | "Prtry"] => {
                match text.to_uppercase().as_str() {
                    "TXID" | "INN" | "ИНН" if !self.inn_is_sure => {
                        self.sender.inn.clone_from(&self.other);
                        self.inn_is_sure = true;
                    }
                    "KPP" | "КПП" => self.sender.kpp.clone_from(&self.other),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

impl Booking {
    pub(super) fn new(at: Place) -> Booking {
        Booking {
            at,
            amount: None,
            debit: None,
            booked: false,
            booked_on: None,
            valued_on: None,
            service_ref: String::new(),
            own_ref: String::new(),
            info: String::new(),
            open: None,
            first: None,
            parts: 0,
            total: Balance::ZERO,
        }
    }

    /// An element within the booking is complete.
    pub(super) fn set(&mut self, path: &[&'static str], value: Value) -> Result<(), Wrong> {
        match path {
            ["Amt"] => self.amount = Some(value),
            ["CdtDbtInd"] => self.debit = Some(is_debit(&value)?),
            ["Sts"] if value.text.is_empty() => {}
            ["Sts"] | ["Sts", "Cd"] => self.booked = value.text == "BOOK",
            ["BookgDt", "Dt" | "DtTm"] => self.booked_on = Some(value),
            ["ValDt", "Dt" | "DtTm"] => self.valued_on = Some(value),
            ["AcctSvcrRef"] => self.service_ref = reference(&value)?,
            ["NtryRef"] => self.own_ref = reference(&value)?,
            ["AddtlNtryInf"] => self.info = value.text,
            ["NtryDtls", "TxDtls", inside @ ..] => {
                if let Some(part) = &mut self.open {
                    part.set(inside, value)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn open_part(&mut self, at: Place) {
        self.open = Some(Part::new(at));
    }

    pub(super) fn close_part(
        &mut self,
        account: &str,
        ready: &mut VecDeque<Item>,
    ) -> Result<(), Wrong> {
        let Some(part) = self.open.take() else { return Ok(()) };
        self.parts = self.parts.saturating_add(1);
        if self.parts == 1 {
            self.first = Some(part);
            return Ok(());
        }
        let number = self.parts;
        if let Some(first) = self.first.take() {
            self.pass_on(account, first, 1, ready)?;
        }
        self.pass_on(account, part, number, ready)
    }

    /// One of several transactions.
    fn pass_on(
        &mut self,
        account: &str,
        part: Part,
        number: u32,
        ready: &mut VecDeque<Item>,
    ) -> Result<(), Wrong> {
        let Some(own) = &part.amount else {
            return malformed(part.at, "one of several transactions, without an amount of its own");
        };
        let sum = read_amount(own)?;
        let debit = part.debit.or(self.debit).unwrap_or(false);
        let total =
            if debit { self.total.checked_sub(sum.0) } else { self.total.checked_add(sum.0) };
        let Some(total) = total else { return malformed(part.at, "the sums are too large") };
        self.total = total;
        // What the bank did not number is numbered by its place in the booking, which does not change.
        let reference = match self.reference() {
            "" => String::new(),
            reference => format!("{reference}/{number}"),
        };
        let entry = self.entry(account, &part, (debit, sum), reference)?;
        ready.push_back(Item::Entry(entry));
        Ok(())
    }

    /// The booking is complete: its only transaction, or a check of those that it had.
    pub(super) fn end(
        mut self,
        account: &str,
        moved: &mut Turnover,
        ready: &mut VecDeque<Item>,
    ) -> Result<(), Wrong> {
        let Some(own) = &self.amount else { return malformed(self.at, "an entry without Amt") };
        let Some(debit) = self.debit else {
            return malformed(self.at, "an entry without CdtDbtInd");
        };
        let sum = read_amount(own)?;
        if self.booked {
            match debit {
                true => moved.write_off(self.at, sum.0)?,
                false => moved.receive(self.at, sum.0)?,
            }
        }
        if self.parts > 1 {
            let whole = Balance::from(sum.0);
            let whole = if debit { whole.negated() } else { whole };
            return match self.total == whole {
                true => Ok(()),
                false => malformed(
                    self.at,
                    format!("an entry of {whole} whose transactions come to {}", self.total),
                ),
            };
        }
        let part = self.first.take().unwrap_or_else(|| Part::new(self.at));
        let entry = self.entry(account, &part, (debit, sum), self.reference().to_owned())?;
        ready.push_back(Item::Entry(entry));
        Ok(())
    }

    fn reference(&self) -> &str {
        if self.service_ref.is_empty() { &self.own_ref } else { &self.service_ref }
    }

    fn entry(
        &self,
        account: &str,
        part: &Part,
        (debit, (amount, currency)): (bool, (Money, Option<Currency>)),
        reference: String,
    ) -> Result<Entry, Wrong> {
        let way = match (self.booked, debit) {
            (false, _) => Way::NotBooked,
            (true, true) => Way::Out,
            (true, false) => Way::In,
        };
        // The payer's own number first: the one that other formats have too.
        let numbers = [&part.end_to_end, &part.service_ref, &part.transaction, &reference];
        let number = numbers.into_iter().find(|number| !number.is_empty());
        if way == Way::In && (number.is_none() || amount.is_zero()) {
            let what = if amount.is_zero() { "a sum of nothing" } else { "no reference at all" };
            return malformed(part.at, format!("an entry with {what}"));
        }
        let Some(date) = self.booked_on.as_ref().or(self.valued_on.as_ref()) else {
            return malformed(self.at, "an entry without BookgDt and ValDt");
        };
        let texts = [&part.purpose, &part.info, &self.info];
        let purpose = texts.into_iter().find(|text| !text.is_empty());
        Ok(Entry {
            at: part.at,
            account: account.to_owned(),
            way,
            number: number.cloned().unwrap_or_default(),
            day: day(date)?,
            amount,
            currency,
            sender: part.sender.clone(),
            purpose: plain(purpose.map_or("", String::as_str), PURPOSE_BYTES),
        })
    }
}

fn read_amount(value: &Value) -> Result<(Money, Option<Currency>), Wrong> {
    let code = value.currency.as_deref().map(|text| currency(text, value.at));
    Ok((amount(&value.text, value.at)?, code.transpose()?))
}

/// A reference; what banks write for "none" is none.
fn reference(value: &Value) -> Result<String, Wrong> {
    let text = plain(&value.text, usize::MAX);
    if text.len() > NUMBER_BYTES {
        return malformed(value.at, format!("a reference of more than {NUMBER_BYTES} bytes"));
    }
    let none = ["NOTPROVIDED", "NOT PROVIDED", "NONREF"];
    let none = none.iter().any(|none| text.eq_ignore_ascii_case(none));
    Ok(if none { String::new() } else { text })
}

/// A date, or the date of a moment as it is written there.
fn day(value: &Value) -> Result<Day, Wrong> {
    let date = value.text.split('T').next().unwrap_or_default();
    // A date alone may carry a zone: 2026-11-20+03:00.
    let date = date.get(..10).unwrap_or(date);
    date.parse().or_else(|_| malformed(value.at, format!("{:?} is not a date", value.text)))
}
