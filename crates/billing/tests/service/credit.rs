//! Credit: grants, the threshold, deferred invoices, months that end, liens (R-90..R-101).

use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::{Code, Response, Status};

use crate::support::*;

/// A direct advertiser with a grant, on a Thursday in May.
pub(crate) async fn granted(amount: &str) -> World {
    let world = World::start().await;
    world.set("2027-05-20T12:00:00+03:00");
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    grant(&world, "shop", amount).await.unwrap();
    world
}

pub(crate) type Answer<T> = Result<Response<T>, Status>;

pub(crate) async fn grant(
    world: &World,
    account: &str,
    amount: &str,
) -> Answer<pb::SetCreditTermsResponse> {
    let request = pb::SetCreditTermsRequest {
        name: name(account),
        granted_amount: rub(amount),
        waive_record: true,
        request_id: fresh(),
    };
    world.operator().credit().set_credit_terms(request).await
}

pub(crate) async fn threshold(
    world: &World,
    amount: &str,
) -> Answer<pb::SetOverdraftThresholdResponse> {
    let request = pb::SetOverdraftThresholdRequest {
        name: name("shop"),
        threshold: rub(amount),
        request_id: fresh(),
    };
    world.role("advertiser", Some("shop")).credit().set_overdraft_threshold(request).await
}

pub(crate) async fn terms(world: &World) -> pb::CreditTerms {
    let request = pb::GetCreditTermsRequest { name: name("shop") };
    let answer = world.operator().credit().get_credit_terms(request).await.unwrap();
    answer.into_inner().credit_terms.unwrap()
}

pub(crate) async fn defer(world: &World, amount: &str) -> Result<pb::Invoice, Status> {
    let request = pb::CreateInvoiceRequest {
        parent: name("shop"),
        amount: rub(amount),
        terms: pb::InvoiceTerms::Deferred.into(),
        request_id: fresh(),
    };
    let advertiser = world.role("advertiser", Some("shop"));
    let issued = advertiser.invoices().create_invoice(request).await?;
    Ok(issued.into_inner().invoice.unwrap())
}

pub(crate) async fn invoices(world: &World) -> Vec<pb::Invoice> {
    let request = pb::ListInvoicesRequest { parent: name("shop"), ..Default::default() };
    let listed = world.operator().invoices().list_invoices(request).await.unwrap();
    listed.into_inner().invoices
}

/// A hold of what is asked for or of what there is; what it got, or the reason why not.
pub(crate) async fn hold(caller: &Caller, rubles: i64) -> Result<pb::Hold, String> {
    let item = pb::OpenHoldItem {
        account: name("shop"),
        amount_micros: rubles * 1_000_000,
        min_amount_micros: 1,
        ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let mut answer = caller.holds().open_holds(request).await.unwrap().into_inner();
    match answer.results.remove(0).outcome.unwrap() {
        pb::hold_result::Outcome::Hold(hold) => Ok(hold),
        pb::hold_result::Outcome::Error(error) => Err(error.reason),
    }
}

/// Spends out of a hold, as pacing does: what was granted, in whole roubles.
pub(crate) async fn spend(world: &World, rubles: i64) -> Result<i64, String> {
    let pacing = world.role("pacing", None);
    let opened = hold(&pacing, rubles).await?;
    let item = pb::SettleHoldItem {
        hold: opened.name.clone(),
        sequence: 1,
        spends: vec![pb::CampaignSpend {
            campaign: "campaigns/spring".to_owned(),
            cumulative_spent_micros: opened.opened_micros,
        }],
    };
    let settle = pb::SettleHoldsRequest { requests: vec![item] };
    pacing.holds().settle_holds(settle).await.unwrap();
    release(&pacing, &opened).await;
    Ok(opened.opened_micros / 1_000_000)
}

pub(crate) async fn release(caller: &Caller, hold: &pb::Hold) {
    let request =
        pb::ReleaseHoldsRequest { requests: vec![pb::ReleaseHoldItem { hold: hold.name.clone() }] };
    caller.holds().release_holds(request).await.unwrap();
}

pub(crate) async fn figures(world: &World) -> [String; 5] {
    let balance = world.balance("shop").await;
    let pb::GetBalanceResponse { posted, frozen, overdraft_threshold, available, .. } = &balance;
    [posted, frozen, overdraft_threshold, available, &balance.deferred_debt].map(text)
}

pub(crate) fn are(figures: [String; 5], expected: [&str; 5]) {
    assert_eq!(figures, expected, "posted, frozen, threshold, available, deferred debt");
}

pub(crate) fn date(day: Option<adspend_common::proto::google::r#type::Date>) -> String {
    let day = day.unwrap();
    format!("{}-{:02}-{:02}", day.year, day.month, day.day)
}

/// 50 000 granted and 5 000 unpaid leave 45 000.
#[tokio::test]
async fn the_threshold_is_at_most_the_grant_less_unpaid_invoices() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(invoice.state(), pb::InvoiceState::Issued);
    assert_eq!(date(invoice.pay_by), "2027-06-04", "15 calendar days (R-99)");
    are(figures(&world).await, ["5000", "0", "0", "5000", "5000"]);
    assert_eq!(text(&terms(&world).await.available_amount), "45000");
    let above = refused(threshold(&world, "45000.01").await);
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(above.metadata["maximum"], "45000.00");
    let set = threshold(&world, "45000").await.unwrap().into_inner().credit_terms.unwrap();
    assert_eq!(text(&set.effective_threshold), "40000", "T_eff = T - unpaid (R-98)");
    // with a threshold no deferred invoice is taken by hand.
    let on = refusal(&defer(&world, "2000").await.unwrap_err());
    on.is(Code::FailedPrecondition, "THRESHOLD_ON");
    world.end().await;
}

