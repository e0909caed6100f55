//! AdmissionService: over the wire, with slices from the database and holds from a billing that
//! has some money.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use adspend_common::config::HumanDuration;
use adspend_common::id::AccountId;
use adspend_common::money::Currency;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::time::{Clock, ManualClock};
use chrono::TimeDelta;
use futures_util::future::BoxFuture;
use pb::DenialReason::{self, *};
use pb::admission_service_client::AdmissionServiceClient;
use pb::admit_response::Decision;
use pb::charge_service_client::ChargeServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::daily;
use crate::billing::{
    AccountFacts, Billing, Error, Hold, HoldAsk, HoldExtension, HoldState, LateCharge, Refused,
    SpendReport, Verdicts,
};
use crate::config::Config;
use crate::tests_support::{FakeBilling, TestApp, WEDNESDAY_NOON, at, from_tenant, wrong_fields};

const UNIT: i64 = 1_000_000;

/// A billing with one balance for everybody.
struct Vault {
    facts: Arc<FakeBilling>,
    clock: Clock,
    balance: AtomicI64,
    away: AtomicBool,
    blocked: AtomicBool,
    calls: AtomicU64,
}

impl Vault {
    fn open(&self, ask: &HoldAsk) -> Result<Hold, Refused> {
        let refused = |reason: &str| Refused { reason: reason.to_owned(), message: String::new() };
        if self.blocked.load(Ordering::SeqCst) {
            return Err(refused("ACCOUNT_BLOCKED"));
        }
        let opened = ask.amount_micros.min(self.balance.load(Ordering::SeqCst));
        if opened < ask.least_micros {
            return Err(refused("INSUFFICIENT_FUNDS"));
        }
        self.balance.fetch_sub(opened, Ordering::SeqCst);
        Ok(self.hold(format!("{}/holds/{}", ask.account.name(), ask.request_id), opened))
    }

    fn hold(&self, name: String, opened_micros: i64) -> Hold {
        Hold {
            name,
            state: HoldState::Open,
            opened_micros,
            settled_micros: 0,
            released_micros: 0,
            late_micros: 0,
            sequence: 0,
            expires_at: self.clock.now() + TimeDelta::hours(1),
        }
    }

    fn answer<T: Send + 'static>(
        &self,
        verdicts: Vec<Result<T, Refused>>,
    ) -> BoxFuture<'_, Verdicts<T>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let away = self.away.load(Ordering::SeqCst);
        Box::pin(async move {
            if away { Err(Error::Away("as the test says".to_owned())) } else { Ok(verdicts) }
        })
    }
}

impl Billing for Vault {
    fn get_account<'a>(
        &'a self,
        id: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>> {
        self.facts.get_account(id)
    }

