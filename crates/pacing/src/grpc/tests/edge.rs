//! What every RPC has in common: repeats, bad input, foreign objects, roles, health, metrics.

use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::{Date, Money};
use prost_types::FieldMask;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request, Status};

use super::{create, daily};
use crate::tests_support::{TestApp, from_tenant, reason, wrong_fields};

#[tokio::test]
async fn the_same_id_and_payload_get_the_first_answer() {
    let app = TestApp::start().await;
    let first = app.campaigns().create_campaign(create("a", "accounts/shop")).await.unwrap();
    let again = app.campaigns().create_campaign(create("a", "accounts/shop")).await.unwrap();
    let (first, again) = (first.into_inner(), again.into_inner());
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.campaign, again.campaign);
    let first = app.budgets().set_budget(daily("accounts/shop", 2_000)).await.unwrap().into_inner();
    app.budgets().set_budget(daily("accounts/shop", 3_000)).await.unwrap();
    app.billing.set_away(true);
    let again = app.budgets().set_budget(daily("accounts/shop", 2_000)).await.unwrap().into_inner();
    assert!(again.replayed);
    assert_eq!(first.budget, again.budget, "the first answer, not the present state");
    let sql = "SELECT replays FROM request WHERE method = 'SetBudget' AND replays > 0";
    let rows = app.services.db.get().await.unwrap().query(sql, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn the_same_id_with_another_payload_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    app.create("a").await;
    let budget = app.set(daily("accounts/shop", 2_000)).await.unwrap();
    let mut other = daily("accounts/shop", 3_000);
    other.request_id = daily("accounts/shop", 2_000).request_id;
    let refused = app.set(other).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
    let mut other = create("b", "accounts/shop");
    other.request_id = "create-a".to_owned();
    let refused = app.campaigns().create_campaign(other).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
    let pause = |name: &str| pb::PauseCampaignRequest { name: name.into(), request_id: "p".into() };
    app.campaigns().pause_campaign(pause("campaigns/a")).await.unwrap();
    let refused = app.campaigns().pause_campaign(pause("campaigns/b")).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
    let now = pb::GetBudgetRequest { parent: "accounts/shop".to_owned() };
    let now = app.budgets().get_budget(now).await.unwrap().into_inner();
    assert_eq!(now.budget.unwrap(), budget);
    let listed = app.campaigns().list_campaigns(pb::ListCampaignsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().campaigns.len(), 1);
}

#[tokio::test]
async fn ids_of_two_methods_and_of_two_tenants_do_not_meet() {
    let app = TestApp::start().await;
    for (tenant, account, id) in [("north", "accounts/shop", "a"), ("solo", "accounts/solo", "b")] {
        let mut request = create(id, account);
        request.request_id = "same".to_owned();
        let role = if tenant == "solo" { "advertiser" } else { "agency" };
        let created = app.campaigns().create_campaign(from_tenant(role, tenant, request)).await;
        assert!(!created.unwrap().into_inner().replayed);
        let mut request = daily(account, 2_000);
        request.request_id = "same".to_owned();
        let set = app.budgets().set_budget(from_tenant(role, tenant, request)).await;
        assert!(!set.unwrap().into_inner().replayed);
    }
}

#[tokio::test]
async fn of_concurrent_repeats_one_takes_effect_and_all_get_its_answer() {
    let app = TestApp::start().await;
    app.create("a").await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let mut budgets = app.budgets();
            tokio::spawn(async move { budgets.set_budget(daily("campaigns/a", 2_000)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap().unwrap().into_inner());
    }
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers.iter().all(|answer| answer.budget == answers[0].budget));
    assert_eq!(answers[0].budget.as_ref().unwrap().changes_today, 1);
}

