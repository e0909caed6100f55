//! Deferred invoices that an operator repays from the balance, and what follows.

use adspend_common::proto::{adspend::billing::v1 as pb, google::r#type::Date};
use pb::{TransactionType as T, event::Payload};
use tonic::Code;

use crate::{
    credit::{Answer, are, defer, figures, granted, hold, invoices, spend, terms, threshold},
    documents::{closing, made},
    support::*,
};

fn request(invoice: &pb::Invoice) -> pb::RepayDeferredInvoiceRequest {
    pb::RepayDeferredInvoiceRequest {
        name: invoice.name.clone(),
        amount: invoice.amount.clone(),
        request_id: fresh(),
    }
}

async fn repay(
    world: &World,
    request: pb::RepayDeferredInvoiceRequest,
) -> Answer<pb::RepayDeferredInvoiceResponse> {
    world.operator().credit().repay_deferred_invoice(request).await
}

async fn repaid(world: &World, invoice: &pb::Invoice) -> pb::RepayDeferredInvoiceResponse {
    repay(world, request(invoice)).await.unwrap().into_inner()
}

/// `(type, amount, balance after it, object)`, newest first.
async fn history(world: &World) -> Vec<(T, String, String, String)> {
    let request = pb::ListTransactionsRequest { parent: name("shop"), ..Default::default() };
    let listed = world.operator().transactions().list_transactions(request).await.unwrap();
    let rows = listed.into_inner().transactions;
    let row = |row: &pb::Transaction| {
        (row.r#type(), text(&row.amount), text(&row.balance), row.object.clone())
    };
    rows.iter().map(row).collect()
}

pub(crate) async fn events(world: &World) -> Vec<pb::Event> {
    let request = pb::WatchEventsRequest { until_now: true, ..Default::default() };
    let mut stream = world.operator().events().watch_events(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.event);
    }
    events
}

/// what is frozen pays first; what is left of it is back on the next day.
#[tokio::test]
async fn the_lien_repays_its_own_invoice_and_the_rest_is_back_the_next_day() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(spend(&world, 4_300).await, Ok(4_300));
    world.set("2027-06-05T00:00:00+03:00");
    world.pay("shop", "6000").await;
    are(figures(&world).await, ["6700", "6700", "0", "0", "5000"]);

    world.set("2027-06-10T15:00:00+03:00");
    let answer = repaid(&world, &invoice).await;
    let paid = answer.invoice.clone().unwrap();
    assert_eq!((paid.state(), paid.repaid_from_balance), (pb::InvoiceState::Paid, true));
    assert_eq!((paid.payment.as_str(), &paid.pay_time), ("", &stamp("2027-06-10T15:00:00+03:00")));
    assert_eq!(invoices(&world).await.pop().unwrap(), paid);
    are(figures(&world).await, ["1700", "1700", "0", "0", "0"]);
    let shown = terms(&world).await;
    assert_eq!((shown.overdue, text(&shown.deferred_debt)), (false, "0".to_owned()));
    assert_eq!(shown.unfreeze_time, stamp("2027-06-11T00:00:00+03:00"));
    let row = (T::ChargeCredit, "-5000".to_owned(), "1700".to_owned(), invoice.name.clone());
    assert_eq!(history(&world).await[0], row);
    let [transaction] = answer.transactions.as_slice() else { panic!("{answer:?}") };
    assert!(transaction.starts_with("accounts/shop/transactions/"), "{transaction}");

    // Serving runs again at once with what comes in, and with the rest from 00:00.
    world.pay("shop", "1300").await;
    are(figures(&world).await, ["3000", "1700", "0", "1300", "0"]);
    world.set("2027-06-10T23:59:59.999999+03:00");
    assert_eq!(world.available("shop").await, "1300");
    world.set("2027-06-11T00:00:00+03:00");
    assert_eq!(spend(&world, 10_000).await, Ok(3_000));

    // What is told and kept of it.
    let told = events(&world).await;
    let paid = told.iter().rev().find_map(|event| match &event.payload {
        Some(Payload::InvoicePaid(paid)) if paid.invoice == invoice.name => Some(paid),
        _ => None,
    });
    let paid = paid.unwrap();
    assert_eq!((paid.payment.as_str(), paid.repaid_from_balance), ("", true));
    let list = pb::ListAuditRecordsRequest {
        method: "RepayDeferredInvoice".to_owned(),
        ..Default::default()
    };
    let kept = world.operator().audit().list_audit_records(list).await.unwrap().into_inner();
    let [record] = kept.audit_records.as_slice() else { panic!("{kept:?}") };
    assert_eq!((record.role.as_str(), &record.accounts), ("operator", &vec![name("shop")]));

    // The bank's payment comes after all: it is free funds, and is paid back or assigned by hand.
    let late = world.record(&invoice.number, "5000", NORTH_INN).await;
    assert_eq!(late.state(), pb::PaymentState::Unallocated);
    assert_eq!(late.unallocated_reason, "ALREADY_PAID");
    let allocate = pb::AllocatePaymentRequest {
        name: late.name,
        account: name("shop"),
        invoice: invoice.name,
        request_id: fresh(),
    };
    let allocated = world.operator().payments().allocate_payment(allocate).await;
    refused(allocated).is(Code::FailedPrecondition, "ALREADY_PAID");
    world.end().await;
}

