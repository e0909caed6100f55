//! What is on the pages, read back from the marks and from the file.

use adspend_common::{
    money::{Balance, Currency, Money},
    time::Day,
};

use super::*;
use crate::documents::{
    content::{Line, Order, Row},
    executor::tests::executor,
};

fn money(text: &str) -> Money {
    text.parse().unwrap()
}

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn head(number: &str, on: &str) -> Head {
    Head {
        number: number.to_owned(),
        day: day(on),
        currency: Currency::RUB,
        executor: executor(),
        customer: Party {
            name: "Общество с ограниченной ответственностью «Северное рекламное агентство \
                   полного цикла „Полярная звезда“»"
                .to_owned(),
            inn: "7707083893".to_owned(),
            kpp: "773601001".to_owned(),
            address: "163000, Архангельская обл., г. Архангельск, наб. Северной Двины, д. 55, \
                      корп. 2, офис 314"
                .to_owned(),
        },
    }
}

fn invoice() -> Content {
    Content::Invoice {
        head: head("AS-26-000001", "2026-11-20"),
        sum: Sum::at(money("45000"), 220),
        pay_by: day("2026-11-25"),
    }
}

fn act(lines: usize) -> Content {
    let line = |at| Line {
        name: format!(
            "Услуги по размещению рекламы за ноябрь 2026\u{a0}г. по счёту №\u{a0}AS-26-{at:06} от \
             03.11.2026"
        ),
        gross: money("1234567.5"),
    };
    let lines: Vec<Line> = (1..=lines).map(line).collect();
    let gross = Money::checked_sum(lines.iter().map(|line| line.gross)).unwrap();
    Content::Act {
        head: head("17", "2026-11-30"),
        sum: Sum::at(gross, 220),
        first_day: day("2026-11-01"),
        lines,
    }
}

fn order(number: &str) -> Order {
    Order { number: number.to_owned(), day: day("2026-11-20") }
}

fn vat_invoice() -> Content {
    Content::VatInvoice {
        head: head("33", "2026-11-30"),
        sum: Sum::at(money("1234567.5"), 220),
        name: "Услуги по размещению рекламы за ноябрь 2026\u{a0}г.".to_owned(),
        act: "17".to_owned(),
        orders: ["17", "18", "", "21"].map(order).to_vec(),
    }
}

fn advance() -> Content {
    Content::AdvanceVatInvoice {
        head: head("34", "2026-11-30"),
        sum: Sum::at(money("122000"), 220),
        orders: vec![order("1017")],
    }
}

fn reconciliation(months: usize) -> Content {
    let pair = |_| {
        [
            Row {
                day: day("2026-11-20"),
                name: "Оплата (п/п №\u{a0}1017 от 20.11.2026)".to_owned(),
                debit: Money::ZERO,
                credit: money("122000"),
            },
            Row {
                day: day("2026-11-30"),
                name: "Акт №\u{a0}17 от 30.11.2026".to_owned(),
                debit: money("100000.5"),
                credit: Money::ZERO,
            },
        ]
    };
    let ahead = |micros: i64| Balance::from_micros(-micros).unwrap();
    Content::Reconciliation {
        head: head("5", "2026-11-30"),
        first_day: day("2026-01-01"),
        opening: ahead(1_500_000_000),
        rows: (0..months).flat_map(pair).collect(),
        closing: ahead(23_499_500_000),
    }
}

fn samples() -> Vec<(&'static str, Content)> {
    vec![
        ("invoice", invoice()),
        ("act", act(1)),
        ("act-long", act(40)),
        ("vat-invoice", vat_invoice()),
        ("advance", advance()),
        ("reconciliation", reconciliation(3)),
        ("reconciliation-long", reconciliation(40)),
    ]
}

#[test]
fn equal_contents_make_equal_bytes() {
    for (name, content) in samples() {
        let (first, second) = (render(&content).unwrap(), render(&content).unwrap());
        assert_eq!(first, second, "{name}");
        assert!(first.starts_with(b"%PDF-"), "{name}");
        if let Some(folder) = std::env::var_os("SAMPLES") {
            let folder = std::path::Path::new(&folder);
            std::fs::write(folder.join(format!("{name}.pdf")), first).unwrap();
        }
    }
}
