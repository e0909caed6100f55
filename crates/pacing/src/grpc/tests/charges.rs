//! ChargeService and ReportService.

use std::time::Duration;

use adspend_common::proto::adspend::pacing::v1 as pb;
use futures_util::StreamExt;
use pb::charge_service_client::ChargeServiceClient;
use pb::report_service_client::ReportServiceClient;
use pb::settle_request::Target;
use pb::settle_result::Outcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::daily;
use crate::admission::token::Token;
use crate::charges::tests::support::{Fixture, Shop, Slice};
use crate::tests_support::{TestApp, from_tenant, reason, wrong_fields};

/// A service with a campaign `spring` of `accounts/shop` and a slice of it.
struct Scene {
    app: TestApp,
    books: Fixture,
    shop: Shop,
    slice: Slice,
}

impl Scene {
    async fn new() -> Scene {
        let app = TestApp::start().await;
        app.create("spring").await;
        let books = Fixture::over(&app);
        let row = "SELECT account_no, campaign_no FROM campaign WHERE name = 'spring'";
        let row = books.client().await.query_one(row, &[]).await.unwrap();
        let (account_no, campaign_no) = (row.get(0), row.get(1));
        let shop = Shop { account_no, hold_no: books.hold(account_no, 1_000_000_000).await };
        let slice = books.slice(shop, campaign_no, 1_000_000).await;
        Scene { app, books, shop, slice }
    }

    fn charges(&self) -> ChargeServiceClient<Channel> {
        ChargeServiceClient::new(self.app.channel.clone())
    }

    fn token(&self, admission_no: u32, reserved: i64) -> Target {
        Target::Token(self.app.services.token_key.seal(&self.slice.token(admission_no, reserved)))
    }

    async fn settle(&self, request: pb::SettleRequest) -> Result<pb::SettleResponse, Status> {
        Ok(self.charges().settle(request).await?.into_inner())
    }

    async fn batch(&self, requests: Vec<pb::SettleRequest>) -> Vec<pb::SettleResult> {
        let request = pb::BatchSettleRequest { requests };
        self.charges().batch_settle(request).await.unwrap().into_inner().results
    }

    async fn cancel(&self, token: Token, id: &str) -> Result<pb::CancelResponse, Status> {
        let token = self.app.services.token_key.seal(&token);
        let request = pb::CancelRequest { token, request_id: id.to_owned() };
        Ok(self.charges().cancel(request).await?.into_inner())
    }

    async fn report(&self, parent: &str) -> pb::GetPacingStateResponse {
        let mut reports = ReportServiceClient::new(self.app.channel.clone());
        let request = pb::GetPacingStateRequest { parent: parent.to_owned(), day: None };
        reports.get_pacing_state(request).await.unwrap().into_inner()
    }
}

fn settle(target: Target, charge_id: &str, price_micros: i64) -> pb::SettleRequest {
    pb::SettleRequest { target: Some(target), charge_id: charge_id.to_owned(), price_micros }
}

fn campaign(name: &str) -> Target {
    Target::Campaign(name.to_owned())
}

/// The reason of a refused item, or what was done with it.
fn said(result: &pb::SettleResult) -> &str {
    match result.outcome.as_ref().unwrap() {
        Outcome::Done(done) if done.replayed => "replayed",
        Outcome::Done(done) if done.late => "late",
        Outcome::Done(_) => "done",
        Outcome::Error(error) => &error.reason,
    }
}

#[tokio::test]
async fn a_charge_is_booked_on_the_day_of_its_admission_and_repeats_get_the_same() {
    let scene = Scene::new().await;
    let first = scene.settle(settle(scene.token(0, 100), "c-1", 60)).await.unwrap();
    let day = first.day.unwrap();
    assert_eq!((day.year, day.month, day.day), (2025, 6, 11));
    assert_eq!((first.late, first.replayed, first.currency_code.as_str()), (false, false, "RUB"));
    scene.books.advance(Duration::from_secs(86_400));
    let again = scene.settle(settle(scene.token(0, 100), "c-1", 60)).await.unwrap();
    assert_eq!(again, pb::SettleResponse { replayed: true, ..first });
    let late = scene.settle(settle(scene.token(1, 100), "c-2", 60)).await.unwrap();
    assert_eq!((late.late, late.day.unwrap().day), (true, 11), "an expired token is still charged");
    let conversion = scene.settle(settle(campaign("campaigns/spring"), "c-3", 60)).await.unwrap();
    assert_eq!((conversion.late, conversion.day.unwrap().day), (true, 12));
    scene.books.assert_books().await;
}

