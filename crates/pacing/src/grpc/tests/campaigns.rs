//! CampaignService.

use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::{Date, DayOfWeek};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::{create, weekly};
use crate::billing::AccountState;
use crate::campaigns::{self, CampaignState, Cursor};
use crate::tests_support::{TestApp, from_tenant, reason, wrong_fields};

fn update(campaign: pb::Campaign, mask: &[&str], request_id: &str) -> pb::UpdateCampaignRequest {
    let paths = mask.iter().map(|path| (*path).to_owned()).collect();
    pb::UpdateCampaignRequest {
        campaign: Some(campaign),
        update_mask: Some(FieldMask { paths }),
        request_id: request_id.to_owned(),
    }
}

fn pause(name: &str, request_id: &str) -> pb::PauseCampaignRequest {
    pb::PauseCampaignRequest { name: name.to_owned(), request_id: request_id.to_owned() }
}

async fn get(app: &TestApp, name: &str) -> Result<pb::Campaign, Status> {
    let request = pb::GetCampaignRequest { name: name.to_owned() };
    Ok(app.campaigns().get_campaign(request).await?.into_inner().campaign.unwrap())
}

fn date(month: i32, day: i32) -> Option<Date> {
    Some(Date { year: 2025, month, day })
}

#[tokio::test]
async fn a_campaign_is_created_with_defaults_and_read_back() {
    let app = TestApp::start().await;
    let mut request = create("spring", "accounts/shop");
    let hours = |day: DayOfWeek, from, to| pb::ScheduleInterval {
        day: day.into(),
        start_minute: from,
        end_minute: to,
    };
    let campaign = request.campaign.as_mut().unwrap();
    campaign.schedule = vec![
        hours(DayOfWeek::Sunday, 600, 1440),
        hours(DayOfWeek::Monday, 0, 60),
        hours(DayOfWeek::Monday, 60, 90),
    ];
    (campaign.start_date, campaign.end_date) = (date(6, 1), date(6, 30));
    let response = app.campaigns().create_campaign(request).await.unwrap().into_inner();
    let created = response.campaign.unwrap();
    assert!(!response.replayed);
    assert_eq!(created.name, "campaigns/spring");
    assert_eq!(created.account, "accounts/shop");
    assert_eq!(created.time_zone, "Europe/Moscow");
    assert_eq!(created.state(), pb::CampaignState::Active);
    assert_eq!((created.start_date, created.end_date), (date(6, 1), date(6, 30)));
    let merged = [hours(DayOfWeek::Monday, 0, 90), hours(DayOfWeek::Sunday, 600, 1440)];
    assert_eq!(created.schedule, merged, "sorted, and what touches is one");
    assert_eq!(get(&app, "campaigns/spring").await.unwrap(), created);

    let mut unnamed = create("", "accounts/solo");
    unnamed.request_id = "unnamed".to_owned();
    let response = app.campaigns().create_campaign(unnamed.clone()).await.unwrap().into_inner();
    let name = response.campaign.unwrap().name;
    assert_eq!(name.len(), "campaigns/".len() + 36, "a UUID: {name}");
    let again = app.campaigns().create_campaign(unnamed).await.unwrap().into_inner();
    assert_eq!((again.campaign.unwrap().name, again.replayed), (name, true));
}

#[tokio::test]
async fn an_account_must_be_known_seen_and_usable() {
    let app = TestApp::start().await;
    let unknown = app.campaigns().create_campaign(create("a", "accounts/nobody")).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    app.billing.set_state("kiosk", AccountState::Blocked);
    let blocked = app.campaigns().create_campaign(create("a", "accounts/kiosk")).await;
    let blocked = blocked.unwrap_err();
    assert_eq!(
        (blocked.code(), reason(&blocked)),
        (Code::FailedPrecondition, "ACCOUNT_BLOCKED".into())
    );
    app.billing.set_away(true);
    let away = app.campaigns().create_campaign(create("a", "accounts/shop")).await.unwrap_err();
    assert_eq!((away.code(), reason(&away)), (Code::Unavailable, "UNAVAILABLE".into()));
    app.billing.set_away(false);
    let created = app.campaigns().create_campaign(create("a", "accounts/shop")).await;
    assert!(!created.unwrap().into_inner().replayed, "no refusal burned the id");

    app.billing.set_away(true);
    let known = app.campaigns().create_campaign(create("b", "accounts/shop")).await;
    assert!(known.is_ok(), "an account that is known is taken while billing is away");
}

