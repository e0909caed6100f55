//! Счёт-фактура in the form of Government Decree 1137 (as of 1 October 2024), for services and for advances.

use super::{
    paper::{Align, HAIR, Paper, Type},
    table::{Column, Table, Title},
};
use crate::documents::{
    content::{Head, Order, Sum},
    rules, words,
};

/// What is invoiced.
pub(super) enum Of<'a> {
    /// Services rendered, with the act that they were handed over by.
    Services { name: &'a str, act: &'a str },
    /// Money ahead of services: most fields stay empty.
    Advance,
}

const FACE: Type = Type::new(8.0);
const TINY: Type = Type::new(6.0);
const NONE: &str = "—";

/// The name of an advance, in the words of the law.
const ADVANCE: &str = "Предварительная оплата услуг по размещению рекламы";

pub(super) fn put(paper: &mut Paper, head: &Head, sum: Sum, of: &Of<'_>, orders: &[Order]) {
    let decree = "Приложение № 1 к постановлению Правительства Российской Федерации от 26.12.2011 № 1137 \
                  (в редакции постановления от 16.08.2024 № 1096)";
    let half = (paper.left + paper.width() * 0.62, paper.right);
    let height = paper.column(half, paper.y, TINY.right(), decree);
    let title = format!("СЧЁТ-ФАКТУРА №\u{a0}{} от {}", head.number, words::day(head.day));
    paper.put((paper.left, half.0), paper.y, Type::new(12.0).bold(), &title);
    paper.put((paper.left, half.0), paper.y + 16.0, FACE, "ИСПРАВЛЕНИЕ №  —  от  —");
    let mark = Type::new(8.0);
    paper.put((half.0 - 40.0, half.0), paper.y + 3.0, mark, "(1)");
    paper.put((half.0 - 40.0, half.0), paper.y + 16.0, mark, "(1а)");
    paper.y += height.max(30.0);
    put_fields(paper, head, of, orders);
    paper.skip(6.0);
    put_table(paper, sum, of);
    paper.skip(12.0);
    put_signatures(paper, head);
}

/// Lines (2) to (8).
fn put_fields(paper: &mut Paper, head: &Head, of: &Of<'_>, orders: &[Order]) {
    let ids = |inn: &str, kpp: &str| match (inn, kpp) {
        ("", _) => NONE.to_owned(),
        (inn, "") => inn.to_owned(),
        (inn, kpp) => format!("{inn}/{kpp}"),
    };
    let or_none = |text: &str| if text.is_empty() { NONE.to_owned() } else { text.to_owned() };
    let shipped = match of {
        Of::Services { act, .. } => {
            format!("Акт № п/п 1 №\u{a0}{act} от {}", words::day(head.day))
        }
        Of::Advance => NONE.to_owned(),
    };
    let (executor, customer) = (&head.executor, &head.customer);
    for (label, text, mark) in [
        ("Продавец", executor.name.clone(), "(2)"),
        ("Адрес", executor.address.clone(), "(2а)"),
        ("ИНН/КПП продавца", ids(&executor.inn, &executor.kpp), "(2б)"),
        ("Грузоотправитель и его адрес", NONE.to_owned(), "(3)"),
        ("Грузополучатель и его адрес", NONE.to_owned(), "(4)"),
        ("К платёжно-расчётному документу", paid_by(orders), "(5)"),
        ("Документ об отгрузке: наименование, №", shipped, "(5а)"),
        ("Покупатель", customer.name.clone(), "(6)"),
        ("Адрес", or_none(&customer.address), "(6а)"),
        ("ИНН/КПП покупателя", ids(&customer.inn, &customer.kpp), "(6б)"),
        ("Валюта: наименование, код", words::classified(head.currency), "(7)"),
        ("Идентификатор государственного контракта, договора (соглашения)", NONE.to_owned(), "(8)"),
    ] {
        let label_edge = paper.left + 190.0;
        let text_edge = paper.right - 26.0;
        let lines = FACE.wrap(&text, text_edge - label_edge).len();
        paper.keep(FACE.height(lines.max(2)) + 2.0);
        let top = paper.y;
        let label_height = paper.column((paper.left, label_edge - 4.0), top, FACE, label);
        let height = paper.column((label_edge, text_edge), top, FACE, &text);
        paper.put((text_edge, paper.right), top, FACE.right(), mark);
        let line = top + height.max(label_height) + 0.5;
        paper.line((label_edge, line), (text_edge, line), 0.25);
        paper.y = line + 2.0;
    }
}

