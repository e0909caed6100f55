//! Deferred invoices that get another payer or another payment method, and what may pay them then.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::{PaymentMethod as M, event::Payload};
use tonic::Code;

use crate::{
    credit::{Answer, are, defer, figures, grant, granted, invoices, spend, threshold},
    documents::{all, closing, download, list, made, with_executor},
    repayments::events,
    support::*,
};

/// The payer that takes over.
fn south() -> pb::LegalEntity {
    pb::LegalEntity {
        country_code: "RU".to_owned(),
        name: "South LLC".to_owned(),
        inn: OTHER_INN.to_owned(),
        kpp: "774301001".to_owned(),
        address: "Moscow, Leningradskoye shosse, 1".to_owned(),
        ..Default::default()
    }
}

fn change(
    invoice: &pb::Invoice,
    payer: Option<pb::LegalEntity>,
    method: M,
) -> pb::UpdateDeferredInvoiceRequest {
    pb::UpdateDeferredInvoiceRequest {
        name: invoice.name.clone(),
        payer,
        method: method.into(),
        request_id: fresh(),
    }
}

async fn send(
    world: &World,
    request: pb::UpdateDeferredInvoiceRequest,
) -> Answer<pb::UpdateDeferredInvoiceResponse> {
    world.role("advertiser", Some("shop")).invoices().update_deferred_invoice(request).await
}

async fn changed(
    world: &World,
    invoice: &pb::Invoice,
    payer: Option<pb::LegalEntity>,
    method: M,
) -> pb::Invoice {
    let answer = send(world, change(invoice, payer, method)).await.unwrap().into_inner();
    assert!(!answer.replayed);
    answer.invoice.unwrap()
}

fn by_card(mut request: pb::RecordPaymentRequest) -> pb::RecordPaymentRequest {
    request.method = M::Card.into();
    request
}

async fn record(world: &World, request: pb::RecordPaymentRequest) -> pb::Payment {
    let recorded = world.operator().payments().record_payment(request).await.unwrap();
    recorded.into_inner().payment.unwrap()
}

/// What the payment became: an empty reason when it was credited.
fn verdict(payment: &pb::Payment) -> (pb::PaymentState, &str) {
    (payment.state(), payment.unallocated_reason.as_str())
}

async fn audited(world: &World) -> Vec<pb::AuditRecord> {
    let list = pb::ListAuditRecordsRequest {
        method: "UpdateDeferredInvoice".to_owned(),
        ..Default::default()
    };
    let kept = world.operator().audit().list_audit_records(list).await.unwrap();
    kept.into_inner().audit_records
}

/// The 14th is the last day: the month is closed in accounting when the 15th begins in Moscow. The invoice is overdue
/// by then, which does not matter here. Then only the new payer pays it.
#[tokio::test]
async fn the_payer_changes_until_the_fifteenth_begins_and_pays_after_it() {
    let world = granted("50000").await;
    let first = defer(&world, "5000").await.unwrap();
    let second = defer(&world, "7000").await.unwrap();
    world.set("2027-06-14T23:59:59.999999+03:00");
    let now = changed(&world, &first, Some(south()), M::Unspecified).await;
    let shown = (now.payer_name.as_str(), now.payer_inn.as_str(), now.payer_kpp.as_str());
    assert_eq!(shown, ("South LLC", OTHER_INN, "774301001"));
    assert_eq!((now.method(), now.state()), (M::BankTransfer, pb::InvoiceState::Overdue));
    assert_eq!(
        (&now.number, &now.amount, now.pay_by),
        (&first.number, &first.amount, first.pay_by)
    );
    let stored = invoices(&world).await.pop().unwrap();
    assert_eq!(stored, now);

    world.set("2027-06-15T00:00:00+03:00");
    for invoice in [&first, &second] {
        let closed = refused(send(&world, change(invoice, Some(south()), M::Unspecified)).await);
        closed.is(Code::FailedPrecondition, "MONTH_CLOSED");
        assert_eq!(closed.metadata["since"], "2027-06-14T21:00:00+00:00");
    }
    let before = world.record(&first.number, "5000", NORTH_INN).await;
    assert_eq!(verdict(&before), (pb::PaymentState::Unallocated, "PAYER_MISMATCH"));
    let paid = world.record(&first.number, "5000", OTHER_INN).await;
    assert_eq!((verdict(&paid), &paid.invoice), ((pb::PaymentState::Credited, ""), &first.name));
    let paid = world.record(&second.number, "7000", NORTH_INN).await;
    assert_eq!(verdict(&paid), (pb::PaymentState::Credited, ""));
    world.end().await;
}

