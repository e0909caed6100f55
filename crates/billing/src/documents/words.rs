//! Amounts and days as an accountant writes them in Russian.
//!
//! Pure. Spaces inside a figure and before a unit do not break (U+00A0), so a wrapped line never splits one.

use adspend_common::{
    money::{Currency, MICROS_PER_KOPECK, MICROS_PER_UNIT, Money},
    time::Day,
};
use chrono::Datelike as _;

/// A space at which no line is broken.
const NBSP: char = '\u{a0}';

/// The gender that the numerals one and two follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gender {
    Masculine,
    Feminine,
}

/// The forms after one, after two to four, and after the rest.
type Forms = [&'static str; 3];

/// How a currency is written out.
struct Unit {
    gender: Gender,
    unit: Forms,
    hundredth: Forms,
    /// What stands behind a figure.
    short: &'static str,
    /// The name and the number in the classifier of currencies, for VAT invoices.
    classifier: (&'static str, &'static str),
}

const KOPECK: Forms = ["копейка", "копейки", "копеек"];
const CENT: Forms = ["цент", "цента", "центов"];

/// The words of a currency.
fn unit(currency: Currency) -> Unit {
    use Gender::{Feminine, Masculine};
    let (gender, unit, hundredth, short, classifier) = match currency {
        Currency::RUB => {
            (Masculine, ["рубль", "рубля", "рублей"], KOPECK, "руб.", ("Российский рубль", "643"))
        }
        Currency::KZT => (
            Masculine,
            ["тенге", "тенге", "тенге"],
            ["тиын", "тиына", "тиынов"],
            "тенге",
            ("Тенге", "398"),
        ),
        Currency::BYN => (
            Masculine,
            ["белорусский рубль", "белорусских рубля", "белорусских рублей"],
            KOPECK,
            "бел. руб.",
            ("Белорусский рубль", "933"),
        ),
        Currency::UAH => {
            (Feminine, ["гривна", "гривны", "гривен"], KOPECK, "грн", ("Гривна", "980"))
        }
        Currency::USD => (
            Masculine,
            ["доллар США", "доллара США", "долларов США"],
            CENT,
            "долл. США",
            ("Доллар США", "840"),
        ),
        Currency::EUR => (
            Masculine,
            ["евро", "евро", "евро"],
            ["евроцент", "евроцента", "евроцентов"],
            "евро",
            ("Евро", "978"),
        ),
        Currency::CHF => (
            Masculine,
            ["швейцарский франк", "швейцарских франка", "швейцарских франков"],
            ["сантим", "сантима", "сантимов"],
            "шв. фр.",
            ("Швейцарский франк", "756"),
        ),
        Currency::TRY => (
            Feminine,
            ["турецкая лира", "турецкие лиры", "турецких лир"],
            ["куруш", "куруша", "курушей"],
            "тур. лир",
            ("Турецкая лира", "949"),
        ),
        // The set of currencies is closed; the last of it is the Uzbek sum.
        _ => (
            Masculine,
            ["узбекский сум", "узбекских сума", "узбекских сумов"],
            ["тийин", "тийина", "тийинов"],
            "сум",
            ("Узбекский сум", "860"),
        ),
    };
    Unit { gender, unit, hundredth, short, classifier }
}

/// What stands behind a figure in this currency: `руб.`
pub(crate) fn short(currency: Currency) -> &'static str {
    unit(currency).short
}

/// The currency as a VAT invoice names it: `Российский рубль, 643`.
pub(crate) fn classified(currency: Currency) -> String {
    let (name, number) = unit(currency).classifier;
    format!("{name}, {number}")
}

/// The form that goes with a count.
fn form(count: i64, forms: Forms) -> &'static str {
    let [one, few, many] = forms;
    match (count % 100, count % 10) {
        (11..=14, _) => many,
        (_, 1) => one,
        (_, 2..=4) => few,
        _ => many,
    }
}

