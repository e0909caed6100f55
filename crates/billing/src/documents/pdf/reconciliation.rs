//! Акт сверки взаимных расчётов: our books at the left, room for the customer's at the right.

use adspend_common::{
    money::{Balance, Money},
    time::Day,
};

use super::{
    BODY,
    paper::{Align, Paper, Type},
    put_signature,
    table::{Column, Table, Title},
    with_unit,
};
use crate::documents::{
    content::{Head, Row},
    words,
};

const FACE: Type = Type::new(8.0);

pub(super) fn put(
    paper: &mut Paper,
    head: &Head,
    first_day: Day,
    (opening, closing): (Balance, Balance),
    rows: &[Row],
) {
    let (executor, customer) = (&head.executor, &head.customer);
    paper.paragraph(Type::new(13.0).bold().center(), "Акт сверки взаимных расчётов");
    let number = format!("№\u{a0}{} от {}", head.number, words::day(head.day));
    paper.paragraph(BODY.center(), &number);
    paper.skip(4.0);
    let period = format!(
        "за период с {} по {} между {} и {} по договору на условиях {}",
        words::short_day(first_day),
        words::short_day(head.day),
        executor.name,
        customer.name,
        executor.contract
    );
    paper.paragraph(BODY.center(), &period);
    paper.skip(8.0);
    let intro = format!(
        "Мы, нижеподписавшиеся, {} (ИНН {}), с одной стороны, и {} (ИНН {}), с другой стороны, составили \
         настоящий акт о том, что состояние взаимных расчётов по данным учёта следующее. Суммы приведены \
         с НДС, {}",
        executor.name,
        executor.inn,
        customer.name,
        if customer.inn.is_empty() { "—" } else { &customer.inn },
        words::short(head.currency),
    );
    paper.paragraph(BODY, &intro);
    paper.skip(8.0);
    put_table(paper, head, (opening, closing), rows);
    paper.skip(10.0);
    put_result(paper, head, closing);
    paper.skip(14.0);
    put_signatures(paper, head);
}

fn put_table(paper: &mut Paper, head: &Head, (opening, closing): (Balance, Balance), rows: &[Row]) {
    let column = |width, align| Column { width, align };
    let ours = [
        column(52.0, Align::Center),
        column(112.0, Align::Left),
        column(64.0, Align::Right),
        column(64.0, Align::Right),
    ];
    let theirs = [
        column(52.0, Align::Center),
        column(74.0, Align::Left),
        column(52.0, Align::Right),
        column(52.0, Align::Right),
    ];
    let columns: Vec<Column> = ours.into_iter().chain(theirs).collect();
    let by = |name: &str| format!("По данным {name}");
    let (us, them) = (by(&head.executor.name), by(&head.customer.name));
    let mut titles = vec![
        Title { text: &us, columns: (0, 4), rows: (0, 1) },
        Title { text: &them, columns: (4, 8), rows: (0, 1) },
    ];
    for side in [0, 4] {
        for (at, text) in (side..).zip(["Дата", "Документ", "Дебет", "Кредит"])
        {
            titles.push(Title { text, columns: (at, at + 1), rows: (1, 2) });
        }
    }
    let face = Type::new(8.0).bold();
    let lines =
        titles.iter().take(2).map(|title| face.wrap(title.text, paper.width() * 0.42).len());
    let high = face.height(lines.max().unwrap_or(1)) + 5.0;
    let table = Table {
        columns: &columns,
        header: &[high, 15.0],
        titles: &titles,
        title_face: face,
        face: FACE,
        // Balances and turnovers.
        bold: &[0, rows.len() + 1, rows.len() + 2],
    };
    let sum = |side: fn(&Row) -> Money| Money::checked_sum(rows.iter().map(side));
    let total = |side| sum(side).map(words::figures).unwrap_or_default();
    let mut cells = vec![saldo("Сальдо начальное", opening)];
    cells.extend(rows.iter().map(|row| {
        let day = words::short_day(row.day);
        let name = row.name.clone();
        line([day, name, amount(row.debit), amount(row.credit)])
    }));
    cells.push(line([
        String::new(),
        "Обороты за период".to_owned(),
        total(|row| row.debit),
        total(|row| row.credit),
    ]));
    cells.push(saldo("Сальдо конечное", closing));
    table.put(paper, &cells);
}

fn amount(amount: Money) -> String {
    if amount.is_zero() { String::new() } else { words::figures(amount) }
}

/// Our half of a row; the other one is the customer's to fill.
fn line(ours: [String; 4]) -> Vec<String> {
    ours.into_iter().chain([const { String::new() }; 4]).collect()
}

/// A balance: what the customer owes is a debit, what it paid ahead a credit.
fn saldo(name: &str, balance: Balance) -> Vec<String> {
    let owed = balance.or_zero();
    let ahead = balance.negated().or_zero();
    let debit = if ahead.is_zero() { words::figures(owed) } else { String::new() };
    line([String::new(), name.to_owned(), debit, amount(ahead)])
}

fn put_result(paper: &mut Paper, head: &Head, closing: Balance) {
    let (owed, ahead) = (closing.or_zero(), closing.negated().or_zero());
    let (executor, customer) = (&head.executor.name, &head.customer.name);
    let day = words::day(head.day);
    let said = |creditor: &str, amount: Money| {
        format!(
            "На {day} задолженность составляет {} ({}). Кредитор: {creditor}.",
            with_unit(amount, head.currency),
            words::amount(amount, head.currency)
        )
    };
    let text = match (owed.is_zero(), ahead.is_zero()) {
        (false, _) => said(executor, owed),
        (true, false) => said(customer, ahead),
        (true, true) => format!("На {day} задолженность отсутствует."),
    };
    paper.paragraph(BODY, &format!("По данным {executor}:"));
    paper.paragraph(BODY.bold(), &text);
}

fn put_signatures(paper: &mut Paper, head: &Head) {
    paper.keep(100.0);
    let (left, right, top) = (paper.left, paper.right, paper.y);
    let middle = left + paper.width() / 2.0;
    let of = &head.executor;
    let mut lowest: f32 = 0.0;
    for (edges, name) in
        [((left, middle - 14.0), &of.name), ((middle + 14.0, right), &head.customer.name)]
    {
        paper.put(edges, top, BODY, "От");
        let height = paper.column((edges.0 + 16.0, edges.1), top, BODY.bold(), name);
        lowest = lowest.max(height);
    }
    let below = top + lowest + 6.0;
    put_signature(paper, (left, middle - 14.0), below, &of.director_title, &of.director);
    put_signature(paper, (middle + 14.0, right), below, "Должность", "");
    paper.put((left, right), below + 46.0, BODY, "М. П.");
    paper.put((middle + 14.0, right), below + 46.0, BODY, "М. П.");
    paper.y = below + 62.0;
}
