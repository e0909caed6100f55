//! Documents as PDF: deterministic bytes, text that can be searched and copied, no picture.
//!
//! Krilla embeds the used letters of two fonts, so a page of text is some thirty kilobytes and takes some ten
//! milliseconds. Layout is plain: columns and rules at measured places (`paper.rs`, `table.rs`), one file for
//! each sort of document, each as accountants know it.

mod act;
mod fonts;
mod invoice;
mod paper;
mod reconciliation;
mod table;
mod vat_invoice;

#[cfg(test)]
mod tests;

use adspend_common::money::{Currency, Money};
use chrono::Datelike as _;

use super::{
    content::{Content, Head, Party, Sum},
    rules, words,
};
use crate::config::Executor;
use paper::{About, Lying, Paper, Type};

/// A document could not be written: a fault of ours, because its content was ours.
#[derive(Debug, thiserror::Error)]
#[error("the document cannot be written as PDF: {0}")]
pub(crate) struct Unwritten(String);

/// The pages of a document.
pub(crate) fn render(content: &Content) -> Result<Vec<u8>, Unwritten> {
    let head = content.head();
    let lying = match content {
        Content::Invoice { .. } | Content::Act { .. } | Content::Reconciliation { .. } => {
            Lying::Portrait
        }
        Content::VatInvoice { .. } | Content::AdvanceVatInvoice { .. } => Lying::Landscape,
    };
    let mut paper = Paper::new(lying, title(content));
    match content {
        Content::Invoice { head, sum, pay_by } => invoice::put(&mut paper, head, *sum, *pay_by),
        Content::Act { head, sum, first_day, lines } => {
            act::put(&mut paper, head, *sum, *first_day, lines);
        }
        Content::VatInvoice { head, sum, name, act, orders } => {
            let shipped = vat_invoice::Of::Services { name, act };
            vat_invoice::put(&mut paper, head, *sum, &shipped, orders);
        }
        Content::AdvanceVatInvoice { head, sum, orders } => {
            vat_invoice::put(&mut paper, head, *sum, &vat_invoice::Of::Advance, orders);
        }
        Content::Reconciliation { head, first_day, opening, rows, closing } => {
            let balances = (*opening, *closing);
            reconciliation::put(&mut paper, head, *first_day, balances, rows);
        }
    }
    let date = head.day.date();
    let part = |number: u32| u8::try_from(number).unwrap_or(1);
    let year = u16::try_from(date.year()).unwrap_or_default();
    let about =
        About { author: &head.executor.name, day: (year, part(date.month()), part(date.day())) };
    paper.finish(about).map_err(|error| Unwritten(format!("{error:?}")))
}

/// `Счёт на оплату № AS-26-000001 от 20 ноября 2026 г.`
pub(crate) fn title(content: &Content) -> String {
    let sort = match content {
        Content::Invoice { .. } => "Счёт на оплату",
        Content::Act { .. } => "Акт",
        Content::VatInvoice { .. } => "Счёт-фактура",
        Content::AdvanceVatInvoice { .. } => "Счёт-фактура на аванс",
        Content::Reconciliation { .. } => "Акт сверки взаимных расчётов",
    };
    let head = content.head();
    format!("{sort} №\u{a0}{} от {}", head.number, words::day(head.day))
}

/// The text of a document.
const BODY: Type = Type::new(9.0);
/// What is small beside it.
const SMALL: Type = Type::new(7.0);
/// The width of labels before the parties.
const LABEL: f32 = 82.0;

/// A side with everything that tells it from others.
fn side((name, inn, kpp, address): (&str, &str, &str, &str)) -> String {
    let mut text = name.to_owned();
    for (label, part) in [("ИНН\u{a0}", inn), ("КПП\u{a0}", kpp), ("", address)] {
        if !part.is_empty() {
            text.push_str(", ");
            text.push_str(label);
            text.push_str(part);
        }
    }
    text
}

fn executor(of: &Executor) -> String {
    side((&of.name, &of.inn, &of.kpp, &of.address))
}

fn customer(of: &Party) -> String {
    side((&of.name, &of.inn, &of.kpp, &of.address))
}

/// `45 000,00 руб.`
fn with_unit(amount: Money, currency: Currency) -> String {
    format!("{}\u{a0}{}", words::figures(amount), words::short(currency))
}

/// The heading and the line below it.
fn put_heading(paper: &mut Paper, text: &str) {
    paper.paragraph(Type::new(13.0).bold(), text);
    paper.skip(5.0);
    paper.rule(1.5);
    paper.skip(8.0);
}

/// The two sides and what binds them.
fn put_sides(paper: &mut Paper, head: &Head, basis: &str) {
    for (label, text) in [
        ("Исполнитель:", executor(&head.executor)),
        ("Заказчик:", customer(&head.customer)),
        ("Основание:", basis.to_owned()),
    ] {
        paper.labelled(LABEL, BODY.bold(), label, &text);
        paper.skip(5.0);
    }
}

/// The totals below a table, at its right side.
fn put_totals(paper: &mut Paper, sum: Sum, last: &str) {
    paper.keep(60.0);
    paper.skip(4.0);
    let vat = if sum.rate_permille == 0 {
        ("Без налога (НДС)".to_owned(), "—".to_owned())
    } else {
        let label = format!("В том числе НДС ({}):", rules::percent(sum.rate_permille));
        (label, words::figures(sum.vat))
    };
    let all = words::figures(sum.gross);
    for (label, figures) in [("Итого:".to_owned(), all.clone()), vat, (last.to_owned(), all)] {
        let face = BODY.bold().right();
        let edge = paper.right - 92.0;
        paper.put((paper.left, edge), paper.y, face, &label);
        paper.put((edge, paper.right - 3.0), paper.y, face, &figures);
        paper.skip(13.0);
    }
}

/// A line to sign on: what the signer is, and below the line a name.
fn put_signature(paper: &mut Paper, (left, right): (f32, f32), top: f32, label: &str, name: &str) {
    let label_height = BODY.height(BODY.wrap(label, right - left).len());
    paper.column((left, right), top, BODY.bold(), label);
    let line = top + label_height + 20.0;
    let middle = left + (right - left) * 0.48;
    paper.line((left, line), (middle - 6.0, line), paper::HAIR);
    paper.put((left, middle - 6.0), line + 1.5, SMALL.center(), "подпись");
    paper.line((middle, line), (right, line), paper::HAIR);
    paper.put((middle, right), line - 12.0, BODY.center(), name);
    paper.put((middle, right), line + 1.5, SMALL.center(), "расшифровка подписи");
}
