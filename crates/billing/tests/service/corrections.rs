//! Money that goes back: refunds, credits for invalid clicks, reversals.

use adspend_common::proto::adspend::billing::v1 as pb;
use pb::{AutoTopUpPeriod as Period, AutoTopUpReason as Reason, TransactionType as T};
use tonic::{Code, Response, Status};

use crate::{
    support::*,
    top_ups::{firing, funded, rule, skipped, transferred},
};

fn refund(payment: &pb::Payment, amount: &str) -> pb::RefundPaymentRequest {
    pb::RefundPaymentRequest {
        name: payment.name.clone(),
        amount: rub(amount),
        reason: "the contract ended".to_owned(),
        request_id: fresh(),
    }
}

async fn refund_it(
    world: &World,
    payment: &pb::Payment,
    amount: &str,
) -> Result<Response<pb::RefundPaymentResponse>, Status> {
    world.operator().payments().refund_payment(refund(payment, amount)).await
}

/// The newest transaction of an account.
async fn newest(world: &World, id: &str) -> pb::Transaction {
    let request =
        pb::ListTransactionsRequest { parent: name(id), page_size: 1, ..Default::default() };
    let listed = world.operator().transactions().list_transactions(request).await.unwrap();
    listed.into_inner().transactions.remove(0)
}

async fn with_state(world: &World, state: pb::PaymentState) -> usize {
    let request = pb::ListPaymentsRequest { state: state.into(), ..Default::default() };
    let listed = world.operator().payments().list_payments(request).await.unwrap();
    listed.into_inner().payments.len()
}

#[tokio::test]
async fn a_payment_is_paid_back_in_parts_and_never_more_than_itself() {
    let world = World::start().await;
    world.with_agency("north").await;
    let (first, second) = (world.pay("north", "3540").await, world.pay("north", "2000").await);
    let part = refund(&first, "40");
    let answer = world.operator().payments().refund_payment(part.clone()).await.unwrap();
    let after = answer.into_inner().payment.unwrap();
    assert_eq!(
        (text(&after.refunded), after.state()),
        ("40".to_owned(), pb::PaymentState::Credited)
    );
    let again = world.operator().payments().refund_payment(part).await.unwrap().into_inner();
    assert!(again.replayed);
    assert_eq!(world.available("north").await, "5500");

    // The account has more, this payment has not.
    let above = refused(refund_it(&world, &first, "3500.01").await);
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(above.metadata["maximum"], "3500.00");
    let rest = refund_it(&world, &first, "3500").await.unwrap().into_inner().payment.unwrap();
    assert_eq!(rest.state(), pb::PaymentState::Refunded);
    refused(refund_it(&world, &first, "0.01").await)
        .is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(with_state(&world, pb::PaymentState::Refunded).await, 1);
    assert_eq!(with_state(&world, pb::PaymentState::Credited).await, 1);

    let row = newest(&world, "north").await;
    assert_eq!(
        (row.r#type(), text(&row.amount), text(&row.balance)),
        (T::Refund, "-3500".into(), "2000".into())
    );
    assert_eq!(row.object, first.name);
    assert_eq!(text(&second.refunded), "0");
    world.end().await;
}

#[tokio::test]
async fn only_free_money_of_its_own_is_paid_back() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let payment = world.pay("north", "10000").await;
    // Spent: it is the client's now.
    world.transfer("north", "shop", "4000").await;
    let short = refused(refund_it(&world, &payment, "6000.01").await);
    short.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    assert_eq!(short.metadata["available_micros"], "6000000000");
    // Promised money is in the balance and is not the agency's own.
    world.promise("north", "3000").await.unwrap();
    assert_eq!(world.available("north").await, "9000");
    refused(refund_it(&world, &payment, "6000.01").await)
        .is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    refund_it(&world, &payment, "1000").await.unwrap();
    // Held: its campaigns run.
    world.hold("north", 1_000_000).await;
    refused(refund_it(&world, &payment, "1").await).is(Code::FailedPrecondition, "MONEY_IS_HELD");
    world.set("2026-11-20T12:15:00+03:00");
    refund_it(&world, &payment, "1").await.unwrap();

    let free = world.record("nothing", "700", OTHER_INN).await;
    refused(refund_it(&world, &free, "1").await)
        .is(Code::FailedPrecondition, "PAYMENT_NOT_CREDITED");
    let mut dollars = refund(&payment, "1");
    dollars.amount = money("1", "USD");
    let dollars = world.operator().payments().refund_payment(dollars).await;
    refused(dollars).is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    let agency = world.agency("north").payments().refund_payment(refund(&payment, "1")).await;
    refused(agency).is(Code::PermissionDenied, "PERMISSION_DENIED");
    world.end().await;
}