#[tokio::test]
async fn an_id_is_taken_once() {
    let app = TestApp::start().await;
    app.create("spring").await;
    let mut other = create("spring", "accounts/solo");
    other.request_id = "other".to_owned();
    let taken = app.campaigns().create_campaign(other).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken)), (Code::AlreadyExists, "ALREADY_EXISTS".into()));
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_nothing_else() {
    let app = TestApp::start().await;
    let before = app.create("spring").await;
    let wanted = pb::Campaign {
        name: before.name.clone(),
        display_name: "Spring sale".to_owned(),
        time_zone: "Asia/Novosibirsk".to_owned(),
        ..Default::default()
    };
    let request = update(wanted, &["display_name"], "rename");
    let response = app.campaigns().update_campaign(request.clone()).await.unwrap().into_inner();
    let after = response.campaign.unwrap();
    let renamed = pb::Campaign {
        display_name: "Spring sale".to_owned(),
        etag: after.etag.clone(),
        ..before.clone()
    };
    assert_eq!(after, renamed);
    assert_ne!(after.etag, before.etag);
    assert_eq!(get(&app, "campaigns/spring").await.unwrap(), after);
    let again = app.campaigns().update_campaign(request).await.unwrap().into_inner();
    assert_eq!((again.campaign.unwrap(), again.replayed), (after, true));
}

#[tokio::test]
async fn an_etag_that_is_old_is_refused() {
    let app = TestApp::start().await;
    let first = app.create("spring").await;
    let second = pb::Campaign { display_name: "2".to_owned(), ..first.clone() };
    app.campaigns().update_campaign(update(second, &["display_name"], "2")).await.unwrap();
    let third = pb::Campaign { display_name: "3".to_owned(), ..first };
    let lost = app.campaigns().update_campaign(update(third.clone(), &["display_name"], "3")).await;
    let lost = lost.unwrap_err();
    assert_eq!((lost.code(), reason(&lost)), (Code::Aborted, "ETAG_MISMATCH".into()));
    let current = get(&app, "campaigns/spring").await.unwrap();
    let third = pb::Campaign { etag: current.etag, ..third };
    let done = app.campaigns().update_campaign(update(third, &["display_name"], "3")).await;
    assert!(!done.unwrap().into_inner().replayed, "the refusal burned no id");
}

#[tokio::test]
async fn dates_that_do_not_fit_what_is_stored_are_refused() {
    let app = TestApp::start().await;
    let campaign = app.create("spring").await;
    let starting = pb::Campaign { start_date: date(6, 20), ..campaign.clone() };
    app.campaigns()
        .update_campaign(update(
            pb::Campaign { etag: String::new(), ..starting },
            &["start_date"],
            "s",
        ))
        .await
        .unwrap();
    let ending = pb::Campaign { end_date: date(6, 19), etag: String::new(), ..campaign };
    let refused = app.campaigns().update_campaign(update(ending, &["end_date"], "e")).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(wrong_fields(&refused), ["campaign.end_date"]);
}

