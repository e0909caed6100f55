//! 1CClientBankExchange: lines of `Ключ=Значение`, sections of accounts, then documents.
//!
//! Keys that nobody needs may be anything: banks add their own. What is needed is read strictly. A file ends
//! with `КонецФайла`, so that one that was cut off is noticed.

use std::{
    collections::{HashMap, HashSet},
    io::Read,
};

use adspend_common::{
    money::{Balance, Money},
    time::Day,
};

use super::{
    Entry, Item, NAME_BYTES, NUMBER_BYTES, PURPOSE_BYTES, Place, Section, Sender, Way, Wrong,
    amount, code, malformed, plain,
    sums::{self, Turnover},
    text::{MAGIC, Text},
};

/// Sections of accounts in one file: a few accounts, each with every day of a year.
const MOST_SECTIONS: usize = 5_000;
/// Lines in one document; the format has about sixty keys.
const MOST_KEYS: usize = 300;

/// A file that is being read.
pub(crate) struct OneC<R> {
    text: Text<R>,
    line: String,
    /// Accounts that the header names; what has no section of its own has no figures.
    accounts: HashSet<String>,
    sections: Vec<Section>,
    moved: HashMap<String, Turnover>,
    part: Part,
}

/// How far the file has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Accounts,
    Documents,
    Ended,
}

/// A line that means something, with the place of its value.
struct Line<'l> {
    at: Place,
    key: &'l str,
    value: Option<(&'l str, Place)>,
}