#[tokio::test]
async fn refusals_of_one_charge_have_their_codes_and_change_nothing() {
    let scene = Scene::new().await;
    scene.settle(settle(scene.token(0, 100), "c-1", 60)).await.unwrap();
    let mut forged = scene.app.services.token_key.seal(&scene.slice.token(7, 100)).to_vec();
    forged[40] ^= 1;
    for (name, request, code, because) in [
        (
            "forged",
            settle(Target::Token(forged.into()), "c-2", 1),
            Code::InvalidArgument,
            "TOKEN_INVALID",
        ),
        (
            "garbage",
            settle(Target::Token(vec![1, 2, 3, 4].into()), "c-2", 1),
            Code::InvalidArgument,
            "TOKEN_INVALID",
        ),
        (
            "price",
            settle(scene.token(1, 100), "c-2", 101),
            Code::FailedPrecondition,
            "PRICE_ABOVE_RESERVED",
        ),
        ("used", settle(scene.token(0, 100), "c-2", 60), Code::FailedPrecondition, "TOKEN_USED"),
        (
            "reused",
            settle(scene.token(0, 100), "c-1", 61),
            Code::AlreadyExists,
            "REQUEST_ID_REUSED",
        ),
        ("unknown", settle(campaign("campaigns/none"), "c-2", 1), Code::NotFound, "NOT_FOUND"),
    ] {
        let status = scene.settle(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, because), "{name}");
    }
    assert_eq!(scene.books.number("SELECT count(*) FROM charge").await, 1);
    scene.books.assert_books().await;
}

#[tokio::test]
async fn all_wrong_fields_are_named_at_once() {
    let scene = Scene::new().await;
    for (request, expected) in [
        (pb::SettleRequest::default(), &["token", "charge_id", "price_micros"][..]),
        (
            settle(campaign("accounts/shop"), "two words", -1),
            &["campaign", "charge_id", "price_micros"],
        ),
        (settle(scene.token(0, 1), &"x".repeat(65), i64::MAX), &["charge_id", "price_micros"]),
        (settle(Target::Token(vec![].into()), "c", 1), &["token"]),
    ] {
        let status = scene.settle(request).await.unwrap_err();
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, expected.iter().map(|s| s.to_string()).collect())
        );
    }
    let status = scene.charges().cancel(pb::CancelRequest::default()).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["token", "request_id"]);
    let empty = scene.charges().batch_settle(pb::BatchSettleRequest::default()).await.unwrap_err();
    assert_eq!(wrong_fields(&empty), ["requests"]);
    let requests = vec![settle(campaign("campaigns/spring"), "c", 1); 1_001];
    let long = scene.charges().batch_settle(pb::BatchSettleRequest { requests }).await.unwrap_err();
    assert_eq!((long.code(), reason(&long).as_str()), (Code::ResourceExhausted, "TOO_LARGE"));
    assert_eq!(scene.books.number("SELECT count(*) FROM charge").await, 0);
}

#[tokio::test]
async fn items_of_a_batch_stand_for_themselves() {
    let scene = Scene::new().await;
    let results = scene
        .batch(vec![
            settle(scene.token(0, 100), "c-1", 60),
            settle(scene.token(1, 100), "", 60),
            settle(scene.token(0, 100), "c-1", 60),
            settle(scene.token(2, 100), "c-2", 101),
            settle(campaign("campaigns/spring"), "c-3", 5),
            settle(Target::Token(vec![0; 65].into()), "c-4", 5),
            settle(scene.token(3, 100), "c-5", 100),
        ])
        .await;
    let expected = [
        "done",
        "INVALID_ARGUMENT",
        "replayed",
        "PRICE_ABOVE_RESERVED",
        "late",
        "TOKEN_INVALID",
        "done",
    ];
    assert_eq!(results.iter().map(said).collect::<Vec<_>>(), expected);
    scene.books.assert_books().await;
}

#[tokio::test]
async fn a_stream_answers_every_message_with_its_sequence() {
    let scene = Scene::new().await;
    let message = |sequence: u32| pb::StreamSettleRequest {
        sequence: sequence.into(),
        requests: (0..20)
            .map(|n| settle(scene.token(sequence * 20 + n, 100), &format!("c-{sequence}-{n}"), 10))
            .collect(),
    };
    let mut messages: Vec<_> = (0..200).map(message).collect();
    // A message of nothing and one that is too long do not end the stream.
    messages.push(pb::StreamSettleRequest { sequence: 200, requests: Vec::new() });
    let requests = vec![settle(scene.token(0, 100), "c", 1); 1_001];
    messages.push(pb::StreamSettleRequest { sequence: 201, requests });
    messages.push(message(7));
    let stream = tokio_stream::iter(messages);
    let mut answers = scene.charges().stream_settle(stream).await.unwrap().into_inner();
    let mut seen = Vec::new();
    let mut replayed = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        match answer.sequence {
            200 => assert_eq!(said(&answer.results[0]), "INVALID_ARGUMENT"),
            201 => assert_eq!(said(&answer.results[0]), "TOO_LARGE"),
            _ => {
                assert!(
                    answer.results.iter().all(|result| matches!(said(result), "done" | "replayed"))
                );
                replayed +=
                    answer.results.iter().filter(|result| said(result) == "replayed").count();
            }
        }
        seen.push(answer.sequence);
    }
    seen.sort_unstable();
    let expected: Vec<i64> = (0..=7).chain([7]).chain(8..=201).collect();
    assert_eq!((seen, replayed), (expected, 20));
    assert_eq!(scene.books.number("SELECT count(*) FROM charge").await, 4_000);
    scene.books.assert_books().await;
}