/// the invoice for a month's debt is dated to its last day, so its service month is that month.
#[tokio::test]
async fn a_months_invoice_is_of_the_month_whose_debt_it_asks_for() {
    let world = granted("10000").await;
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 1_500).await, Ok(1_500));
    world.set("2027-06-14T23:59:59+03:00");
    let invoice = invoices(&world).await.remove(0);
    changed(&world, &invoice, Some(south()), M::Card).await;
    world.set("2027-06-15T00:00:00+03:00");
    let late = refused(send(&world, change(&invoice, Some(south()), M::Unspecified)).await);
    late.is(Code::FailedPrecondition, "MONTH_CLOSED");
    world.end().await;
}

/// A card payment pays what is to be paid by card, and a bank transfer what is to be paid so; the money of the other
/// one is free funds, and the ledger knows where it came from.
#[tokio::test]
async fn the_payment_comes_by_the_method_of_the_invoice() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(invoice.method(), M::BankTransfer);
    let prepaid = world.invoice("shop", "2000").await;
    let sent = |invoice: &pb::Invoice, amount| payment(&invoice.number, amount, NORTH_INN);
    let card = record(&world, by_card(sent(&prepaid, "2000"))).await;
    assert_eq!(verdict(&card), (pb::PaymentState::Unallocated, "METHOD_MISMATCH"));
    let card = record(&world, by_card(sent(&invoice, "5000"))).await;
    assert_eq!(verdict(&card), (pb::PaymentState::Unallocated, "METHOD_MISMATCH"));

    let now = changed(&world, &invoice, None, M::Card).await;
    assert_eq!((now.method(), &now.payer_inn), (M::Card, &invoice.payer_inn));
    assert_eq!(now.document, invoice.document, "the pages show no method");
    let bank = record(&world, sent(&invoice, "5000")).await;
    assert_eq!(verdict(&bank), (pb::PaymentState::Unallocated, "METHOD_MISMATCH"));
    are(figures(&world).await, ["5000", "0", "0", "5000", "5000"]);
    let paid = record(&world, by_card(sent(&invoice, "5000"))).await;
    assert_eq!(verdict(&paid), (pb::PaymentState::Credited, ""));
    are(figures(&world).await, ["5000", "0", "0", "5000", "0"]);
    let client = world.database.pool.get().await.unwrap();
    // Buckets: 10 bank, 11 card, 12 unallocated, 14 deferred.
    const CAME: &str =
        "SELECT from_bucket, to_bucket, sum(amount_micros)::bigint / 1000000 FROM ledger_leg
        WHERE from_bucket IN (10, 11) GROUP BY 1, 2 ORDER BY 1, 2";
    let rows = client.query(CAME, &[]).await.unwrap();
    let came: Vec<(i16, i16, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(came, [(10, 12, 5_000), (11, 12, 7_000), (11, 14, 5_000)]);
    drop(client);

    // Free funds that came by card are assigned as any.
    let allocate = pb::AllocatePaymentRequest {
        name: card.name,
        account: name("shop"),
        request_id: fresh(),
        ..Default::default()
    };
    world.operator().payments().allocate_payment(allocate).await.unwrap();
    are(figures(&world).await, ["10000", "0", "0", "10000", "0"]);
    world.end().await;
}

