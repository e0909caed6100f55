//! Promised payments: terms, several at once, repayment, overdue by time alone (R-60..R-74).

use adspend_billing::config::Amount;
use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::{Code, Status};

use crate::support::*;

/// The last moment of the due day of a promise taken at the start, and the first one after it.
const LAST_MOMENT: &str = "2026-11-25T23:59:59.999999+03:00";
const OVERDUE: &str = "2026-11-26T00:00:00+03:00";

/// An agency that has paid enough to take promises up to 30 000.
async fn trusted() -> World {
    let world = World::start().await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    world
}

async fn terms(world: &World, agency: &str) -> pb::GetPromisedPaymentTermsResponse {
    let request = pb::GetPromisedPaymentTermsRequest { parent: name(agency) };
    world.operator().promises().get_promised_payment_terms(request).await.unwrap().into_inner()
}

async fn repay(
    world: &World,
    promise: &pb::PromisedPayment,
) -> Result<pb::PromisedPayment, Status> {
    let request =
        pb::RepayPromisedPaymentRequest { name: promise.name.clone(), request_id: fresh() };
    let repaid = world.operator().promises().repay_promised_payment(request).await?;
    Ok(repaid.into_inner().promised_payment.unwrap())
}

#[tokio::test]
async fn a_promise_is_credited_at_once_and_owed() {
    let world = trusted().await;
    let offer = terms(&world, "north").await;
    assert!(offer.allowed && offer.refusals.is_empty(), "{offer:?}");
    assert_eq!(text(&offer.available), "30000", "30 % of what was paid in 30 days (R-68)");
    let due = offer.due_date.unwrap();
    assert_eq!((due.year, due.month, due.day), (2026, 11, 25));

    let promise = world.promise("north", "3000").await.unwrap();
    assert_eq!(promise.state(), pb::PromisedPaymentState::Active);
    assert_eq!((text(&promise.amount), text(&promise.outstanding)), ("3000".into(), "3000".into()));
    let balance = world.balance("north").await;
    assert_eq!(text(&balance.available), "103000");
    assert_eq!(text(&balance.promised_debt), "3000");
    assert_eq!(text(&terms(&world, "north").await.outstanding), "3000");
    world.end().await;
}

#[tokio::test]
async fn the_terms_name_every_refusal_at_once() {
    let world = World::start().await;
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    let offer = terms(&world, "north").await;
    assert_eq!(offer.refusals, ["PROMISE_LIMIT_REACHED"], "no turnover, no limit");
    assert_eq!(text(&offer.available), "0");
    let offer = terms(&world, "shop").await;
    assert_eq!(offer.refusals, ["NOT_AN_AGENCY", "REQUISITES_MISSING", "PROMISE_LIMIT_REACHED"],);

    world.pay("north", "100000").await;
    world.promise("north", "1000").await.unwrap();
    world.promise("north", "1000").await.unwrap();
    let block = pb::BlockAccountRequest { name: name("north"), request_id: fresh() };
    world.operator().accounts().block_account(block).await.unwrap();
    world.set(OVERDUE);
    let offer = terms(&world, "north").await;
    assert_eq!(offer.refusals, ["ACCOUNT_BLOCKED", "PROMISE_OVERDUE", "TOO_MANY_PROMISES"]);
    assert!(!offer.allowed);
    let refused = refusal(&world.promise("north", "1000").await.unwrap_err());
    refused.is(Code::FailedPrecondition, "PROMISE_OVERDUE");
    assert_eq!(refused.metadata["refusals"], "ACCOUNT_BLOCKED,PROMISE_OVERDUE,TOO_MANY_PROMISES");
    world.end().await;
}

#[tokio::test]
async fn the_amount_is_bounded_by_the_terms() {
    let world = trusted().await;
    let take = async |amount: &str| refusal(&world.promise("north", amount).await.unwrap_err());
    let below = take("99.99").await;
    below.is(Code::FailedPrecondition, "AMOUNT_BELOW_MINIMUM");
    assert_eq!(below.metadata["minimum"], "100.00");
    let above = take("30000.01").await;
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(above.metadata["maximum"], "30000.00");
    world.promise("north", "30000").await.unwrap();
    take("100").await.is(Code::FailedPrecondition, "PROMISE_NOT_AVAILABLE");
    world.end().await;
}