/// the threshold is worth all of itself again, at once, and is managed again a day later.
#[tokio::test]
async fn a_months_invoice_repaid_from_the_balance_gives_the_threshold_back() {
    let world = granted("10000").await;
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 1_500).await, Ok(1_500));
    world.set("2027-06-05T12:00:00+03:00");
    let invoice = invoices(&world).await.remove(0);
    assert_eq!(
        (text(&invoice.amount), invoice.terms()),
        ("1500".into(), pb::InvoiceTerms::Deferred)
    );
    are(figures(&world).await, ["0", "0", "8500", "8500", "1500"]);
    // There is room below zero, but credit is not repaid with credit.
    let short = refused(repay(&world, request(&invoice)).await);
    short.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    assert_eq!(short.metadata["available_micros"], "0");
    assert_eq!(short.metadata["needed_micros"], "1500000000");

    world.pay("shop", "2000").await;
    repaid(&world, &invoice).await;
    are(figures(&world).await, ["500", "0", "10000", "10500", "0"]);
    refused(threshold(&world, "9000").await).is(Code::FailedPrecondition, "THRESHOLD_LOCKED");
    assert_eq!(spend(&world, 20_000).await, Ok(10_500), "down to -10 000 again");
    world.set("2027-06-06T12:00:00+03:00");
    threshold(&world, "10000").await.unwrap();
    world.end().await;
}

/// Nobody has looked since the invoice fell due: its money is not frozen yet, and repays it as well.
#[tokio::test]
async fn whoever_repays_first_sees_what_time_has_brought() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    world.pay("shop", "2000").await;
    world.set("2027-06-20T12:00:00+03:00");
    repaid(&world, &invoice).await;
    are(figures(&world).await, ["2000", "0", "0", "2000", "0"]);
    assert_eq!(terms(&world).await.unfreeze_time, None);
    let overdue = |event: &pb::Event| matches!(event.payload, Some(Payload::InvoiceOverdue(_)));
    assert_eq!(events(&world).await.iter().filter(|event| overdue(event)).count(), 1);
    world.end().await;
}

/// Frozen money that waits for its midnight and free money repay one invoice together: two transactions.
#[tokio::test]
async fn frozen_and_free_money_repay_together() {
    let world = granted("50000").await;
    let first = defer(&world, "5000").await.unwrap();
    assert_eq!(spend(&world, 4_300).await, Ok(4_300));
    world.set("2027-06-02T12:00:00+03:00");
    let second = defer(&world, "2000").await.unwrap();
    let third = defer(&world, "1300").await.unwrap();
    assert_eq!(spend(&world, 3_300).await, Ok(3_300));
    world.set("2027-06-10T12:00:00+03:00");
    are(figures(&world).await, ["700", "700", "0", "0", "8300"]);
    world.record(&first.number, "5000", NORTH_INN).await;
    world.pay("shop", "2600").await;
    are(figures(&world).await, ["3300", "700", "0", "2600", "3300"]);
    let answer = repaid(&world, &second).await;
    assert_eq!(answer.transactions.len(), 2, "{answer:?}");
    are(figures(&world).await, ["1300", "0", "0", "1300", "1300"]);
    let rows: Vec<_> = history(&world).await.into_iter().take(2).collect();
    let amounts: Vec<_> =
        rows.iter().map(|(shown, amount, ..)| (*shown, amount.as_str())).collect();
    assert_eq!(amounts, [(T::ChargeCredit, "-1300"), (T::ChargeCredit, "-700")]);

    // And the last one, to the kopeck, out of the lien alone.
    world.set("2027-06-18T00:00:00+03:00");
    are(figures(&world).await, ["1300", "1300", "0", "0", "1300"]);
    world.set("2027-06-18T12:00:00+03:00");
    repaid(&world, &third).await;
    are(figures(&world).await, ["0", "0", "0", "0", "0"]);
    world.end().await;
}