/// an invoice of 30 000 leaves 20 000, and 50 000 again a day after it was repaid.
#[tokio::test]
async fn a_day_after_repayment_the_whole_grant_is_there() {
    let world = granted("50000").await;
    let above = refusal(&defer(&world, "50000.01").await.unwrap_err());
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    let invoice = defer(&world, "30000").await.unwrap();
    let above = refused(threshold(&world, "20000.01").await);
    above.is(Code::FailedPrecondition, "AMOUNT_ABOVE_MAXIMUM");
    assert_eq!(text(&terms(&world).await.available_amount), "20000");

    let payment = world.record(&invoice.number, "30000", NORTH_INN).await;
    assert_eq!(payment.state(), pb::PaymentState::Credited);
    assert_eq!(payment.invoice, invoice.name);
    are(figures(&world).await, ["30000", "0", "0", "30000", "0"]);
    assert_eq!(invoices(&world).await[0].state(), pb::InvoiceState::Paid);
    let locked = refused(threshold(&world, "50000").await);
    locked.is(Code::FailedPrecondition, "THRESHOLD_LOCKED");
    world.set("2027-05-21T11:59:59.999+03:00");
    assert_eq!(terms(&world).await.threshold_refusals, ["RECENTLY_REPAID"]);
    refused(threshold(&world, "50000").await).is(Code::FailedPrecondition, "THRESHOLD_LOCKED");
    world.set("2027-05-21T12:00:00+03:00");
    let set = threshold(&world, "50000").await.unwrap().into_inner().credit_terms.unwrap();
    assert_eq!(text(&set.effective_threshold), "50000");
    world.end().await;
}

/// R-98 as it is written: threshold 10 000, 1 500 at the end of May, stop at -8 500 on 5 June.
#[tokio::test]
async fn the_month_that_ends_below_zero_is_invoiced_and_lowers_the_threshold() {
    let world = granted("10000").await;
    world.pay("shop", "3000").await;
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 4_500).await, Ok(4_500));
    are(figures(&world).await, ["-1500", "0", "10000", "8500", "0"]);

    world.set("2027-05-31T23:59:59.999999+03:00");
    assert!(invoices(&world).await.iter().all(|one| one.terms() == pb::InvoiceTerms::Prepaid));
    world.set("2027-06-01T00:00:00+03:00");
    are(figures(&world).await, ["0", "0", "8500", "8500", "1500"]);
    let invoice = invoices(&world).await.remove(0);
    assert_eq!(
        (invoice.terms(), text(&invoice.amount)),
        (pb::InvoiceTerms::Deferred, "1500".into())
    );
    assert_eq!(date(invoice.pay_by), "2027-06-15");
    assert_eq!(invoice.create_time, stamp("2027-05-31T23:59:59.999999+03:00"));

    world.set("2027-06-05T12:00:00+03:00");
    assert_eq!(spend(&world, 10_000).await, Ok(8_500), "8 500 and 1 500 are 10 000");
    assert_eq!(spend(&world, 1).await, Err("INSUFFICIENT_FUNDS".to_owned()));
    // A top-up tops up the account and repays nothing of the invoice.
    world.pay("shop", "2000").await;
    are(figures(&world).await, ["-6500", "0", "8500", "2000", "1500"]);
    assert_eq!(spend(&world, 10_000).await, Ok(2_000));
    let wrong = world.record(&invoice.number, "1499.99", NORTH_INN).await;
    assert_eq!(wrong.unallocated_reason, "AMOUNT_MISMATCH");

    world.set("2027-06-12T12:00:00+03:00");
    let paid = world.record(&invoice.number, "1500", NORTH_INN).await;
    assert_eq!(paid.state(), pb::PaymentState::Credited);
    are(figures(&world).await, ["-8500", "0", "10000", "1500", "0"]);
    assert_eq!(spend(&world, 10_000).await, Ok(1_500), "down to -10 000 again");
    let twice = world.record(&invoice.number, "1500", NORTH_INN).await;
    assert_eq!(twice.unallocated_reason, "ALREADY_PAID");
    world.end().await;
}

