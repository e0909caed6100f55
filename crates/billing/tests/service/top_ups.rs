//! Auto top-ups as their callers see them (R-110..R-119).

use std::{slice, time::Duration};

use adspend_billing::config::Config;
use adspend_common::{config::HumanDuration, proto::adspend::billing::v1 as pb};
use pb::{
    AutoTopUpDisabledReason as Off, AutoTopUpOutcome as Outcome, AutoTopUpPeriod as Period,
    AutoTopUpReason as Reason, AutoTopUpState as State,
};
use tonic::Code;

use crate::support::*;

/// Jobs on, as in service; those that this is not about stay out of the way.
pub(crate) fn firing(config: &mut Config) {
    config.jobs.enabled = true;
    config.jobs.top_up_every = HumanDuration::from_millis(100);
    config.jobs.release_holds_every = HumanDuration::from_secs(3_600);
}

/// North with this much money, and its client shop with 1 000 of its own.
pub(crate) async fn funded(world: &World, agency: &str) {
    world.with_agency("north").await;
    world.with_client("north", "shop").await;
    world.pay("north", "1000000").await;
    world.transfer("north", "shop", "1000").await;
    let left = 999_000 - agency.parse::<i64>().unwrap();
    if left > 0 {
        world.with_client("north", "purse").await;
        world.transfer("north", "purse", &left.to_string()).await;
    }
}

pub(crate) fn rule(
    amount: &str,
    threshold: &str,
    limit: &str,
    period: Period,
) -> pb::SetAutoTopUpRequest {
    pb::SetAutoTopUpRequest {
        parent: name("shop"),
        amount: rub(amount),
        threshold: rub(threshold),
        limit: rub(limit),
        period: period.into(),
        request_id: fresh(),
    }
}

impl World {
    pub(crate) async fn set_top_up(&self, request: pb::SetAutoTopUpRequest) -> pb::AutoTopUp {
        let set = self.operator().top_ups().set_auto_top_up(request).await.unwrap();
        set.into_inner().auto_top_up.unwrap()
    }

    pub(crate) async fn top_up(&self) -> pb::AutoTopUp {
        let request = pb::GetAutoTopUpRequest { parent: name("shop") };
        let found = self.operator().top_ups().get_auto_top_up(request).await.unwrap();
        found.into_inner().auto_top_up.unwrap()
    }

    /// The history, oldest first: what was done, why not, and the sum of the period.
    pub(crate) async fn runs(&self) -> Vec<(Outcome, Reason, String)> {
        let request = pb::ListAutoTopUpRunsRequest { parent: name("shop"), ..Default::default() };
        let listed = self.operator().top_ups().list_auto_top_up_runs(request).await.unwrap();
        let runs = listed.into_inner().auto_top_up_runs;
        runs.iter().rev().map(|run| (run.outcome(), run.reason(), text(&run.used))).collect()
    }

