//! BudgetService.

use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::Money;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{create, daily, figure, limits, roubles, weekly};
use crate::calendar::changes;
use crate::calendar::policy::Level;
use crate::tests_support::{TestApp, at, from_tenant, reason};

const SHOP: &str = "accounts/shop";
const SPRING: &str = "campaigns/spring";

async fn get(app: &TestApp, parent: &str) -> pb::Budget {
    let request = pb::GetBudgetRequest { parent: parent.to_owned() };
    app.budgets().get_budget(request).await.unwrap().into_inner().budget.unwrap()
}

async fn preview(app: &TestApp, request: pb::SetBudgetRequest) -> Result<pb::Budget, Status> {
    let pb::SetBudgetRequest { parent, amount, unit, mode, request_id: _ } = request;
    let request = pb::PreviewBudgetChangeRequest { parent, amount, unit, mode };
    let response = app.budgets().preview_budget_change(request).await?;
    Ok(response.into_inner().budget.unwrap())
}

fn remove(parent: &str, request_id: &str) -> pb::RemoveBudgetRequest {
    pb::RemoveBudgetRequest { parent: parent.to_owned(), request_id: request_id.to_owned() }
}

async fn changes(
    app: &TestApp,
    parent: &str,
    size: i32,
    token: &str,
) -> pb::ListBudgetChangesResponse {
    let request = pb::ListBudgetChangesRequest {
        parent: parent.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
    };
    app.budgets().list_budget_changes(request).await.unwrap().into_inner()
}