#[tokio::test]
async fn one_of_two_overdue_invoices_repaid_leaves_the_rest_frozen() {
    let world = granted("50000").await;
    let first = defer(&world, "5000").await.unwrap();
    let second = defer(&world, "4000").await.unwrap();
    world.set("2027-06-20T12:00:00+03:00");
    are(figures(&world).await, ["9000", "9000", "0", "0", "9000"]);
    repaid(&world, &first).await;
    are(figures(&world).await, ["4000", "4000", "0", "0", "4000"]);
    assert!(terms(&world).await.overdue);
    world.set("2027-06-21T12:00:00+03:00");
    are(figures(&world).await, ["4000", "4000", "0", "0", "4000"]);
    repaid(&world, &second).await;
    are(figures(&world).await, ["0", "0", "0", "0", "0"]);
    world.end().await;
}

/// Each refusal has its reason, and changes nothing.
#[tokio::test]
async fn what_is_refused_says_why_and_changes_nothing() {
    let world = granted("50000").await;
    world.create(account("other", pb::AccountKind::Advertiser, OTHER_INN)).await;
    let invoice = defer(&world, "5000").await.unwrap();
    let prepaid = world.invoice("shop", "2000").await;
    let id = invoice.name.rsplit('/').next().unwrap();
    let ask = || request(&invoice);
    let before = (figures(&world).await, history(&world).await, events(&world).await);
    let cases: [(&str, pb::RepayDeferredInvoiceRequest, Code, &str); 8] = [
        ("a prepaid one", request(&prepaid), Code::FailedPrecondition, "INVOICE_NOT_DEFERRED"),
        (
            "of another account",
            pb::RepayDeferredInvoiceRequest {
                name: format!("accounts/other/invoices/{id}"),
                ..ask()
            },
            Code::NotFound,
            "NOT_FOUND",
        ),
        (
            "of no account",
            pb::RepayDeferredInvoiceRequest {
                name: format!("accounts/nobody/invoices/{id}"),
                ..ask()
            },
            Code::NotFound,
            "NOT_FOUND",
        ),
        (
            "no invoice of ours",
            pb::RepayDeferredInvoiceRequest { name: "accounts/shop/invoices/17".into(), ..ask() },
            Code::NotFound,
            "NOT_FOUND",
        ),
        (
            "another amount",
            pb::RepayDeferredInvoiceRequest { amount: rub("4999.99"), ..ask() },
            Code::FailedPrecondition,
            "AMOUNT_MISMATCH",
        ),
        (
            "another currency",
            pb::RepayDeferredInvoiceRequest { amount: money("5000", "USD"), ..ask() },
            Code::FailedPrecondition,
            "CURRENCY_MISMATCH",
        ),
        (
            "no amount",
            pb::RepayDeferredInvoiceRequest { amount: None, ..ask() },
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
        (
            "no request id",
            pb::RepayDeferredInvoiceRequest { request_id: String::new(), ..ask() },
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
        ),
    ];
    for (case, request, code, reason) in cases {
        let refused = refused(repay(&world, request).await);
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{case}");
    }
    for role in ["advertiser", "auditor"] {
        let caller = world.role(role, (role == "advertiser").then_some("shop"));
        refused(caller.credit().repay_deferred_invoice(ask()).await)
            .is(Code::PermissionDenied, "PERMISSION_DENIED");
    }
    assert_eq!((figures(&world).await, history(&world).await, events(&world).await), before);

    // Held money is not there to repay with, and a kopeck too little is too little.
    let held = hold(&world.role("pacing", None), 1).await.unwrap();
    let short = refused(repay(&world, ask()).await);
    short.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    assert_eq!(short.metadata["available_micros"], "4999000000");
    crate::credit::release(&world.role("pacing", None), &held).await;
    world.late_charge("shop", 10_000).await;
    refused(repay(&world, ask()).await).is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    world.pay("shop", "2000").await;
    let block = pb::BlockAccountRequest { name: name("shop"), request_id: fresh() };
    world.operator().accounts().block_account(block).await.unwrap();
    refused(repay(&world, ask()).await).is(Code::FailedPrecondition, "ACCOUNT_BLOCKED");
    let unblock = pb::UnblockAccountRequest { name: name("shop"), request_id: fresh() };
    world.operator().accounts().unblock_account(unblock).await.unwrap();
    repaid(&world, &invoice).await;
    refused(repay(&world, ask()).await).is(Code::FailedPrecondition, "ALREADY_PAID");
    are(figures(&world).await, ["1999.99", "0", "0", "1999.99", "0"]);
    world.end().await;
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_moves_nothing() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    world.pay("shop", "3000").await;
    let ask = request(&invoice);
    let first = repay(&world, ask.clone()).await.unwrap().into_inner();
    let again = repay(&world, ask.clone()).await.unwrap().into_inner();
    assert_eq!((again.replayed, &again.invoice), (true, &first.invoice));
    assert_eq!(again.transactions, first.transactions);
    let other = pb::RepayDeferredInvoiceRequest { amount: rub("1"), ..ask };
    refused(repay(&world, other).await).is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    are(figures(&world).await, ["3000", "0", "0", "3000", "0"]);
    world.end().await;
}

/// The payment of an invoice and two repayments of it at once: one of the three wins, and the money of the others
/// stays where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_payment_and_repayments_at_once_exactly_one_wins() {
    let world = granted("100000").await;
    world.pay("shop", "100000").await;
    let mut balance = 100_000;
    for round in 0..12 {
        let invoice = defer(&world, "2000").await.unwrap();
        let repay_it = || {
            let (operator, ask) = (world.operator(), request(&invoice));
            tokio::spawn(async move { operator.credit().repay_deferred_invoice(ask).await })
        };
        let pay_it = || {
            let (operator, sent) = (world.operator(), payment(&invoice.number, "2000", NORTH_INN));
            tokio::spawn(async move { operator.payments().record_payment(sent).await })
        };
        // By turns the one or the other has the start.
        let (first, bank, second) = if round % 2 == 0 {
            let bank = pay_it();
            (repay_it(), bank, repay_it())
        } else {
            (repay_it(), pay_it(), repay_it())
        };
        let mut won = 0;
        for repayment in [first, second] {
            match repayment.await.unwrap() {
                Ok(_) => won += 1,
                Err(status) => refusal(&status).is(Code::FailedPrecondition, "ALREADY_PAID"),
            }
        }
        let paid = bank.await.unwrap().unwrap().into_inner().payment.unwrap();
        let by_bank = paid.state() == pb::PaymentState::Credited;
        assert_eq!(won + i32::from(by_bank), 1, "round {round}");
        if !by_bank {
            assert_eq!(paid.unallocated_reason, "ALREADY_PAID", "round {round}");
        }
        let found = invoices(&world).await.remove(0);
        assert_eq!((&found.name, found.state()), (&invoice.name, pb::InvoiceState::Paid));
        assert_eq!((found.repaid_from_balance, found.payment.is_empty()), (!by_bank, !by_bank));
        balance += if by_bank { 2_000 } else { 0 };
        assert_eq!(text(&world.balance("shop").await.posted), balance.to_string());
    }
    world.end().await;
}

