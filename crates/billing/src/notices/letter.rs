//! The words of the letters. The readers are Russian advertisers.
//!
//! Pure: from values to a subject, a text and an HTML page that say the same. Whatever comes from outside is
//! escaped in HTML, and a letter with a character that could end a header line is not written at all.

use adspend_common::money::{Balance, Currency, Money};

use super::{AutopayCause, Content, Promised};
use crate::documents::words;

/// A letter to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// The letter would hold a control character: somebody tries to write headers of his own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the letter would hold a control character")]
pub(super) struct Unwritable;

const FOOTER: &str = "Это письмо отправлено автоматически, отвечать на него не нужно.";

/// Writes the letter to the owner of the account with this display name.
pub(super) fn write(account: &str, content: &Content) -> Result<Letter, Unwritable> {
    let (subject, paragraphs) = words(account, content);
    let lines = || std::iter::once(&subject).chain(&paragraphs);
    if lines().any(|line| line.chars().any(char::is_control)) {
        return Err(Unwritable);
    }
    let text = format!("Здравствуйте!\n\n{}\n\n--\n{FOOTER}\n", paragraphs.join("\n\n"));
    let shown: String =
        paragraphs.iter().map(|paragraph| format!("<p>{}</p>\n", escaped(paragraph))).collect();
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"ru\">\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n\
         <body style=\"font-family: Arial, sans-serif; color: #222; max-width: 40em\">\n\
         <p>Здравствуйте!</p>\n{shown}<p style=\"color: #888; font-size: 85%\">{FOOTER}</p>\n\
         </body>\n</html>\n",
        escaped(&subject)
    );
    Ok(Letter { subject, text, html })
}

fn words(account: &str, content: &Content) -> (String, Vec<String>) {
    match content {
        Content::BalanceLow { balance, daily, currency } => low(account, (*balance, *daily), *currency),
        Content::PromiseTaken(Promised { amount, currency, due, .. }) => (
            format!("Обещанный платёж на {} зачислен", money(*amount, *currency)),
            vec![
                format!(
                    "На счёт «{account}» зачислен обещанный платёж: {}.",
                    money(*amount, *currency)
                ),
                format!("Погасите его до конца дня {} (время московское).", words::day(*due)),
            ],
        ),
        Content::PromiseDueSoon(Promised { outstanding, currency, due, .. }) => (
            format!("Срок обещанного платежа истекает {}", words::day(*due)),
            vec![
                format!(
                    "Обещанный платёж по счёту «{account}» нужно погасить до конца дня {} (время \
                     московское). Осталось погасить: {}.",
                    words::day(*due),
                    money(*outstanding, *currency)
                ),
                "Если не погасить его в срок, задолженность будет списана из ближайшего поступления, а \
                 новый обещанный платёж взять не получится."
                    .to_owned(),
            ],
        ),
        Content::PromiseOverdue(Promised { outstanding, currency, due, .. }) => (
            "Обещанный платёж просрочен".to_owned(),
            vec![
                format!(
                    "Срок обещанного платежа по счёту «{account}» истёк {}. Задолженность: {}.",
                    words::day(*due),
                    money(*outstanding, *currency)
                ),
                "Она будет погашена из ближайшего поступления. Пока есть просроченная задолженность, \
                 взять новый обещанный платёж нельзя."
                    .to_owned(),
            ],
        ),
        Content::PromiseRepaid(Promised { amount, currency, .. }) => (
            "Обещанный платёж погашен".to_owned(),
            vec![format!(
                "Обещанный платёж на {} по счёту «{account}» погашен полностью.",
                money(*amount, *currency)
            )],
        ),
        Content::AutoTopUpOff { client, client_name, amount, currency } => (
            format!("Автопополнение клиента «{client_name}» отключено"),
            vec![
                format!(
                    "На счёте агентства «{account}» не хватило средств, чтобы пополнить счёт клиента \
                     «{client_name}» ({client}) на {}. Автопополнение этого клиента отключено.",
                    money(*amount, *currency)
                ),
                "Пополните счёт агентства и включите автопополнение снова.".to_owned(),
            ],
        ),
        Content::AutopayOff { cause, amount, currency, card } => {
            let why = match cause {
                AutopayCause::LimitExceeded => "превышен лимит операций по карте",
                AutopayCause::AuthorizationError => "платёжная система не смогла авторизовать карту",
                AutopayCause::Declined => "платёжная система отклонила платёж",
            };
            (
                "Автоплатёж отключён".to_owned(),
                vec![
                    format!(
                        "Автоплатёж на {} по счёту «{account}» с карты {card} не прошёл: {why}. \
                         Автоплатёж отключён.",
                        money(*amount, *currency)
                    ),
                    "Проверьте карту или привяжите другую и включите автоплатёж снова.".to_owned(),
                ],
            )
        }
    }
}

