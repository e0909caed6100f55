//! Laws of reading: what was written is read, whatever the encoding; nothing that a bank or an attacker
//! sends panics; a refusal names a place in the file; memory does not grow with it.

use std::io::{Cursor, Read, Seek, SeekFrom};

use adspend_common::money::{Balance, Currency, MICROS_PER_KOPECK, Money};
use encoding_rs::{IBM866, WINDOWS_1251};
use proptest::{collection::vec, prelude::*};

use super::{
    Entry, Item, Place, Section, Sender, Statement, Way, Wrong,
    render::{Line, Story},
};

const OWN: &str = "40702810138250123017";

fn read(bytes: &[u8]) -> Result<Vec<Item>, Wrong> {
    let mut statement = Statement::open(Cursor::new(bytes))?;
    let mut items = Vec::new();
    while let Some(item) = statement.next()? {
        items.push(item);
    }
    Ok(items)
}

/// What is read of a story, without places.
fn told(story: &Story, camt: bool) -> Vec<Item> {
    let currency = camt.then_some(Currency::RUB);
    let mut section = Section::new(Place::START, story.account.clone());
    section.currency = currency;
    section.opening = Some(story.opening);
    section.closing = Some(story.closing());
    if !camt {
        section.received = Some(story.moved(Way::In));
        section.written_off = Some(story.moved(Way::Out));
    }
    let entry = |line: &Line| {
        let booked = matches!(line.way, Way::In | Way::Out);
        let mut sender = line.sender.clone();
        if camt {
            sender.kpp = String::new();
        }
        if line.way == Way::Out && !camt {
            sender.account = OWN.to_owned();
        }
        Item::Entry(Entry {
            at: Place::START,
            account: if booked || camt { story.account.clone() } else { String::new() },
            way: if camt && line.way == Way::Elsewhere { Way::NotBooked } else { line.way },
            number: line.number.clone(),
            day: line.day,
            amount: line.amount,
            currency,
            sender,
            purpose: line.purpose.clone(),
        })
    };
    [Item::Account(section)].into_iter().chain(story.lines.iter().map(entry)).collect()
}

fn without_places(items: Vec<Item>) -> Vec<Item> {
    let forget = |item| match item {
        Item::Account(section) => Item::Account(Section { at: Place::START, ..section }),
        Item::Entry(entry) => Item::Entry(Entry { at: Place::START, ..entry }),
    };
    items.into_iter().map(forget).collect()
}

/// Words of letters that all three encodings have, with one space between.
fn any_text() -> impl Strategy<Value = String> {
    vec("[а-яА-ЯёЁa-zA-Z0-9.,№()&<>\"'/=-]{1,12}", 1..8).prop_map(|words| words.join(" "))
}

prop_compose! {
    fn any_line()(
        way in prop_oneof![
            4 => Just(Way::In), 2 => Just(Way::Out), 1 => Just(Way::Elsewhere), 1 => Just(Way::NotBooked)
        ],
        number in "[1-9][0-9]{0,8}",
        day in (2024..2027i32, 1..13u32, 1..29u32),
        kopecks in 1..10_000_000_000i64,
        sender in (any_text(), "[1-9][0-9]{9}", "[1-9][0-9]{8}", "407028109[1-9][0-9]{10}", "04[0-9]{7}"),
        purpose in any_text(),
    ) -> Line {
        let (name, inn, kpp, account, bik) = sender;
        let (year, month, date) = day;
        Line {
            way,
            number,
            day: adspend_common::time::Day::from_ymd(year, month, date).unwrap(),
            amount: Money::from_micros(kopecks * MICROS_PER_KOPECK).unwrap(),
            sender: Sender { name, inn, kpp, account, bik },
            purpose,
        }
    }
}

prop_compose! {
    fn any_story()(opening in -1_000_000_000..1_000_000_000i64, lines in vec(any_line(), 0..12)) -> Story {
        let opening = Balance::from_micros(opening * MICROS_PER_KOPECK).unwrap();
        Story { account: OWN.to_owned(), opening, lines }
    }
}