const HUNDREDS: [&str; 10] = [
    "",
    "сто",
    "двести",
    "триста",
    "четыреста",
    "пятьсот",
    "шестьсот",
    "семьсот",
    "восемьсот",
    "девятьсот",
];
const TENS: [&str; 10] = [
    "",
    "",
    "двадцать",
    "тридцать",
    "сорок",
    "пятьдесят",
    "шестьдесят",
    "семьдесят",
    "восемьдесят",
    "девяносто",
];
const SMALL: [&str; 20] = [
    "",
    "один",
    "два",
    "три",
    "четыре",
    "пять",
    "шесть",
    "семь",
    "восемь",
    "девять",
    "десять",
    "одиннадцать",
    "двенадцать",
    "тринадцать",
    "четырнадцать",
    "пятнадцать",
    "шестнадцать",
    "семнадцать",
    "восемнадцать",
    "девятнадцать",
];
const POWERS: [(Gender, Forms); 4] = [
    (Gender::Feminine, ["тысяча", "тысячи", "тысяч"]),
    (Gender::Masculine, ["миллион", "миллиона", "миллионов"]),
    (Gender::Masculine, ["миллиард", "миллиарда", "миллиардов"]),
    (Gender::Masculine, ["триллион", "триллиона", "триллионов"]),
];

/// A word of a table by a digit; the tables have an entry for each.
fn word(table: &[&'static str], digit: i64) -> &'static str {
    usize::try_from(digit).ok().and_then(|at| table.get(at)).copied().unwrap_or_default()
}

/// A number below a thousand.
fn below_thousand(number: i64, gender: Gender, into: &mut Vec<&'static str>) {
    let (hundreds, rest) = (number / 100, number % 100);
    let mut say = |said: &'static str| {
        if !said.is_empty() {
            into.push(said);
        }
    };
    say(word(&HUNDREDS, hundreds));
    let small = if rest < 20 {
        rest
    } else {
        say(word(&TENS, rest / 10));
        rest % 10
    };
    say(match (small, gender) {
        (1, Gender::Feminine) => "одна",
        (2, Gender::Feminine) => "две",
        _ => word(&SMALL, small),
    });
}

/// A whole number that is not negative.
fn number(number: i64, gender: Gender) -> Vec<&'static str> {
    if number == 0 {
        return vec!["ноль"];
    }
    let mut words = Vec::new();
    for (power, (of, forms)) in [1, 2, 3, 4].into_iter().zip(POWERS).rev() {
        let part = number / 1_000_i64.pow(power) % 1_000;
        if part > 0 {
            below_thousand(part, of, &mut words);
            words.push(form(part, forms));
        }
    }
    below_thousand(number % 1_000, gender, &mut words);
    words
}