#[tokio::test]
async fn a_draining_server_answers_what_it_took_and_ends_the_stream() {
    let scene = Scene::new().await;
    let (sender, messages) = mpsc::channel(4);
    let mut answers =
        scene.charges().stream_settle(ReceiverStream::new(messages)).await.unwrap().into_inner();
    let requests = vec![settle(scene.token(0, 100), "c-1", 10)];
    sender.send(pb::StreamSettleRequest { sequence: 1, requests }).await.unwrap();
    assert_eq!(said(&answers.next().await.unwrap().unwrap().results[0]), "done");
    let Scene { app, .. } = scene;
    let stopping = tokio::spawn(app.stop());
    let end = tokio::time::timeout(Duration::from_secs(10), answers.next()).await.unwrap();
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Unavailable);
    drop(sender);
    stopping.await.unwrap();
}

#[tokio::test]
async fn an_admission_is_given_back_once() {
    let scene = Scene::new().await;
    let token = scene.slice.token(0, 100);
    let first = scene.cancel(token, "x-1").await.unwrap();
    assert_eq!((first.released_micros, first.replayed), (100, false));
    let again = scene.cancel(token, "x-2").await.unwrap();
    assert_eq!((again.released_micros, again.replayed), (100, true));
    let status = scene.settle(settle(scene.token(0, 100), "c-1", 60)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TOKEN_USED"));
    scene.settle(settle(scene.token(1, 100), "c-1", 60)).await.unwrap();
    let status = scene.cancel(scene.slice.token(1, 100), "x-3").await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_USED");
    scene.books.advance(Duration::from_secs(3_600));
    let status = scene.cancel(scene.slice.token(2, 100), "x-4").await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::FailedPrecondition, "TOKEN_EXPIRED")
    );
    scene.books.assert_books().await;
}

#[tokio::test]
async fn only_ad_servers_and_operators_charge() {
    let scene = Scene::new().await;
    let request = || settle(scene.token(0, 100), "c-1", 60);
    for role in ["agency", "advertiser"] {
        let refused = scene.charges().settle(from_tenant(role, "north", request())).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied, "{role}");
    }
    let mut allowed = Request::new(request());
    allowed.metadata_mut().insert("adspend-role", "ad_server".parse().unwrap());
    assert!(scene.charges().settle(allowed).await.is_ok());
}

#[tokio::test]
async fn a_report_tells_the_day_of_an_account_and_of_a_campaign() {
    let scene = Scene::new().await;
    scene.app.set(daily("campaigns/spring", 1_000)).await.unwrap();
    scene.settle(settle(scene.token(0, 100), "c-1", 60)).await.unwrap();
    scene.settle(settle(campaign("campaigns/spring"), "c-2", 7)).await.unwrap();
    for (parent, limit) in [("campaigns/spring", Some(1_300_000_000)), ("accounts/shop", None)] {
        let state = scene.report(parent).await;
        assert_eq!(state.limit_micros, limit, "{parent}");
        assert_eq!((state.charged_micros, state.late_micros, state.charges), (67, 7, 2));
        assert_eq!(state.reserved_micros, 1_000_000 - 60);
        assert_eq!(state.free_hold_micros, 1_000_000_000 - 1_000_000);
        assert_eq!(state.unsettled_micros, 67, "billing is not there");
        assert_eq!((state.currency_code.as_str(), state.replicas), ("RUB", 1));
        assert_eq!(state.admission_rate_ppm, 1_000_000);
    }
    let mut reports = ReportServiceClient::new(scene.app.channel.clone());
    let foreign = pb::GetPacingStateRequest { parent: "campaigns/spring".into(), day: None };
    let status = reports.get_pacing_state(from_tenant("advertiser", "solo", foreign)).await;
    assert_eq!(status.unwrap_err().code(), Code::NotFound);
    let wrong = pb::GetPacingStateRequest {
        parent: "banners/x".into(),
        day: Some(adspend_common::proto::google::r#type::Date { year: 2025, month: 2, day: 30 }),
    };
    let status = reports.get_pacing_state(wrong).await.unwrap_err();
    assert_eq!(wrong_fields(&status), ["parent", "day"]);
    assert!(scene.shop.account_no > 0);
}
