//! ReportService: state, curves, suspensions and explanations, of what the service itself wrote down.

use std::time::Instant;

use adspend_common::id::CampaignId;
use adspend_common::identity::{Caller, Role};
use adspend_common::proto::adspend::pacing::v1 as pb;
use chrono::{DateTime, TimeDelta, Utc};
use pb::DecisionUnknown as Unknown;
use pb::DecisionVerdict as Verdict;
use pb::charge_service_client::ChargeServiceClient;
use pb::report_service_client::ReportServiceClient;
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::admission::{Scene, admit};
use super::daily;
use crate::budgets::Parent;
use crate::reports::curve::{Span, spend_curve};
use crate::tests_support::{TestApp, at, from_tenant, reason, wrong_fields};

const SHOP: &str = "accounts/shop";
const SPRING: &str = "campaigns/spring";
const UNIT: i64 = 1_000_000;
/// The largest message that the server sends and clients take.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

impl TestApp {
    pub(super) fn reports(&self) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.channel.clone())
    }

    async fn state(&self, parent: &str) -> pb::GetPacingStateResponse {
        let request = pb::GetPacingStateRequest { parent: parent.to_owned(), day: None };
        self.reports().get_pacing_state(request).await.unwrap().into_inner()
    }

    async fn curve(&self, request: pb::GetSpendCurveRequest) -> pb::GetSpendCurveResponse {
        let mut reports = self.reports().max_decoding_message_size(MAX_MESSAGE_BYTES);
        reports.get_spend_curve(request).await.unwrap().into_inner()
    }

    async fn explain(&self, id: &str, at: DateTime<Utc>) -> pb::ExplainDecisionResponse {
        self.reports().explain_decision(question(id, at)).await.unwrap().into_inner()
    }

    async fn suspensions(
        &self,
        parent: &str,
        size: i32,
        token: &str,
    ) -> pb::ListSuspensionsResponse {
        let request = pb::ListSuspensionsRequest {
            parent: parent.to_owned(),
            with_campaigns: true,
            page_size: size,
            page_token: token.to_owned(),
        };
        self.reports().list_suspensions(request).await.unwrap().into_inner()
    }

    pub(super) async fn sql(&self, sql: &str) {
        self.services.db.get().await.unwrap().batch_execute(sql).await.unwrap();
    }
}

fn question(id: &str, at: DateTime<Utc>) -> pb::ExplainDecisionRequest {
    pb::ExplainDecisionRequest {
        opportunity_id: id.to_owned(),
        campaign: SPRING.to_owned(),
        decision_time: Some(adspend_common::rpc::timestamp(at)),
        max_price_micros: None,
        token: Vec::new().into(),
    }
}

fn curve(parent: &str) -> pb::GetSpendCurveRequest {
    pb::GetSpendCurveRequest { parent: parent.to_owned(), ..Default::default() }
}

/// A campaign under a budget that does not do for what is offered, after some minutes of it.
async fn throttled() -> Scene {
    throttled_at(1).await
}

/// The same where an opportunity costs so much.
async fn throttled_at(units: i64) -> Scene {
    let scene = Scene::with_config(100_000, |config| config.pacer.throttle = true).await;
    scene.app.set(daily(SPRING, 100_000)).await.unwrap();
    // Nothing is charged here: paid per click, it would be learned within a minute that nothing ever is.
    scene.app.sql("UPDATE campaign SET payment_model = 1").await;
    for step in 0..40 {
        for number in 0..20 {
            let _ = scene.ask(admit(&format!("o-{step}-{number}"), units)).await;
        }
        scene.app.clock.advance(std::time::Duration::from_secs(5));
        scene.app.services.pacer.turn_once().await.unwrap();
    }
    scene
}