#[tokio::test]
async fn concurrent_changes_are_serial_and_three_of_them_pass() {
    let app = TestApp::start().await;
    app.create("a").await;
    let calls: Vec<_> = (0..8)
        .map(|nth| {
            let mut budgets = app.budgets();
            tokio::spawn(async move { budgets.set_budget(daily("campaigns/a", 2_000 + nth)).await })
        })
        .collect();
    let (mut passed, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(_) => passed += 1,
            Err(status) if reason(&status) == "TOO_MANY_BUDGET_CHANGES" => refused += 1,
            Err(status) => panic!("{status:?}"),
        }
    }
    assert_eq!((passed, refused), (3, 5));
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once() {
    let app = TestApp::start().await;
    let interval =
        |day, start_minute, end_minute| pb::ScheduleInterval { day, start_minute, end_minute };
    let wrong = pb::Campaign {
        account: "shops/x".to_owned(),
        display_name: "x".repeat(257),
        time_zone: "Mars/Olympus".to_owned(),
        schedule: vec![interval(1, 0, 60), interval(8, -1, 1441), interval(0, 60, 60)],
        payment_model: 9,
        start_date: Some(Date { year: 2025, month: 2, day: 30 }),
        end_date: Some(Date { year: 2025, month: 0, day: 0 }),
        ..Default::default()
    };
    let request = pb::CreateCampaignRequest {
        campaign_id: "No_Such".to_owned(),
        campaign: Some(wrong.clone()),
        request_id: "has space".to_owned(),
    };
    let status = app.campaigns().create_campaign(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    let mut fields = wrong_fields(&status);
    fields.sort_unstable();
    assert_eq!(
        fields,
        [
            "campaign.account",
            "campaign.display_name",
            "campaign.end_date",
            "campaign.payment_model",
            "campaign.schedule[1].day",
            "campaign.schedule[1].end_minute",
            "campaign.schedule[1].start_minute",
            "campaign.schedule[2].day",
            "campaign.schedule[2].end_minute",
            "campaign.start_date",
            "campaign.time_zone",
            "campaign_id",
            "request_id",
        ]
    );

    let mask = Some(FieldMask { paths: vec!["account".to_owned()] });
    let request = pb::UpdateCampaignRequest {
        campaign: Some(wrong),
        update_mask: mask,
        request_id: String::new(),
    };
    let status = app.campaigns().update_campaign(request).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["request_id", "update_mask", "campaign.name"]);
    let status = app.campaigns().update_campaign(pb::UpdateCampaignRequest::default()).await;
    assert_eq!(wrong_fields(&status.unwrap_err()), ["request_id", "update_mask", "campaign"]);
    let status = app.campaigns().pause_campaign(pb::PauseCampaignRequest::default()).await;
    assert_eq!(wrong_fields(&status.unwrap_err()), ["name", "request_id"]);

    let list = pb::ListCampaignsRequest {
        account: "x".to_owned(),
        page_size: -1,
        page_token: "!".to_owned(),
    };
    let status = app.campaigns().list_campaigns(list).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["account", "page_size", "page_token"]);
}

#[tokio::test]
async fn amounts_that_are_no_budget_are_told_with_the_rest() {
    let app = TestApp::start().await;
    let money = |code: &str, units, nanos| Money { currency_code: code.to_owned(), units, nanos };
    for (amount, expected) in [
        (None, &["amount"][..]),
        (Some(money("RUB", 0, 0)), &["amount"]),
        (Some(money("RUB", -5_000, 0)), &["amount"]),
        (Some(money("RUB", i64::MAX, 0)), &["amount.units"]),
        (Some(money("RUB", 5_000, 5_000_000)), &["amount.nanos"]),
        (Some(money("RUB", 5_000, 1)), &["amount.nanos"]),
        (Some(money("rub", 5_000, 0)), &["amount.currency_code"]),
    ] {
        let request = pb::SetBudgetRequest {
            parent: "budgets/x".to_owned(),
            amount: amount.clone(),
            unit: 7,
            mode: -1,
            request_id: String::new(),
        };
        let mut fields = wrong_fields(&app.set(request).await.unwrap_err());
        fields.sort_unstable();
        let mut all = [expected, &["mode", "parent", "request_id", "unit"]].concat();
        all.sort_unstable();
        assert_eq!(fields, all, "{amount:?}");
    }
}

/// The name asked for is made the same length and replaced, so that any other difference shows.
fn bytes(status: &Status, name: &str) -> (Code, String, Vec<u8>) {
    let details = String::from_utf8_lossy(status.details()).replace(name, "*");
    (status.code(), status.message().replace(name, "*"), details.into_bytes())
}