/// `№ 17 от 20.11.2026, № 18 от 21.11.2026`.
fn paid_by(orders: &[Order]) -> String {
    let text = |order: &Order| {
        let day = words::short_day(order.day);
        match order.number.as_str() {
            "" => format!("б/н от\u{a0}{day}"),
            number => format!("№\u{a0}{number}\u{a0}от\u{a0}{day}"),
        }
    };
    match orders {
        [] => NONE.to_owned(),
        orders => orders.iter().map(text).collect::<Vec<_>>().join(", "),
    }
}

const fn title(
    text: &'static str,
    columns: (usize, usize),
    rows: (usize, usize),
) -> Title<'static> {
    Title { text, columns, rows }
}

/// Where columns stand in the header: in both rows, or below a title that they share.
const TITLES: [Title<'static>; 22] = [
    title("№ п/п", (0, 1), (0, 2)),
    title(
        "Наименование товара (описание выполненных работ, оказанных услуг), имущественного права",
        (1, 2),
        (0, 2),
    ),
    title("Код вида товара", (2, 3), (0, 2)),
    title("Единица измерения", (3, 5), (0, 1)),
    title("код", (3, 4), (1, 2)),
    title("условное обозна\u{ad}чение (нацио\u{ad}нальное)", (4, 5), (1, 2)),
    title("Коли\u{ad}чество (объём)", (5, 6), (0, 2)),
    title("Цена (тариф) за единицу измерения", (6, 7), (0, 2)),
    title(
        "Стоимость товаров (работ, услуг), имущественных прав без налога — всего",
        (7, 8),
        (0, 2),
    ),
    title("В том числе сумма акциза", (8, 9), (0, 2)),
    title("Налоговая ставка", (9, 10), (0, 2)),
    title("Сумма налога, предъявляемая покупателю", (10, 11), (0, 2)),
    title(
        "Стоимость товаров (работ, услуг), имущественных прав с налогом — всего",
        (11, 12),
        (0, 2),
    ),
    title("Страна происхождения товара", (12, 14), (0, 1)),
    title("цифровой код", (12, 13), (1, 2)),
    title("краткое наимено\u{ad}вание", (13, 14), (1, 2)),
    title(
        "Регистра\u{ad}ционный номер декла\u{ad}рации на товары или партии товара, подле\u{ad}жащего прослежи\u{ad}ваемости",
        (14, 15),
        (0, 2),
    ),
    title("Количест\u{ad}венная единица измерения для прослежи\u{ad}ваемости", (15, 17), (0, 1)),
    title("код", (15, 16), (1, 2)),
    title("условное обозна\u{ad}чение", (16, 17), (1, 2)),
    title("Коли\u{ad}чество товара, подле\u{ad}жащего прослежи\u{ad}ваемости", (17, 18), (0, 2)),
    title(
        "Стоимость товара, подле\u{ad}жащего прослежи\u{ad}ваемости, без налога",
        (18, 19),
        (0, 2),
    ),
];

/// The numbers of the columns.
const NUMBERS: [&str; 19] = [
    "1", "1а", "1б", "2", "2а", "3", "4", "5", "6", "7", "8", "9", "10", "10а", "11", "12", "12а",
    "13", "14",
];