    fn open_holds(&self, asks: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>> {
        let away = self.away.load(Ordering::SeqCst);
        let asks = asks.iter().filter(|_| !away);
        self.answer(asks.map(|ask| self.open(ask)).collect())
    }

    fn extend_holds(&self, extensions: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.answer(extensions.into_iter().map(|it| Ok(self.hold(it.hold, UNIT))).collect())
    }

    fn release_holds(&self, holds: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.answer(holds.into_iter().map(|name| Ok(self.hold(name, UNIT))).collect())
    }

    fn settle_holds(&self, reports: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.answer(reports.into_iter().map(|it| Ok(self.hold(it.hold, UNIT))).collect())
    }

    fn record_charges(&self, charges: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>> {
        self.answer(charges.into_iter().map(|_| Ok(())).collect())
    }
}

pub(super) struct Scene {
    pub(super) app: TestApp,
    vault: Arc<Vault>,
}

/// What an answer says: the token, or why not.
pub(super) type Said = Result<pb::Admission, DenialReason>;

impl Scene {
    /// A campaign `spring` of `accounts/shop`, and so much money.
    pub(super) async fn with(units: i64) -> Scene {
        Scene::with_config(units, |_| {}).await
    }

    /// The same with another configuration.
    pub(super) async fn with_config(units: i64, change: impl FnOnce(&mut Config)) -> Scene {
        let facts = Arc::new(FakeBilling::default());
        facts.client("shop", "north", Currency::RUB);
        let (clock, _): (Clock, ManualClock) = Clock::manual(at(WEDNESDAY_NOON));
        let vault = Arc::new(Vault {
            facts: facts.clone(),
            clock,
            balance: AtomicI64::new(units * UNIT),
            away: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        });
        // A cold entity is waited for as long as a busy machine takes; the callers' deadlines bound it.
        let patient = |config: &mut Config| {
            config.leases.cold_wait = HumanDuration::from_secs(30);
            change(config);
        };
        let app = TestApp::start_on(vault.clone(), facts, patient).await;
        app.create("spring").await;
        Scene { app, vault }
    }

    fn client(&self) -> AdmissionServiceClient<Channel> {
        AdmissionServiceClient::new(self.app.channel.clone())
    }

    pub(super) async fn ask(&self, request: impl tonic::IntoRequest<pb::AdmitRequest>) -> Said {
        said(self.client().admit(request).await.unwrap().into_inner())
    }

    async fn denial(&self, request: pb::AdmitRequest) -> pb::Denial {
        let answer = self.client().admit(request).await.unwrap().into_inner();
        match answer.decision {
            Some(Decision::Denied(denial)) => denial,
            decision => panic!("{decision:?}"),
        }
    }

    /// Asks until the answer is this one; the reasons behind it take a moment to arrive.
    pub(super) async fn until(&self, expected: DenialReason) {
        for _ in 0..200 {
            if self.ask(admit("o-until", 10)).await == Err(expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never {expected:?}");
    }
}

fn said(response: pb::AdmitResponse) -> Said {
    match response.decision.unwrap() {
        Decision::Admitted(admission) => Ok(admission),
        Decision::Denied(denial) => Err(denial.reason()),
    }
}

pub(super) fn admit(id: &str, units: i64) -> pb::AdmitRequest {
    pb::AdmitRequest {
        opportunity_id: id.to_owned(),
        campaign: "campaigns/spring".to_owned(),
        max_price_micros: units * UNIT,
        charge_probability_ppm: None,
    }
}

#[tokio::test]
async fn an_admission_can_be_charged() {
    let scene = Scene::with(1_000).await;
    let admission = scene.ask(admit("o-1", 10)).await.unwrap();
    let token = scene.app.services.token_key.open(&admission.token).unwrap();
    assert_eq!(token.reserved_micros, 10 * UNIT);
    assert_eq!(admission.expire_time.unwrap().seconds * UNIT, token.expires_at_micros);
    let mut charges = ChargeServiceClient::new(scene.app.channel.clone());
    let settle = pb::SettleRequest {
        target: Some(pb::settle_request::Target::Token(admission.token)),
        charge_id: "c-1".to_owned(),
        price_micros: 7 * UNIT,
    };
    let done = charges.settle(settle).await.unwrap().into_inner();
    assert!(!done.late && !done.replayed);
}

#[tokio::test]
async fn the_limit_of_the_day_is_reached_exactly_and_an_increase_counts_at_once() {
    let scene = Scene::with(100_000).await;
    scene.app.set(daily("campaigns/spring", 300)).await.unwrap();
    for no in 0..3 {
        scene.ask(admit(&format!("o-{no}"), 100)).await.unwrap();
    }
    let denial = scene.denial(admit("o-4", 100)).await;
    assert_eq!((denial.reason(), denial.level()), (CampaignDayLimit, pb::Level::Campaign));
    // What this replica's slice has left counts as reserved.
    assert_eq!(denial.limit_micros, 390 * UNIT);
    assert!((300 * UNIT..=390 * UNIT).contains(&denial.used_micros), "{denial:?}");
    assert!(denial.retry_after.is_some());
    // What is left is still of use to somebody who asks for less.
    scene.ask(admit("o-5", 90)).await.unwrap();
    assert_eq!(scene.ask(admit("o-6", 1)).await, Err(CampaignDayLimit));
    scene.app.set(daily("campaigns/spring", 400)).await.unwrap();
    scene.ask(admit("o-7", 100)).await.unwrap();
}

#[tokio::test]
async fn the_account_limits_all_its_campaigns() {
    let scene = Scene::with(100_000).await;
    scene.app.create("autumn").await;
    scene.app.set(daily("accounts/shop", 1_000)).await.unwrap();
    scene.ask(admit("o-1", 1_000)).await.unwrap();
    let autumn = pb::AdmitRequest { campaign: "campaigns/autumn".to_owned(), ..admit("o-2", 301) };
    let denial = scene.denial(autumn).await;
    assert_eq!((denial.reason(), denial.level()), (AccountDayLimit, pb::Level::Account));
    assert_eq!((denial.limit_micros, denial.used_micros), (1_300 * UNIT, 1_000 * UNIT));
}

#[tokio::test]
async fn all_that_is_wrong_is_said_at_once_and_nothing_is_spent() {
    let scene = Scene::with(1_000).await;
    let bad = pb::AdmitRequest {
        opportunity_id: "x".repeat(65),
        campaign: "spring".to_owned(),
        max_price_micros: 0,
        charge_probability_ppm: Some(1_000_001),
    };
    let status = scene.client().admit(bad.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let fields = ["opportunity_id", "campaign", "max_price_micros", "charge_probability_ppm"];
    assert_eq!(wrong_fields(&status), fields);

    let dear = admit("o-1", 100_000_001);
    let requests = vec![admit("o-1", 10), bad, dear];
    let status = scene.client().batch_admit(pb::BatchAdmitRequest { requests }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut expected: Vec<_> = fields.iter().map(|field| format!("requests[1].{field}")).collect();
    expected.push("requests[2].max_price_micros".to_owned());
    assert_eq!(wrong_fields(&status), expected);
    assert_eq!(scene.app.services.leases.slices(), 0, "nobody was asked for");

    for (count, code) in [(0, Code::InvalidArgument), (1_001, Code::ResourceExhausted)] {
        let requests = vec![admit("o-1", 10); count];
        let status = scene.client().batch_admit(pb::BatchAdmitRequest { requests }).await;
        assert_eq!(status.unwrap_err().code(), code, "{count}");
    }
}

#[tokio::test]
async fn a_foreign_campaign_is_like_one_that_does_not_exist() {
    let scene = Scene::with(1_000).await;
    let foreign = from_tenant("ad_server", "south", admit("o-1", 10));
    assert_eq!(scene.ask(foreign).await, Err(CampaignUnknown));
    let missing = pb::AdmitRequest { campaign: "campaigns/none".to_owned(), ..admit("o-1", 10) };
    assert_eq!(scene.ask(missing).await, Err(CampaignUnknown));
    scene.ask(from_tenant("ad_server", "north", admit("o-2", 10))).await.unwrap();
    let auditor = from_tenant("auditor", "north", admit("o-3", 10));
    let status = scene.client().admit(auditor).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn pausing_counts_at_once_and_so_does_resuming() {
    let scene = Scene::with(1_000).await;
    scene.ask(admit("o-1", 10)).await.unwrap();
    let pause = pb::PauseCampaignRequest {
        name: "campaigns/spring".to_owned(),
        request_id: "pause".to_owned(),
    };
    scene.app.campaigns().pause_campaign(pause).await.unwrap();
    assert_eq!(scene.ask(admit("o-2", 10)).await, Err(CampaignPaused));
    let resume = pb::ResumeCampaignRequest {
        name: "campaigns/spring".to_owned(),
        request_id: "resume".to_owned(),
    };
    scene.app.campaigns().resume_campaign(resume).await.unwrap();
    scene.ask(admit("o-3", 10)).await.unwrap();
}

#[tokio::test]
async fn the_last_money_is_spent_and_then_there_are_no_funds_until_more_comes() {
    let scene = Scene::with(35).await;
    for no in 0..3 {
        scene.ask(admit(&format!("o-{no}"), 10)).await.unwrap();
    }
    assert_eq!(scene.ask(admit("o-4", 10)).await, Err(NoFunds));
    scene.vault.balance.fetch_add(1_000 * UNIT, Ordering::SeqCst);
    for _ in 0..200 {
        if scene.ask(admit("o-5", 10)).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("money came and nothing was admitted");
}

#[tokio::test]
async fn without_billing_what_is_held_is_spent_and_no_more() {
    let scene = Scene::with(1_000).await;
    scene.ask(admit("o-1", 10)).await.unwrap();
    scene.vault.away.store(true, Ordering::SeqCst);
    let mut admitted = 1;
    for no in 0..200 {
        match scene.ask(admit(&format!("o-{no}"), 10)).await {
            Ok(_) => admitted += 1,
            Err(reason) => {
                assert!([NoFundsConfirmed, Overloaded].contains(&reason), "{reason:?}");
                break;
            }
        }
    }
    let held = 1_000 - scene.vault.balance.load(Ordering::SeqCst) / UNIT;
    assert!(admitted * 10 <= held, "{admitted} admissions out of {held}");
    scene.until(NoFundsConfirmed).await;
}

#[tokio::test]
async fn a_blocked_account_is_denied_by_name() {
    let scene = Scene::with(1_000).await;
    scene.vault.blocked.store(true, Ordering::SeqCst);
    scene.until(AccountBlocked).await;
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_its_deadline() {
    let scene = Scene::with(1_000).await;
    // Nobody answers: the headroom is locked.
    let mut client = scene.app.database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    tx.execute("LOCK TABLE headroom", &[]).await.unwrap();
    let mut request = Request::new(admit("o-1", 10));
    // An answer, and not DEADLINE_EXCEEDED: it came before the deadline.
    request.set_timeout(Duration::from_secs(2));
    assert_eq!(scene.ask(request).await, Err(Overloaded));
    tx.rollback().await.unwrap();
    scene.ask(admit("o-2", 10)).await.unwrap();
}

#[tokio::test]
async fn a_stream_answers_each_batch_in_its_order() {
    let scene = Scene::with(1_000_000).await;
    let (sender, receiver) = mpsc::channel(4);
    let mut answers =
        scene.client().stream_admit(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for sequence in 1..=20 {
        let requests = (0..100)
            .map(|no| match no % 10 {
                7 => pb::AdmitRequest { campaign: "campaigns/none".to_owned(), ..admit("o", 1) },
                _ => admit(&format!("o-{sequence}-{no}"), 1),
            })
            .collect();
        sender.send(pb::StreamAdmitRequest { sequence, requests }).await.unwrap();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.sequence, sequence);
        let mut tokens = Vec::new();
        for (no, response) in answer.responses.into_iter().enumerate() {
            match said(response) {
                Ok(admission) => tokens.push(admission.token),
                Err(reason) => assert_eq!((no % 10, reason), (7, CampaignUnknown)),
            }
        }
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 90, "every admission has a token of its own");
    }
    // A batch that cannot be read ends the stream with its reason.
    sender.send(pb::StreamAdmitRequest { sequence: 21, requests: Vec::new() }).await.unwrap();
    let status: Status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