#[tokio::test]
async fn an_agency_can_have_terms_of_its_own() {
    let world = World::with(|config| {
        let agencies = &mut config.promised_payments.agencies;
        let terms = agencies.entry("north".to_owned()).or_default();
        terms.max = Some(Amount("500.50".parse().unwrap()));
        terms.term_days = Some(1);
    })
    .await;
    world.with_agency("north").await;
    world.pay("north", "100000").await;
    let refused = refusal(&world.promise("north", "500.51").await.unwrap_err());
    refused.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    let promise = world.promise("north", "500.50").await.unwrap();
    assert_eq!(promise.due_date.unwrap().day, 21);
    world.end().await;
}

/// R-71, worked: promises of 3 000 (overdue) and 2 000 (not due); a payment of 4 000 repays the first, the
/// rest goes to the balance, the second is untouched.
#[tokio::test]
async fn the_next_payment_goes_to_the_overdue_promise_and_the_rest_to_the_balance() {
    let world = trusted().await;
    let first = world.promise("north", "3000").await.unwrap();
    world.set("2026-11-22T12:00:00+03:00");
    let second = world.promise("north", "2000").await.unwrap();
    world.set("2026-11-26T10:00:00+03:00");
    assert_eq!(world.available("north").await, "105000");

    let payment = world.pay("north", "4000").await;
    assert_eq!(text(&payment.collected), "3000");
    let first = world.promised(&first).await;
    assert_eq!(first.state(), pb::PromisedPaymentState::Repaid);
    assert_eq!(first.repay_time, stamp("2026-11-26T10:00:00+03:00"));
    let second = world.promised(&second).await;
    assert_eq!(second.state(), pb::PromisedPaymentState::Active);
    assert_eq!(text(&second.outstanding), "2000");
    let balance = world.balance("north").await;
    assert_eq!(
        (text(&balance.available), text(&balance.promised_debt)),
        ("106000".into(), "2000".into())
    );
    world.end().await;
}

/// nobody has to notice that the day is over.
#[tokio::test]
async fn a_promise_is_overdue_from_the_first_moment_after_its_due_day() {
    let world = trusted().await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.set(LAST_MOMENT);
    assert_eq!(world.promised(&promise).await.state(), pb::PromisedPaymentState::Active);
    let payment = world.pay("north", "2000").await;
    assert_eq!(text(&payment.collected), "0", "not due: money that comes in does not repay (R-61)");

    world.set(OVERDUE);
    assert_eq!(world.promised(&promise).await.state(), pb::PromisedPaymentState::Overdue);
    let list = pb::ListPromisedPaymentsRequest { parent: name("north"), ..Default::default() };
    let listed = world.operator().promises().list_promised_payments(list).await.unwrap();
    let listed = listed.into_inner().promised_payments;
    assert_eq!(listed[0].state(), pb::PromisedPaymentState::Overdue);
    let payment = world.pay("north", "2000").await;
    assert_eq!(text(&payment.collected), "2000");
    let rest = world.promised(&promise).await;
    assert_eq!(rest.state(), pb::PromisedPaymentState::Overdue, "a part leaves the rest overdue");
    assert_eq!(text(&rest.outstanding), "1000");
    let payment = world.pay("north", "1500").await;
    assert_eq!(text(&payment.collected), "1000");
    assert_eq!(world.promised(&promise).await.state(), pb::PromisedPaymentState::Repaid);
    world.end().await;
}

#[tokio::test]
async fn an_allocation_is_external_money_too_and_a_return_from_a_client_is_not() {
    let world = trusted().await;
    world.with_client("north", "shop").await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.transfer("north", "shop", "50000").await;
    world.set(OVERDUE);
    world.transfer("shop", "north", "50000").await;
    assert_eq!(text(&world.promised(&promise).await.outstanding), "3000");

    let payment = world.record("for ads", "2500", "500100732259").await;
    let request = pb::AllocatePaymentRequest {
        name: payment.name,
        account: name("north"),
        invoice: String::new(),
        request_id: fresh(),
    };
    let done = world.operator().payments().allocate_payment(request).await.unwrap();
    assert_eq!(text(&done.into_inner().payment.unwrap().collected), "2500");
    assert_eq!(text(&world.promised(&promise).await.outstanding), "500");
    world.end().await;
}