impl<R: Read> OneC<R> {
    /// The first line says what it is.
    pub(super) fn new(mut text: Text<R>) -> Result<OneC<R>, Wrong> {
        let mut line = String::new();
        match text.line(&mut line)? {
            Some(_) if line.trim_end() == MAGIC => {}
            Some(_) | None => {
                return malformed(Place::START, format!("the first line must be {MAGIC}"));
            }
        }
        Ok(OneC {
            text,
            line,
            accounts: HashSet::new(),
            sections: Vec::new(),
            moved: HashMap::new(),
            part: Part::Accounts,
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Item>, Wrong> {
        loop {
            let Some(line) = next_line(&mut self.text, &mut self.line)? else {
                if self.part == Part::Ended {
                    return Ok(None);
                }
                return malformed(self.text.place(), "the file ends without КонецФайла");
            };
            if self.part == Part::Ended {
                return malformed(line.at, "more after КонецФайла");
            }
            let at = line.at;
            match (line.key, line.value) {
                ("СекцияРасчСчет", None) => {
                    if self.part == Part::Documents {
                        return malformed(at, "accounts come before documents");
                    }
                    return self.section(at).map(|section| Some(Item::Account(section)));
                }
                ("СекцияДокумент", Some(_)) => {
                    self.part = Part::Documents;
                    return self.document(at).map(|entry| Some(Item::Entry(entry)));
                }
                ("КонецФайла", None) => {
                    self.end(at)?;
                    self.part = Part::Ended;
                }
                ("РасчСчет", Some((value, at))) if self.part == Part::Accounts => {
                    let account = account(value, at)?;
                    self.accounts.insert(account);
                }
                (_, Some(_)) if self.part == Part::Accounts => {}
                (key, _) => return malformed(at, format!("{key:?} is out of place")),
            }
        }
    }

    /// An account with its figures, up to its end.
    fn section(&mut self, at: Place) -> Result<Section, Wrong> {
        if self.sections.len() >= MOST_SECTIONS {
            return malformed(at, format!("more than {MOST_SECTIONS} sections of accounts"));
        }
        let keys = self.keys("КонецРасчСчет")?;
        let (number, number_at) = keys.required("РасчСчет", at)?;
        let mut section = Section::new(at, account(number, number_at)?);
        section.opening = keys.balance("НачальныйОстаток")?;
        section.received = keys.sum("ВсегоПоступило")?;
        section.written_off = keys.sum("ВсегоСписано")?;
        section.closing = keys.balance("КонечныйОстаток")?;
        self.accounts.insert(section.account.clone());
        self.sections.push(section.clone());
        Ok(section)
    }

    /// A document, up to its end.
    fn document(&mut self, at: Place) -> Result<Entry, Wrong> {
        let keys = self.keys("КонецДокумента")?;
        let (number, number_at) = keys.required("Номер", at)?;
        let number = plain(number, usize::MAX);
        if number.len() > NUMBER_BYTES {
            return malformed(number_at, format!("a number of more than {NUMBER_BYTES} bytes"));
        }
        let (date, date_at) = keys.required("Дата", at)?;
        let (sum, sum_at) = keys.required("Сумма", at)?;
        let (day, sum) = (day(date, date_at)?, amount(sum, sum_at)?);
        if sum.is_zero() {
            return malformed(sum_at, "a sum of nothing");
        }
        let came = keys.day("ДатаПоступило")?.is_some();
        let went = keys.day("ДатаСписано")?.is_some();
        let payee = keys.own(["ПолучательСчет", "ПолучательРасчСчет"], &self.accounts);
        let payer = keys.own(["ПлательщикСчет", "ПлательщикРасчСчет"], &self.accounts);
        let related = payee.is_some() || payer.is_some();
        let (payee, payer) = (payee.filter(|_| came), payer.filter(|_| went));
        if let Some(account) = &payee {
            self.moved.entry(account.clone()).or_default().receive(sum_at, sum)?;
        }
        if let Some(account) = &payer {
            self.moved.entry(account.clone()).or_default().write_off(sum_at, sum)?;
        }
        // Money that moves between two accounts of the file comes in, from an account of ours.
        let (way, account) = match (payee, payer) {
            (Some(account), _) => (Way::In, account),
            (None, Some(account)) => (Way::Out, account),
            (None, None) if related => (Way::NotBooked, String::new()),
            (None, None) => (Way::Elsewhere, String::new()),
        };
        Ok(Entry {
            at,
            account,
            way,
            number,
            day,
            amount: sum,
            currency: None,
            sender: keys.sender(),
            purpose: keys.purpose(),
        })
    }

    /// The keys of a section or a document, each once, up to the line that ends it.
    fn keys(&mut self, end: &str) -> Result<Keys, Wrong> {
        let mut keys = Keys::default();
        loop {
            let Some(line) = next_line(&mut self.text, &mut self.line)? else {
                return malformed(self.text.place(), format!("the file ends before {end}"));
            };
            match line.value {
                None if line.key == end => return Ok(keys),
                None => return malformed(line.at, format!("neither a key nor {end}")),
                Some((value, at)) => keys.add(line.key, value, line.at, at)?,
            }
        }
    }

    /// Everything has been read: whether it adds up.
    fn end(&mut self, at: Place) -> Result<(), Wrong> {
        if self.accounts.is_empty() {
            return malformed(at, "no account is named");
        }
        let mut of_account: HashMap<&str, Vec<&Section>> = HashMap::new();
        for section in &self.sections {
            of_account.entry(&section.account).or_default().push(section);
        }
        // In the order of the file, so that the same file is refused with the same words.
        for section in &self.sections {
            if let Some(sections) = of_account.remove(section.account.as_str()) {
                let moved = self.moved.get(&section.account).copied().unwrap_or_default();
                sums::check(&sections, moved)?;
            }
        }
        Ok(())
    }
}

/// The next line that is not empty.
fn next_line<'l, R: Read>(
    text: &mut Text<R>,
    line: &'l mut String,
) -> Result<Option<Line<'l>>, Wrong> {
    loop {
        let Some(at) = text.line(line)? else { return Ok(None) };
        if !line.trim().is_empty() {
            let before = line.chars().take_while(|c| c.is_whitespace()).count();
            let at = at.plus(before);
            return Ok(Some(match line.trim_start().split_once('=') {
                None => Line { at, key: line.trim(), value: None },
                Some((key, value)) => {
                    let blank = value.chars().take_while(|c| c.is_whitespace()).count();
                    let before = key.chars().count().saturating_add(1).saturating_add(blank);
                    let value = Some((value.trim(), at.plus(before)));
                    Line { at, key: key.trim(), value }
                }
            }));
        }
    }
}

/// What stands between the first and the last line of a section.
#[derive(Debug, Default)]
struct Keys(HashMap<String, (String, Place)>);

/// Keys that decide where money goes: given twice, nobody could tell which is meant.
const ONCE: [&str; 16] = [
    "РасчСчет",
    "НачальныйОстаток",
    "ВсегоПоступило",
    "ВсегоСписано",
    "КонечныйОстаток",
    "Номер",
    "Дата",
    "Сумма",
    "ДатаСписано",
    "ДатаПоступило",
    "ПлательщикСчет",
    "ПлательщикИНН",
    "ПлательщикКПП",
    "ПолучательСчет",
    "ПолучательИНН",
    "НазначениеПлатежа",
];

impl Keys {
    fn add(&mut self, key: &str, value: &str, at: Place, value_at: Place) -> Result<(), Wrong> {
        if self.0.len() >= MOST_KEYS {
            return malformed(at, format!("more than {MOST_KEYS} keys in one section"));
        }
        if self.0.contains_key(key) {
            return match ONCE.contains(&key) {
                true => malformed(at, format!("{key} comes twice")),
                false => Ok(()),
            };
        }
        self.0.insert(key.to_owned(), (value.to_owned(), value_at));
        Ok(())
    }