/// Puts spend on a day of June 2025, as grants and charges would.
async fn spend(app: &TestApp, entity: &str, day: &str, reserved: i64, charged: i64) {
    let (table, level) =
        if entity.starts_with("accounts/") { ("account", 2) } else { ("campaign", 1) };
    let name = entity.split_once('/').unwrap().1;
    let sql = format!(
        "INSERT INTO headroom (account_no, level, entity_no, day, reserved_micros, charged_micros)
         SELECT account_no, {level}, {table}_no, '{day}', {reserved}000000, {charged}000000
         FROM {table} WHERE name = '{name}'
         ON CONFLICT ON CONSTRAINT headroom_pkey DO UPDATE
         SET reserved_micros = EXCLUDED.reserved_micros, charged_micros = EXCLUDED.charged_micros"
    );
    app.services.db.get().await.unwrap().batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn an_entity_without_a_budget_has_no_limit() {
    let app = TestApp::start().await;
    let budget = get(&app, SHOP).await;
    assert_eq!(budget.name, "accounts/shop/budget");
    assert_eq!((budget.in_force, budget.pending, budget.warnings.len()), (None, None, 0));
    assert_eq!(budget.mode, i32::from(pb::BudgetMode::Traffic));
    assert_eq!((budget.changes_today, budget.changes_left), (0, 3));
    let bounds: Vec<i32> = budget.ceilings.iter().map(|ceiling| ceiling.bound).collect();
    assert_eq!(bounds, [i32::from(pb::CeilingBound::None); 5], "Wednesday to Sunday");
}

/// The worked figures of R-142, over the wire.
#[tokio::test]
async fn a_decrease_waits_for_the_next_day() {
    let app = TestApp::start().await;
    app.clock.set(at("2025-06-16T09:00:00+03:00"));
    let set = app.set(daily(SHOP, 15_000)).await.unwrap();
    assert_eq!(figure(set.in_force.as_ref()), Some((15_000, 16)));
    assert_eq!(limits(&set), [19_500; 7], "a Monday: if nothing is spent before");
    app.clock.set(at("2025-06-18T09:00:00+03:00"));
    let lower = app.set(daily(SHOP, 10_000)).await.unwrap();
    assert_eq!(figure(lower.in_force.as_ref()), Some((15_000, 16)));
    assert_eq!(figure(lower.pending.as_ref()), Some((10_000, 19)));
    assert_eq!(limits(&lower), [19_500, 13_000, 13_000, 13_000, 13_000]);
    assert_eq!(get(&app, SHOP).await, lower);
    app.clock.set(at("2025-06-19T00:00:00+03:00"));
    let thursday = get(&app, SHOP).await;
    assert_eq!(figure(thursday.in_force.as_ref()), Some((10_000, 19)));
    assert_eq!((thursday.pending.clone(), thursday.changes_left), (None, 3));
    assert_eq!(limits(&thursday), [13_000; 4]);
}

#[tokio::test]
async fn ceilings_count_what_is_charged_and_what_is_reserved() {
    let app = TestApp::start().await;
    app.create("spring").await;
    app.clock.set(at("2025-06-16T09:00:00+03:00"));
    app.set(daily(SPRING, 1_000)).await.unwrap();
    app.clock.set(at("2025-06-20T09:00:00+03:00"));
    for day in ["2025-06-16", "2025-06-17", "2025-06-18", "2025-06-19"] {
        spend(&app, SPRING, day, 100, 1_200).await;
    }
    spend(&app, SPRING, "2025-06-20", 1_000, 300).await;
    let budget = get(&app, SPRING).await;
    assert_eq!(limits(&budget), [1_300, 500, 500], "R-134");
    assert_eq!(budget.ceilings[0].bound(), pb::CeilingBound::Day);
    assert_eq!(budget.ceilings[1].bound(), pb::CeilingBound::Week);
    assert_eq!(budget.ceilings[0].used, Some(roubles(1_300)));
}

#[tokio::test]
async fn three_changes_a_day_and_no_fourth() {
    let app = TestApp::start().await;
    for (count, amount) in [(1, 2_000), (2, 3_000), (3, 4_000)] {
        let budget = app.set(daily(SHOP, amount)).await.unwrap();
        assert_eq!((budget.changes_today, budget.changes_left), (count, 3 - count));
    }
    let fourth = app.set(daily(SHOP, 5_000)).await.unwrap_err();
    assert_eq!(fourth.code(), Code::ResourceExhausted);
    assert_eq!(reason(&fourth), "TOO_MANY_BUDGET_CHANGES");
    let details = fourth.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["resets_at"], "2025-06-11T21:00:00Z");
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait.as_secs(), 12 * 3_600, "until midnight in Moscow");
    let fifth = app.budgets().remove_budget(remove(SHOP, "gone")).await.unwrap_err();
    assert_eq!(reason(&fifth), "TOO_MANY_BUDGET_CHANGES", "a removal counts");
    assert_eq!(preview(&app, daily(SHOP, 5_000)).await.unwrap_err().code(), fourth.code());
    app.clock.set(at("2025-06-12T00:00:00+03:00"));
    assert_eq!(
        app.set(daily(SHOP, 5_000)).await.unwrap().changes_today,
        1,
        "the id was not burned"
    );
}

#[tokio::test]
async fn what_the_rules_refuse_changes_nothing() {
    let app = TestApp::start().await;
    app.create("spring").await;
    let mut dollars = daily(SHOP, 2_000);
    dollars.amount = Some(Money { currency_code: "USD".to_owned(), ..roubles(2_000) });
    let before = app.set(daily(SHOP, 1_500)).await.unwrap();
    for (name, request, expected) in [
        ("below the account's minimum", daily(SHOP, 999), "BUDGET_BELOW_MINIMUM"),
        ("below seven minimums", weekly(SHOP, 6_999), "BUDGET_BELOW_MINIMUM"),
        ("below the campaign's minimum", daily(SPRING, 299), "BUDGET_BELOW_MINIMUM"),
        ("another currency", dollars, "CURRENCY_MISMATCH"),
        (
            "what is in force",
            pb::SetBudgetRequest { request_id: "same".into(), ..daily(SHOP, 1_500) },
            "NO_CHANGE",
        ),
    ] {
        let refused = app.set(request.clone()).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::FailedPrecondition, expected),
            "{name}"
        );
        let failure = refused.get_error_details().precondition_failure().unwrap().violations.len();
        assert_eq!(failure, 1, "{name}");
        let previewed = preview(&app, request).await.unwrap_err();
        assert_eq!(reason(&previewed), expected, "a preview says the same: {name}");
    }
    assert_eq!(get(&app, SHOP).await, before);
    let nothing = app.budgets().remove_budget(remove(SPRING, "none")).await.unwrap_err();
    assert_eq!(reason(&nothing), "NO_CHANGE");
}

