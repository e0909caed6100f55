//! Акт об оказании услуг: what was done in a month, under which invoices, and that nobody claims anything.

use adspend_common::time::Day;

use super::{
    BODY,
    paper::{Align, Paper, Type},
    put_heading, put_sides, put_signature, put_totals,
    table::{Column, Table, Title},
    with_unit,
};
use crate::documents::{
    content::{Head, Line, Sum},
    rules, words,
};

pub(super) fn put(paper: &mut Paper, head: &Head, sum: Sum, first_day: Day, lines: &[Line]) {
    let title = format!("Акт №\u{a0}{} от {} об оказании услуг", head.number, words::day(head.day));
    put_heading(paper, &title);
    let basis = format!("Договор на условиях {}", head.executor.contract);
    put_sides(paper, head, &basis);
    let period = format!("{} — {}", words::short_day(first_day), words::short_day(head.day));
    paper.labelled(super::LABEL, BODY.bold(), "Период:", &period);
    paper.skip(8.0);
    put_lines(paper, lines);
    put_totals(paper, sum, "Всего с НДС:");
    paper.skip(6.0);
    let count = lines.len();
    let all = with_unit(sum.gross, head.currency);
    let vat = if sum.rate_permille == 0 {
        "НДС не облагается".to_owned()
    } else {
        let rate = rules::percent(sum.rate_permille);
        format!("в том числе НДС ({rate}) {}", with_unit(sum.vat, head.currency))
    };
    paper.paragraph(BODY, &format!("Всего оказано услуг {count}, на сумму {all}, {vat}"));
    paper.paragraph(Type::new(9.5).bold(), &words::amount(sum.gross, head.currency));
    paper.skip(8.0);
    let claims = "Вышеперечисленные услуги выполнены полностью и в срок. Заказчик претензий по объёму, \
                  качеству и срокам оказания услуг не имеет.";
    paper.paragraph(BODY, claims);
    paper.skip(6.0);
    paper.keep(96.0);
    paper.rule(1.5);
    paper.skip(10.0);
    put_signatures(paper, head);
}

fn put_lines(paper: &mut Paper, lines: &[Line]) {
    let column = |width, align| Column { width, align };
    let columns = [
        column(24.0, Align::Center),
        column(262.0, Align::Left),
        column(42.0, Align::Right),
        column(34.0, Align::Center),
        column(76.0, Align::Right),
        column(82.0, Align::Right),
    ];
    let names = ["№", "Наименование услуги", "Кол-во", "Ед.", "Цена", "Сумма"];
    let titles: Vec<Title<'_>> = names
        .iter()
        .enumerate()
        .map(|(at, text)| Title { text, columns: (at, at + 1), rows: (0, 1) })
        .collect();
    let table = Table {
        columns: &columns,
        header: &[17.0],
        titles: &titles,
        title_face: BODY.bold(),
        face: BODY,
        bold: &[],
    };
    let rows: Vec<Vec<String>> = (1..)
        .zip(lines)
        .map(|(number, line): (usize, _)| {
            let gross = words::figures(line.gross);
            let name = line.name.clone();
            vec![number.to_string(), name, "1".into(), "усл.".into(), gross.clone(), gross]
        })
        .collect();
    table.put(paper, &rows);
}

/// Both sides sign, beside each other.
fn put_signatures(paper: &mut Paper, head: &Head) {
    let (left, right, top) = (paper.left, paper.right, paper.y);
    let middle = left + paper.width() / 2.0;
    for (edges, label, name) in [
        ((left, middle - 14.0), "Исполнитель", head.executor.name.as_str()),
        ((middle + 14.0, right), "Заказчик", head.customer.name.as_str()),
    ] {
        paper.put(edges, top, BODY.bold(), label);
        paper.column(edges, top + 12.0, BODY, name);
    }
    let lines = |name: &str| BODY.wrap(name, middle - 14.0 - left).len();
    let names = lines(&head.executor.name).max(lines(&head.customer.name));
    let below = top + 22.0 + BODY.height(names);
    let of = &head.executor;
    put_signature(paper, (left, middle - 14.0), below, &of.director_title, &of.director);
    put_signature(paper, (middle + 14.0, right), below, "Должность", "");
    paper.put((left, right), below + 46.0, BODY, "М. П.");
    paper.put((middle + 14.0, right), below + 46.0, BODY, "М. П.");
    paper.y = below + 62.0;
}