/// the repayment is no payment of the payer and no advance. What was spent on credit is covered
/// by the payment that came later, and the reconciliation act closes at what the balance says.
#[tokio::test]
async fn documents_of_the_month_tie_with_a_repayment_in_it() {
    let world = World::at("2027-05-20T12:00:00+03:00", closing).await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    crate::credit::grant(&world, "shop", "50000").await.unwrap();
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(spend(&world, 5_000).await, Ok(5_000));
    world.set("2027-06-01T00:00:00+03:00");
    let acts = made(&world, "shop", &[pb::DocumentType::Act], 1).await;
    assert_eq!(text(&acts[0].amount), "5000");
    world.set("2027-06-03T12:00:00+03:00");
    world.pay("shop", "8000").await;
    repaid(&world, &invoice).await;
    are(figures(&world).await, ["3000", "0", "0", "3000", "0"]);
    world.set("2027-07-01T00:00:00+03:00");
    let advances = made(&world, "shop", &[pb::DocumentType::AdvanceVatInvoice], 1).await;
    assert_eq!(text(&advances[0].amount), "3000", "5 000 of the payment were spent in May");
    let month = |month| Some(Date { year: 2027, month, day: 0 });
    let request = pb::CreateReconciliationActRequest {
        parent: name("shop"),
        first_month: month(5),
        last_month: month(6),
        request_id: fresh(),
    };
    world.operator().documents().create_reconciliation_act(request).await.unwrap();
    let client = world.database.pool.get().await.unwrap();
    const ACT: &str =
        "SELECT content ->> 'closing', jsonb_array_length(content -> 'rows') FROM document
        WHERE kind = 5 AND first_month <> month";
    let stored = client.query_one(ACT, &[]).await.unwrap();
    // One act and one payment; 3 000 ahead, as the balance says.
    assert_eq!((stored.get::<_, &str>(0), stored.get::<_, i32>(1)), ("-3000000000", 2));
    drop(client);
    world.end().await;
}