    /// Waits for the history to have so many rows, at most a minute.
    pub(crate) async fn until_runs(&self, count: usize) -> Vec<(Outcome, Reason, String)> {
        for _ in 0..1_200 {
            let runs = self.runs().await;
            if runs.len() >= count {
                assert_eq!(runs.len(), count, "{runs:?}");
                return runs;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not {count} runs within a minute: {:?}", self.runs().await);
    }

    /// The client's free money goes down by this much, spent without a hold.
    pub(crate) async fn spend(&self, amount: &str) {
        let micros = amount.parse::<adspend_common::money::Money>().unwrap().micros();
        self.late_charge("shop", micros).await;
    }
}

pub(crate) fn transferred(used: &str) -> (Outcome, Reason, String) {
    (Outcome::Transferred, Reason::Unspecified, used.to_owned())
}

pub(crate) fn skipped(why: Reason, used: &str) -> (Outcome, Reason, String) {
    (Outcome::Skipped, why, used.to_owned())
}

/// R-111, worked: 500 at 0, 2 000 a day. A balance of 10 does not fire; four times a day at 0; the fifth is
/// skipped, told once, and goes on at midnight in Moscow.
#[tokio::test]
async fn five_hundred_at_zero_four_times_a_day() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    let set = world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    assert_eq!((set.state(), set.disabled_reason()), (State::Enabled, Off::Unspecified));
    assert_eq!(set.name, "accounts/shop/autoTopUp");

    world.spend("990").await;
    assert_eq!(world.available("shop").await, "10");
    let asked_again = world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    assert_eq!(text(&asked_again.used), "0", "a balance of 10 does not fire");
    assert_eq!(world.runs().await, []);

    world.spend("10").await;
    assert_eq!(world.until_runs(1).await, [transferred("500")]);
    for (count, used) in [(2, "1000"), (3, "1500"), (4, "2000")] {
        world.spend("500").await;
        assert_eq!(world.until_runs(count).await[count - 1], transferred(used));
        assert_eq!(world.available("shop").await, "500");
    }
    world.spend("500").await;
    assert_eq!(world.until_runs(5).await[4], skipped(Reason::LimitUsedUp, "2000"));
    let top_up = world.top_up().await;
    assert_eq!((top_up.state(), top_up.waits_for()), (State::Enabled, Reason::LimitUsedUp));
    world.spend("1").await;
    assert_eq!(world.available("shop").await, "-1");
    assert_eq!(world.runs().await.len(), 5, "told once a period");
    assert_eq!(world.available("north").await, "98000");

    world.set("2026-11-21T00:00:00+03:00");
    assert_eq!(world.until_runs(6).await[5], transferred("500"), "the new day's first");
    let top_up = world.top_up().await;
    assert_eq!(text(&top_up.used), "500");
    assert_eq!(top_up.period_start_date.unwrap().day, 21);
    assert_eq!(top_up.waits_for(), Reason::Unspecified);
    assert_eq!(world.available("shop").await, "499");
    world.end().await;
}

/// 600 within 2 000 is three times, never three and a third; and R-115: at once, as often as it takes.
#[tokio::test]
async fn it_fires_again_while_there_is_too_little_and_never_a_part() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.spend("6000").await;
    let set = world.set_top_up(rule("600", "0", "2000", Period::Day)).await;
    assert_eq!((set.state(), set.waits_for()), (State::Enabled, Reason::LimitUsedUp));
    let told = [
        transferred("600"),
        transferred("1200"),
        transferred("1800"),
        skipped(Reason::LimitUsedUp, "1800"),
    ];
    assert_eq!(world.runs().await, told, "in the transaction of the call");
    assert_eq!(world.available("shop").await, "-3200");

    // a higher limit fires at once, and what was used is kept.
    let set = world.set_top_up(rule("600", "0", "3000", Period::Day)).await;
    assert_eq!(text(&set.used), "3000");
    assert_eq!(world.available("shop").await, "-2000");
    // A month has used what its days have.
    let set = world.set_top_up(rule("600", "0", "3000", Period::Month)).await;
    assert_eq!((text(&set.used), set.waits_for()), ("3000".to_owned(), Reason::LimitUsedUp));
    assert_eq!(set.period_start_date.unwrap().day, 1);
    world.end().await;
}

/// 499 are not 500: nothing is transferred, it is off, and on again only by hand.
#[tokio::test]
async fn an_agency_short_of_money_switches_it_off() {
    let world = World::with(firing).await;
    funded(&world, "499").await;
    world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    world.spend("1000").await;
    let off = (Outcome::SwitchedOff, Reason::InsufficientFunds, "0".to_owned());
    assert_eq!(world.until_runs(1).await, slice::from_ref(&off));
    let top_up = world.top_up().await;
    assert_eq!(
        (top_up.state(), top_up.disabled_reason()),
        (State::Disabled, Off::InsufficientFunds)
    );
    assert_eq!(top_up.disable_time, stamp(START));
    assert_eq!(world.available("north").await, "499", "no part of it");

    world.pay("north", "5000").await;
    world.spend("5").await;
    assert_eq!(world.runs().await, slice::from_ref(&off), "money alone does not switch it on");
    assert_eq!(world.notices("auto_top_up_off").await, 1, "exactly one e-mail");
    let set = world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    assert_eq!((set.state(), text(&set.used)), (State::Enabled, "500".to_owned()));
    assert_eq!(world.available("shop").await, "495");
    world.end().await;
}