#[tokio::test]
async fn a_preview_says_what_a_change_does_and_changes_nothing() {
    let app = TestApp::start().await;
    app.create("spring").await;
    app.set(weekly(SPRING, 7_000)).await.unwrap();
    spend(&app, SPRING, "2025-06-11", 50, 450).await;
    let before = get(&app, SPRING).await;
    for wanted in [daily(SPRING, 2_000), weekly(SPRING, 5_000), weekly(SPRING, 9_000)] {
        let seen = preview(&app, wanted.clone()).await.unwrap();
        assert_eq!(get(&app, SPRING).await, before);
        assert_eq!(changes(&app, SPRING, 0, "").await.changes.len(), 1);
        let other = TestApp::start().await;
        other.create("spring").await;
        other.set(weekly(SPRING, 7_000)).await.unwrap();
        spend(&other, SPRING, "2025-06-11", 50, 450).await;
        assert_eq!(other.set(wanted).await.unwrap(), seen);
    }
    let removed =
        pb::PreviewBudgetChangeRequest { parent: SPRING.to_owned(), ..Default::default() };
    let removed = app.budgets().preview_budget_change(removed).await.unwrap().into_inner();
    assert_eq!(removed.budget.unwrap().in_force, None);
}

#[tokio::test]
async fn a_removed_budget_limits_no_more_and_its_log_stays() {
    let app = TestApp::start().await;
    app.set(daily(SHOP, 2_000)).await.unwrap();
    app.set(daily(SHOP, 1_500)).await.unwrap();
    let response = app.budgets().remove_budget(remove(SHOP, "gone")).await.unwrap().into_inner();
    let removed = response.budget.unwrap();
    assert_eq!((removed.in_force.clone(), removed.pending.clone()), (None, None));
    assert_eq!(limits(&removed), [-1; 5]);
    let again = app.budgets().remove_budget(remove(SHOP, "gone")).await.unwrap().into_inner();
    assert_eq!((again.budget.unwrap(), again.replayed), (removed, true));

    let north = from_tenant("agency", "north", daily(SHOP, 1_700));
    app.clock.set(at("2025-06-12T09:00:00+03:00"));
    app.budgets().set_budget(north).await.unwrap();
    let first = changes(&app, SHOP, 3, "").await;
    let rest = changes(&app, SHOP, 3, &first.next_page_token).await;
    assert_eq!(rest.next_page_token, "");
    let lines: Vec<_> = first
        .changes
        .iter()
        .chain(&rest.changes)
        .map(|line| {
            (figure(line.figure.as_ref()), figure(line.previous.as_ref()), line.actor.as_str())
        })
        .collect();
    assert_eq!(
        lines,
        [
            (Some((1_700, 12)), None, "agency accounts/north"),
            (None, Some((2_000, 11)), "operator"),
            (Some((1_500, 12)), Some((2_000, 11)), "operator"),
            (Some((2_000, 11)), None, "operator"),
        ]
    );
}