/// 700 unspent when the invoice goes overdue are frozen, and back on the day after it is paid.
#[tokio::test]
async fn unspent_money_is_frozen_while_an_invoice_is_overdue_and_back_the_next_day() {
    let world = granted("50000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    assert_eq!(spend(&world, 4_300).await, Ok(4_300));
    let state = async |world: &World| invoices(world).await.pop().unwrap().state();
    world.set("2027-06-04T23:59:59.999999+03:00");
    assert_eq!(state(&world).await, pb::InvoiceState::Issued);
    are(figures(&world).await, ["700", "0", "0", "700", "5000"]);
    world.set("2027-06-05T00:00:00+03:00");
    assert_eq!(state(&world).await, pb::InvoiceState::Overdue);
    are(figures(&world).await, ["700", "700", "0", "0", "5000"]);
    assert_eq!(spend(&world, 1).await, Err("INSUFFICIENT_FUNDS".to_owned()));
    // no new deferral, no threshold.
    let shown = terms(&world).await;
    assert!(shown.overdue);
    assert_eq!(shown.deferral_refusals, ["DEFERRED_OVERDUE"]);
    refusal(&defer(&world, "2000").await.unwrap_err())
        .is(Code::FailedPrecondition, "DEFERRED_OVERDUE");
    refused(threshold(&world, "100").await).is(Code::FailedPrecondition, "DEFERRED_OVERDUE");

    // Prepaid money is frozen as it comes; the lien does not reduce the debt.
    world.pay("shop", "2000").await;
    are(figures(&world).await, ["2700", "2700", "0", "0", "5000"]);

    world.set("2027-06-10T15:00:00+03:00");
    world.record(&invoice.number, "5000", NORTH_INN).await;
    are(figures(&world).await, ["2700", "2700", "0", "0", "0"]);
    assert_eq!(terms(&world).await.unfreeze_time, stamp("2027-06-11T00:00:00+03:00"));
    // What comes in after the repayment is free at once.
    world.pay("shop", "1300").await;
    are(figures(&world).await, ["4000", "2700", "0", "1300", "0"]);
    world.set("2027-06-10T23:59:59.999999+03:00");
    assert_eq!(world.available("shop").await, "1300");
    world.set("2027-06-11T00:00:00+03:00");
    assert_eq!(spend(&world, 10_000).await, Ok(4_000), "and nobody but the spender has looked");
    world.end().await;
}

/// The lien lasts until the last overdue invoice is repaid.
#[tokio::test]
async fn one_of_two_overdue_invoices_repaid_frees_nothing() {
    let world = granted("50000").await;
    let one = defer(&world, "5000").await.unwrap();
    world.set("2027-05-21T12:00:00+03:00");
    let other = defer(&world, "4000").await.unwrap();
    world.set("2027-06-20T12:00:00+03:00");
    world.record(&one.number, "5000", NORTH_INN).await;
    world.set("2027-06-21T12:00:00+03:00");
    are(figures(&world).await, ["9000", "9000", "0", "0", "4000"]);
    world.record(&other.number, "4000", NORTH_INN).await;
    world.set("2027-06-22T00:00:00+03:00");
    are(figures(&world).await, ["9000", "0", "0", "9000", "0"]);
    world.end().await;
}

/// Money in a hold when the invoice goes overdue is frozen when the hold ends, by whatever ends it.
#[tokio::test]
async fn money_that_comes_out_of_a_hold_is_frozen_too() {
    let world = granted("50000").await;
    defer(&world, "5000").await.unwrap();
    world.set("2027-06-04T23:59:00+03:00");
    let pacing = world.role("pacing", None);
    let one = hold(&pacing, 1_000).await.unwrap();
    hold(&pacing, 2_000).await.unwrap();
    world.set("2027-06-05T00:01:00+03:00");
    are(figures(&world).await, ["5000", "2000", "0", "0", "5000"]);
    release(&pacing, &one).await;
    are(figures(&world).await, ["5000", "3000", "0", "0", "5000"]);
    world.set("2027-06-05T00:14:00+03:00");
    are(figures(&world).await, ["5000", "5000", "0", "0", "5000"]);
    world.end().await;
}

/// Nobody looked for seven weeks: the invoice is that of May, and was overdue from 16 June.
#[tokio::test]
async fn a_month_that_ended_unseen_is_booked_as_if_somebody_had_looked() {
    let world = granted("10000").await;
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 1_500).await, Ok(1_500));
    world.set("2027-07-10T12:00:00+03:00");
    world.pay("shop", "2000").await;
    are(figures(&world).await, ["2000", "2000", "0", "0", "1500"]);
    let deferred = invoices(&world).await.remove(0);
    assert_eq!(deferred.terms(), pb::InvoiceTerms::Deferred);
    assert_eq!(date(deferred.pay_by), "2027-06-15");
    assert_eq!(deferred.state(), pb::InvoiceState::Overdue);
    // At the end of a month that began above zero nothing is owed.
    world.set("2027-08-01T00:00:00+03:00");
    assert_eq!(invoices(&world).await.len(), 2);
    world.end().await;
}

