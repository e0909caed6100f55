//! Whether an account's record is enough for a grant, out of its history in the ledger.

use adspend_billing::config::{Config, Policy};
use adspend_common::proto::adspend::billing::v1 as pb;
use tonic::Code;

use crate::{
    credit::{Answer, date, defer, granted, spend},
    support::*,
};

/// What is shown of an account's eligibility.
async fn eligibility(world: &World, account: &str) -> pb::CreditEligibility {
    let request = pb::GetCreditTermsRequest { name: name(account) };
    let answer = world.operator().credit().get_credit_terms(request).await.unwrap();
    answer.into_inner().eligibility.unwrap()
}

async fn reasons(world: &World, account: &str) -> Vec<String> {
    let shown = eligibility(world, account).await;
    assert_eq!(shown.eligible, shown.refusals.is_empty());
    shown.refusals
}

/// A grant by the account's record, or knowingly without it.
async fn grant(
    world: &World,
    account: &str,
    (amount, currency): (&str, &str),
    waive_record: bool,
) -> Answer<pb::SetCreditTermsResponse> {
    let request = pb::SetCreditTermsRequest {
        name: name(account),
        granted_amount: money(amount, currency),
        waive_record,
        request_id: fresh(),
    };
    world.operator().credit().set_credit_terms(request).await
}

fn older_terms(config: &mut Config) {
    config.credit.eligibility = Policy::MonthlyAverage;
}

async fn charge(world: &World, account: &str, rubles: i64) {
    world.late_charge(account, rubles * 1_000_000).await;
}

/// R-92, the worked figures of the older terms: 13 000, 10 000 and 9 000 are enough, 7 000 next is not.
#[tokio::test]
async fn by_the_older_terms_the_average_of_three_months_counts() {
    let world = World::at("2027-01-01T00:00:00+03:00", older_terms).await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    world.pay("shop", "5000").await;
    // January: 5 000 out of holds, the rest without one, and the last rouble in its last microsecond.
    assert_eq!(spend(&world, 5_000).await, Ok(5_000));
    charge(&world, "shop", 7_999).await;
    world.set("2027-01-31T23:59:59.999999+03:00");
    charge(&world, "shop", 1).await;
    world.set("2027-02-01T00:00:00+03:00");
    charge(&world, "shop", 10_000).await;
    world.set("2027-03-31T23:00:00+03:00");
    charge(&world, "shop", 9_000).await;
    assert_eq!(reasons(&world, "shop").await, ["PLACEMENT_TOO_SHORT", "SPEND_TOO_LOW"]);

    world.set("2027-04-01T00:00:00+03:00");
    let shown = eligibility(&world, "shop").await;
    assert!(shown.eligible, "{shown:?}");
    assert_eq!(text(&shown.spend), "10666.666666", "32 000 in three months");
    assert_eq!(text(&shown.required_spend), "10000");
    let days = [shown.placement_start_date, shown.required_placement_date];
    assert_eq!(days.map(date), ["2027-01-01", "2027-04-01"]);
    let days = [shown.spend_start_date, shown.spend_end_date];
    assert_eq!(days.map(date), ["2027-01-01", "2027-03-31"]);
    grant(&world, "shop", ("50000", "RUB"), false).await.unwrap();

    // What is spent in April counts from May on.
    charge(&world, "shop", 7_000).await;
    assert!(eligibility(&world, "shop").await.eligible);
    world.set("2027-05-01T00:00:00+03:00");
    let shown = eligibility(&world, "shop").await;
    assert_eq!(shown.refusals, ["SPEND_TOO_LOW"]);
    assert_eq!(text(&shown.spend), "8666.666666", "10 000, 9 000 and 7 000");
    let refused = refused(grant(&world, "shop", ("60000", "RUB"), false).await);
    refused.is(Code::FailedPrecondition, "CREDIT_NOT_AVAILABLE");
    assert_eq!(refused.metadata["refusals"], "SPEND_TOO_LOW");
    world.end().await;
}