/// R-149, for the account and for the campaign.
#[tokio::test]
async fn a_daily_figure_over_conversions_is_warned_about() {
    let app = TestApp::start().await;
    app.create("spring").await;
    assert!(app.set(daily(SHOP, 2_000)).await.unwrap().warnings.is_empty());
    let mut request = create("sale", SHOP);
    let campaign = request.campaign.as_mut().unwrap();
    campaign.payment_model = pb::PaymentModel::PerConversion.into();
    app.campaigns().create_campaign(request).await.unwrap();
    assert_eq!(get(&app, SHOP).await.warnings.len(), 1);
    assert!(app.set(daily(SPRING, 2_000)).await.unwrap().warnings.is_empty());
    assert_eq!(app.set(daily("campaigns/sale", 2_000)).await.unwrap().warnings.len(), 1);
    assert!(app.set(weekly("campaigns/sale", 7_000)).await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn the_mode_is_kept_and_changes_without_counting() {
    let app = TestApp::start().await;
    let even = pb::SetBudgetRequest { mode: pb::BudgetMode::Even.into(), ..daily(SHOP, 2_000) };
    assert_eq!(app.set(even).await.unwrap().mode(), pb::BudgetMode::Even);
    assert_eq!(app.set(daily(SHOP, 3_000)).await.unwrap().mode(), pb::BudgetMode::Even);
    let asap = pb::SetBudgetRequest {
        mode: pb::BudgetMode::Asap.into(),
        request_id: "asap".to_owned(),
        ..daily(SHOP, 3_000)
    };
    let asap = app.set(asap).await.unwrap();
    assert_eq!((asap.mode(), asap.changes_today), (pb::BudgetMode::Asap, 2));
    assert_eq!(changes(&app, SHOP, 0, "").await.changes.len(), 2);
}

/// what one day may take of a weekly figure.
#[tokio::test]
async fn the_share_of_a_day_follows_the_hours_of_the_campaign() {
    use adspend_common::proto::google::r#type::DayOfWeek;
    let app = TestApp::start().await;
    let days = [DayOfWeek::Wednesday, DayOfWeek::Friday, DayOfWeek::Sunday];
    for (count, share) in [(0, 2_450), (1, 7_000), (2, 3_500), (3, 2_450)] {
        let mut request = create(&format!("c{count}"), SHOP);
        let hours = days.iter().take(count).map(|day| pb::ScheduleInterval {
            day: (*day).into(),
            start_minute: 0,
            end_minute: 1_440,
        });
        request.campaign.as_mut().unwrap().schedule = hours.collect();
        app.campaigns().create_campaign(request).await.unwrap();
        let budget = app.set(weekly(&format!("campaigns/c{count}"), 7_000)).await.unwrap();
        assert_eq!(limits(&budget)[0], share, "{count} days");
    }
}

/// The stored state is what the log alone gives, whatever was asked and whenever.
#[tokio::test]
async fn the_log_alone_gives_the_stored_state() {
    let app = TestApp::start().await;
    app.create("spring").await;
    let entity = {
        let db = app.services.db.get().await.unwrap();
        let id = adspend_common::id::CampaignId::parse("spring").unwrap();
        crate::campaigns::find(&db, &id).await.unwrap().unwrap().campaign.entity()
    };
    assert_eq!(entity.level(), Level::Campaign);
    let first_day = adspend_common::time::Day::of(app.clock.now());
    for (hours, request) in [
        (0, weekly(SPRING, 7_000)),
        (30, daily(SPRING, 2_000)),
        (1, daily(SPRING, 1_500)),
        (1, daily(SPRING, 2_001)),
        (60, daily(SPRING, 900)),
        (20, weekly(SPRING, 9_000)),
        (200, daily(SPRING, 800)),
    ] {
        app.clock.advance(std::time::Duration::from_secs(hours * 3_600));
        app.set(request).await.unwrap();
        let mut client = app.services.db.get().await.unwrap();
        let lines = crate::budgets::events(&client, entity).await.unwrap();
        let today = adspend_common::time::Day::of(app.clock.now());
        let tx = client.transaction().await.unwrap();
        let stored = crate::budgets::states_for(&tx, &[entity], today).await.unwrap();
        assert_eq!(changes::replay(first_day, &lines, today), stored[0].state.roll(today));
    }
}
