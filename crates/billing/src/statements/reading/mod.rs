//! Reading a bank statement: from bytes to accounts and entries, one at a time. Pure but for the bytes.
//!
//! Two formats, 1CClientBankExchange and ISO 20022 camt.053 from 001.02 to 001.08, tell the
//! same story: [`Item`]s. [`text`] decodes (valid UTF-8 wins, else what the file says of itself, R-189) and
//! knows the line and the column of whatever was read, so that every refusal names its place.
//!
//! Memory does not grow with the file: a line, an element or a document has a limit, and of entries only sums
//! are kept. That the sums are those of the statement is checked here too, at its end; so nobody may act on
//! an entry before the whole file has been read once.
//!
//! Deliberately not here: whose accounts they are, what becomes of an entry, and DTDs and external entities,
//! which are refused.

mod camt;
mod one_c;
#[cfg(test)]
pub(in crate::statements) mod render;
mod sums;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fmt,
    io::{self, Read, Seek},
};

use adspend_common::{
    money::{Balance, Currency, Money},
    time::Day,
};

pub(crate) use text::{Format, detect};

/// A place in the file: line and column in characters, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    pub(crate) const START: Place = Place { line: 1, column: 1 };

    /// So many characters further on the same line.
    fn plus(self, characters: usize) -> Place {
        let column = self.column.saturating_add(u32::try_from(characters).unwrap_or(u32::MAX));
        Place { column, ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a statement is not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    /// It is not what its format says.
    #[error("{at}: {what}")]
    Malformed { at: Place, what: String },
    /// Its figures contradict each other.
    #[error("{at}: the account {account} does not add up: {what}")]
    Unbalanced { at: Place, account: String, what: String },
    /// The bytes could not be had.
    #[error("the statement could not be read")]
    Io(#[from] io::Error),
}

/// `Err` with a malformed place.
fn malformed<T>(at: Place, what: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Malformed { at, what: what.into() })
}

/// An account of the statement, with what the bank says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) at: Place,
    pub(crate) account: String,
    pub(crate) currency: Option<Currency>,
    pub(crate) opening: Option<Balance>,
    pub(crate) received: Option<Money>,
    pub(crate) written_off: Option<Money>,
    pub(crate) closing: Option<Balance>,
}

impl Section {
    fn new(at: Place, account: String) -> Section {
        Section {
            at,
            account,
            currency: None,
            opening: None,
            received: None,
            written_off: None,
            closing: None,
        }
    }
}

/// Which way an entry goes, seen from the accounts of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Onto an account of the statement.
    In,
    /// Off it.
    Out,
    /// Between others: such lines are in files by mistake of whoever made them.
    Elsewhere,
    /// Not booked by the bank (yet).
    NotBooked,
}

/// Who sent the money, as the bank gives it; what it does not give is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) name: String,
    pub(crate) inn: String,
    pub(crate) kpp: String,
    pub(crate) account: String,
    pub(crate) bik: String,
}

/// One movement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it begins.
    pub(crate) at: Place,
    /// The account of the statement that it moves; empty when it is between others.
    pub(crate) account: String,
    pub(crate) way: Way,
    /// The number of the document, or the bank's reference.
    pub(crate) number: String,
    pub(crate) day: Day,
    pub(crate) amount: Money,
    /// None where the format has no currency: then it is the account's.
    pub(crate) currency: Option<Currency>,
    pub(crate) sender: Sender,
    pub(crate) purpose: String,
}

/// What a statement is made of, in the order of the file: an account before its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Account(Section),
    Entry(Entry),
}

/// A statement that is being read.
pub(crate) enum Statement<R> {
    OneC(Box<one_c::OneC<R>>),
    Camt(Box<camt::Camt<R>>),
}

impl<R: Read + Seek> Statement<R> {
    /// Looks at the whole file and begins again, at its start both times.
    pub(crate) fn open(mut file: R) -> Result<Statement<R>, Wrong> {
        file.rewind()?;
        let found = detect(&mut file)?;
        file.rewind()?;
        let text = text::Text::new(file, found.encoding);
        Ok(match found.format {
            Format::OneC => Statement::OneC(Box::new(one_c::OneC::new(text)?)),
            Format::Camt => Statement::Camt(Box::new(camt::Camt::new(text))),
        })
    }

    /// Which format it has.
    pub(crate) fn format(&self) -> Format {
        match self {
            Statement::OneC(_) => Format::OneC,
            Statement::Camt(_) => Format::Camt,
        }
    }

    /// The next item; none at the end, when all of it has been read and adds up.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Wrong> {
        match self {
            Statement::OneC(statement) => statement.next(),
            Statement::Camt(statement) => statement.next(),
        }
    }
}

/// The longest text that is kept of a name, and of a purpose, in bytes. Standards end at a third of it.
const NAME_BYTES: usize = 512;
const PURPOSE_BYTES: usize = 4_096;
/// The longest number of a document or reference of a bank.
const NUMBER_BYTES: usize = 128;

/// Free text as it may be shown: what cannot be seen becomes a space, and spaces stand alone.
fn plain(text: &str, most_bytes: usize) -> String {
    let seen = |c: char| if adspend_common::rpc::is_unseen(c) { ' ' } else { c };
    let text: String = text.chars().map(seen).collect();
    let mut plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if plain.len() > most_bytes {
        let end = (0..=most_bytes).rev().find(|&at| plain.is_char_boundary(at)).unwrap_or(0);
        plain.truncate(end);
    }
    plain
}

/// A number such as an INN or an account: letters and digits without spaces. Anything else, and the zeros
/// that stand for nothing, count as not given.
fn code(text: &str, most_bytes: usize) -> String {
    let code: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let sound = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let nothing = code.bytes().all(|byte| byte == b'0');
    if sound && !nothing && code.len() <= most_bytes {
        code.to_ascii_uppercase()
    } else {
        String::new()
    }
}

/// A sum of the file in whole kopecks: digits with at most two decimals after a point.
fn amount(text: &str, at: Place) -> Result<Money, Wrong> {
    match text.parse::<Money>() {
        Ok(amount) if amount.is_whole_kopecks() => Ok(amount),
        Ok(_) => malformed(at, format!("{text:?} is not in whole kopecks")),
        Err(error) => malformed(at, format!("{text:?} is not a sum: {error}")),
    }
}