fn put_table(paper: &mut Paper, sum: Sum, of: &Of<'_>) {
    let widths = [
        16.0, 122.0, 26.0, 20.0, 42.0, 34.0, 56.0, 58.0, 32.0, 36.0, 56.0, 58.0, 34.0, 38.0, 50.0,
        20.0, 38.0, 42.0, 44.0,
    ];
    let columns: Vec<Column> = (0..)
        .zip(widths)
        .map(|(at, width)| {
            let align = match at {
                1 => Align::Left,
                5 | 6 | 7 | 10 | 11 => Align::Right,
                _ => Align::Center,
            };
            Column { width, align }
        })
        .collect();
    let mut titles: Vec<Title<'_>> = TITLES.to_vec();
    titles.extend(NUMBERS.iter().enumerate().map(|(at, text)| Title {
        text,
        columns: (at, at + 1),
        rows: (2, 3),
    }));
    let table = Table {
        columns: &columns,
        header: &[36.0, 40.0, 10.0],
        titles: &titles,
        title_face: Type::new(5.6),
        face: Type::new(7.2),
        bold: &[],
    };
    let net = words::figures(sum.net());
    let (vat, gross) = (words::figures(sum.vat), words::figures(sum.gross));
    let row = |name: &str, unit: [&str; 3], prices: [&str; 2], rate: &str| {
        let mut cells = vec!["1", name, NONE, unit[0], unit[1], unit[2], prices[0], prices[1]];
        let excise = if prices[1] == NONE { NONE } else { "без акциза" };
        cells.extend([excise, rate, &vat, &gross]);
        cells.extend([NONE; 7]);
        cells.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let (row, net) = match of {
        Of::Services { name, .. } => {
            let rate = rules::percent(sum.rate_permille);
            // 796 is "a piece" in the classifier of units; services are counted as one.
            (row(name, ["796", "шт", "1"], [&net, &net], &rate), net.clone())
        }
        Of::Advance => {
            let rate = rules::ratio(sum.rate_permille);
            (row(ADVANCE, [NONE; 3], [NONE; 2], &rate), NONE.to_owned())
        }
    };
    table.put(paper, &[row]);
    put_total(paper, &widths, [&net, &vat, &gross]);
}

/// «Всего к оплате (9)»: below the columns that have a sum.
fn put_total(paper: &mut Paper, widths: &[f32], [net, vat, gross]: [&str; 3]) {
    let all: f32 = widths.iter().sum();
    let scale = paper.width() / all;
    let (left, whole) = (paper.left, paper.width());
    let edge = move |at: usize| {
        let before: f32 = widths.iter().take(at).sum();
        left + (before * scale).min(whole)
    };
    let (top, bottom) = (paper.y, paper.y + 13.0);
    let face = Type::new(7.2).bold();
    let cell = |from: usize, to: usize| (edge(from) + 3.0, edge(to) - 3.0);
    paper.put(cell(0, 7), top + 2.0, face, "Всего к оплате (9)");
    paper.put(cell(7, 8), top + 2.0, face.right(), net);
    paper.put(cell(8, 10), top + 2.0, face.center(), "Х");
    paper.put(cell(10, 11), top + 2.0, face.right(), vat);
    paper.put(cell(11, 12), top + 2.0, face.right(), gross);
    paper.frame((left, top), (edge(12), bottom));
    for border in [7, 8, 10, 11] {
        paper.line((edge(border), top), (edge(border), bottom), HAIR);
    }
    paper.y = bottom;
}

/// Director and accountant; or the sole proprietor.
fn put_signatures(paper: &mut Paper, head: &Head) {
    paper.keep(46.0);
    let (left, right, top) = (paper.left, paper.right, paper.y);
    let middle = left + paper.width() / 2.0;
    let of = &head.executor;
    let sign = |paper: &mut Paper, (from, to): (f32, f32), label: &str, name: &str| {
        paper.column((from, from + 130.0), top, FACE, label);
        let (line, half) = (top + 20.0, from + 130.0 + (to - from - 130.0) * 0.45);
        paper.line((from + 134.0, line), (half, line), HAIR);
        paper.put((from + 134.0, half), line + 1.5, TINY.center(), "(подпись)");
        paper.line((half + 6.0, line), (to, line), HAIR);
        paper.put((half + 6.0, to), line - 10.0, FACE.center(), name);
        paper.put((half + 6.0, to), line + 1.5, TINY.center(), "(ф. и. о.)");
    };
    if of.is_entity() {
        let director = "Руководитель организации или иное уполномоченное лицо";
        sign(paper, (left, middle - 12.0), director, &of.director);
        let accountant = "Главный бухгалтер или иное уполномоченное лицо";
        sign(paper, (middle + 12.0, right), accountant, &of.accountant);
    } else {
        let proprietor = "Индивидуальный предприниматель или иное уполномоченное лицо";
        sign(paper, (left, middle - 12.0), proprietor, &of.director);
    }
    paper.y = top + 40.0;
}
