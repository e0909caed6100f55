//! Bank statements over the wire: what becomes of each line, repeats, interruptions, refusals (R-42, R-43,
//! R-187..R-190).

use adspend_common::proto::adspend::billing::v1 as pb;
use encoding_rs::{IBM866, WINDOWS_1251};
use futures_util::stream;
use pb::{StatementLineOutcome as Line, event::Payload};
use tonic::Code;

use crate::{bank::*, support::*};

async fn import(world: &World, file: &str) -> Told {
    send(&world.operator(), &fresh(), file.as_bytes(), 1 << 20).await.unwrap()
}

async fn payments(world: &World) -> usize {
    let request = pb::ListPaymentsRequest { page_size: 1000, ..Default::default() };
    let listed = world.operator().payments().list_payments(request).await.unwrap();
    listed.into_inner().payments.len()
}

#[tokio::test]
async fn each_line_says_what_became_of_it() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let paid = world.invoice("north", "2000").await.number;
    let open = world.invoice("north", "45000").await.number;
    let other = world.invoice("north", "3000").await.number;
    let docs = [
        from_north(1, "2000.00", &format!("Оплата по счёту {paid} от 20.11.2026")),
        from_north(2, "45000.00", &format!("Счёт № {open}, в т.ч. НДС 22 %")),
        // Paid by the line before, in another transaction or the same one.
        from_north(3, "45000.00", &format!("Счёт № {open}")),
        from_north(4, "2999.99", &other),
        Doc { inn: OTHER_INN, ..from_north(5, "3000.00", &other) },
        from_north(6, "70.00", "за рекламу"),
        Doc { from: OWN, to: NORTHS, ..from_north(7, "10.00", "возврат") },
        Doc { from: SECOND, ..from_north(8, "500.00", "пополнение") },
        // The Treasury's account and an INN that nobody has.
        Doc {
            from: "03100643000000017300",
            inn: "7707083894",
            ..from_north(9, "5.00", "без номера")
        },
    ];
    let told = import(&world, &one_c(&docs, "UTF-8")).await;
    assert_eq!(
        told.outcomes(),
        [
            (Line::Credited, ""),
            (Line::Credited, ""),
            (Line::Unallocated, "ALREADY_PAID"),
            (Line::Unallocated, "AMOUNT_MISMATCH"),
            (Line::Unallocated, "PAYER_MISMATCH"),
            (Line::Unallocated, "NUMBER_NOT_FOUND"),
            (Line::Ignored, "OUTGOING"),
            (Line::Ignored, "OWN_TRANSFER"),
            (Line::Unallocated, "NUMBER_NOT_FOUND"),
        ]
    );
    assert_eq!(told.counts(), [2, 5, 0, 2]);
    let first = &told.lines[0];
    assert_eq!((first.position, first.line, first.account.as_str()), (1, 12, "accounts/north"));
    assert_eq!((text(&first.amount).as_str(), first.document_number.as_str()), ("2000", "1"));
    assert_eq!(told.lines[1].line, 24);
    assert_eq!(
        told.lines[8].warnings().collect::<Vec<_>>(),
        [pb::StatementWarning::PayerInn, pb::StatementWarning::PayerAccountNotChecked]
    );
    let [account] = told.summary.accounts.as_slice() else { panic!("{:?}", told.summary) };
    assert_eq!(
        (account.account.as_str(), text(&account.opening_balance).as_str()),
        (OWN, "1000000")
    );
    assert_eq!(
        (text(&account.received), text(&account.written_off)),
        ("98574.99".into(), "10".into())
    );

    let get = pb::GetPaymentRequest { name: told.lines[1].payment.clone() };
    let payment = world.operator().payments().get_payment(get).await.unwrap().into_inner();
    let payment = payment.payment.unwrap();
    assert_eq!(payment.state(), pb::PaymentState::Credited);
    assert_eq!(
        (payment.document_number.as_str(), payment.account.as_str()),
        ("2", "accounts/north")
    );
    let payer = payment.payer.unwrap();
    assert_eq!((payer.name.as_str(), payer.bik.as_str()), ("ООО «Север»", BIK));
    assert_eq!(world.available("north").await, "47000");
    assert_eq!(payments(&world).await, 7);
    world.end().await;
}