/// the money of another promise does not repay this one.
#[tokio::test]
async fn a_promise_is_repaid_by_itself_from_the_agencys_own_money() {
    let world = trusted().await;
    world.with_client("north", "shop").await;
    let first = world.promise("north", "3000").await.unwrap();
    let second = world.promise("north", "2000").await.unwrap();
    // 105 000 less 101 000: 4 000 are left, of which 2 000 are the second promise's.
    world.transfer("north", "shop", "101000").await;
    let refused = refusal(&repay(&world, &first).await.unwrap_err());
    refused.is(Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    assert_eq!(refused.metadata["available_micros"], "2000000000");
    assert_eq!(refused.metadata["needed_micros"], "3000000000");
    assert_eq!(world.available("north").await, "4000", "a refusal changes nothing");

    world.transfer("shop", "north", "1000").await;
    let repaid = repay(&world, &first).await.unwrap();
    assert_eq!(repaid.state(), pb::PromisedPaymentState::Repaid);
    assert_eq!(text(&repaid.outstanding), "0");
    let balance = world.balance("north").await;
    assert_eq!(
        (text(&balance.available), text(&balance.promised_debt)),
        ("2000".into(), "2000".into())
    );
    refusal(&repay(&world, &first).await.unwrap_err())
        .is(Code::FailedPrecondition, "PROMISE_ALREADY_REPAID");
    let second = world.promised(&second).await;
    assert_eq!(second.state(), pb::PromisedPaymentState::Active);
    world.end().await;
}

#[tokio::test]
async fn an_overdue_promise_can_still_be_repaid_by_hand_and_blocks_new_ones_for_a_while() {
    let world = trusted().await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.set(OVERDUE);
    repay(&world, &promise).await.unwrap();
    assert_eq!(terms(&world, "north").await.refusals, ["PROMISE_RECENTLY_OVERDUE"]);
    world.set("2026-12-02T23:59:59+03:00");
    assert_eq!(terms(&world, "north").await.refusals, ["PROMISE_RECENTLY_OVERDUE"]);
    world.set("2026-12-03T00:00:00+03:00");
    assert!(terms(&world, "north").await.allowed);
    world.end().await;
}

/// two in 28 days, the second only with a positive balance.
#[tokio::test]
async fn activations_are_counted_over_a_window() {
    let world = trusted().await;
    world.with_client("north", "shop").await;
    let first = world.promise("north", "1000").await.unwrap();
    world.transfer("north", "shop", "101000").await;
    assert_eq!(terms(&world, "north").await.refusals, ["BALANCE_NOT_POSITIVE"]);
    world.transfer("shop", "north", "5000").await;
    repay(&world, &first).await.unwrap();
    let second = world.promise("north", "1000").await.unwrap();
    repay(&world, &second).await.unwrap();
    assert_eq!(terms(&world, "north").await.refusals, ["TOO_MANY_PROMISES"]);
    world.set("2026-12-18T11:59:59+03:00");
    assert_eq!(terms(&world, "north").await.refusals, ["TOO_MANY_PROMISES"]);
    world.set("2026-12-18T12:00:00+03:00");
    assert!(terms(&world, "north").await.allowed);
    world.end().await;
}

#[tokio::test]
async fn promises_taken_at_once_stay_within_the_limit() {
    let world = trusted().await;
    let take = || world.promise("north", "20000");
    let (one, two, three) = tokio::join!(take(), take(), take());
    let taken = [one, two, three].into_iter().filter(Result::is_ok).count();
    assert_eq!(taken, 1, "20 000 of 30 000 fit once");
    assert_eq!(text(&world.balance("north").await.promised_debt), "20000");
    world.end().await;
}

#[tokio::test]
async fn the_debt_of_a_past_moment_is_told() {
    let world = trusted().await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.set("2026-11-21T12:00:00+03:00");
    repay(&world, &promise).await.unwrap();
    for (moment, debt, available) in [
        ("2026-11-20T11:59:59+03:00", "0", "0"),
        ("2026-11-20T12:00:00+03:00", "3000", "103000"),
        ("2026-11-21T11:59:59.999999+03:00", "3000", "103000"),
        ("2026-11-21T12:00:00+03:00", "0", "100000"),
    ] {
        let request = pb::GetBalanceRequest { name: name("north"), as_of: stamp(moment) };
        let then = world.operator().accounts().get_balance(request).await.unwrap().into_inner();
        let told = (text(&then.promised_debt), text(&then.available));
        assert_eq!(told, (debt.to_owned(), available.to_owned()), "{moment}");
        assert_eq!(then.as_of, stamp(moment));
    }
    world.end().await;
}