/// An invoice goes along when its account joins an agency, the posting stays: the audit still finds one by the other.
#[tokio::test]
async fn the_audit_follows_a_repaid_invoice_into_another_tenant() {
    let world = granted("50000").await;
    world.create(account("north", pb::AccountKind::Agency, OTHER_INN)).await;
    let invoice = defer(&world, "5000").await.unwrap();
    world.pay("shop", "2000").await;
    repaid(&world, &invoice).await;
    crate::credit::grant(&world, "shop", "0").await.unwrap();
    let attach =
        pb::AttachClientRequest { name: name("shop"), agency: name("north"), request_id: fresh() };
    world.operator().accounts().attach_client(attach).await.unwrap();
    let moved = invoices(&world).await.pop().unwrap();
    assert_eq!((moved.name, moved.repaid_from_balance), (invoice.name, true));
    let verify = pb::VerifyLedgerRequest { account: name("north"), ..Default::default() };
    let report = world.operator().audit().verify_ledger(verify).await.unwrap().into_inner();
    assert!(report.ok, "{:#?}", report.differences);
    world.end().await;
}

/// The database proves it too: a paid invoice names a payment or a repayment, and only a deferred one the latter; and
/// the audit finds a repayment that is not in the ledger.
#[tokio::test]
async fn a_paid_invoice_names_what_paid_it_or_is_not_stored() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    world.pay("shop", "2000").await;
    repaid(&world, &invoice).await;
    let client = world.database.pool.get().await.unwrap();
    for (change, broken) in [
        ("repayment_id = NULL WHERE terms = 2", "paid_invoice_names_what_paid_it"),
        ("payment_id = repayment_id WHERE terms = 2", "paid_invoice_names_what_paid_it"),
        ("paid_at = NULL WHERE terms = 2", "paid_invoice_names_what_paid_it"),
        ("state = 1 WHERE terms = 2", "paid_invoice_names_what_paid_it"),
        (
            "repayment_id = payment_id, payment_id = NULL WHERE terms = 1",
            "only_a_deferred_invoice_is_repaid",
        ),
    ] {
        let failed = client.batch_execute(&format!("UPDATE invoice SET {change}")).await;
        let complaint = format!("{:?}", failed.unwrap_err());
        assert!(complaint.contains(broken), "{change}: {complaint}");
    }
    const SWAP: &str = "UPDATE invoice SET repayment_id = $1 WHERE terms = 2";
    const KNOWN: &str = "SELECT repayment_id FROM invoice WHERE terms = 2";
    let known: uuid::Uuid = client.query_one(KNOWN, &[]).await.unwrap().get(0);
    client.execute(SWAP, &[&uuid::Uuid::nil()]).await.unwrap();
    let request = pb::VerifyLedgerRequest::default();
    let report = world.operator().audit().verify_ledger(request).await.unwrap().into_inner();
    let checks: Vec<_> = report.differences.iter().map(|found| found.check.as_str()).collect();
    assert_eq!(checks, ["repaid_equals_invoices", "repaid_equals_invoices"], "both sides differ");
    client.execute(SWAP, &[&known]).await.unwrap();
    drop(client);
    world.end().await;
}