/// The method stays once an act says what the money was for; a month without an act closes nothing. The payer has
/// until the 15th all the same.
#[tokio::test]
async fn the_method_changes_until_an_act_is_closed() {
    let world = World::at("2027-05-20T12:00:00+03:00", closing).await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    grant(&world, "shop", "50000").await.unwrap();
    let invoice = defer(&world, "5000").await.unwrap();
    world.set("2027-06-01T00:00:00+03:00");
    closed(&world, "2027-05-01").await;
    changed(&world, &invoice, None, M::Card).await;
    let june = defer(&world, "1500").await.unwrap();
    assert_eq!(spend(&world, 500).await, Ok(500));
    world.set("2027-07-01T00:00:00+03:00");
    made(&world, "shop", &[pb::DocumentType::Act], 1).await;
    for invoice in [&invoice, &june] {
        let acted = refused(send(&world, change(invoice, None, M::BankTransfer)).await);
        acted.is(Code::FailedPrecondition, "ACT_CLOSED");
        assert_eq!(acted.metadata["month"], "2027-06-01");
    }
    // The payer of May's is closed too, and a request with both is refused whole; June's payer is not.
    let both = refused(send(&world, change(&june, Some(south()), M::Card)).await);
    both.is(Code::FailedPrecondition, "ACT_CLOSED");
    assert_eq!(invoices(&world).await[0].payer_inn, NORTH_INN);
    let may = refused(send(&world, change(&invoice, Some(south()), M::Unspecified)).await);
    may.is(Code::FailedPrecondition, "MONTH_CLOSED");
    changed(&world, &june, Some(south()), M::Unspecified).await;
    // One that is issued after the act.
    world.record(&june.number, "1500", OTHER_INN).await;
    record(&world, by_card(payment(&invoice.number, "5000", NORTH_INN))).await;
    let july = defer(&world, "2000").await.unwrap();
    changed(&world, &july, None, M::Card).await;
    world.end().await;
}

