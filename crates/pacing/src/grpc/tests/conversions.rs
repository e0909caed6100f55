//! Pay per conversion as callers see it: warnings, the state, and what grants keep back.

use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::time::Day;
use prost_types::FieldMask;

use super::admission::{Scene, admit};
use super::{create, daily, weekly};
use crate::tests_support::TestApp;

const SHOP: &str = "accounts/shop";
const SALE: &str = "campaigns/sale";
const UNIT: i64 = 1_000_000;

fn sale() -> pb::CreateCampaignRequest {
    let mut request = create("sale", SHOP);
    request.campaign.as_mut().unwrap().payment_model = pb::PaymentModel::PerConversion.into();
    request
}

fn pays(name: &str, payment: pb::PaymentModel) -> pb::UpdateCampaignRequest {
    pb::UpdateCampaignRequest {
        campaign: Some(pb::Campaign {
            name: name.to_owned(),
            payment_model: payment.into(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["payment_model".to_owned()] }),
        request_id: format!("{name}-{payment:?}"),
    }
}

#[tokio::test]
async fn r149_a_campaign_that_pays_per_conversion_under_a_daily_figure_is_warned_about() {
    let app = TestApp::start().await;
    app.set(daily(SHOP, 2_000)).await.unwrap();
    let mut campaigns = app.campaigns();
    let created = campaigns.create_campaign(sale()).await.unwrap().into_inner();
    assert_eq!(created.warnings.len(), 1, "the account has a daily figure");
    assert!(created.warnings[0].contains("R-149"));
    let again = campaigns.create_campaign(sale()).await.unwrap().into_inner();
    assert!(again.replayed);
    assert_eq!(again.warnings, created.warnings, "a repeat gets the first answer");
    let clicks = pays(SALE, pb::PaymentModel::PerClick);
    assert!(campaigns.update_campaign(clicks).await.unwrap().into_inner().warnings.is_empty());
    let back = pays(SALE, pb::PaymentModel::PerConversion);
    assert_eq!(campaigns.update_campaign(back).await.unwrap().into_inner().warnings.len(), 1);

    let app = TestApp::start().await;
    let mut campaigns = app.campaigns();
    let created = campaigns.create_campaign(sale()).await.unwrap().into_inner();
    assert!(created.warnings.is_empty(), "there is no budget");
    app.set(weekly(SALE, 7_000)).await.unwrap();
    let again = pays(SALE, pb::PaymentModel::PerConversion);
    let weekly = campaigns.update_campaign(again).await.unwrap().into_inner();
    assert!(weekly.warnings.is_empty(), "a weekly budget at the campaign is what R-149 asks for");
    app.set(daily(SALE, 2_000)).await.unwrap();
    let again = pb::UpdateCampaignRequest {
        request_id: "daily".to_owned(),
        ..pays(SALE, pb::PaymentModel::PerConversion)
    };
    let daily = campaigns.update_campaign(again).await.unwrap().into_inner();
    assert_eq!(daily.warnings.len(), 1, "its own daily figure");
}

/// Sets what the pacer would say of `spring`, in units.
async fn due(app: &TestApp, day: Day, [due, next_due, charge]: [i64; 3]) {
    let client = app.services.db.get().await.unwrap();
    let [due, next_due] = [due, next_due].map(|units| units * UNIT);
    let came = (charge * UNIT * 10) as f64;
    client
        .execute(
            "INSERT INTO conversion (account_no, campaign_no, delays, came_micros, came_charges, learned_day,
                day, open_micros, due_micros, next_due_micros)
            SELECT account_no, campaign_no, array_fill(0::float8, ARRAY[336]), $5::float8, 10, $1, $1,
                $2::bigint + $3::bigint + $4::bigint, $2, $3
            FROM campaign WHERE name = 'spring'
            ON CONFLICT ON CONSTRAINT conversion_pkey DO UPDATE
            SET due_micros = $2, next_due_micros = $3, open_micros = $2::bigint + $3::bigint + $4::bigint, day = $1",
            &[&day, &due, &next_due, &(5 * UNIT), &came],
        )
        .await
        .unwrap();
}

async fn state(app: &TestApp, parent: &str) -> pb::GetPacingStateResponse {
    let request = pb::GetPacingStateRequest { parent: parent.to_owned(), day: None };
    app.reports().get_pacing_state(request).await.unwrap().into_inner()
}

/// The cap by expectation: S + due ≤ H, of the campaign and of its account; and GetPacingState says
/// how it stands.
#[tokio::test]
async fn r149_what_is_due_today_is_kept_back_and_published() {
    for parent in ["campaigns/spring", SHOP] {
        let scene = Scene::with(100_000).await;
        let app = &scene.app;
        let conversions = pays("campaigns/spring", pb::PaymentModel::PerConversion);
        app.campaigns().update_campaign(conversions).await.unwrap();
        app.set(daily(parent, 1_000)).await.unwrap();
        assert!(state(app, parent).await.open_conversions.is_none(), "nothing was ever admitted");
        let today = Day::of(app.services.clock.now());
        // The day's cap is 1 300.
        due(app, today, [1_300, 500, 100]).await;
        let said = scene.ask(admit("o-1", 10)).await;
        assert!(said.is_err(), "all the room is due: {said:?}");
        let open = state(app, parent).await.open_conversions.unwrap();
        assert_eq!((open.open_micros, open.due_micros), (1_805 * UNIT, 1_300 * UNIT));
        assert_eq!(open.charge_micros, Some(100 * UNIT));
        let ppm = open.overshoot_ppm.unwrap();
        assert!((400_000..460_000).contains(&ppm), "P(N > 13) of 13 is 0.43: {ppm}");
        due(app, today, [1_000, 500, 100]).await;
        let mut tries = 0;
        // A refusal is asked about anew every now and then.
        while scene.ask(admit("o-2", 10)).await.is_err() {
            tries += 1;
            assert!(tries < 400, "300 are left, and nothing is granted");
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        let open = state(app, parent).await.open_conversions.unwrap();
        assert!(
            (130_000..140_000).contains(&open.overshoot_ppm.unwrap()),
            "P(N > 13) of 10: {open:?}"
        );
    }
}