/// R-92 in Russia: 30 days of placement, and 2 000 spent in the last 30; what goes back for clicks is not spent.
#[tokio::test]
async fn thirty_days_and_two_thousand_are_enough() {
    let world = World::at("2027-05-20T12:00:00+03:00", |_| {}).await;
    world.create(account("shop", pb::AccountKind::Advertiser, NORTH_INN)).await;
    let none = eligibility(&world, "shop").await;
    assert_eq!(none.refusals, ["PLACEMENT_TOO_SHORT", "SPEND_TOO_LOW"]);
    assert_eq!((none.placement_start_date, none.required_placement_date), (None, None));
    assert_eq!([none.spend, none.required_spend].map(|one| text(&one)), ["0", "2000"]);

    world.pay("shop", "10000").await;
    assert_eq!(spend(&world, 1_500).await, Ok(1_500));
    world.late_charge("shop", 499_990_000).await;
    world.set("2027-06-18T23:59:59.999999+03:00");
    let shown = eligibility(&world, "shop").await;
    assert_eq!(shown.refusals, ["PLACEMENT_TOO_SHORT", "SPEND_TOO_LOW"]);
    assert_eq!(date(shown.required_placement_date), "2027-06-19");
    world.set("2027-06-19T00:00:00+03:00");
    assert_eq!(reasons(&world, "shop").await, ["SPEND_TOO_LOW"]);
    world.late_charge("shop", 10_000).await;
    let shown = eligibility(&world, "shop").await;
    assert!(shown.eligible, "{shown:?}");
    let days = [shown.spend_start_date, shown.spend_end_date];
    assert_eq!(
        (text(&shown.spend), days.map(date)),
        ("2000".into(), ["2027-05-20", "2027-06-19"].map(str::to_owned))
    );
    grant(&world, "shop", ("1000", "RUB"), false).await.unwrap();

    // a kopeck of it was not a click.
    let credit = pb::CreditInvalidClicksRequest {
        account: name("shop"),
        campaign: "campaigns/spring".to_owned(),
        amount_micros: 10_000,
        reason: "robots".to_owned(),
        request_id: fresh(),
    };
    world.operator().holds().credit_invalid_clicks(credit).await.unwrap();
    assert_eq!(reasons(&world, "shop").await, ["SPEND_TOO_LOW"]);
    let more = refused(grant(&world, "shop", ("1000.01", "RUB"), false).await);
    more.is(Code::FailedPrecondition, "CREDIT_NOT_AVAILABLE");
    assert_eq!(more.metadata["refusals"], "SPEND_TOO_LOW");
    // Less, or the same, needs no record; more is the operator's to give, knowingly.
    grant(&world, "shop", ("1000", "RUB"), false).await.unwrap();
    grant(&world, "shop", ("900", "RUB"), false).await.unwrap();
    grant(&world, "shop", ("5000", "RUB"), true).await.unwrap();

    // A day later the first day is out of the thirty.
    world.set("2027-06-20T00:00:00+03:00");
    assert_eq!(text(&eligibility(&world, "shop").await.spend), "0", "0.01 and its return");
    world.end().await;
}

/// six months, and 44 800 tenge or 360 Belarusian roubles in them.
#[tokio::test]
async fn half_a_year_counts_in_kazakhstan_and_belarus() {
    let world = World::at("2026-08-31T12:00:00+03:00", |_| {}).await;
    let both = [("kz", "KZ", "KZT", 44_800), ("by", "BY", "BYN", 360)];
    for (id, country, currency, least) in both {
        let mut new = account(id, pb::AccountKind::Advertiser, "123456789012");
        let fields = new.account.as_mut().unwrap();
        fields.currency_code = currency.to_owned();
        fields.legal_entity.as_mut().unwrap().country_code = country.to_owned();
        world.create(new).await;
        charge(&world, id, least - 1).await;
    }
    // 31 August and six months are the last day of February.
    world.set("2027-02-27T23:59:59.999999+03:00");
    for (id, ..) in both {
        charge(&world, id, 1).await;
        assert_eq!(reasons(&world, id).await, ["PLACEMENT_TOO_SHORT"], "{id}");
    }
    world.set("2027-02-28T00:00:00+03:00");
    for (id, _, currency, least) in both {
        let shown = eligibility(&world, id).await;
        assert!(shown.eligible, "{shown:?}");
        assert_eq!(text(&shown.spend), least.to_string());
        assert_eq!(shown.spend.unwrap().currency_code, currency);
        grant(&world, id, ("100", currency), false).await.unwrap();
    }
    // August is more than six months ago.
    world.set("2027-03-01T00:00:00+03:00");
    for (id, ..) in both {
        assert_eq!(reasons(&world, id).await, ["SPEND_TOO_LOW"], "{id}");
    }
    world.end().await;
}