#[tokio::test]
async fn the_same_line_is_one_payment_in_however_many_files() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let mut docs = Vec::new();
    for number in 1..=10 {
        let invoice = world.invoice("north", "2000").await.number;
        docs.push(from_north(number, "2000.00", &invoice));
    }
    // Twice in one file is once.
    docs.push(docs[0].clone());
    let first = import(&world, &one_c(&docs[..7], "UTF-8")).await;
    assert_eq!(first.counts(), [7, 0, 0, 0]);
    let same = import(&world, &one_c(&docs[..7], "UTF-8")).await;
    assert_eq!(same.counts(), [0, 0, 7, 0]);
    let payments_of = |told: &Told| -> Vec<String> {
        told.lines.iter().map(|line| line.payment.clone()).collect()
    };
    assert_eq!(payments_of(&same), payments_of(&first), "a duplicate names the payment it is of");
    let overlapping = import(&world, &one_c(&docs[5..], "UTF-8")).await;
    assert_eq!(overlapping.counts(), [3, 0, 3, 0]);
    // Another format tells of the same lines.
    let iso = import(&world, &camt(&docs[..10])).await;
    assert_eq!(iso.counts(), [0, 0, 10, 0]);
    assert_eq!(world.available("north").await, "20000");
    assert_eq!(payments(&world).await, 10);
    world.end().await;
}

#[tokio::test]
async fn every_encoding_and_format_and_size_of_pieces_is_read() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let mut number = 0;
    for (piece, encode) in [
        (1 << 20, (|docs| one_c(docs, "Windows").into_bytes()) as fn(&[Doc]) -> Vec<u8>),
        (7, |docs| format!("\u{feff}{}", one_c(docs, "Windows")).into_bytes()),
        (100, |docs| WINDOWS_1251.encode(&one_c(docs, "Windows")).0.into_owned()),
        (1, |docs| IBM866.encode(&one_c(docs, "DOS").replace(['«', '»'], "\"")).0.into_owned()),
        (33, |docs| camt(docs).into_bytes()),
    ] {
        number += 1;
        let invoice = world.invoice("north", "2000").await.number;
        let docs = [from_north(number, "2000.00", &format!("Оплата счёта №{invoice}"))];
        let told = send(&world.operator(), &fresh(), &encode(&docs), piece).await.unwrap();
        assert_eq!(told.counts(), [1, 0, 0, 0], "{number}");
    }
    assert_eq!(world.available("north").await, "10000");
    world.end().await;
}

#[tokio::test]
async fn a_repeat_gets_the_first_answers_and_another_file_under_its_id_nothing() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "2000").await.number;
    let docs = [
        from_north(1, "2000.00", &invoice),
        from_north(2, "30.00", "за рекламу"),
        Doc { from: OWN, to: NORTHS, ..from_north(3, "10.00", "возврат") },
        from_north(2, "30.00", "за рекламу"),
    ];
    let file = one_c(&docs, "UTF-8");
    let caller = world.operator();
    let first = send(&caller, "bank-1", file.as_bytes(), 1 << 20).await.unwrap();
    assert_eq!(first.counts(), [1, 1, 1, 1]);
    assert!(first.replayed.iter().all(|replayed| !replayed));
    let again = send(&caller, "bank-1", file.as_bytes(), 100).await.unwrap();
    assert_eq!((&again.lines, &again.summary), (&first.lines, &first.summary));
    assert!(again.replayed.iter().all(|replayed| *replayed));
    let other = one_c(&docs[..1], "UTF-8");
    let (_, status) = send(&caller, "bank-1", other.as_bytes(), 1 << 20).await.unwrap_err();
    refusal(&status).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    assert_eq!(payments(&world).await, 2);
    world.end().await;
}

#[tokio::test]
async fn what_was_interrupted_goes_on_where_it_ended() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let mut docs = Vec::new();
    for number in 1..=10 {
        let invoice = world.invoice("north", "2000").await.number;
        docs.push(from_north(number, "2000.00", &invoice));
    }
    let file = one_c(&docs, "UTF-8");
    // The database gives up at the eighth line, in the third transaction.
    world
        .sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$;
             CREATE TRIGGER fail BEFORE INSERT ON bank_line FOR EACH ROW
                 WHEN (NEW.document_number = '8') EXECUTE FUNCTION fail();",
        )
        .await;
    let caller = world.operator();
    let (told, status) = send(&caller, "bank-1", file.as_bytes(), 1 << 20).await.unwrap_err();
    refusal(&status).is(Code::Unavailable, "UNAVAILABLE");
    assert_eq!(told.len(), 6, "two transactions of three");
    assert_eq!(world.available("north").await, "12000");
    world.sql("DROP TRIGGER fail ON bank_line").await;

    // Under another id the file does what is left.
    let told = send(&caller, "bank-2", file.as_bytes(), 1 << 20).await.unwrap();
    assert_eq!(told.counts(), [4, 0, 6, 0]);
    assert_eq!(world.available("north").await, "20000");
    // Under its own, its first lines are what they were, and the others have been taken by then.
    let told = send(&caller, "bank-1", file.as_bytes(), 1 << 20).await.unwrap();
    assert_eq!(told.counts(), [6, 0, 4, 0]);
    assert_eq!(world.available("north").await, "20000");
    assert_eq!(payments(&world).await, 10);
    world.end().await;
}