/// Every way down is seen: a transfer back, a hold, a report beyond a hold, a charge.
#[tokio::test]
async fn every_way_down_fires() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "100", "100000", Period::Week)).await;
    world.transfer("shop", "north", "900").await;
    assert_eq!(world.until_runs(1).await, [transferred("500")]);
    assert_eq!(world.available("shop").await, "600");

    let item = pb::OpenHoldItem {
        account: name("shop"),
        amount_micros: 550_000_000,
        min_amount_micros: 1,
        ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
        request_id: fresh(),
    };
    let request = pb::OpenHoldsRequest { requests: vec![item] };
    let opened = world.role("pacing", None).holds().open_holds(request).await.unwrap();
    let Some(pb::hold_result::Outcome::Hold(hold)) = opened.into_inner().results.remove(0).outcome
    else {
        panic!("no hold");
    };
    assert_eq!(world.until_runs(2).await[1], transferred("1000"));
    assert_eq!(world.available("shop").await, "550", "held money is not free");

    let item = pb::SettleHoldItem {
        hold: hold.name,
        sequence: 1,
        spends: vec![pb::CampaignSpend {
            campaign: "campaigns/spring".to_owned(),
            cumulative_spent_micros: 1_000_000_000,
        }],
    };
    let request = pb::SettleHoldsRequest { requests: vec![item] };
    world.role("pacing", None).holds().settle_holds(request).await.unwrap();
    assert_eq!(world.until_runs(3).await[2], transferred("1500"));
    assert_eq!(world.available("shop").await, "600", "450 were beyond the hold");

    world.spend("500").await;
    assert_eq!(world.until_runs(4).await[3], transferred("2000"));
    world.end().await;
}

/// an overdue promise blocks it; repaying lets it go on.
#[tokio::test]
async fn an_overdue_promise_blocks_it_until_it_is_repaid() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    let promise = world.promise("north", "3000").await.unwrap();
    world.set_top_up(rule("500", "0", "2000", Period::Month)).await;
    world.set("2026-11-25T23:59:59.999+03:00");
    world.spend("1000").await;
    assert_eq!(world.until_runs(1).await, [transferred("500")], "not due yet");

    world.set("2026-11-26T00:00:00+03:00");
    world.spend("500").await;
    let blocked = skipped(Reason::PromiseOverdue, "500");
    assert_eq!(world.until_runs(2).await[1], blocked);
    let top_up = world.top_up().await;
    assert_eq!((top_up.state(), top_up.waits_for()), (State::Enabled, Reason::PromiseOverdue));

    // A part of the debt leaves it blocked; a payment of all of it does not.
    let payment = world.pay("north", "2000").await;
    assert_eq!(text(&payment.collected), "2000");
    world.spend("1").await;
    assert_eq!(world.runs().await.len(), 2);
    let request =
        pb::RepayPromisedPaymentRequest { name: promise.name.clone(), request_id: fresh() };
    world.operator().promises().repay_promised_payment(request).await.unwrap();
    assert_eq!(world.until_runs(3).await[2], transferred("1000"));
    assert_eq!(world.available("shop").await, "499");
    world.end().await;
}