/// whom nobody may grant anything, whatever was spent and whatever the operator knows.
#[tokio::test]
async fn who_is_excluded_gets_nothing_knowingly_either() {
    let world = granted("50000").await;
    world.create(account("north", pb::AccountKind::Agency, OTHER_INN)).await;
    world.with_client("north", "boots").await;
    let mut dollars = account("dollars", pb::AccountKind::Advertiser, OTHER_INN);
    dollars.account.as_mut().unwrap().currency_code = "USD".to_owned();
    world.create(dollars).await;
    let mut abroad = account("abroad", pb::AccountKind::Advertiser, "12345");
    abroad.account.as_mut().unwrap().legal_entity.as_mut().unwrap().country_code = "US".to_owned();
    world.create(abroad).await;
    for (id, currency, why) in [
        ("north", "RUB", "NOT_A_DIRECT_ADVERTISER"),
        ("boots", "RUB", "NOT_A_DIRECT_ADVERTISER,LEGAL_ENTITY_REQUIRED"),
        ("abroad", "RUB", "COUNTRY_NOT_SUPPORTED"),
        ("dollars", "USD", "CURRENCY_NOT_SUPPORTED"),
    ] {
        for waive in [false, true] {
            let refused = refused(grant(&world, id, ("1000", currency), waive).await);
            refused.is(Code::FailedPrecondition, "CREDIT_NOT_AVAILABLE");
            assert_eq!(refused.metadata["refusals"], why);
        }
        let shown = eligibility(&world, id).await;
        assert_eq!((shown.refusals.join(",").as_str(), shown.required_spend), (why, None));
    }

    // Overdue debt: no more, but less at any time.
    let invoice = defer(&world, "5000").await.unwrap();
    world.set("2027-06-04T23:59:59.999999+03:00");
    grant(&world, "shop", ("50001", "RUB"), true).await.unwrap();
    world.set("2027-06-05T00:00:00+03:00");
    let shown = reasons(&world, "shop").await;
    assert_eq!(shown, ["DEFERRED_OVERDUE", "PLACEMENT_TOO_SHORT", "SPEND_TOO_LOW"]);
    refused(grant(&world, "shop", ("50002", "RUB"), true).await)
        .is(Code::FailedPrecondition, "DEFERRED_OVERDUE");
    grant(&world, "shop", ("40000", "RUB"), true).await.unwrap();
    let repay = pb::RepayDeferredInvoiceRequest {
        name: invoice.name,
        amount: rub("5000"),
        request_id: fresh(),
    };
    world.operator().credit().repay_deferred_invoice(repay).await.unwrap();
    grant(&world, "shop", ("50002", "RUB"), true).await.unwrap();

    // An owner sees how it stands; a stranger sees nothing.
    let request = pb::GetCreditTermsRequest { name: name("shop") };
    let own = world.role("advertiser", Some("shop")).credit();
    let shown = own.clone().get_credit_terms(request.clone()).await.unwrap().into_inner();
    assert_eq!(shown.eligibility.unwrap().refusals, ["PLACEMENT_TOO_SHORT", "SPEND_TOO_LOW"]);
    let stranger = world.role("advertiser", Some("abroad")).credit();
    refused(stranger.clone().get_credit_terms(request).await).is(Code::NotFound, "NOT_FOUND");
    world.end().await;
}