#[tokio::test]
async fn a_campaign_is_paused_and_resumed_and_a_repeat_says_so() {
    let app = TestApp::start().await;
    let created = app.create("spring").await;
    let paused = app.campaigns().pause_campaign(pause("campaigns/spring", "p1")).await;
    let paused = paused.unwrap().into_inner().campaign.unwrap();
    assert_eq!(paused.state(), pb::CampaignState::Paused);
    assert_ne!(paused.etag, created.etag);
    let again = app.campaigns().pause_campaign(pause("campaigns/spring", "p2")).await;
    let again = again.unwrap().into_inner();
    assert_eq!((again.campaign.unwrap(), again.replayed), (paused.clone(), false));

    let resume = pb::ResumeCampaignRequest { name: paused.name.clone(), request_id: "r1".into() };
    let resumed = app.campaigns().resume_campaign(resume).await.unwrap().into_inner();
    assert_eq!(resumed.campaign.unwrap().state(), pb::CampaignState::Active);
    let repeat = app.campaigns().pause_campaign(pause("campaigns/spring", "p1")).await;
    let repeat = repeat.unwrap().into_inner();
    assert_eq!((repeat.campaign.unwrap(), repeat.replayed), (paused, true), "the first answer");
    let current = get(&app, "campaigns/spring").await.unwrap();
    assert_eq!(current.state(), pb::CampaignState::Active, "and nothing is done again");
}

#[tokio::test]
async fn pages_follow_the_order_of_creation_and_tokens_fit_one_question() {
    let app = TestApp::start().await;
    for (id, account) in
        [("e", "shop"), ("d", "kiosk"), ("c", "shop"), ("b", "solo"), ("a", "shop")]
    {
        let request = create(id, &format!("accounts/{account}"));
        app.campaigns().create_campaign(request).await.unwrap();
    }
    let question = |account: &str, token: &str| pb::ListCampaignsRequest {
        account: account.to_owned(),
        page_size: 2,
        page_token: token.to_owned(),
    };
    let mut names = Vec::new();
    let mut token = String::new();
    for _ in 0..3 {
        let page = app.campaigns().list_campaigns(question("", &token)).await.unwrap().into_inner();
        names.push(page.campaigns.iter().map(|campaign| campaign.name.clone()).collect::<Vec<_>>());
        token = page.next_page_token;
    }
    let expected: [&[&str]; 3] =
        [&["campaigns/e", "campaigns/d"], &["campaigns/c", "campaigns/b"], &["campaigns/a"]];
    assert_eq!(names, expected);
    assert_eq!(token, "", "the end, and only there");

    let shop = app.campaigns().list_campaigns(question("accounts/shop", "")).await.unwrap();
    let token = shop.into_inner().next_page_token;
    let rest = app.campaigns().list_campaigns(question("accounts/shop", &token)).await.unwrap();
    let rest = rest.into_inner();
    assert_eq!((rest.campaigns.len(), rest.next_page_token.as_str()), (1, ""));
    let elsewhere = app.campaigns().list_campaigns(question("accounts/kiosk", &token)).await;
    let elsewhere = elsewhere.unwrap_err();
    assert_eq!(elsewhere.code(), Code::InvalidArgument);
    assert_eq!(wrong_fields(&elsewhere), ["page_token"]);
    let stranger = from_tenant("agency", "north", question("accounts/shop", &token));
    let stranger = app.campaigns().list_campaigns(stranger).await.unwrap_err();
    assert_eq!(wrong_fields(&stranger), ["page_token"], "a token of another caller");

    let north = from_tenant("agency", "north", pb::ListCampaignsRequest::default());
    let north = app.campaigns().list_campaigns(north).await.unwrap().into_inner();
    assert_eq!(north.campaigns.len(), 4, "all but the direct advertiser's");
    let foreign = from_tenant("agency", "north", question("accounts/solo", ""));
    let foreign = app.campaigns().list_campaigns(foreign).await.unwrap().into_inner();
    assert_eq!((foreign.campaigns, foreign.next_page_token.as_str()), (vec![], ""));
}

