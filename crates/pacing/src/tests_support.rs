//! The whole service in a test: a database of its own, a clock that the test moves, and a billing
//! that knows the accounts it is told of.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use adspend_common::config::{AuthMode, HumanDuration};
use adspend_common::devpg::TestDatabase;
use adspend_common::id::AccountId;
use adspend_common::money::Currency;
use adspend_common::telemetry::Telemetry;
use adspend_common::time::{Clock, ManualClock};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::MIGRATIONS;
use crate::app::{App, Parts, Services};
use crate::billing::{
    AccountFacts, AccountKind, AccountState, Billing, Error, Hold, HoldAsk, HoldExtension,
    LateCharge, SpendReport, Verdicts,
};
use crate::config::Config;

/// A Wednesday noon in Moscow.
pub(crate) const WEDNESDAY_NOON: &str = "2025-06-11T12:00:00+03:00";

/// A moment written with its offset.
pub(crate) fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc)
}

/// A running service.
pub(crate) struct TestApp {
    pub(crate) services: Services,
    pub(crate) clock: ManualClock,
    pub(crate) billing: Arc<FakeBilling>,
    pub(crate) channel: Channel,
    pub(crate) database: TestDatabase,
    pub(crate) metrics_addr: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl TestApp {
    /// On a database of its own, at [`WEDNESDAY_NOON`], with the accounts `shop` and `kiosk` of the
    /// agency `north`, and the direct advertiser `solo`, all in roubles.
    pub(crate) async fn start() -> TestApp {
        TestApp::start_with(|_| {}).await
    }

    /// The same with another configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> TestApp {
        let billing = Arc::new(FakeBilling::default());
        billing.client("shop", "north", Currency::RUB);
        billing.client("kiosk", "north", Currency::RUB);
        billing.advertiser("solo", Currency::RUB);
        TestApp::start_on(billing.clone(), billing, change).await
    }

    /// The same with another billing; `facts` is the fake inside it.
    pub(crate) async fn start_on(
        billing: Arc<dyn Billing>,
        facts: Arc<FakeBilling>,
        change: impl FnOnce(&mut Config),
    ) -> TestApp {
        let database = TestDatabase::create(&MIGRATIONS).await;
        let mut config = Config::new(database.config());
        config.listen.grpc.set_port(0);
        config.listen.metrics.set_port(0);
        config.auth.mode = AuthMode::Development;
        config.drain.notice = HumanDuration::from_millis(1);
        config.drain.finish = HumanDuration::from_secs(5);
        // A busy machine is not a refusal.
        config.limits.default_deadline = HumanDuration::from_secs(60);
        config.limits.max_deadline = HumanDuration::from_secs(120);
        // These tests are about limits, holds and charges: whether an opportunity is admitted must
        // not hang on a forecast. The pacer runs all the same; its own tests let it throttle.
        config.pacer.throttle = false;
        change(&mut config);
        let (clock, hand) = Clock::manual(at(WEDNESDAY_NOON));
        let parts = Parts { clock, billing, telemetry: Telemetry::for_tests() };
        let app = App::start(config, parts).await.unwrap();
        let (services, metrics_addr) = (app.services().clone(), app.metrics_addr());
        let endpoint = Channel::from_shared(format!("http://{}", app.grpc_addr())).unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(app.run(async {
            stopped.await.ok();
        }));
        TestApp {
            services,
            clock: hand,
            billing: facts,
            channel: endpoint.connect_lazy(),
            database,
            metrics_addr,
            stop,
            serving,
        }
    }

    /// Drains, as on SIGTERM, and waits until all has ended; the database is left.
    pub(crate) async fn stop(self) -> TestDatabase {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap();
        self.database
    }
}

/// A request as an agency or an advertiser of this tenant sends it.
pub(crate) fn from_tenant<M>(role: &'static str, tenant: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("adspend-role", MetadataValue::from_static(role));
    request.metadata_mut().insert("adspend-tenant", tenant.parse().unwrap());
    request
}

/// The reason in a status, as the catalogue names it.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The wrong fields in a status.
pub(crate) fn wrong_fields(status: &Status) -> Vec<String> {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    let found = details.bad_request().map(|bad| bad.field_violations.as_slice());
    found.unwrap_or_default().iter().map(|violation| violation.field.clone()).collect()
}

/// Billing with accounts and no money: it holds nothing.
#[derive(Debug, Default)]
pub(crate) struct FakeBilling {
    accounts: Mutex<HashMap<AccountId, AccountFacts>>,
    away: AtomicBool,
    asked: AtomicU32,
}

impl FakeBilling {
    pub(crate) fn client(&self, id: &str, agency: &str, currency: Currency) {
        self.put(id, agency, currency, AccountKind::Client);
    }

    pub(crate) fn advertiser(&self, id: &str, currency: Currency) {
        self.put(id, id, currency, AccountKind::Advertiser);
    }

    fn put(&self, id: &str, tenant: &str, currency: Currency, kind: AccountKind) {
        let tenant = AccountId::parse(tenant).unwrap();
        let facts = AccountFacts { tenant, currency, kind, state: AccountState::Active };
        self.accounts.lock().unwrap().insert(AccountId::parse(id).unwrap(), facts);
    }

    pub(crate) fn set_state(&self, id: &str, state: AccountState) {
        let id = AccountId::parse(id).unwrap();
        self.accounts.lock().unwrap().get_mut(&id).unwrap().state = state;
    }

    /// From now on nothing answers, or everything again.
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// How often an account was asked for.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn no_holds<T: Send + 'static>(&self) -> BoxFuture<'_, Verdicts<T>> {
        Box::pin(async { Err(Error::Away("this billing holds nothing".to_owned())) })
    }
}

impl Billing for FakeBilling {
    fn get_account<'a>(
        &'a self,
        id: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let away = self.away.load(Ordering::SeqCst);
        let found = self.accounts.lock().unwrap().get(id).cloned();
        let answer = if away { Err(Error::Away("as the test says".to_owned())) } else { Ok(found) };
        Box::pin(async { answer })
    }

    fn open_holds(&self, _: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.no_holds()
    }

    fn extend_holds(&self, _: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.no_holds()
    }

    fn release_holds(&self, _: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.no_holds()
    }

    fn settle_holds(&self, _: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>> {
        self.no_holds()
    }

    fn record_charges(&self, _: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>> {
        self.no_holds()
    }
}