/// Every way in which a bank writes the same story.
fn files(story: &Story) -> Vec<(&'static str, bool, Vec<u8>)> {
    let windows = story.one_c("Windows");
    let xml = |version, label: &str| story.camt(version).replace("UTF-8", label);
    vec![
        ("1C, UTF-8", false, windows.clone().into_bytes()),
        ("1C, UTF-8 with BOM", false, format!("\u{feff}{windows}").into_bytes()),
        ("1C, cp1251", false, WINDOWS_1251.encode(&windows).0.into_owned()),
        ("1C, cp866", false, IBM866.encode(&story.one_c("DOS")).0.into_owned()),
        ("1C, line feeds", false, windows.replace("\r\n", "\n").into_bytes()),
        ("camt.053.001.02", true, story.camt("02").into_bytes()),
        ("camt.053.001.08", true, story.camt("08").into_bytes()),
        ("camt.053, BOM", true, format!("\u{feff}{}", story.camt("08")).into_bytes()),
        ("camt.053, cp1251", true, WINDOWS_1251.encode(&xml("02", "windows-1251")).0.into_owned()),
        ("camt.053, a prefix", true, prefixed(&story.camt("05")).into_bytes()),
    ]
}

fn prefixed(xml: &str) -> String {
    xml.replace("</", "</c:")
        .replace("<", "<c:")
        .replace("<c:/c:", "</c:")
        .replace("<c:?xml", "<?xml")
        .replace("xmlns=", "xmlns:c=")
}

/// A change of bytes somewhere.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Cut(usize, usize),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
    End(usize),
}

fn any_damage() -> impl Strategy<Value = Damage> {
    let at = || any::<prop::sample::Index>().prop_map(|at| at.index(1 << 16));
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), 1..80usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (at(), 1..200usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), "[<>&;=/\r\n!\\[\\]?\"' -]{1,6}")
            .prop_map(|(at, text)| Damage::Insert(at, text.into())),
        at().prop_map(Damage::End),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let len = bytes.len().max(1);
        match damage {
            Damage::Set(at, byte) => {
                if let Some(place) = bytes.get_mut(at % len) {
                    *place = *byte;
                }
            }
            Damage::Cut(at, length) => {
                let from = (at % len).min(bytes.len());
                let to = (from + length).min(bytes.len());
                bytes.drain(from..to);
            }
            Damage::Repeat(at, length) => {
                let from = (at % len).min(bytes.len());
                let to = (from + length).min(bytes.len());
                let part = bytes[from..to].to_vec();
                bytes.splice(to..to, part);
            }
            Damage::Insert(at, new) => {
                let at = (at % len).min(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::End(at) => bytes.truncate(at % len),
        }
    }
    bytes
}