#[tokio::test]
async fn a_blocked_account_is_waited_for() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "0", "5000", Period::Day)).await;
    for (count, used, blocked) in [(2, "500", "shop"), (3, "1000", "north")] {
        let block = pb::BlockAccountRequest { name: name(blocked), request_id: fresh() };
        world.operator().accounts().block_account(block).await.unwrap();
        let there = world.available("shop").await;
        world.spend(&there).await;
        // The second skip of the day for the same cause is not told again.
        for _ in 0..1_200 {
            if world.top_up().await.waits_for() == Reason::AccountBlocked {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(world.runs().await.len(), count - 1);
        let unblock = pb::UnblockAccountRequest { name: name(blocked), request_id: fresh() };
        world.operator().accounts().unblock_account(unblock).await.unwrap();
        assert_eq!(world.until_runs(count).await[count - 1], transferred(used));
    }
    world.end().await;
}

/// a transfer by hand does not count; and one that lifts the client out of need in a period whose limit
/// is used up leaves the next period with its own first crossing.
#[tokio::test]
async fn the_limit_counts_auto_top_ups_only() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "0", "500", Period::Day)).await;
    world.spend("1000").await;
    world.until_runs(1).await;
    world.spend("500").await;
    world.until_runs(2).await;
    world.transfer("north", "shop", "10000").await;
    world.set("2026-11-21T00:00:00+03:00");
    world.spend("9999").await;
    // The job has looked at the new day, whether before or after the spend.
    assert_eq!(world.available("shop").await, "1");
    world.spend("1").await;
    assert_eq!(world.until_runs(3).await[2], transferred("500"));
    world.end().await;
}

/// a week ends on Monday, a month on the first, a year with December; all in Moscow.
#[tokio::test]
async fn limits_come_back_with_the_week_and_the_month() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.set_top_up(rule("500", "0", "500", Period::Week)).await;
    world.spend("1000").await;
    world.until_runs(1).await;
    world.spend("500").await;
    world.until_runs(2).await;
    world.set("2026-11-22T23:59:59.999999+03:00");
    world.spend("1").await;
    assert_eq!(world.top_up().await.waits_for(), Reason::LimitUsedUp, "Sunday, the last moment");
    world.set("2026-11-23T00:00:00+03:00");
    assert_eq!(world.until_runs(3).await[2], transferred("500"), "Monday, the first moment");

    world.set("2026-12-31T23:59:59.999999+03:00");
    world.set_top_up(rule("500", "0", "500", Period::Month)).await;
    world.spend("499").await;
    world.until_runs(4).await;
    world.spend("500").await;
    assert_eq!(world.until_runs(5).await[4], skipped(Reason::LimitUsedUp, "500"));
    world.set("2027-01-01T00:00:00+03:00");
    assert_eq!(world.until_runs(6).await[5], transferred("500"));
    let start = world.top_up().await.period_start_date.unwrap();
    assert_eq!((start.year, start.month, start.day), (2027, 1, 1));
    world.end().await;
}

#[tokio::test]
async fn it_can_be_switched_off_and_a_client_that_leaves_takes_none_along() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    let north = world.agency("north");
    let off = || pb::DisableAutoTopUpRequest { parent: name("shop"), request_id: fresh() };
    refused(north.top_ups().disable_auto_top_up(off()).await).is(Code::NotFound, "NOT_FOUND");
    world.set_top_up(rule("500", "0", "2000", Period::Day)).await;
    let disabled = north.top_ups().disable_auto_top_up(off()).await.unwrap().into_inner();
    assert_eq!(disabled.auto_top_up.unwrap().disabled_reason(), Off::Requested);
    refused(north.top_ups().disable_auto_top_up(off()).await)
        .is(Code::FailedPrecondition, "ALREADY_IN_STATE");
    world.spend("1000").await;
    assert_eq!(world.runs().await, []);

    // On again, with its limit used up: the client may leave with nothing on it.
    world.set_top_up(rule("500", "0", "500", Period::Day)).await;
    world.spend("500").await;
    world.until_runs(2).await;
    let detach = pb::DetachClientRequest { name: name("shop"), request_id: fresh() };
    world.operator().accounts().detach_client(detach).await.unwrap();
    let get = pb::GetAutoTopUpRequest { parent: name("shop") };
    refused(world.operator().top_ups().get_auto_top_up(get).await).is(Code::NotFound, "NOT_FOUND");
    refused(
        world.operator().top_ups().set_auto_top_up(rule("500", "0", "2000", Period::Day)).await,
    )
    .is(Code::FailedPrecondition, "NOT_AN_AGENCY_CLIENT");

    let request =
        pb::AttachClientRequest { name: name("shop"), agency: name("north"), request_id: fresh() };
    world.operator().accounts().attach_client(request).await.unwrap();
    let top_up = world.top_up().await;
    assert_eq!((top_up.state(), top_up.disabled_reason()), (State::Disabled, Off::Detached));
    world.spend("5").await;
    assert_eq!(world.runs().await.len(), 2, "who comes back is not topped up");
    world.end().await;
}