#[tokio::test]
async fn the_state_says_which_rate_and_why() {
    let scene = throttled().await;
    let state = scene.app.state(SPRING).await;
    let reading = state.reading.unwrap();
    assert_eq!(state.admission_rate_ppm, reading.rate_ppm);
    assert!((1..1_000_000).contains(&reading.rate_ppm), "{reading:?}");
    let entity = scene.app.services.admission.entities()[0].clone();
    assert_eq!(crate::reports::reading::ppm(entity.rate.parts()), reading.rate_ppm);
    assert_eq!(reading.limit_micros, Some(130_000 * UNIT), "R-133");
    let target = reading.target_micros.unwrap();
    assert!((UNIT..=130_000 * UNIT).contains(&target) && reading.due_micros.unwrap() <= target);
    assert!(reading.offered_count > 700 && reading.demand_ahead_micros > 0, "{reading:?}");
    assert_eq!((reading.mode(), reading.few_charges), (pb::BudgetMode::Traffic, Some(false)));
    assert!(
        [pb::RateBound::Curve, pb::RateBound::Slew, pb::RateBound::Floor]
            .contains(&reading.bound()),
        "{reading:?}"
    );
    assert_eq!((state.account_reading, state.suspension), (None, None), "it has no budget");
    let account = scene.app.state(SHOP).await;
    assert_eq!((account.admission_rate_ppm, account.reading), (1_000_000, None));

    let day = Some(adspend_common::proto::google::r#type::Date { year: 2025, month: 6, day: 10 });
    let request = pb::GetPacingStateRequest { parent: SPRING.to_owned(), day };
    let before = scene.app.reports().get_pacing_state(request).await.unwrap().into_inner();
    assert_eq!((before.admission_rate_ppm, before.reading), (1_000_000, None));
    scene.app.clock.set(at("2025-06-12T09:00:00+03:00"));
    let day = Some(adspend_common::proto::google::r#type::Date { year: 2025, month: 6, day: 11 });
    let request = pb::GetPacingStateRequest { parent: SPRING.to_owned(), day };
    let over = scene.app.reports().get_pacing_state(request).await.unwrap().into_inner();
    assert_eq!(over.reading, Some(reading), "what was in force at the end of the day");
}

/// The promise of ExplainDecision: what it says later is what was answered then.
#[tokio::test]
async fn a_decision_is_explained_as_it_was_made() {
    let scene = throttled().await;
    let now = scene.app.services.clock.now();
    let mut answers = Vec::new();
    for number in 0..300 {
        let id = format!("late-{number}");
        answers.push((scene.ask(admit(&id, 1)).await, id));
    }
    assert_eq!(scene.app.services.clock.now(), now);
    scene.app.clock.set(at("2025-06-13T09:00:00+03:00"));
    let (mut admitted, mut denied) = (0, 0);
    for (answer, id) in &answers {
        let told = scene.app.explain(id, now).await;
        let below = told.coin_parts < told.rate_parts;
        match (answer, told.verdict()) {
            (Ok(_), Verdict::Admitted) => {
                admitted += 1;
                assert!(below && told.coin_ppm <= told.rate_ppm, "{told:?}");
                assert_eq!(told.unknowns, [i32::from(Unknown::Funds)]);
            }
            (Err(pb::DenialReason::Throttled), Verdict::Throttled) => {
                denied += 1;
                assert!(!below, "{told:?}");
                assert_eq!((told.reason(), told.unknowns.len()), (pb::DenialReason::Throttled, 0));
            }
            (_, Verdict::CannotBeKnown) => {
                assert!(told.unknowns().any(|it| it == Unknown::RateChanging), "{told:?}");
            }
            (answer, _) => panic!("{id}: {answer:?} is explained as {told:?}"),
        }
        assert_eq!(told.day.unwrap().day, 11);
        assert_eq!(told.reading.as_ref().unwrap().rate_ppm, told.rate_ppm);
    }
    let told = scene.app.explain("any", now).await;
    assert!(admitted > 0 && denied > 50, "{admitted} and {denied}: {told:?}");

    let (answer, id) = answers.iter().find(|(answer, _)| answer.is_ok()).unwrap();
    let token = answer.as_ref().unwrap().token.clone();
    let proven = pb::ExplainDecisionRequest { token: token.clone(), ..question(id, now) };
    let proven = scene.app.reports().explain_decision(proven).await.unwrap().into_inner();
    assert_eq!((proven.verdict(), proven.unknowns.len()), (Verdict::Admitted, 0));
    let other_day = now - TimeDelta::days(1);
    let other = pb::ExplainDecisionRequest { token, ..question(id, other_day) };
    let status = scene.app.reports().explain_decision(other).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["token"]);
}

/// where rates are added up, the coin says nothing, and the reading says so.
#[tokio::test]
async fn few_charges_are_written_down_with_the_reading() {
    let scene = throttled_at(2_000).await;
    let now = scene.app.services.clock.now();
    let before = now - TimeDelta::seconds(1);
    let told = scene.app.explain("o", now).await;
    let reading = told.reading.unwrap();
    assert!((1..1_000_000).contains(&reading.rate_ppm), "{reading:?}");
    assert_eq!(reading.few_charges, Some(true), "65 charges of 2 000 in 130 000");
    assert_eq!(told.verdict, i32::from(Verdict::CannotBeKnown));
    assert_eq!(told.unknowns, [i32::from(Unknown::FewCharges)]);
    let state = scene.app.state(SPRING).await.reading.unwrap();
    assert_eq!(state.few_charges, Some(true));

    let verdict = async |few: &str| {
        scene.app.sql(&format!("UPDATE pace_reading SET is_few = {few}")).await;
        let told = scene.app.explain("o", before).await;
        (told.verdict(), told.reading.unwrap().few_charges)
    };
    assert_eq!(verdict("NULL").await, (Verdict::CannotBeKnown, None), "of an older version");
    let (by_coin, few) = verdict("false").await;
    assert!(by_coin != Verdict::CannotBeKnown && few == Some(false), "{by_coin:?}");
}

#[tokio::test]
async fn what_is_not_written_down_is_not_claimed() {
    let scene = Scene::with(1_000).await;
    let created = scene.app.services.clock.now();
    let minute = TimeDelta::minutes(1);
    scene.app.clock.set(created + minute * 10);
    let told = scene.app.explain("o", created - minute).await;
    let expected = (Verdict::Denied, pb::DenialReason::CampaignUnknown);
    assert_eq!((told.verdict(), told.reason()), expected, "it did not exist");
    let told = scene.app.explain("o", created + minute).await;
    assert_eq!((told.verdict(), told.rate_ppm), (Verdict::Admitted, 1_000_000), "no budget");
    scene.app.set(daily(SPRING, 2_000)).await.unwrap();
    scene.app.clock.set(created + minute * 20);
    let told = scene.app.explain("o", created + minute * 15).await;
    assert_eq!(told.verdict(), Verdict::CannotBeKnown);
    assert_eq!(told.unknowns, [i32::from(Unknown::NoReading)], "nobody asked for it");
    let pause = pb::PauseCampaignRequest { name: SPRING.to_owned(), request_id: "p".to_owned() };
    scene.app.campaigns().pause_campaign(pause).await.unwrap();
    scene.app.clock.set(created + minute * 30);
    let told = scene.app.explain("o", created + minute * 25).await;
    let expected = (Verdict::Denied, pb::DenialReason::CampaignPaused);
    assert_eq!((told.verdict(), told.reason(), told.unknowns.len()), (expected.0, expected.1, 0));
    let told = scene.app.explain("o", created + minute * 15).await;
    assert_eq!(told.verdict(), Verdict::CannotBeKnown, "it was paused since");
    assert_eq!(told.unknowns, [i32::from(Unknown::CampaignChanged)]);
}

/// the log of a limit that the service itself ran into.
#[tokio::test]
async fn a_limit_that_was_reached_is_listed_and_explains_denials() {
    let scene = Scene::with(100_000).await;
    scene.app.set(daily(SPRING, 300)).await.unwrap();
    let mut charges = ChargeServiceClient::new(scene.app.channel.clone());
    for number in 0..3 {
        let admission = scene.ask(admit(&format!("o-{number}"), 130)).await.unwrap();
        let settle = pb::SettleRequest {
            target: Some(pb::settle_request::Target::Token(admission.token)),
            charge_id: format!("c-{number}"),
            price_micros: 130 * UNIT,
        };
        charges.settle(settle).await.unwrap();
    }
    let mut listed = scene.app.suspensions(SHOP, 0, "").await;
    for _ in 0..100 {
        scene.until(pb::DenialReason::CampaignDayLimit).await;
        scene.app.services.pacer.turn_once().await.unwrap();
        listed = scene.app.suspensions(SHOP, 0, "").await;
        if !listed.suspensions.is_empty() {
            break;
        }
        scene.app.clock.advance(std::time::Duration::from_secs(2));
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let found = &listed.suspensions[0];
    assert_eq!((listed.suspensions.len(), listed.currency_code.as_str()), (1, "RUB"));
    assert_eq!((found.parent.as_str(), found.level()), (SPRING, pb::Level::Campaign));
    assert_eq!(found.reason(), pb::DenialReason::CampaignDayLimit);
    assert_eq!((found.limit_micros, found.used_micros), (390 * UNIT, 390 * UNIT));
    assert_eq!((found.end_time, found.ended_by()), (None, pb::SuspensionEnd::Unspecified));
    assert_eq!(scene.app.state(SPRING).await.suspension.as_ref(), Some(found));

    let began = scene.app.services.clock.now();
    scene.app.clock.set(at("2025-06-12T00:00:01+03:00"));
    let told = scene.app.explain("o-9", began + TimeDelta::hours(1)).await;
    assert_eq!((told.verdict(), told.level()), (Verdict::Denied, pb::Level::Campaign));
    assert_eq!((told.reason(), told.unknowns.len()), (pb::DenialReason::CampaignDayLimit, 0));
    assert_eq!(told.suspension.unwrap().limit_micros, 390 * UNIT);
    let listed = scene.app.suspensions(SPRING, 0, "").await;
    let end = listed.suspensions[0].end_time.unwrap();
    assert_eq!(end.seconds, at("2025-06-12T00:00:00+03:00").timestamp(), "it ended at midnight");
    assert_eq!(listed.suspensions[0].ended_by(), pb::SuspensionEnd::Midnight);
    assert_eq!(scene.app.state(SPRING).await.suspension, None);
}

#[tokio::test]
async fn suspensions_of_14_days_come_in_pages() {
    let app = TestApp::start().await;
    app.create("spring").await;
    app.sql(
        "INSERT INTO suspension (account_no, level, entity_no, day, reason, limit_micros, used_micros,
             began_at, ended_at, ended_by)
         SELECT account_no, level, CASE level WHEN 1 THEN campaign_no ELSE account_no END, day, 1, 5, 5,
             (day + INTERVAL '12 hours') AT TIME ZONE 'UTC', (day + INTERVAL '13 hours') AT TIME ZONE 'UTC', 2
         FROM campaign, generate_series(1, 2) AS level,
             generate_series('2025-05-25'::timestamp, '2025-06-10', '1 day') AS day",
    )
    .await;
    let mut days = Vec::new();
    let mut token = String::new();
    loop {
        let page = app.suspensions(SHOP, 7, &token).await;
        assert!(page.suspensions.len() <= 7);
        days.extend(page.suspensions.iter().map(|it| (it.day.unwrap().day, it.parent.clone())));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(days.len(), 2 * 14, "those of 28 May to 10 June, each once: {days:?}");
    let mut campaigns = Vec::new();
    for suspension in app.suspensions(SPRING, 1_000, "").await.suspensions {
        campaigns.push(suspension.parent);
    }
    assert_eq!(campaigns, [SPRING; 14], "a campaign has its own only");
    let foreign = pb::ListSuspensionsRequest { parent: SHOP.to_owned(), ..Default::default() };
    let own = app.reports().list_suspensions(foreign.clone()).await.unwrap().into_inner();
    assert!(own.suspensions.iter().all(|it| it.parent == SHOP) && own.suspensions.len() == 14);
}

#[tokio::test]
async fn the_course_of_a_day_is_what_was_asked_and_admitted() {
    let scene = throttled().await;
    let got = scene.app.curve(curve(SPRING)).await;
    assert_eq!(got.start_time.unwrap().seconds, at("2025-06-11T00:00:00+03:00").timestamp());
    let minutes = 12 * 60 + 3;
    assert_eq!(got.offered_count.len(), minutes, "noon and 200 seconds, whole minutes");
    assert!(got.offered_count.iter().take(12 * 60).all(|count| *count == 0));
    let entity = scene.app.services.admission.entities()[0].clone();
    let (last, all) = (got.offered_count[minutes - 1], entity.offer().offered_count as i64);
    assert!(last > 600 && last <= all, "{last} of {all}");
    assert!(got.admitted_count[minutes - 1] <= entity.offer().admitted_count as i64);
    assert_eq!(got.offered_micros[minutes - 1], last * UNIT);
    assert!(got.due_micros[minutes - 1] >= 0 && got.due_micros[0] == -1);
    assert!((1..1_000_000).contains(&got.rate_ppm[minutes - 1]));
    let account = scene.app.curve(curve(SHOP)).await;
    assert_eq!(account.offered_count, got.offered_count, "its only campaign");
    let step = Some(prost_types::Duration { seconds: 900, nanos: 0 });
    let coarse = scene.app.curve(pb::GetSpendCurveRequest { step, ..curve(SPRING) }).await;
    assert_eq!((coarse.offered_count.len(), coarse.offered_count[47]), (48, 0));
}

/// Eight weeks by the minute, each number as long as numbers get, in one message.
#[tokio::test]
async fn eight_weeks_by_the_minute_fit_into_one_answer() {
    let app = TestApp::start().await;
    app.create("spring").await;
    app.clock.set(at("2025-06-16T00:00:00+03:00"));
    app.sql(
        "INSERT INTO pace_hour (account_no, level, entity_no, hour, minutes, late_micros)
         SELECT account_no, 1, campaign_no, '2025-04-20T21:00:00Z'::timestamptz + h * INTERVAL '1 hour',
             (SELECT string_agg(int8send(9000000000000000000 + m) || int8send(9000000000000000001)
                     || int8send(4000000000) || int8send(3000000000) || int8send(4000000000000000000)
                     || int4send(999999), ''::bytea ORDER BY m)
                 FROM generate_series(1, 60) AS m WHERE h IS NOT NULL), 0
         FROM campaign, generate_series(0, 1343) AS h",
    )
    .await;
    let weeks = pb::GetSpendCurveRequest {
        start_time: Some(adspend_common::rpc::timestamp(at("2025-04-21T00:00:00+03:00"))),
        ..curve(SPRING)
    };
    let (caller, parent) = (operator(), Parent::Campaign(CampaignId::parse("spring").unwrap()));
    let span = Span { start: Some(at("2025-04-21T00:00:00+03:00")), end: None, step_minutes: 1 };
    let grid = span.grid(app.services.clock.now()).unwrap();
    for _ in 0..3 {
        let began = Instant::now();
        let read = spend_curve(&app.services, &caller, &parent, grid).await.unwrap();
        println!("{} points read and laid out: {:?}", read.columns.due.len(), began.elapsed());
    }
    let began = Instant::now();
    let got = app.curve(weeks).await;
    println!("the same over gRPC: {:?}, {} bytes", began.elapsed(), got.encoded_len());
    assert_eq!((got.charged_micros.len(), got.rate_ppm.len()), (80_640, 80_640));
    assert_eq!(got.charged_micros[80_639], 9_000_000_000_000_000_060);
    assert!(got.encoded_len() < MAX_MESSAGE_BYTES, "{}", got.encoded_len());
}

#[tokio::test]
async fn reports_tell_all_that_is_wrong_and_nothing_of_others() {
    let app = TestApp::start().await;
    app.create("spring").await;
    let mut reports = app.reports();
    let second = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let now = app.services.clock.now().timestamp();
    let wrong = pb::GetSpendCurveRequest {
        parent: "shops/x".to_owned(),
        start_time: second(now),
        end_time: second(now - 60),
        step: Some(prost_types::Duration { seconds: 420, nanos: 0 }),
    };
    let status = reports.get_spend_curve(wrong).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["parent", "step", "end_time"]);
    let long = pb::GetSpendCurveRequest { start_time: second(now - 57 * 86_400), ..curve(SHOP) };
    assert_eq!(wrong_fields(&reports.get_spend_curve(long).await.unwrap_err()), ["end_time"]);
    let wrong = pb::ExplainDecisionRequest {
        opportunity_id: String::new(),
        campaign: SHOP.to_owned(),
        decision_time: second(now + 1),
        max_price_micros: Some(0),
        token: Vec::new().into(),
    };
    let status = reports.explain_decision(wrong).await.unwrap_err();
    let fields = ["opportunity_id", "campaign", "decision_time", "max_price_micros"];
    assert_eq!(wrong_fields(&status), fields);
    let wrong = pb::SimulateBudgetRequest { days: 8, ..Default::default() };
    let status = reports.simulate_budget(wrong).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["parent", "amount", "unit", "days"]);

    // I-8: what belongs to another answers like what does not exist.
    let foreign = |name: &str| {
        (curve(name), pb::ListSuspensionsRequest { parent: name.to_owned(), ..Default::default() })
    };
    for (there, not_there) in [(SPRING, "campaigns/summer"), (SHOP, "accounts/shap")] {
        let mut told = Vec::new();
        for name in [there, not_there] {
            let (curve, list) = foreign(name);
            let curve = reports.get_spend_curve(solo(curve)).await.unwrap_err();
            let list = reports.list_suspensions(solo(list)).await.unwrap_err();
            assert_eq!((curve.code(), list.code()), (Code::NotFound, Code::NotFound), "{name}");
            assert_eq!(reason(&curve), "NOT_FOUND");
            let bytes = [curve.details(), list.details()].concat();
            told.push(String::from_utf8_lossy(&bytes).replace(name, "it"));
        }
        assert_eq!(told[0], told[1]);
    }
    let asked = question("o", at("2025-06-11T11:00:00+03:00"));
    let status = reports.explain_decision(solo(asked)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let ad_server = from_tenant("ad_server", "north", curve(SHOP));
    let status = reports.get_spend_curve(ad_server).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

fn operator() -> Caller {
    Caller { role: Role::Operator, tenant: None, label: "test".to_owned() }
}

fn solo<M>(message: M) -> Request<M> {
    from_tenant("advertiser", "solo", message)
}