/// The amount in words, the hundredths in figures: `Двадцать один рубль 01 копейка`.
pub(crate) fn amount(amount: Money, currency: Currency) -> String {
    let units = amount.micros() / MICROS_PER_UNIT;
    let hundredths = amount.micros() % MICROS_PER_UNIT / MICROS_PER_KOPECK;
    let said = unit(currency);
    let words = number(units, said.gender).join(" ");
    let text = format!(
        "{words} {} {hundredths:02} {}",
        form(units, said.unit),
        form(hundredths, said.hundredth)
    );
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The amount in figures: `1 234 567,50`, with spaces that do not break.
pub(crate) fn figures(amount: Money) -> String {
    grouped((amount.micros() / MICROS_PER_KOPECK).unsigned_abs())
}

/// The same of whole kopecks.
pub(crate) fn grouped(kopecks: u64) -> String {
    let (units, rest) = ((kopecks / 100).to_string(), kopecks % 100);
    let mut text = String::with_capacity(units.len() + 8);
    for (at, digit) in units.chars().enumerate() {
        if at > 0 && (units.len() - at).is_multiple_of(3) {
            text.push(NBSP);
        }
        text.push(digit);
    }
    format!("{text},{rest:02}")
}

/// Months as they follow a day.
const OF_MONTH: [&str; 12] = [
    "января",
    "февраля",
    "марта",
    "апреля",
    "мая",
    "июня",
    "июля",
    "августа",
    "сентября",
    "октября",
    "ноября",
    "декабря",
];
/// Months by themselves.
const MONTH: [&str; 12] = [
    "январь",
    "февраль",
    "март",
    "апрель",
    "май",
    "июнь",
    "июль",
    "август",
    "сентябрь",
    "октябрь",
    "ноябрь",
    "декабрь",
];

/// `20 ноября 2026 г.`
pub(crate) fn day(day: Day) -> String {
    let date = day.date();
    let month = word(&OF_MONTH, i64::from(date.month0()));
    format!("{}{NBSP}{month} {}{NBSP}г.", date.day(), date.year())
}

/// `20.11.2026`
pub(crate) fn short_day(day: Day) -> String {
    day.date().format("%d.%m.%Y").to_string()
}

/// `ноябрь 2026 г.`, of the month in which a day lies.
pub(crate) fn month(day: Day) -> String {
    let date = day.date();
    format!("{} {}{NBSP}г.", word(&MONTH, i64::from(date.month0())), date.year())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn money(text: &str) -> Money {
        text.parse().unwrap()
    }

    #[test]
    fn amounts_in_words_r_176() {
        for (sum, words) in [
            ("0", "Ноль рублей 00 копеек"),
            ("1", "Один рубль 00 копеек"),
            ("21.01", "Двадцать один рубль 01 копейка"),
            ("2000", "Две тысячи рублей 00 копеек"),
            ("12345.67", "Двенадцать тысяч триста сорок пять рублей 67 копеек"),
            ("2001000.02", "Два миллиона одна тысяча рублей 02 копейки"),
            ("45000", "Сорок пять тысяч рублей 00 копеек"),
            ("111.11", "Сто одиннадцать рублей 11 копеек"),
            ("1001.99", "Одна тысяча один рубль 99 копеек"),
            ("1000000000000", "Один триллион рублей 00 копеек"),
            ("3000000022", "Три миллиарда двадцать два рубля 00 копеек"),
        ] {
            assert_eq!(amount(money(sum), Currency::RUB), words, "{sum}");
        }
    }

    #[test]
    fn other_currencies_have_words_and_genders_of_their_own() {
        for (sum, currency, words) in [
            ("2.01", Currency::UAH, "Две гривны 01 копейка"),
            ("1", Currency::TRY, "Одна турецкая лира 00 курушей"),
            ("22", Currency::KZT, "Двадцать два тенге 00 тиынов"),
            ("5.05", Currency::USD, "Пять долларов США 05 центов"),
            ("1.02", Currency::EUR, "Один евро 02 евроцента"),
            ("3", Currency::BYN, "Три белорусских рубля 00 копеек"),
            ("4", Currency::CHF, "Четыре швейцарских франка 00 сантимов"),
            ("11", Currency::UZS, "Одиннадцать узбекских сумов 00 тийинов"),
        ] {
            assert_eq!(amount(money(sum), currency), words, "{sum} {currency}");
        }
    }

    #[test]
    fn every_currency_has_a_number_of_its_own_in_the_classifier() {
        let mut numbers: Vec<_> =
            Currency::ALL.iter().map(|currency| unit(*currency).classifier.1).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Currency::ALL.len());
    }

    #[test]
    fn figures_are_grouped_by_spaces_that_do_not_break() {
        for (sum, text) in [
            ("0", "0,00"),
            ("999.9", "999,90"),
            ("1000", "1\u{a0}000,00"),
            ("1234567.5", "1\u{a0}234\u{a0}567,50"),
        ] {
            assert_eq!(figures(money(sum)), text);
        }
    }

    #[test]
    fn days_and_months_are_written_out() {
        let of = |text: &str| text.parse::<Day>().unwrap();
        assert_eq!(day(of("2026-11-20")), "20\u{a0}ноября 2026\u{a0}г.");
        assert_eq!(day(of("2026-01-01")), "1\u{a0}января 2026\u{a0}г.");
        assert_eq!(month(of("2025-12-31")), "декабрь 2025\u{a0}г.");
        assert_eq!(short_day(of("2026-02-03")), "03.02.2026");
    }

    proptest! {
        /// Grouping changes nothing but the look.
        #[test]
        fn figures_read_back(kopecks in 0..100_000_000_000_000i64) {
            let sum = Money::from_micros(kopecks * MICROS_PER_KOPECK).unwrap();
            let read: String = figures(sum).chars().filter(char::is_ascii_digit).collect();
            prop_assert_eq!(read.parse::<i64>().unwrap(), kopecks);
        }

        /// No number is left without words, and no word is said twice in a row.
        #[test]
        fn words_are_whole(units in 0..1_000_000_000_000i64) {
            let said = number(units, Gender::Masculine);
            prop_assert!(!said.is_empty());
            prop_assert!(said.windows(2).all(|pair| pair[0] != pair[1]));
            prop_assert!(said.iter().all(|word| !word.is_empty()));
        }
    }
}
