//! Счёт на оплату: the bank block, both sides, one line, the sum in words, the QR code.

use adspend_common::{money::Currency, time::Day};

use super::{
    BODY, LABEL, SMALL, customer, executor,
    paper::{Align, Paper, Type},
    put_heading, put_signature, put_totals,
    table::{Column, Table, Title},
    with_unit,
};
use crate::{
    config::Executor,
    documents::{
        content::{Head, Sum},
        qr, rules, words,
    },
};

/// The side of the code: thirty millimetres, so that a telephone reads it from paper.
const CODE: f32 = 96.0;

pub(super) fn put(paper: &mut Paper, head: &Head, sum: Sum, pay_by: Day) {
    let notice = "Оплата счёта означает согласие с условиями оферты. Укажите номер счёта в назначении \
                  платежа; оплата принимается только от плательщика, указанного в счёте.";
    paper.paragraph(SMALL.center(), notice);
    paper.skip(8.0);
    put_bank(paper, &head.executor);
    paper.skip(18.0);
    let title = format!("Счёт на оплату №\u{a0}{} от {}", head.number, words::day(head.day));
    put_heading(paper, &title);
    for (label, text) in [
        ("Поставщик (исполнитель):", executor(&head.executor)),
        ("Покупатель (заказчик):", customer(&head.customer)),
        ("Основание:", format!("Договор на условиях {}", head.executor.contract)),
    ] {
        paper.labelled(LABEL, BODY.bold(), label, &text);
        paper.skip(5.0);
    }
    paper.skip(3.0);
    put_line(paper, sum);
    put_totals(paper, sum, "Всего к оплате:");
    paper.skip(6.0);
    let count = format!("Всего наименований 1, на сумму {}", with_unit(sum.gross, head.currency));
    paper.paragraph(BODY, &count);
    paper.paragraph(Type::new(9.5).bold(), &words::amount(sum.gross, head.currency));
    paper.skip(6.0);
    let until = format!("Оплатить не позднее {} (рекомендуемый срок).", words::day(pay_by));
    paper.paragraph(BODY, &until);
    if sum.rate_permille > 0 {
        let rate = "НДС исчисляется по ставке, действующей на дату оказания услуг.";
        paper.paragraph(SMALL, rate);
    }
    paper.skip(6.0);
    paper.keep(CODE + 40.0);
    paper.rule(1.5);
    paper.skip(10.0);
    put_foot(paper, head, sum);
}

/// The table of the bank, as payment orders have it.
fn put_bank(paper: &mut Paper, of: &Executor) {
    let (left, right, top) = (paper.left, paper.right, paper.y);
    let middle = left + paper.width() * 0.56;
    let half = left + (middle - left) / 2.0;
    let value = middle + 40.0;
    let face = BODY;
    let cell = |edges: (f32, f32)| (edges.0 + 3.0, edges.1 - 3.0);
    let bank_lines = face.wrap(&of.bank, middle - left - 6.0).len();
    let name_lines = face.wrap(&of.name, middle - left - 6.0).len();
    let bank_height = (face.height(bank_lines) + 14.0).max(30.0);
    let name_height = (face.height(name_lines) + 14.0).max(30.0);
    let (bank, ids) = (top + bank_height, top + bank_height + 15.0);
    let bottom = ids + name_height;

    paper.column(cell((left, middle)), top + 2.0, face, &of.bank);
    paper.put(cell((left, middle)), bank - 10.5, SMALL, "Банк получателя");
    paper.put(cell((middle, value)), top + 2.0, face, "БИК");
    paper.put(cell((value, right)), top + 2.0, face, &of.bik);
    paper.put(cell((middle, value)), top + 17.0, face, "Сч. №");
    paper.put(cell((value, right)), top + 17.0, face, &of.correspondent_account);
    paper.put(cell((left, half)), bank + 2.0, face, &format!("ИНН {}", of.inn));
    let kpp =
        if of.kpp.is_empty() { "КПП —".to_owned() } else { format!("КПП {}", of.kpp) };
    paper.put(cell((half, middle)), bank + 2.0, face, &kpp);
    paper.column(cell((left, middle)), ids + 2.0, face, &of.name);
    paper.put(cell((left, middle)), bottom - 10.5, SMALL, "Получатель");
    paper.put(cell((middle, value)), bank + 2.0, face, "Сч. №");
    paper.put(cell((value, right)), bank + 2.0, face, &of.account);

    paper.frame((left, top), (right, bottom));
    for (from, to) in [
        ((left, bank), (right, bank)),
        ((left, ids), (middle, ids)),
        ((middle, top + 15.0), (value, top + 15.0)),
        ((half, bank), (half, ids)),
        ((middle, top), (middle, bottom)),
        ((value, top), (value, bottom)),
    ] {
        paper.line(from, to, super::paper::HAIR);
    }
    paper.y = bottom;
}

fn put_line(paper: &mut Paper, sum: Sum) {
    let column = |width, align| Column { width, align };
    let columns = [
        column(22.0, Align::Center),
        column(230.0, Align::Left),
        column(42.0, Align::Right),
        column(36.0, Align::Center),
        column(82.0, Align::Right),
        column(88.0, Align::Right),
    ];
    let names = ["№", "Товары (работы, услуги)", "Кол-во", "Ед.", "Цена", "Сумма"];
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
    let gross = words::figures(sum.gross);
    let cells = ["1", "Услуги по размещению рекламы (предоплата)", "1", "усл.", &gross, &gross];
    table.put(paper, &[cells.map(str::to_owned).to_vec()]);
}

/// The code at the left, the signatures beside it.
fn put_foot(paper: &mut Paper, head: &Head, sum: Sum) {
    let of = &head.executor;
    let top = paper.y;
    let mut left = paper.left;
    // The standard is for payments in roubles.
    if head.currency == Currency::RUB
        && let Some(modules) = qr::modules(&code(head, sum))
    {
        paper.squares((left, top + 2.0), CODE, modules);
        let caption = "Оплата по QR-коду\nв приложении банка";
        paper.column((left, left + CODE), top + CODE + 6.0, SMALL.center(), caption);
        left += CODE + 34.0;
    }
    put_signature(paper, (left, paper.right), top, &of.director_title, &of.director);
    // A sole proprietor has no accountant to sign.
    if of.is_entity() {
        let edges = (left, paper.right);
        put_signature(paper, edges, top + 52.0, "Главный бухгалтер", &of.accountant);
    }
    paper.y = top + CODE + 30.0;
}

/// What the code of an invoice says.
pub(super) fn code(head: &Head, sum: Sum) -> String {
    let of = &head.executor;
    let vat = if sum.rate_permille == 0 {
        "НДС не облагается".to_owned()
    } else {
        let rate = rules::percent(sum.rate_permille);
        format!("В т.ч. НДС {rate} {} руб.", words::figures(sum.vat))
    };
    let day = words::short_day(head.day);
    let purpose = format!("Оплата по счёту {} от {day}. {vat}", head.number);
    qr::text(&qr::Payment {
        name: &of.name,
        account: &of.account,
        bank: &of.bank,
        bik: &of.bik,
        correspondent: &of.correspondent_account,
        sum: sum.gross,
        purpose: &purpose,
        payee_inn: &of.inn,
        payer_inn: &head.customer.inn,
        kpp: &of.kpp,
    })
}