/// what is wrong is told all at once.
#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let world = World::start().await;
    funded(&world, "100000").await;
    let operator = world.operator();
    let good = || rule("500", "0", "2000", Period::Day);
    let wrong =
        pb::SetAutoTopUpRequest { amount: rub("0"), threshold: rub("0.001"), period: 9, ..good() };
    let told = refused(operator.top_ups().set_auto_top_up(wrong).await);
    told.is(Code::InvalidArgument, "INVALID_ARGUMENT");
    assert_eq!(told.fields, ["amount", "threshold.nanos", "period"]);
    let small = pb::SetAutoTopUpRequest { limit: rub("499.99"), ..good() };
    assert_eq!(refused(operator.top_ups().set_auto_top_up(small).await).fields, ["limit"]);
    let mixed = pb::SetAutoTopUpRequest { limit: money("2000", "USD"), ..good() };
    let told = refused(operator.top_ups().set_auto_top_up(mixed).await);
    assert_eq!(told.fields, ["limit.currency_code"]);
    let dollars = pb::SetAutoTopUpRequest {
        amount: money("500", "USD"),
        threshold: money("0", "USD"),
        limit: money("2000", "USD"),
        ..good()
    };
    refused(operator.top_ups().set_auto_top_up(dollars).await)
        .is(Code::FailedPrecondition, "CURRENCY_MISMATCH");
    let agency = pb::SetAutoTopUpRequest { parent: name("north"), ..good() };
    refused(operator.top_ups().set_auto_top_up(agency).await)
        .is(Code::FailedPrecondition, "NOT_AN_AGENCY_CLIENT");
    // Another agency sees nothing, and a client does nothing.
    world.create(account("south", pb::AccountKind::Agency, OTHER_INN)).await;
    refused(world.agency("south").top_ups().set_auto_top_up(good()).await)
        .is(Code::NotFound, "NOT_FOUND");
    refused(world.role("advertiser", Some("shop")).top_ups().set_auto_top_up(good()).await)
        .is(Code::PermissionDenied, "PERMISSION_DENIED");
    world.end().await;
}

#[tokio::test]
async fn the_history_is_paged_and_a_transfer_stands_in_both_lists() {
    let world = World::with(firing).await;
    funded(&world, "100000").await;
    world.spend("3000").await;
    world.set_top_up(rule("500", "0", "5000", Period::Day)).await;
    let mut request = pb::ListAutoTopUpRunsRequest {
        parent: name("shop"),
        page_size: 2,
        page_token: String::new(),
    };
    let mut sequences = Vec::new();
    loop {
        let page = world.agency("north").top_ups().list_auto_top_up_runs(request.clone()).await;
        let page = page.unwrap().into_inner();
        sequences.extend(page.auto_top_up_runs.iter().map(|run| run.sequence));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(sequences, [5, 4, 3, 2, 1], "five take -2 000 above 0");
    for (account, shown, other) in [
        ("shop", pb::TransactionType::TransferIn, "accounts/north"),
        ("north", pb::TransactionType::TransferOut, "accounts/shop"),
    ] {
        let request = pb::ListTransactionsRequest { parent: name(account), ..Default::default() };
        let listed = world.operator().transactions().list_transactions(request).await.unwrap();
        let row = listed.into_inner().transactions.remove(0);
        assert_eq!(row.r#type(), shown);
        assert_eq!(
            (row.object.as_str(), row.counterparty.as_str()),
            ("accounts/shop/autoTopUp", other)
        );
    }
    world.end().await;
}