#[tokio::test]
async fn what_is_foreign_answers_like_what_is_not_there() {
    let app = TestApp::start().await;
    app.create("hers").await;
    app.set(daily("accounts/shop", 2_000)).await.unwrap();
    let mut answers = Vec::new();
    for (campaign, account) in [("hers", "shop"), ("none", "nope")] {
        let name = format!("campaigns/{campaign}");
        let (campaign, account) = (name.as_str(), format!("accounts/{account}"));
        let mine = |message| from_tenant("advertiser", "solo", message);
        let mut all = Vec::new();
        let get = pb::GetCampaignRequest { name: name.clone() };
        let status = app.campaigns().get_campaign(mine_of(get)).await.unwrap_err();
        all.push(bytes(&status, campaign));
        let pause = pb::PauseCampaignRequest { name: name.clone(), request_id: "p".into() };
        let status = app.campaigns().pause_campaign(mine_of(pause)).await.unwrap_err();
        all.push(bytes(&status, campaign));
        let resume = pb::ResumeCampaignRequest { name: name.clone(), request_id: "r".into() };
        let status = app.campaigns().resume_campaign(mine_of(resume)).await.unwrap_err();
        all.push(bytes(&status, campaign));
        let update = pb::UpdateCampaignRequest {
            campaign: Some(pb::Campaign { name: name.clone(), ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["display_name".to_owned()] }),
            request_id: "u".to_owned(),
        };
        let status = app.campaigns().update_campaign(mine_of(update)).await.unwrap_err();
        all.push(bytes(&status, campaign));
        let status = app.campaigns().create_campaign(mine(create("mine", &account))).await;
        all.push(bytes(&status.unwrap_err(), &account));
        for parent in [campaign, &account] {
            let status = app.budgets().set_budget(mine_of(daily(parent, 2_000))).await.unwrap_err();
            all.push(bytes(&status, parent));
            let remove = pb::RemoveBudgetRequest { parent: parent.into(), request_id: "x".into() };
            let status = app.budgets().remove_budget(mine_of(remove)).await.unwrap_err();
            all.push(bytes(&status, parent));
            let get = pb::GetBudgetRequest { parent: parent.into() };
            let status = app.budgets().get_budget(mine_of(get)).await.unwrap_err();
            all.push(bytes(&status, parent));
            let list = pb::ListBudgetChangesRequest { parent: parent.into(), ..Default::default() };
            let status = app.budgets().list_budget_changes(mine_of(list)).await.unwrap_err();
            all.push(bytes(&status, parent));
            let try_it =
                pb::PreviewBudgetChangeRequest { parent: parent.into(), ..Default::default() };
            let status = app.budgets().preview_budget_change(mine_of(try_it)).await.unwrap_err();
            all.push(bytes(&status, parent));
        }
        assert!(all.iter().all(|(code, ..)| *code == Code::NotFound), "{all:?}");
        answers.push(all);
    }
    assert_eq!(answers[0], answers[1]);
}

fn mine_of<M>(message: M) -> Request<M> {
    from_tenant("advertiser", "solo", message)
}

#[tokio::test]
async fn a_role_that_may_not_is_refused_before_anything_is_looked_at() {
    let app = TestApp::start().await;
    for role in ["ad_server", "auditor", "pacing"] {
        let mut request = Request::new(pb::SetBudgetRequest::default());
        request.metadata_mut().insert("adspend-role", role.parse().unwrap());
        let status = app.budgets().set_budget(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED")
        );
    }
    let mut request = Request::new(pb::ListCampaignsRequest::default());
    request.metadata_mut().insert("adspend-role", "auditor".parse().unwrap());
    assert!(app.campaigns().list_campaigns(request).await.is_ok(), "who reads everything, reads");
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused() {
    let app = TestApp::start().await;
    let mut request = create("a", "accounts/shop");
    request.campaign.as_mut().unwrap().display_name = "x".repeat(5 * 1024 * 1024);
    let status = app.campaigns().create_campaign(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
}

async fn page(app: &TestApp, path: &str) -> String {
    let mut connection = TcpStream::connect(app.metrics_addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn it_drains_and_strikes_itself_off() {
    let app = TestApp::start().await;
    app.create("a").await;
    assert!(page(&app, "/metrics").await.starts_with("HTTP/1.1 200"));
    let replicas = "SELECT count(*) FROM replica";
    let db = app.database.pool.get().await.unwrap();
    for attempt in 0.. {
        if db.query_one(replicas, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            break;
        }
        assert!(attempt < 500, "the replica never noted itself");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let _database = app.stop().await;
    let live: i64 = db.query_one(replicas, &[]).await.unwrap().get(0);
    assert_eq!(live, 0);
}