fn low(
    account: &str,
    (balance, daily): (Balance, Money),
    currency: Currency,
) -> (String, Vec<String>) {
    let days = match (balance.as_money(), daily.micros()) {
        (Some(left), daily) if daily > 0 => left.micros() / daily,
        _ => 0,
    };
    let lasts = match days {
        _ if balance.micros() <= 0 => "Средств на счёте не осталось.".to_owned(),
        0 => "При таком расходе этого не хватит и на день.".to_owned(),
        1 => "При таком расходе этого хватит примерно на день.".to_owned(),
        days => format!("При таком расходе этого хватит примерно на {days} дня."),
    };
    (
        format!("На счёте «{account}» заканчиваются средства"),
        vec![
            format!(
                "Остаток на счёте «{account}»: {}. Средний расход за последние 7 дней: {} в день.",
                amount(balance, currency),
                money(daily, currency)
            ),
            format!("{lasts} Пополните счёт, чтобы показы не остановились."),
        ],
    )
}

fn money(value: Money, currency: Currency) -> String {
    amount(Balance::from(value), currency)
}

/// Whole kopecks, never more than there is: `1 234 567,50 ₽` with non-breaking spaces.
fn amount(value: Balance, currency: Currency) -> String {
    let kopecks = value.micros().div_euclid(10_000);
    let sign = if kopecks < 0 { "−" } else { "" };
    let unit = if currency == Currency::RUB { "₽" } else { currency.as_str() };
    format!("{sign}{}\u{a0}{unit}", words::grouped(kopecks.unsigned_abs()))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use adspend_common::time::Day;

    const RUB: Currency = Currency::RUB;

    fn promised() -> Promised {
        let due = Day::from_ymd(2026, 11, 25).unwrap();
        let (amount, outstanding) = (Money::from_units(3_000), Money::from_units(2_000));
        Promised { amount, outstanding, currency: RUB, due }
    }

    fn all() -> Vec<Content> {
        let amount = Money::from_units(500);
        let balance = Balance::from_micros(1_234_567_509_999).unwrap();
        let client = adspend_common::id::AccountId::parse("boots").unwrap();
        vec![
            Content::BalanceLow { balance, daily: amount, currency: RUB },
            Content::PromiseTaken(promised()),
            Content::PromiseDueSoon(promised()),
            Content::PromiseOverdue(promised()),
            Content::PromiseRepaid(promised()),
            Content::AutoTopUpOff { client, client_name: "Boots".into(), amount, currency: RUB },
            Content::AutopayOff {
                cause: AutopayCause::Declined,
                amount,
                currency: RUB,
                card: "•••• 4242".into(),
            },
        ]
    }

    #[test]
    fn amounts_and_days_are_written_as_people_write_them() {
        for (micros, text) in [
            (1_234_567_509_999, "1 234 567,50 ₽"),
            (0, "0,00 ₽"),
            (999_990_000, "999,99 ₽"),
            (1_000_000_000, "1 000,00 ₽"),
            (-8_500_000_000, "−8 500,00 ₽"),
            (-1, "−0,01 ₽"),
        ] {
            let written = amount(Balance::from_micros(micros).unwrap(), RUB);
            assert_eq!(written.replace('\u{a0}', " "), text);
        }
        let kzt = amount(Balance::from_micros(5_000_000).unwrap(), Currency::KZT);
        assert_eq!(kzt, "5,00\u{a0}KZT");
        let written = words::day(Day::from_ymd(2026, 11, 5).unwrap());
        assert_eq!(written.replace('\u{a0}', " "), "5 ноября 2026 г.");
    }

    /// Every letter names the account and says the same in both parts; nothing of a name becomes HTML.
    #[test]
    fn a_name_is_text_in_every_letter() {
        let hostile = "<script>\"x\"</script> & 'Ко'";
        for content in all() {
            let letter = write(hostile, &content).unwrap();
            assert!(letter.text.contains(hostile), "{letter:?}");
            assert!(!letter.html.contains("<script>"), "{letter:?}");
            let shown = "&lt;script&gt;&quot;x&quot;&lt;/script&gt; &amp; &#39;Ко&#39;";
            assert!(letter.html.contains(shown), "{letter:?}");
        }
    }

    #[test]
    fn a_name_cannot_end_a_line() {
        for name in
            ["a\r\nBcc: evil@example.org", "a\nb", "a\rb", "a\0b", "a\u{1b}[31m", "a\u{85}b"]
        {
            for content in all() {
                assert_eq!(write(name, &content), Err(Unwritable), "{name:?}");
            }
            let client = adspend_common::id::AccountId::parse("boots").unwrap();
            let (client_name, amount) = (name.to_owned(), Money::from_units(5));
            let content = Content::AutoTopUpOff { client, client_name, amount, currency: RUB };
            assert_eq!(write("North", &content), Err(Unwritable), "{name:?}");
        }
    }

    /// What R-34 says, in words.
    #[test]
    fn how_long_the_money_lasts() {
        let daily = Money::from_units(1_000);
        for (balance, words) in [
            (3_000, "примерно на 3 дня"),
            (2_999, "примерно на 2 дня"),
            (1_000, "примерно на день"),
            (999, "не хватит и на день"),
            (0, "Средств на счёте не осталось"),
            (-5, "Средств на счёте не осталось"),
        ] {
            let balance = Balance::from_micros(balance * 1_000_000).unwrap();
            let letter = write("North", &Content::BalanceLow { balance, daily, currency: RUB });
            let letter = letter.unwrap();
            assert!(letter.text.contains(words), "{}", letter.text);
        }
    }
}