/// What went to an overdue promise does not come back, and what was paid back is no turnover.
#[tokio::test]
async fn a_refund_leaves_what_repaid_a_promise_and_lowers_the_turnover() {
    let world = World::start().await;
    world.with_agency("north").await;
    let first = world.pay("north", "10000").await;
    let available = async || {
        let request = pb::GetPromisedPaymentTermsRequest { parent: name("north") };
        let terms = world.operator().promises().get_promised_payment_terms(request).await;
        text(&terms.unwrap().into_inner().available)
    };
    assert_eq!(available().await, "3000");
    refund_it(&world, &first, "1000").await.unwrap();
    assert_eq!(available().await, "2700");

    world.promise("north", "2000").await.unwrap();
    world.set("2026-11-26T00:00:00+03:00");
    let payment = world.pay("north", "4000").await;
    assert_eq!(text(&payment.collected), "2000");
    let above = refused(refund_it(&world, &payment, "2000.01").await);
    assert_eq!(above.metadata["maximum"], "2000.00");
    let after = refund_it(&world, &payment, "2000").await.unwrap().into_inner().payment.unwrap();
    assert_eq!(after.state(), pb::PaymentState::Refunded);
    world.end().await;
}

/// What a deferred invoice has credited is owed, not owned.
#[tokio::test]
async fn deferred_money_is_not_paid_back() {
    let world = World::start().await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    let payment = world.pay("shop", "10000").await;
    charge(&world, "spring", 4_000_000_000).await;
    let granted = pb::SetCreditTermsRequest {
        name: name("shop"),
        granted_amount: rub("50000"),
        waive_record: true,
        request_id: fresh(),
    };
    world.operator().credit().set_credit_terms(granted).await.unwrap();
    let deferred = pb::CreateInvoiceRequest {
        parent: name("shop"),
        amount: rub("5000"),
        terms: pb::InvoiceTerms::Deferred.into(),
        request_id: fresh(),
    };
    let advertiser = world.role("advertiser", Some("shop"));
    advertiser.invoices().create_invoice(deferred).await.unwrap();
    assert_eq!(world.available("shop").await, "11000");
    let short = refused(refund_it(&world, &payment, "6000.01").await);
    short.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    refund_it(&world, &payment, "6000").await.unwrap();
    world.end().await;
}

/// Concurrent refunds of one payment: no order of them pays more back than came.
#[tokio::test]
async fn concurrent_refunds_share_one_rest() {
    let world = World::start().await;
    world.with_agency("north").await;
    let payment = world.pay("north", "2000").await;
    world.pay("north", "9000").await;
    let refunds = (0..8).map(|_| refund_it(&world, &payment, "600"));
    let answers = futures_util::future::join_all(refunds).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert_eq!(world.available("north").await, "9200");
    world.end().await;
}

async fn charge(world: &World, campaign: &str, micros: i64) {
    let item = pb::RecordChargeItem {
        account: name("shop"),
        campaign: format!("campaigns/{campaign}"),
        amount_micros: micros,
        day: None,
        request_id: fresh(),
    };
    let request = pb::RecordChargesRequest { requests: vec![item] };
    let answer = world.role("pacing", None).holds().record_charges(request).await.unwrap();
    assert_eq!(answer.into_inner().results[0].error, None);
}

async fn credit(
    world: &World,
    campaign: &str,
    amount_micros: i64,
) -> Result<Response<pb::CreditInvalidClicksResponse>, Status> {
    let request = pb::CreditInvalidClicksRequest {
        account: name("shop"),
        campaign: format!("campaigns/{campaign}"),
        amount_micros,
        reason: "click farm".to_owned(),
        request_id: fresh(),
    };
    world.role("ad_server", None).holds().credit_invalid_clicks(request).await
}