#[tokio::test]
async fn files_at_once_book_each_line_once() {
    let world = World::with(|config| {
        with_accounts(config);
        config.statements.at_once = 4;
    })
    .await;
    world.with_agency("north").await;
    let mut docs = Vec::new();
    for number in 1..=24 {
        let invoice = world.invoice("north", "2000").await.number;
        docs.push(from_north(number, "2000.00", &invoice));
    }
    let forward = one_c(&docs, "UTF-8");
    docs.reverse();
    let backward = one_c(&docs, "UTF-8");
    let caller = world.operator();
    let (one, other, same, again) = tokio::join!(
        send(&caller, "bank-1", forward.as_bytes(), 1 << 20),
        send(&caller, "bank-2", backward.as_bytes(), 1 << 20),
        send(&caller, "bank-3", forward.as_bytes(), 1 << 20),
        send(&caller, "bank-3", forward.as_bytes(), 1 << 20),
    );
    let (one, other, same, again) = (one.unwrap(), other.unwrap(), same.unwrap(), again.unwrap());
    assert_eq!(same.lines, again.lines, "two calls of one request get one answer");
    let credited: i32 = [&one, &other, &same].iter().map(|told| told.counts()[0]).sum();
    assert_eq!(credited, 24);
    assert_eq!(world.available("north").await, "48000");
    assert_eq!(payments(&world).await, 24);
    world.end().await;
}

#[tokio::test]
async fn a_file_that_is_not_sound_is_refused_with_its_place_and_changes_nothing() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let good = one_c(&[from_north(1, "2000.00", "за рекламу"), from_north(2, "5.00", "")], "UTF-8");
    let iso = camt(&[from_north(1, "2000.00", "for ads")]);
    let foreign = "40702810900000000003";
    let malformed = "STATEMENT_MALFORMED";
    for (name, file, reason, line, column) in [
        ("a sum", good.replace("=5.00", "=5,00"), malformed, 27, 7),
        ("a date", good.replacen("Дата=20.11.2026", "Дата=31.11.2026", 1), malformed, 14, 6),
        ("no number", good.replace("Номер=2\n", ""), malformed, 24, 1),
        ("cut off", good.replace("КонецФайла\n", ""), malformed, 36, 1),
        ("another file", "hello".to_owned(), malformed, 1, 1),
        (
            "closing",
            good.replace("Остаток=1002005.00", "Остаток=1002005.01"),
            "STATEMENT_UNBALANCED",
            5,
            1,
        ),
        (
            "a line is missing",
            good.replace("Сумма=2000.00", "Сумма=2001.00"),
            "STATEMENT_UNBALANCED",
            5,
            1,
        ),
        ("whose", good.replace(OWN, foreign), "STATEMENT_ACCOUNT_UNKNOWN", 5, 1),
        ("XML", iso.replace("</Sts>", "</Stz>"), malformed, 1, 467),
        ("an entity", iso.replace("for ads", "&ads;"), malformed, 1, 772),
        ("currency", iso.replace("Ccy=\"RUB\"", "Ccy=\"USD\""), "CURRENCY_MISMATCH", 1, 102),
    ] {
        let sent = send(&world.operator(), "bank-1", file.as_bytes(), 1 << 20).await;
        let (lines, status) = sent.unwrap_err();
        let refused = refusal(&status);
        assert_eq!((refused.reason.as_str(), lines.len()), (reason, 0), "{name}: {status:?}");
        let place = [&refused.metadata["line"], &refused.metadata["column"]];
        assert_eq!(place, [&line.to_string(), &column.to_string()], "{name}: {status:?}");
    }
    assert_eq!(payments(&world).await, 0);
    // The id was not burned by any of them.
    let told = send(&world.operator(), "bank-1", good.as_bytes(), 1 << 20).await.unwrap();
    assert_eq!(told.counts(), [0, 2, 0, 0]);
    world.end().await;
}