/// 31 December: the invoice is of the old year, and due on 15 January.
#[tokio::test]
async fn the_last_month_of_a_year_ends_like_any_other() {
    let world = granted("10000").await;
    world.set("2027-12-15T12:00:00+03:00");
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 250).await, Ok(250));
    // A part of a kopeck is asked for as a whole one.
    world.late_charge("shop", 4_000).await;
    world.set("2028-01-01T00:00:00+03:00");
    let invoice = invoices(&world).await.remove(0);
    assert!(invoice.number.starts_with("AS-27-"), "{}", invoice.number);
    assert_eq!(
        (text(&invoice.amount), date(invoice.pay_by)),
        ("250.01".into(), "2028-01-15".into())
    );
    assert_eq!(text(&world.balance("shop").await.posted), "0.006");
    world.end().await;
}

/// not below the debt, off at a positive balance only.
#[tokio::test]
async fn the_threshold_covers_the_debt_and_goes_off_above_zero_only() {
    let world = granted("10000").await;
    threshold(&world, "10000").await.unwrap();
    assert_eq!(spend(&world, 4_000).await, Ok(4_000));
    let below = refused(threshold(&world, "3999.99").await);
    below.is(Code::FailedPrecondition, "THRESHOLD_BELOW_DEBT");
    assert_eq!(below.metadata["minimum"], "4000.00");
    threshold(&world, "4000").await.unwrap();
    assert_eq!(spend(&world, 1).await, Err("INSUFFICIENT_FUNDS".to_owned()));
    // An operator cannot take back what is owed on either.
    refused(grant(&world, "shop", "3000").await)
        .is(Code::FailedPrecondition, "THRESHOLD_BELOW_DEBT");
    world.pay("shop", "4000").await;
    refused(threshold(&world, "0").await).is(Code::FailedPrecondition, "BALANCE_NOT_POSITIVE");
    world.pay("shop", "2000").await;
    threshold(&world, "0").await.unwrap();
    are(figures(&world).await, ["2000", "0", "0", "2000", "0"]);
    // A grant that sinks takes the threshold along.
    threshold(&world, "10000").await.unwrap();
    let left = grant(&world, "shop", "1000").await.unwrap().into_inner().credit_terms.unwrap();
    assert_eq!([left.granted_amount, left.threshold].map(|one| text(&one)), ["1000", "1000"]);
    world.end().await;
}

