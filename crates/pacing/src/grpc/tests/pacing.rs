//! The pacer behind the wire: a budget that was just set throttles, and the report says so.

use adspend_common::config::HumanDuration;
use adspend_common::proto::adspend::pacing::v1 as pb;
use pb::admission_service_client::AdmissionServiceClient;
use pb::report_service_client::ReportServiceClient;

use super::daily;
use crate::tests_support::TestApp;

async fn rate_ppm(app: &TestApp, parent: &str) -> i32 {
    let request = pb::GetPacingStateRequest { parent: parent.to_owned(), day: None };
    let mut reports = ReportServiceClient::new(app.channel.clone());
    reports.get_pacing_state(request).await.unwrap().into_inner().admission_rate_ppm
}

#[tokio::test]
async fn a_new_budget_starts_carefully_and_the_report_shows_its_rate() {
    let app = TestApp::start_with(|config| {
        config.pacer.throttle = true;
        config.leases.cold_wait = HumanDuration::from_millis(0);
    })
    .await;
    for campaign in ["spring", "summer"] {
        app.create(campaign).await;
    }
    app.set(daily("campaigns/spring", 300)).await.unwrap();
    assert_eq!(rate_ppm(&app, "campaigns/spring").await, 1_000_000, "nobody has asked yet");
    let mut admission = AdmissionServiceClient::new(app.channel.clone());
    for n in 0..30 {
        let campaign = if n % 3 == 0 { "campaigns/summer" } else { "campaigns/spring" };
        let request = pb::AdmitRequest {
            opportunity_id: format!("o-{n}"),
            campaign: campaign.to_owned(),
            max_price_micros: 1_000_000,
            charge_probability_ppm: None,
        };
        admission.admit(request).await.unwrap();
    }
    app.services.pacer.tick_once().await.unwrap();
    // Twenty opportunities are not enough to know a level (pacing.md, warm start).
    assert_eq!(rate_ppm(&app, "campaigns/spring").await, 50_000);
    assert_eq!(rate_ppm(&app, "campaigns/summer").await, 1_000_000, "it has no limit");
    assert_eq!(rate_ppm(&app, "accounts/shop").await, 1_000_000, "nor has the account");
    let entity = app.services.admission.entities();
    let parts: Vec<u32> = entity.iter().map(|entity| entity.rate.parts()).collect();
    assert_eq!(parts, [u32::MAX / 20, u32::MAX]);
    app.stop().await;
}
