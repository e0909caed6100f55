//! ISO 20022 camt.053, versions 001.02 to 001.08: `Document/BkToCstmrStmt/Stmt`, read as a stream of events.
//!
//! Elements are known by their path of local names, so that a prefix or an element that nobody needs changes
//! nothing. Between versions 02 and 08 a party moved into `Pty`, a status into `Cd`, and the amount of a
//! transaction out of `AmtDtls`; both ways are read. DTDs and entities that are not XML's own are refused:
//! nothing of the file is fetched or expanded.
//!
//! Here: elements, accounts and their balances; `entry.rs` has the entries.

use std::{collections::VecDeque, io, io::Read};

use adspend_common::money::{Balance, Currency};
use quick_xml::{
    Error as Xml, Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::{Item, Place, Section, Wrong, code, malformed, sums, sums::Turnover, text::Text};

mod entry;

use entry::Booking;

/// How deep elements stand in each other; the standard needs fifteen.
const DEEPEST: usize = 40;
/// The longest text of one element.
const LONGEST_TEXT: usize = 16 * 1024;

const NAMESPACE: &str = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.";
const VERSIONS: [&str; 7] = ["02", "03", "04", "05", "06", "07", "08"];

/// Every element that means something here; all others are one.
#[rustfmt::skip]
const NAMES: [&str; 52] = [
    "Document", "BkToCstmrStmt", "Stmt", "Acct", "Id", "IBAN", "Othr", "Ccy", "Bal", "Tp",
    "CdOrPrtry", "Cd", "Amt", "CdtDbtInd", "Ntry", "NtryRef", "Sts", "BookgDt", "ValDt", "Dt",
    "DtTm", "AcctSvcrRef", "AddtlNtryInf", "NtryDtls", "TxDtls", "Refs", "EndToEndId", "TxId",
    "AmtDtls", "TxAmt", "RltdPties", "Dbtr", "Pty", "Nm", "OrgId", "PrvtId", "SchmeNm", "Prtry",
    "DbtrAcct", "RltdAgts", "DbtrAgt", "FinInstnId", "ClrSysMmbId", "MmbId", "RmtInf", "Ustrd",
    "Strd", "CdtrRefInf", "Ref", "RfrdDocInf", "Nb", "AddtlTxInf",
];

/// A file that is being read.
pub(crate) struct Camt<R> {
    reader: Reader<Text<R>>,
    event: Vec<u8>,
    /// Local names of the open elements.
    path: Vec<&'static str>,
    /// What stands in the innermost element.
    value: Value,
    statements: u32,
    statement: Option<Statement>,
    ready: VecDeque<Item>,
    ended: bool,
}

/// The text of an element, the currency among its attributes, and where the text begins.
#[derive(Debug, Clone, Default)]
struct Value {
    text: String,
    currency: Option<String>,
    at: Place,
}

/// A `Stmt` so far.
struct Statement {
    section: Section,
    /// It is told of once it is complete: with the first entry, or at the end.
    told: bool,
    moved: Turnover,
    bal: Bal,
    booking: Option<Booking>,
}

/// A `Bal` so far.
#[derive(Debug, Default)]
struct Bal {
    code: String,
    sum: Option<Value>,
    debit: bool,
}

/// What an event of the parser means here.
enum Step {
    Open { name: &'static str, currency: Option<String>, namespace: Option<String>, empty: bool },
    Text(String),
    Close,
    Nothing,
    End,
}

impl<R: Read> Camt<R> {
    pub(super) fn new(text: Text<R>) -> Camt<R> {
        let mut reader = Reader::from_reader(text);
        reader.config_mut().enable_all_checks(true);
        Camt {
            reader,
            event: Vec::new(),
            path: Vec::new(),
            value: Value::default(),
            statements: 0,
            statement: None,
            ready: VecDeque::new(),
            ended: false,
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>, Wrong> {
        while self.ready.is_empty() && !self.ended {
            self.reader.get_mut().mark();
            let at = self.reader.get_mut().place();
            match self.step(at)? {
                Step::Open { name, currency, namespace, empty } => {
                    self.open(at, name, namespace.as_deref())?;
                    let at = self.reader.get_mut().place();
                    self.value = Value { text: String::new(), currency, at };
                    if empty {
                        self.close()?;
                    }
                }
                Step::Text(text) => self.text(at, &text)?,
                Step::Close => self.close()?,
                Step::Nothing => {}
                Step::End => self.end(at)?,
            }
        }
        Ok(self.ready.pop_front())
    }

    fn step(&mut self, at: Place) -> Result<Step, Wrong> {
        self.event.clear();
        let event = match self.reader.read_event_into(&mut self.event) {
            Ok(event) => event,
            Err(error) => return wrong_xml(error, at),
        };
        match event {
            Event::Start(tag) => opened(&tag, at, false),
            Event::Empty(tag) => opened(&tag, at, true),
            Event::End(_) => Ok(Step::Close),
            Event::Text(text) => Ok(Step::Text(text.xml10_content().into_owned())),
            Event::CData(text) => Ok(Step::Text(text.xml10_content().into_owned())),
            Event::GeneralRef(name) => {
                let character = name.resolve_char_ref().or_else(|error| wrong_xml(error, at))?;
                let name = name.into_inner();
                match (character, resolve_predefined_entity(&name)) {
                    (Some('\0'), _) => malformed(at, "a NUL character: not a text"),
                    (Some(character), _) => Ok(Step::Text(character.to_string())),
                    (None, Some(text)) => Ok(Step::Text(text.to_owned())),
                    (None, None) => malformed(at, format!("the entity &{name}; is not XML's own")),
                }
            }
            Event::DocType(_) => malformed(at, "a DTD: a statement has none"),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => Ok(Step::Nothing),
            Event::Eof => Ok(Step::End),
        }
    }

    fn text(&mut self, at: Place, text: &str) -> Result<(), Wrong> {
        if self.path.is_empty() && !text.trim().is_empty() {
            return malformed(at, "a text outside of the document");
        }
        self.value.text.push_str(text);
        if self.value.text.len() > LONGEST_TEXT {
            return malformed(at, format!("a text of more than {LONGEST_TEXT} bytes"));
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: Place,
        name: &'static str,
        namespace: Option<&str>,
    ) -> Result<(), Wrong> {
        if self.path.len() >= DEEPEST {
            return malformed(at, format!("elements more than {DEEPEST} deep"));
        }
        if self.path.is_empty() {
            if self.statements > 0 || name != "Document" {
                return malformed(at, "the only outermost element must be Document");
            }
            let version = namespace.and_then(|namespace| namespace.strip_prefix(NAMESPACE));
            if !version.is_some_and(|version| VERSIONS.contains(&version)) {
                return malformed(at, "not camt.053.001.02 to camt.053.001.08");
            }
        }
        self.path.push(name);
        match (self.path.as_slice(), &mut self.statement) {
            (["Document", "BkToCstmrStmt", "Stmt"], _) => {
                self.statements = self.statements.saturating_add(1);
                self.statement = Some(Statement {
                    section: Section::new(at, String::new()),
                    told: false,
                    moved: Turnover::default(),
                    bal: Bal::default(),
                    booking: None,
                });
            }
            ([_, _, _, "Bal"], Some(statement)) => statement.bal = Bal::default(),
            ([_, _, _, "Ntry"], Some(statement)) => {
                statement.tell(&mut self.ready)?;
                statement.booking = Some(Booking::new(at));
            }
            ([_, _, _, "Ntry", "NtryDtls", "TxDtls"], Some(statement)) => {
                if let Some(booking) = &mut statement.booking {
                    booking.open_part(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Wrong> {
        let mut value = std::mem::take(&mut self.value);
        value.text = value.text.trim().to_owned();
        if let Some(statement) = &mut self.statement {
            let inside = self.path.get(3..).unwrap_or_default();
            statement.close(inside, value, &mut self.ready)?;
            if inside.is_empty() {
                self.statement = None;
            }
        }
        self.path.pop();
        Ok(())
    }

    fn end(&mut self, at: Place) -> Result<(), Wrong> {
        if !self.path.is_empty() {
            return malformed(at, "the file ends within an element");
        }
        if self.statements == 0 {
            return malformed(at, "no statement is in the file");
        }
        self.ended = true;
        Ok(())
    }
}

impl Statement {
    /// Tells of the account, once.
    fn tell(&mut self, ready: &mut VecDeque<Item>) -> Result<(), Wrong> {
        if self.told {
            return Ok(());
        }
        if self.section.account.is_empty() {
            return malformed(self.section.at, "the statement names no account");
        }
        self.told = true;
        ready.push_back(Item::Account(self.section.clone()));
        Ok(())
    }

    /// An element within the `Stmt` is complete; without a path, the `Stmt` itself.
    fn close(
        &mut self,
        path: &[&'static str],
        value: Value,
        ready: &mut VecDeque<Item>,
    ) -> Result<(), Wrong> {
        match path {
            ["Acct", "Id", "IBAN"] | ["Acct", "Id", "Othr", "Id"] => {
                self.section.account = code(&value.text, 34);
            }
            ["Acct", "Ccy"] => self.section.currency = Some(currency(&value.text, value.at)?),
            ["Bal", "Tp", "CdOrPrtry", "Cd"] => self.bal.code = value.text,
            ["Bal", "Amt"] => self.bal.sum = Some(value),
            ["Bal", "CdtDbtInd"] => self.bal.debit = is_debit(&value)?,
            ["Bal"] => self.close_balance()?,
            ["Ntry"] => {
                if let Some(booking) = self.booking.take() {
                    booking.end(&self.section.account, &mut self.moved, ready)?;
                }
            }
            ["Ntry", "NtryDtls", "TxDtls"] => {
                if let Some(booking) = &mut self.booking {
                    booking.close_part(&self.section.account, ready)?;
                }
            }
            ["Ntry", inside @ ..] => {
                if let Some(booking) = &mut self.booking {
                    booking.set(inside, value)?;
                }
            }
            [] => {
                self.tell(ready)?;
                sums::check(&[&self.section], self.moved)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Of the balances, those that a statement begins and ends with.
    fn close_balance(&mut self) -> Result<(), Wrong> {
        let Bal { code, sum, debit } = std::mem::take(&mut self.bal);
        let opening = matches!(code.as_str(), "OPBD" | "PRCD");
        let (Some(sum), true) = (sum, opening || code == "CLBD") else { return Ok(()) };
        let amount = Balance::from(super::amount(&sum.text, sum.at)?);
        let balance = if debit { amount.negated() } else { amount };
        if let Some(text) = &sum.currency {
            let found = currency(text, sum.at)?;
            if self.section.currency.is_some_and(|known| known != found) {
                return malformed(sum.at, "balances in two currencies");
            }
            self.section.currency = Some(found);
        }
        match code.as_str() {
            "OPBD" => self.section.opening = Some(balance),
            "PRCD" => self.section.opening = self.section.opening.or(Some(balance)),
            _ => self.section.closing = Some(balance),
        }
        Ok(())
    }
}

fn opened(tag: &BytesStart<'_>, at: Place, empty: bool) -> Result<Step, Wrong> {
    let name = tag.local_name();
    let name = NAMES.into_iter().find(|known| *known == name.as_ref()).unwrap_or_default();
    let (mut currency, mut namespace) = (None, None);
    let prefix = tag.name().prefix().map(|prefix| format!("xmlns:{}", prefix.as_ref()));
    let binding = prefix.as_deref().unwrap_or("xmlns");
    for attribute in tag.attributes() {
        let attribute = match attribute {
            Ok(attribute) => attribute,
            Err(error) => return malformed(at, error.to_string()),
        };
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.or_else(|error| wrong_xml(error, at))?;
        let key: &str = attribute.key.as_ref();
        if key == "Ccy" {
            currency = Some(value.into_owned());
        } else if key == binding {
            namespace = Some(value.into_owned());
        }
    }
    Ok(Step::Open { name, currency, namespace, empty })
}

fn wrong_xml<T>(error: Xml, at: Place) -> Result<T, Wrong> {
    match error {
        Xml::Io(error) => {
            use io::ErrorKind::{FileTooLarge, InvalidData};
            if matches!(error.kind(), FileTooLarge | InvalidData) {
                return malformed(at, error.to_string());
            }
            Err(Wrong::Io(io::Error::new(error.kind(), error.to_string())))
        }
        error @ (Xml::Syntax(_)
        | Xml::IllFormed(_)
        | Xml::InvalidAttr(_)
        | Xml::Encoding(_)
        | Xml::Escape(_)
        | Xml::Namespace(_)) => malformed(at, error.to_string()),
    }
}

fn currency(text: &str, at: Place) -> Result<Currency, Wrong> {
    text.parse().or_else(|_| malformed(at, format!("{text:?} is not a currency")))
}

fn is_debit(value: &Value) -> Result<bool, Wrong> {
    match value.text.as_str() {
        "CRDT" => Ok(false),
        "DBIT" => Ok(true),
        other => malformed(value.at, format!("{other:?} is neither CRDT nor DBIT")),
    }
}