#[tokio::test]
async fn credit_is_for_direct_advertisers_of_three_countries_and_by_grant() {
    let world = granted("0").await;
    world.create(account("north", pb::AccountKind::Agency, OTHER_INN)).await;
    world.with_client("north", "boots").await;
    let mut abroad = account("abroad", pb::AccountKind::Advertiser, "12345");
    abroad.account.as_mut().unwrap().legal_entity.as_mut().unwrap().country_code = "US".to_owned();
    world.create(abroad).await;
    for (id, why) in [
        ("north", "NOT_A_DIRECT_ADVERTISER"),
        ("boots", "NOT_A_DIRECT_ADVERTISER,LEGAL_ENTITY_REQUIRED"),
        ("abroad", "COUNTRY_NOT_SUPPORTED"),
    ] {
        let refused = refused(grant(&world, id, "1000").await);
        refused.is(Code::FailedPrecondition, "CREDIT_NOT_AVAILABLE");
        assert_eq!(refused.metadata["refusals"], why);
    }
    for refused in [
        refusal(&defer(&world, "2000").await.unwrap_err()),
        refused(threshold(&world, "2000").await),
    ] {
        refused.is(Code::FailedPrecondition, "CREDIT_NOT_AVAILABLE");
        assert_eq!(refused.metadata["refusals"], "CREDIT_NOT_GRANTED");
    }
    // An advertiser cannot grant itself anything, and one with a grant does not join an agency.
    let request = pb::SetCreditTermsRequest {
        name: name("shop"),
        granted_amount: rub("1"),
        waive_record: false,
        request_id: fresh(),
    };
    let own = world.role("advertiser", Some("shop")).credit().set_credit_terms(request).await;
    refused(own).is(Code::PermissionDenied, "PERMISSION_DENIED");
    grant(&world, "shop", "2000").await.unwrap();
    let request =
        pb::AttachClientRequest { name: name("shop"), agency: name("north"), request_id: fresh() };
    let refused = refused(world.operator().accounts().attach_client(request).await);
    assert_eq!(refused.metadata["refusals"], "CREDIT_IN_USE");
    world.end().await;
}

/// What is credited cannot be cancelled, and free funds repay it to the kopeck or not at all.
#[tokio::test]
async fn a_deferred_invoice_is_repaid_exactly_also_out_of_free_funds() {
    let world = granted("10000").await;
    let invoice = defer(&world, "5000").await.unwrap();
    let request = pb::CancelInvoiceRequest { name: invoice.name.clone(), request_id: fresh() };
    let cancelled = world.operator().invoices().cancel_invoice(request).await;
    refused(cancelled).is(Code::FailedPrecondition, "INVOICE_DEFERRED");
    let allocate = async |payment: pb::Payment| {
        let request = pb::AllocatePaymentRequest {
            name: payment.name,
            account: name("shop"),
            invoice: invoice.name.clone(),
            request_id: fresh(),
        };
        world.operator().payments().allocate_payment(request).await
    };
    let less = world.record("for ads", "4999", OTHER_INN).await;
    let refused = refused(allocate(less).await);
    refused.is(Code::FailedPrecondition, "AMOUNT_MISMATCH");
    let exact = world.record("for ads", "5000", OTHER_INN).await;
    let paid = allocate(exact).await.unwrap().into_inner().payment.unwrap();
    assert_eq!((paid.state(), paid.invoice), (pb::PaymentState::Allocated, invoice.name.clone()));
    are(figures(&world).await, ["5000", "0", "0", "5000", "0"]);
    world.end().await;
}

#[tokio::test]
async fn a_repeat_of_a_change_gets_the_first_answer() {
    let world = granted("10000").await;
    let request = pb::SetOverdraftThresholdRequest {
        name: name("shop"),
        threshold: rub("10000"),
        request_id: fresh(),
    };
    let mut credit = world.operator().credit();
    let first = credit.set_overdraft_threshold(request.clone()).await.unwrap().into_inner();
    world.pay("shop", "2000").await;
    threshold(&world, "0").await.unwrap();
    let again = credit.set_overdraft_threshold(request.clone()).await.unwrap().into_inner();
    assert_eq!((again.replayed, &again.credit_terms), (true, &first.credit_terms));
    assert_eq!(text(&terms(&world).await.threshold), "0");
    let other = pb::SetOverdraftThresholdRequest { threshold: rub("1"), ..request };
    refused(credit.set_overdraft_threshold(other).await)
        .is(Code::AlreadyExists, "REQUEST_ID_REUSED");
    let deferred = pb::CreateInvoiceRequest {
        parent: name("shop"),
        amount: rub("2000"),
        terms: pb::InvoiceTerms::Deferred.into(),
        request_id: fresh(),
    };
    let mut invoices = world.operator().invoices();
    let first = invoices.create_invoice(deferred.clone()).await.unwrap().into_inner();
    let again = invoices.create_invoice(deferred).await.unwrap().into_inner();
    assert_eq!((again.replayed, again.invoice), (true, first.invoice));
    assert_eq!(world.available("shop").await, "4000", "credited once");
    world.end().await;
}