    /// A value that is there and not empty.
    fn get(&self, key: &str) -> Option<(&str, Place)> {
        let (value, at) = self.0.get(key)?;
        (!value.is_empty()).then_some((value, *at))
    }

    fn text(&self, key: &str) -> &str {
        self.get(key).map_or("", |(value, _)| value)
    }

    fn required(&self, key: &str, section: Place) -> Result<(&str, Place), Wrong> {
        match (self.get(key), self.0.get(key)) {
            (Some(found), _) => Ok(found),
            (None, Some((_, at))) => malformed(*at, format!("{key} is empty")),
            (None, None) => malformed(section, format!("{key} is missing")),
        }
    }

    fn day(&self, key: &str) -> Result<Option<Day>, Wrong> {
        self.get(key).map(|(value, at)| day(value, at)).transpose()
    }

    fn sum(&self, key: &str) -> Result<Option<Money>, Wrong> {
        self.get(key).map(|(value, at)| amount(value, at)).transpose()
    }

    fn balance(&self, key: &str) -> Result<Option<Balance>, Wrong> {
        let Some((value, at)) = self.get(key) else { return Ok(None) };
        match value.parse() {
            Ok(balance) => Ok(Some(balance)),
            Err(error) => malformed(at, format!("{value:?} is not a balance: {error}")),
        }
    }

    /// Which of two accounts of a side is one of the file's.
    fn own(&self, keys: [&str; 2], accounts: &HashSet<String>) -> Option<String> {
        keys.into_iter().map(|key| code(self.text(key), 34)).find(|key| accounts.contains(key))
    }

    fn sender(&self) -> Sender {
        // The name may stand in either, the first often with the INN before it.
        let name = match self.text("Плательщик1") {
            "" => self.text("Плательщик"),
            name => name,
        };
        let account = match self.text("ПлательщикСчет") {
            "" => self.text("ПлательщикРасчСчет"),
            account => account,
        };
        Sender {
            name: plain(name, NAME_BYTES),
            inn: code(self.text("ПлательщикИНН"), 32),
            kpp: code(self.text("ПлательщикКПП"), 9),
            account: code(account, 34),
            bik: code(self.text("ПлательщикБИК"), 11),
        }
    }

    /// The purpose; where a bank breaks it into lines, the lines.
    fn purpose(&self) -> String {
        let whole = self.text("НазначениеПлатежа");
        let lines = (1..=6).map(|number| self.text_of("НазначениеПлатежа", number));
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        // Lines repeat the whole, or are all there is.
        let text = if whole.is_empty() { lines.join(" ") } else { whole.to_owned() };
        plain(&text, PURPOSE_BYTES)
    }

    fn text_of(&self, key: &str, number: usize) -> &str {
        self.text(&format!("{key}{number}"))
    }
}

fn account(text: &str, at: Place) -> Result<String, Wrong> {
    let number = code(text, 34);
    if number.is_empty() {
        return malformed(at, format!("{text:?} is not an account"));
    }
    Ok(number)
}

/// `dd.mm.yyyy`.
fn day(text: &str, at: Place) -> Result<Day, Wrong> {
    let sound = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let parts: Vec<u32> = text.split('.').filter_map(|part| part.parse().ok()).collect();
    let day = match parts.as_slice() {
        [day, month, year] if sound => {
            i32::try_from(*year).ok().and_then(|year| Day::from_ymd(year, *month, *day))
        }
        _ => None,
    };
    day.map_or_else(|| malformed(at, format!("{text:?} is not a date such as 20.11.2026")), Ok)
}