#[tokio::test]
async fn another_payment_model_restarts_a_weekly_budget() {
    let app = TestApp::start().await;
    let campaign = app.create("spring").await;
    app.set(weekly("campaigns/spring", 7_000)).await.unwrap();
    let wanted = pb::Campaign {
        payment_model: pb::PaymentModel::PerImpression.into(),
        etag: String::new(),
        ..campaign
    };
    let request = update(wanted, &["payment_model"], "model");
    app.campaigns().update_campaign(request).await.unwrap();
    let parent = "campaigns/spring".to_owned();
    let log = pb::ListBudgetChangesRequest { parent: parent.clone(), ..Default::default() };
    let changes = app.budgets().list_budget_changes(log).await.unwrap().into_inner().changes;
    assert_eq!(changes.len(), 2, "the restart is in the log");
    assert_eq!(changes[0].figure, changes[0].previous);
    let budget = app.budgets().get_budget(pb::GetBudgetRequest { parent }).await.unwrap();
    let budget = budget.into_inner().budget.unwrap();
    assert_eq!(budget.changes_today, 1, "a restart is no change of the sum");
    assert_eq!(super::limits(&budget)[0], 2_450 + 2_450, "35 % old and 35 % new (R-156)");
}

#[tokio::test]
async fn a_reader_of_changes_misses_none_however_they_commit() {
    let app = TestApp::start().await;
    app.create("a").await;
    let db = app.services.db.get().await.unwrap();
    let (all, cursor) = campaigns::changed_since(&db, Cursor::START).await.unwrap();
    assert_eq!(all.len(), 1);

    // A slow transaction has written before the next cursor is taken, and commits after it.
    let mut slow = app.services.db.get().await.unwrap();
    let tx = slow.transaction().await.unwrap();
    let sql = "UPDATE campaign SET state = 2, changed_by = pg_current_xact_id() WHERE name = 'a'";
    tx.execute(sql, &[]).await.unwrap();
    app.create("b").await;
    let (seen, cursor) = campaigns::changed_since(&db, cursor).await.unwrap();
    assert!(seen.iter().any(|listed| listed.campaign.id.as_str() == "b"));
    tx.commit().await.unwrap();
    let (seen, cursor) = campaigns::changed_since(&db, cursor).await.unwrap();
    let late = seen.iter().find(|listed| listed.campaign.id.as_str() == "a").unwrap();
    assert_eq!(late.campaign.state, CampaignState::Paused);

    let sql = "UPDATE account SET state = 2, changed_by = pg_current_xact_id() WHERE name = 'shop'";
    db.execute(sql, &[]).await.unwrap();
    let (seen, cursor) = campaigns::changed_since(&db, cursor).await.unwrap();
    assert_eq!(seen.len(), 2, "both campaigns of the account");
    // Other databases of the server may keep old transactions running for a moment.
    let mut cursor = cursor;
    for _ in 0..1_000 {
        let (seen, next) = campaigns::changed_since(&db, cursor).await.unwrap();
        if seen.is_empty() {
            return;
        }
        cursor = next;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("what did not change is read for ever");
}

/// Why an admission of `campaigns/spring` is denied now.
async fn denied(app: &TestApp) -> pb::DenialReason {
    let mut admissions =
        pb::admission_service_client::AdmissionServiceClient::new(app.channel.clone());
    let request = pb::AdmitRequest {
        opportunity_id: "o".to_owned(),
        campaign: "campaigns/spring".to_owned(),
        max_price_micros: 1_000_000,
        charge_probability_ppm: None,
    };
    let answer = admissions.admit(request).await.unwrap().into_inner().decision;
    let Some(pb::admit_response::Decision::Denied(denial)) = answer else { panic!("{answer:?}") };
    denial.reason()
}

#[tokio::test]
async fn the_next_admission_of_the_replica_knows_of_a_pause_and_of_other_dates() {
    let app = TestApp::start().await;
    let campaign = app.create("spring").await;
    app.campaigns().pause_campaign(pause("campaigns/spring", "p")).await.unwrap();
    assert_eq!(denied(&app).await, pb::DenialReason::CampaignPaused);
    let resume =
        pb::ResumeCampaignRequest { name: campaign.name.clone(), request_id: "r".to_owned() };
    app.campaigns().resume_campaign(resume).await.unwrap();
    let later = pb::Campaign { start_date: date(6, 12), etag: String::new(), ..campaign };
    app.campaigns().update_campaign(update(later, &["start_date"], "s")).await.unwrap();
    assert_eq!(denied(&app).await, pb::DenialReason::OutsideDates);
}