/// A client with 300 in a hold for two campaigns, of which 100 and 50 are spent.
async fn spending() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "10000").await;
    world.transfer("north", "shop", "1000").await;
    let holds = world.role("pacing", None).holds();
    let hold = world.hold("shop", 300_000_000).await.name;
    let spend = |campaign: &str, cumulative_spent_micros| pb::CampaignSpend {
        campaign: format!("campaigns/{campaign}"),
        cumulative_spent_micros,
    };
    let spends = vec![spend("spring", 100_000_000), spend("autumn", 50_000_000)];
    let item = pb::SettleHoldItem { hold, sequence: 1, spends };
    let settle = pb::SettleHoldsRequest { requests: vec![item] };
    holds.clone().settle_holds(settle).await.unwrap();
    world
}

/// what was charged for a campaign, in a hold and late, bounds what goes back for it.
#[tokio::test]
async fn invalid_clicks_go_back_up_to_what_their_campaign_was_charged() {
    let world = spending().await;
    charge(&world, "spring", 20_000_000).await;
    let before = world.balance("shop").await;
    let answer = credit(&world, "spring", 70_000_000).await.unwrap().into_inner();
    assert_eq!((answer.charged_micros, answer.credited_micros), (120_000_000, 70_000_000));
    let row = newest(&world, "shop").await;
    assert_eq!(
        (&row.name, row.r#type(), text(&row.amount)),
        (&answer.transaction, T::ChargeRefund, "70".into())
    );
    assert_eq!(row.object, "campaigns/spring");
    let after = world.balance("shop").await;
    assert_eq!((text(&before.available), text(&after.available)), ("680".into(), "750".into()));

    let above = refused(credit(&world, "spring", 50_000_001).await);
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(above.metadata["maximum"], "50.00");
    credit(&world, "spring", 50_000_000).await.unwrap();
    refused(credit(&world, "spring", 1).await).is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    // Another campaign has a bound of its own, and one without charges has none to give.
    credit(&world, "autumn", 50_000_000).await.unwrap();
    refused(credit(&world, "winter", 1).await).is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    let agency = world.agency("north").holds();
    let request = pb::CreditInvalidClicksRequest::default();
    let denied = agency.clone().credit_invalid_clicks(request.clone()).await;
    refused(denied).is(Code::PermissionDenied, "PERMISSION_DENIED");
    let empty = refused(world.operator().holds().credit_invalid_clicks(request).await);
    assert_eq!(empty.fields, ["account", "campaign", "amount_micros", "reason", "request_id"]);
    world.end().await;
}

#[tokio::test]
async fn concurrent_credits_share_one_bound() {
    let world = spending().await;
    let credits = (0..8).map(|_| credit(&world, "spring", 30_000_000));
    let answers = futures_util::future::join_all(credits).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    world.end().await;
}

async fn reverse(
    world: &World,
    transaction: &str,
) -> Result<Response<pb::ReverseTransactionResponse>, Status> {
    let request = pb::ReverseTransactionRequest {
        name: transaction.to_owned(),
        reason: "wrong client".to_owned(),
        request_id: fresh(),
    };
    world.operator().transactions().reverse_transaction(request).await
}

/// a correction is a posting of its own, exact, once, and for both sides.
#[tokio::test]
async fn a_transfer_is_reversed_once_on_both_sides() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "5000").await;
    world.transfer("north", "shop", "1500").await;
    let transfer = newest(&world, "north").await;
    let row = reverse(&world, &transfer.name).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!(
        (row.r#type(), text(&row.amount), text(&row.balance)),
        (T::Correction, "1500".into(), "5000".into())
    );
    assert_eq!((&row.object, row.counterparty.as_str()), (&transfer.name, "accounts/shop"));
    let other = newest(&world, "shop").await;
    assert_eq!(
        (other.r#type(), text(&other.amount), text(&other.balance)),
        (T::Correction, "-1500".into(), "0".into())
    );
    // By either name it is one posting, and a correction is not corrected.
    let twin = "accounts/shop/transactions/1";
    for again in [transfer.name.as_str(), twin] {
        refused(reverse(&world, again).await).is(Code::FailedPrecondition, "ALREADY_REVERSED");
    }
    refused(reverse(&world, &row.name).await).is(Code::FailedPrecondition, "NOT_REVERSIBLE");
    for absent in ["accounts/north/transactions/99", "accounts/nobody/transactions/1"] {
        refused(reverse(&world, absent).await).is(Code::NotFound, "NOT_FOUND");
    }
    for wrong in
        ["accounts/north/transactions/0", "accounts/north/transactions/01", "accounts/north", ""]
    {
        assert_eq!(refused(reverse(&world, wrong).await).fields, ["name"], "{wrong}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_is_spent_or_has_a_state_of_its_own_is_not_reversed() {
    let world = spending().await;
    let transfer = "accounts/shop/transactions/1";
    // 150 of the thousand are spent, 150 held.
    let short = refused(reverse(&world, transfer).await);
    short.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    // A payment, a hold's opening and its spend are corrected where they were made.
    for made_elsewhere in [
        "accounts/north/transactions/1",
        "accounts/shop/transactions/2",
        "accounts/shop/transactions/3",
    ] {
        refused(reverse(&world, made_elsewhere).await)
            .is(Code::FailedPrecondition, "NOT_REVERSIBLE");
    }
    world.transfer("north", "shop", "300").await;
    reverse(&world, transfer).await.unwrap();
    world.end().await;
}

/// A charge that is reversed no longer covers a credit, and a credit that is reversed is free again.
#[tokio::test]
async fn charges_and_credits_are_reversed_within_their_bound() {
    let world = spending().await;
    charge(&world, "winter", 40_000_000).await;
    let charged = newest(&world, "shop").await;
    credit(&world, "winter", 10_000_000).await.unwrap();
    let credited = newest(&world, "shop").await;
    let bound = refused(reverse(&world, &charged.name).await);
    bound.is(Code::FailedPrecondition, "NOT_REVERSIBLE");
    assert_eq!(bound.metadata["credited_micros"], "10000000");
    reverse(&world, &credited.name).await.unwrap();
    let row = reverse(&world, &charged.name).await.unwrap().into_inner().transaction.unwrap();
    assert_eq!((text(&row.amount), row.object), ("40".to_owned(), charged.name));
    refused(credit(&world, "winter", 1).await).is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    world.end().await;
}

/// a top-up that is reversed gives the limit back, within its own period only.
#[tokio::test]
async fn a_reversed_top_up_gives_the_limit_of_its_period_back() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "0", "1000", Period::Day)).await;
    world.spend("1000").await;
    world.until_runs(1).await;
    // The client is at the threshold again, so it fires again: but 500 of the limit are back.
    let first = newest(&world, "shop").await.name;
    reverse(&world, &first).await.unwrap();
    assert_eq!(world.until_runs(2).await[1], transferred("500"));
    refused(reverse(&world, &first).await).is(Code::FailedPrecondition, "ALREADY_REVERSED");
    world.spend("500").await;
    assert_eq!(world.until_runs(3).await[2], transferred("1000"));
    let last = newest(&world, "shop").await.name;
    world.spend("500").await;
    assert_eq!(world.until_runs(4).await[3], skipped(Reason::LimitUsedUp, "1000"));

    // What waits for the limit is looked at when some of it comes back.
    world.transfer("north", "shop", "500").await;
    reverse(&world, &last).await.unwrap();
    assert_eq!(world.until_runs(5).await[4], transferred("1000"));
    let request = pb::ListAutoTopUpRunsRequest { parent: name("shop"), ..Default::default() };
    let listed = world.operator().top_ups().list_auto_top_up_runs(request).await.unwrap();
    let reversed = listed.into_inner().auto_top_up_runs;
    let reversed: Vec<_> = reversed.iter().rev().map(|run| run.reverse_time.is_some()).collect();
    assert_eq!(reversed, [true, false, true, false, false]);

    // On the next day the limit is whole, and yesterday's top-up has nothing to give back.
    let yesterdays = newest(&world, "shop").await.name;
    world.set("2026-11-21T00:00:00+03:00");
    world.spend("500").await;
    assert_eq!(world.until_runs(6).await[5], transferred("500"));
    reverse(&world, &yesterdays).await.unwrap();
    assert_eq!(world.until_runs(7).await[6], transferred("1000"));
    world.end().await;
}