/// Waits until the month that begins on this day is closed, at most a minute.
async fn closed(world: &World, month: &str) {
    let count = format!("SELECT count(*) FROM closed_month WHERE month = '{month}'");
    for _ in 0..600 {
        let client = world.database.pool.get().await.unwrap();
        if client.query_one(count.as_str(), &[]).await.unwrap().get::<_, i64>(0) == 1 {
            return;
        }
        drop(client);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{month} was not closed within a minute");
}

/// A page that was handed out never changes: the new payer gets a new one, with its own address and QR code.
#[tokio::test]
async fn a_new_payer_gets_a_new_document_and_the_old_one_stays() {
    let world = World::at("2027-05-20T12:00:00+03:00", with_executor).await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    grant(&world, "shop", "50000").await.unwrap();
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(invoice.document, invoice.name.replace("/invoices/", "/documents/"));
    let (old, _) = download(&world, &invoice.document).await;
    let now = changed(&world, &invoice, Some(south()), M::Unspecified).await;
    assert_ne!(now.document, invoice.document);
    let (new, _) = download(&world, &now.document).await;
    assert_ne!(new, old);
    assert_eq!(download(&world, &invoice.document).await.0, old);

    // Two changes before anybody asks: one more document, of the last payer; the address is the payer's, or none.
    changed(&world, &invoice, Some(south()), M::Unspecified).await;
    let back = pb::LegalEntity { address: String::new(), name: "West LLC".to_owned(), ..south() };
    let last = changed(&world, &invoice, Some(back), M::Unspecified).await;
    let listed = list(&world, all("shop")).await;
    let names: Vec<_> = listed.iter().map(|document| document.name.as_str()).collect();
    assert_eq!(names, [&last.document, &now.document, &invoice.document]);
    assert!(listed.iter().all(|document| document.number == invoice.number));
    let client = world.database.pool.get().await.unwrap();
    const CUSTOMERS: &str = "SELECT content -> 'head' -> 'customer' ->> 'name',
        content -> 'head' -> 'customer' ->> 'inn', content -> 'head' -> 'customer' ->> 'address'
        FROM document ORDER BY serial";
    let rows = client.query(CUSTOMERS, &[]).await.unwrap();
    let customers: Vec<[&str; 3]> =
        rows.iter().map(|row| [row.get(0), row.get(1), row.get(2)]).collect();
    let address = "Moscow, Leningradskoye shosse, 1";
    let expected = [
        ["shop LLC", NORTH_INN, ""],
        ["South LLC", OTHER_INN, address],
        ["West LLC", OTHER_INN, ""],
    ];
    assert_eq!(customers, expected);
    drop(client);
    world.end().await;
}

/// Each refusal has its reason; wrong fields are named together; nothing has changed, nothing is told or kept.
#[tokio::test]
async fn what_is_refused_says_why_and_changes_nothing() {
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    let world = granted("1000000").await;
    world.create(account("other", pb::AccountKind::Advertiser, OTHER_INN)).await;
    let prepaid = world.invoice("shop", "2000").await;
    let paid = defer(&world, "2000").await.unwrap();
    world.record(&paid.number, "2000", NORTH_INN).await;
    let large = defer(&world, "299999.01").await.unwrap();
    let invoice = defer(&world, "5000").await.unwrap();
    let id = invoice.name.rsplit('/').next().unwrap();
    let named = |name: String| pb::Invoice { name, ..invoice.clone() };
    let ask = |invoice: &pb::Invoice| change(invoice, Some(south()), M::Card);
    let entity = |country: &str| pb::LegalEntity { country_code: country.to_owned(), ..south() };
    let from = |country| change(&invoice, Some(entity(country)), M::Card);
    let unknown = pb::UpdateDeferredInvoiceRequest { method: 7, ..ask(&invoice) };
    let before = (invoices(&world).await, events(&world).await, figures(&world).await);
    for (case, request, code, reason) in [
        ("prepaid", ask(&prepaid), FailedPrecondition, "INVOICE_NOT_DEFERRED"),
        ("paid", ask(&paid), FailedPrecondition, "ALREADY_PAID"),
        ("above a card's limit", ask(&large), FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM"),
        ("no country of R-91", from("US"), FailedPrecondition, "CREDIT_NOT_AVAILABLE"),
        ("of another currency", from("KZ"), FailedPrecondition, "CREDIT_NOT_AVAILABLE"),
        (
            "of another account",
            ask(&named(format!("accounts/other/invoices/{id}"))),
            NotFound,
            "NOT_FOUND",
        ),
        ("no invoice", ask(&named("accounts/shop/invoices/17".into())), NotFound, "NOT_FOUND"),
        ("nothing", change(&invoice, None, M::Unspecified), InvalidArgument, "INVALID_ARGUMENT"),
        ("an unknown method", unknown, InvalidArgument, "INVALID_ARGUMENT"),
    ] {
        let refused = refused(send(&world, request).await);
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{case}");
    }
    let wrong = pb::UpdateDeferredInvoiceRequest {
        name: "invoices/17".to_owned(),
        payer: Some(pb::LegalEntity {
            country_code: "RU".to_owned(),
            inn: "7743001841".to_owned(),
            ..Default::default()
        }),
        method: 7,
        request_id: String::new(),
    };
    let fields = refused(send(&world, wrong).await).fields;
    for field in ["name", "payer.name", "payer.inn", "method", "request_id"] {
        assert!(fields.iter().any(|wrong| wrong == field), "{field} in {fields:?}");
    }
    for role in ["agency", "auditor", "pacing"] {
        let caller = world.role(role, (role == "agency").then_some("other"));
        refused(caller.invoices().update_deferred_invoice(ask(&invoice)).await)
            .is(Code::PermissionDenied, "PERMISSION_DENIED");
    }
    let foreign = world.role("advertiser", Some("other"));
    refused(foreign.invoices().update_deferred_invoice(ask(&invoice)).await)
        .is(NotFound, "NOT_FOUND");
    let after = (invoices(&world).await, events(&world).await, figures(&world).await);
    assert_eq!(after, before);
    assert!(audited(&world).await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_leaves_one_record_and_one_event() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    let ask = change(&invoice, Some(south()), M::Card);
    let first = send(&world, ask.clone()).await.unwrap().into_inner();
    // The payer may not be changed any more, but this is not a change.
    world.set("2027-06-20T12:00:00+03:00");
    let again = send(&world, ask.clone()).await.unwrap().into_inner();
    assert_eq!((again.replayed, &again.invoice), (true, &first.invoice));
    let other = pb::UpdateDeferredInvoiceRequest { payer: None, ..ask };
    refused(send(&world, other).await).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    let told = events(&world).await;
    let updated = |event: &&pb::Event| matches!(event.payload, Some(Payload::InvoiceUpdated(_)));
    let told: Vec<_> = told.iter().filter(updated).collect();
    let [event] = told.as_slice() else { panic!("{told:?}") };
    let Some(Payload::InvoiceUpdated(facts)) = &event.payload else { panic!("{event:?}") };
    assert_eq!((&facts.invoice, &event.account), (&invoice.name, &name("shop")));
    let kept = audited(&world).await;
    let [record] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((record.role.as_str(), &record.accounts), ("advertiser", &vec![name("shop")]));
    world.end().await;
}

/// A change and a payment at once: the payment is held against the invoice of before or of after, never against a
/// part of both, and exactly one payer has paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_change_and_payments_at_once_there_is_one_outcome() {
    let world = granted("100000").await;
    let mut credited = 0;
    for round in 0..12 {
        let invoice = defer(&world, "2000").await.unwrap();
        let change_it = || {
            let (owner, ask) = (
                world.role("advertiser", Some("shop")),
                change(&invoice, Some(south()), M::Unspecified),
            );
            tokio::spawn(async move { owner.invoices().update_deferred_invoice(ask).await })
        };
        let pay_it = |inn| {
            let (operator, sent) = (world.operator(), payment(&invoice.number, "2000", inn));
            tokio::spawn(async move { operator.payments().record_payment(sent).await })
        };
        // By turns the one or the other has the start.
        let (change, old, new) = if round % 2 == 0 {
            let change = change_it();
            (change, pay_it(NORTH_INN), pay_it(OTHER_INN))
        } else {
            let (old, new) = (pay_it(NORTH_INN), pay_it(OTHER_INN));
            (change_it(), old, new)
        };
        let change = change.await.unwrap();
        let [old, new] = [old, new]
            .map(|paid| async { paid.await.unwrap().unwrap().into_inner().payment.unwrap() });
        let (old, new) = (old.await, new.await);
        let found = invoices(&world).await.remove(0);
        assert_eq!(found.name, invoice.name);
        let free = pb::PaymentState::Unallocated;
        let paid = (pb::PaymentState::Credited, "");
        match change {
            // Paid by the payer of before.
            Err(status) => {
                refusal(&status).is(Code::FailedPrecondition, "ALREADY_PAID");
                assert_eq!((verdict(&old), found.payer_inn.as_str()), (paid, NORTH_INN));
                assert_eq!(new.state(), free, "round {round}");
                assert_eq!(found.payment, old.name);
            }
            Ok(_) => {
                assert_eq!(found.payer_inn, OTHER_INN);
                assert_eq!(old.state(), free, "round {round}");
                if verdict(&new) == paid {
                    assert_eq!(found.payment, new.name);
                } else {
                    // It came before the change.
                    assert_eq!(verdict(&new), (free, "PAYER_MISMATCH"), "round {round}");
                    assert_eq!(found.state(), pb::InvoiceState::Issued);
                    let paid = world.record(&invoice.number, "2000", OTHER_INN).await;
                    assert_eq!(paid.state(), pb::PaymentState::Credited);
                }
            }
        }
        credited += 2_000;
        are(figures(&world).await, [&credited.to_string(), "0", "0", &credited.to_string(), "0"]);
    }
    world.end().await;
}

/// The database proves it too.
#[tokio::test]
async fn only_a_deferred_invoice_has_another_payer_or_method() {
    let world = granted("50000").await;
    defer(&world, "5000").await.unwrap();
    world.invoice("shop", "2000").await;
    let client = world.database.pool.get().await.unwrap();
    for (change, broken) in [
        ("method = 3", "invoice_method_is_known"),
        ("method = 2 WHERE terms = 1", "only_a_deferred_invoice_changes"),
        (
            "payer_address = '', document_id = invoice_id WHERE terms = 1",
            "only_a_deferred_invoice_changes",
        ),
        ("payer_address = '' WHERE terms = 2", "another_payer_has_its_document"),
        ("document_id = invoice_id WHERE terms = 2", "another_payer_has_its_document"),
    ] {
        let failed = client.batch_execute(&format!("UPDATE invoice SET {change}")).await;
        let complaint = format!("{:?}", failed.unwrap_err());
        assert!(complaint.contains(broken), "{change}: {complaint}");
    }
    drop(client);
    world.end().await;
}