/// A refusal names a place that the file has.
fn check_refusal(bytes: &[u8], wrong: &Wrong) {
    let (Wrong::Malformed { at, .. } | Wrong::Unbalanced { at, .. }) = wrong else {
        panic!("{wrong}");
    };
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!(at.line >= 1 && at.column >= 1 && at.line as usize <= lines, "{wrong} of {lines}");
    assert!(wrong.to_string().starts_with(&format!("line {}, column ", at.line)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Reading what was written gives what was meant, in every encoding and version; but bytes of
    /// another encoding that are UTF-8 by chance ("Х№" in cp1251) are UTF-8.
    #[test]
    fn what_is_written_is_read(story in any_story()) {
        for (name, camt, bytes) in files(&story) {
            let by_chance = name.contains("cp") && !bytes.is_ascii();
            if by_chance && std::str::from_utf8(&bytes).is_ok() {
                continue;
            }
            let items = read(&bytes).map_err(|wrong| TestCaseError::fail(format!("{name}: {wrong}")))?;
            prop_assert_eq!(without_places(items), told(&story, camt), "{}", name);
        }
    }

    /// Damage is refused with its place or does no harm; it never panics.
    #[test]
    fn damage_never_panics(story in any_story(), damages in vec(any_damage(), 1..6)) {
        for (_, _, bytes) in files(&story) {
            let bytes = damaged(bytes, &damages);
            if let Err(wrong) = read(&bytes) {
                check_refusal(&bytes, &wrong);
            }
        }
    }

    /// Any bytes at all, alone and after a good beginning.
    #[test]
    fn any_bytes_are_refused_or_read(bytes in vec(any::<u8>(), 0..400)) {
        for begin in ["", "1CClientBankExchange\n", "<", "<?xml version=\"1.0\"?><Document"] {
            let bytes = [begin.as_bytes(), &bytes].concat();
            if let Err(wrong) = read(&bytes) {
                check_refusal(&bytes, &wrong);
            }
        }
    }

    /// A file that was cut off anywhere before its end is refused, so half a file is never taken for one.
    #[test]
    fn half_a_file_is_no_file(story in any_story(), at in any::<prop::sample::Index>()) {
        for (name, _, bytes) in files(&story) {
            let end = bytes.iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap();
            let cut = &bytes[..at.index(end)];
            let wrong = read(cut);
            prop_assert!(wrong.is_err(), "{name} cut at {}", cut.len());
            check_refusal(cut, &wrong.unwrap_err());
        }
    }
}

/// A file of so many lines that is made while it is read.
struct Long {
    head: Vec<u8>,
    line: Vec<u8>,
    tail: Vec<u8>,
    lines: usize,
    at: usize,
}

impl Long {
    /// `file` with its only line `lines` times.
    fn new(file: &str, line: &str, lines: usize) -> Long {
        let (head, tail) = file.split_once(line).unwrap();
        Long { head: head.into(), line: line.into(), tail: tail.into(), lines, at: 0 }
    }
}

impl Read for Long {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let body = self.line.len() * self.lines;
        let part = if self.at < self.head.len() {
            &self.head[self.at..]
        } else if self.at < self.head.len() + body {
            &self.line[(self.at - self.head.len()) % self.line.len()..]
        } else {
            &self.tail[self.at - self.head.len() - body..]
        };
        let count = part.len().min(into.len());
        into[..count].copy_from_slice(&part[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Seek for Long {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        assert_eq!(to, SeekFrom::Start(0), "only back to the start");
        self.at = 0;
        Ok(0)
    }
}

fn one_line() -> Story {
    let line = Line {
        way: Way::In,
        number: "17".into(),
        day: "2026-11-20".parse().unwrap(),
        amount: Money::from_units(45_000),
        sender: Sender {
            name: "ООО Север".into(),
            inn: "7707083893".into(),
            kpp: "773601001".into(),
            account: "40702810938000000001".into(),
            bik: "044525225".into(),
        },
        purpose: "Оплата по счёту AS-26-000001 от 20.11.2026, в т.ч. НДС 22 %".into(),
    };
    Story { account: OWN.into(), opening: Balance::ZERO, lines: vec![line] }
}

/// The promise of bounded memory: a hundred thousand lines take no more than a few buffers.
#[test]
fn memory_does_not_grow_with_the_file() {
    const LINES: usize = 100_000;
    let story = one_line();
    let one_c = story.one_c("Windows");
    let sum = |figure: &str| figure.replace("=45000.00", "=4500000000.00");
    // The figures of the section are those of all lines, the sum of a document is its own.
    let (head, rest) = one_c.split_once("КонецРасчСчет").unwrap();
    let one_c = format!("{}КонецРасчСчет{rest}", sum(head));
    let document = &one_c[one_c.find("СекцияДокумент").unwrap()..one_c.find("КонецФайла").unwrap()];
    let camt = story.camt("08").replacen(
        "<Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy=\"RUB\">45000.00",
        "<Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy=\"RUB\">4500000000.00",
        1,
    );
    let entry = &camt[camt.find("<Ntry>").unwrap()..camt.find("</Stmt>").unwrap()];
    for (name, file, line) in [("1C", &one_c, document), ("camt", &camt, entry)] {
        let mut entries = 0;
        let took = allocation_counter::measure(|| {
            let mut statement = Statement::open(Long::new(file, line, LINES)).unwrap();
            while let Some(item) = statement.next().unwrap() {
                entries += usize::from(matches!(item, Item::Entry(_)));
            }
        });
        assert_eq!(entries, LINES, "{name}");
        assert!(took.bytes_max < 512 * 1024, "{name}: {} bytes at once", took.bytes_max);
    }
}