#[tokio::test]
async fn a_request_is_refused_for_what_it_may_not_be() {
    let world = World::with(|config| {
        with_accounts(config);
        config.statements.max_bytes = 2_000;
    })
    .await;
    world.with_agency("north").await;
    let file = one_c(&[from_north(1, "5.00", "за рекламу")], "UTF-8");
    let (_, status) = send(&world.agency("north"), "x", file.as_bytes(), 99).await.unwrap_err();
    refusal(&status).is(Code::PermissionDenied, "PERMISSION_DENIED");
    let (_, status) = send(&world.operator(), "", file.as_bytes(), 99).await.unwrap_err();
    assert_eq!(refusal(&status).fields, ["request_id"]);
    let empty = pb::ImportStatementRequest::default();
    let sent = world.operator().payments().import_statement(stream::iter([empty])).await;
    assert_eq!(refused(sent).fields, ["request_id", "content"]);
    let pieces = ["a", "b"].map(|id| pb::ImportStatementRequest {
        request_id: id.to_owned(),
        content: b"1C".to_vec(),
    });
    let sent = world.operator().payments().import_statement(stream::iter(pieces)).await;
    assert_eq!(refused(sent).fields, ["request_id"]);
    let long = file.repeat(3);
    let (_, status) = send(&world.operator(), "x", long.as_bytes(), 500).await.unwrap_err();
    let refused = refusal(&status);
    refused.is(Code::ResourceExhausted, "TOO_LARGE");
    assert_eq!(refused.metadata["max_bytes"], "2000");
    world.end().await;
}

#[tokio::test]
async fn money_of_a_statement_repays_what_is_overdue_first() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world.promise("north", "3000").await.unwrap();
    let invoices = [world.invoice("north", "2000").await, world.invoice("north", "4000").await];
    let [small, large] = invoices.map(|invoice| invoice.number);
    // Due on the 25th; overdue from the first moment of the 26th.
    world.set("2026-11-26T00:00:00+03:00");
    let docs = [from_north(1, "2000.00", &small), from_north(2, "4000.00", &large)];
    let told = import(&world, &one_c(&docs, "UTF-8")).await;
    assert_eq!(told.counts(), [2, 0, 0, 0]);
    let mut collected = Vec::new();
    for line in &told.lines {
        let get = pb::GetPaymentRequest { name: line.payment.clone() };
        let payment = world.operator().payments().get_payment(get).await.unwrap().into_inner();
        collected.push(text(&payment.payment.unwrap().collected));
    }
    // the first repays a part, the second the rest; what is left stays.
    assert_eq!(collected, ["2000", "1000"]);
    assert_eq!(world.available("north").await, "106000");
    assert_eq!(text(&world.balance("north").await.promised_debt), "0");
    world.end().await;
}

/// G8: who waits for payments hears of each once, whether a person records it or a file brings it.
#[tokio::test]
async fn an_imported_payment_is_told_once() {
    let world = World::with(with_accounts).await;
    world.with_agency("north").await;
    let invoice = world.invoice("north", "2000").await;
    let docs = [
        from_north(1, "2000.00", &invoice.number),
        from_north(2, "70.00", "за рекламу"),
        Doc { from: OWN, to: NORTHS, ..from_north(3, "10.00", "возврат") },
        from_north(1, "2000.00", &invoice.number),
    ];
    assert_eq!(import(&world, &one_c(&docs, "UTF-8")).await.counts(), [1, 1, 1, 1]);
    assert_eq!(import(&world, &one_c(&docs, "UTF-8")).await.counts(), [0, 0, 3, 1]);
    let request = pb::WatchEventsRequest { until_now: true, ..Default::default() };
    let mut stream = world.operator().events().watch_events(request).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        match message.event.and_then(|event| event.payload) {
            Some(Payload::PaymentCredited(facts)) => told.push(("credited", facts.invoice)),
            Some(Payload::PaymentUnallocated(facts)) => told.push(("unallocated", facts.reason)),
            Some(Payload::InvoicePaid(facts)) => told.push(("paid", facts.number)),
            Some(_) | None => {}
        }
    }
    assert_eq!(
        told,
        [
            ("credited", invoice.name),
            ("unallocated", "NUMBER_NOT_FOUND".to_owned()),
            ("paid", invoice.number)
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn a_payers_account_must_fit_its_bank() {
    let world = World::start().await;
    let pay = async |account: &str, bik: &str| {
        let mut request = payment("for ads", "10", NORTH_INN);
        let payer = request.payer.as_mut().unwrap();
        (payer.bank_account, payer.bik) = (account.to_owned(), bik.to_owned());
        world.operator().payments().record_payment(request).await
    };
    for (account, bik) in [(OWN, BIK), (OWN, ""), ("03100643000000017300", "017003983")] {
        let paid = pay(account, bik).await.unwrap().into_inner().payment.unwrap();
        assert_eq!(paid.payer.unwrap().bik, bik);
    }
    assert_eq!(refused(pay("40702810138250123018", BIK).await).fields, ["payer.bank_account"]);
    assert_eq!(refused(pay(OWN, "144525225").await).fields, ["payer.bik"]);
    world.end().await;
}
