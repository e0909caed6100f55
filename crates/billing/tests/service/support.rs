//! A service of its own for each test, and short words for what tests ask of it.

use std::{collections::HashMap, net::SocketAddr};

use adspend_billing::{MIGRATIONS, app::App, config::Config};
use adspend_common::{
    config::{AuthMode, HumanDuration},
    devpg::TestDatabase,
    money::Money,
    proto::{adspend::billing::v1 as pb, google::r#type as google},
    telemetry::Telemetry,
    time::{Clock, ManualClock},
};
use chrono::{DateTime, Utc};
use pb::{
    account_service_client::AccountServiceClient, audit_service_client::AuditServiceClient,
    auto_top_up_service_client::AutoTopUpServiceClient,
    autopay_service_client::AutopayServiceClient, credit_service_client::CreditServiceClient,
    document_service_client::DocumentServiceClient, event_service_client::EventServiceClient,
    hold_service_client::HoldServiceClient, invoice_service_client::InvoiceServiceClient,
    payment_service_client::PaymentServiceClient,
    promised_payment_service_client::PromisedPaymentServiceClient,
    transaction_service_client::TransactionServiceClient,
    transfer_service_client::TransferServiceClient,
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{
    Code, Request, Response, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

/// Friday, noon in Moscow.
pub(crate) const START: &str = "2026-11-20T12:00:00+03:00";

pub(crate) const NORTH_INN: &str = "7707083893";
pub(crate) const OTHER_INN: &str = "7743001840";

/// A running service.
pub(crate) struct World {
    pub(crate) hand: ManualClock,
    pub(crate) metrics: SocketAddr,
    pub(crate) database: TestDatabase,
    pub(crate) clock: Clock,
    /// For a second process on the same database.
    pub(crate) config: Config,
    channel: Channel,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

/// Another replica of the service on the same database, with the same clock.
pub(crate) struct Replica {
    channel: Channel,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Replica {
    pub(crate) fn role(&self, role: &'static str) -> Caller {
        Caller { channel: self.channel.clone(), who: As { role, tenant: None } }
    }

    pub(crate) async fn end(self) {
        let Replica { channel, stop, served } = self;
        drop(channel);
        stop.send(()).unwrap();
        served.await.unwrap();
    }
}

async fn serve(config: Config, clock: Clock) -> (Replica, SocketAddr) {
    let app = App::start(config, clock, &Telemetry::for_tests()).await.unwrap();
    let address = format!("http://{}", app.grpc_addr());
    let metrics = app.metrics_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(app.run(async move {
        let _ = stopped.await;
    }));
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    (Replica { channel, stop, served }, metrics)
}

/// Whose calls they are.
#[derive(Clone)]
pub(crate) struct As {
    role: &'static str,
    tenant: Option<&'static str>,
}

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("adspend-role", self.role.parse().unwrap());
        if let Some(tenant) = self.tenant {
            request.metadata_mut().insert("adspend-tenant", tenant.parse().unwrap());
        }
        Ok(request)
    }
}

/// The clients of one caller.
#[derive(Clone)]
pub(crate) struct Caller {
    channel: Channel,
    who: As,
}

type Via = InterceptedService<Channel, As>;

macro_rules! clients {
    ($($name:ident: $client:ident),* $(,)?) => {
        $(pub(crate) fn $name(&self) -> $client<Via> {
            $client::with_interceptor(self.channel.clone(), self.who.clone())
        })*
    };
}

impl Caller {
    clients!(
        accounts: AccountServiceClient,
        audit: AuditServiceClient,
        credit: CreditServiceClient,
        documents: DocumentServiceClient,
        autopay: AutopayServiceClient,
        events: EventServiceClient,
        holds: HoldServiceClient,
        invoices: InvoiceServiceClient,
        payments: PaymentServiceClient,
        promises: PromisedPaymentServiceClient,
        top_ups: AutoTopUpServiceClient,
        transactions: TransactionServiceClient,
        transfers: TransferServiceClient,
    );
}

impl World {
    pub(crate) async fn start() -> World {
        World::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> World {
        World::at(START, change).await
    }

    /// A service whose time begins at a moment.
    pub(crate) async fn at(start: &str, change: impl FnOnce(&mut Config)) -> World {
        let database = TestDatabase::create(&MIGRATIONS).await;
        let mut config = Config::new(database.config());
        config.auth.mode = AuthMode::Development;
        config.listen.grpc.set_port(0);
        config.listen.metrics.set_port(0);
        config.drain.notice = HumanDuration::from_millis(0);
        // Nothing that a caller is told may depend on jobs.
        config.jobs.enabled = false;
        config.ledger.posters = 1;
        // A busy machine is not a refusal.
        config.limits.default_deadline = HumanDuration::from_secs(60);
        config.limits.max_deadline = HumanDuration::from_secs(120);
        change(&mut config);
        World::serve(database, config, at(start)).await
    }

    async fn serve(database: TestDatabase, config: Config, now: DateTime<Utc>) -> World {
        let (clock, hand) = Clock::manual(now);
        let (replica, metrics) = serve(config.clone(), clock.clone()).await;
        let Replica { channel, stop, served } = replica;
        World { hand, metrics, database, clock, config, channel, stop, served }
    }

    /// The database, for what no call shows.
    pub(crate) fn database(&self) -> &TestDatabase {
        &self.database
    }

    /// Stops the service and starts it again on its data.
    pub(crate) async fn restart(self) -> World {
        self.restart_with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> World {
        let World { hand, database, mut config, channel, stop, served, .. } = self;
        change(&mut config);
        drop(channel);
        stop.send(()).unwrap();
        served.await.unwrap();
        World::serve(database, config, hand.now()).await
    }

    /// One replica more.
    pub(crate) async fn replica(&self) -> Replica {
        serve(self.config.clone(), self.clock.clone()).await.0
    }

    /// The process ends without a word; another takes over its database.
    pub(crate) async fn succeeded_by(&mut self, change: impl FnOnce(&mut Config)) {
        self.served.abort();
        change(&mut self.config);
        let (replica, metrics) = serve(self.config.clone(), self.clock.clone()).await;
        let Replica { channel, stop, served } = replica;
        (self.metrics, self.channel, self.stop, self.served) = (metrics, channel, stop, served);
    }

    pub(crate) fn operator(&self) -> Caller {
        self.role("operator", None)
    }

    pub(crate) fn agency(&self, id: &'static str) -> Caller {
        self.role("agency", Some(id))
    }

    pub(crate) fn role(&self, role: &'static str, tenant: Option<&'static str>) -> Caller {
        Caller { channel: self.channel.clone(), who: As { role, tenant } }
    }

    pub(crate) fn set(&self, moment: &str) {
        self.hand.set(at(moment));
    }

    /// An agency with the INN of North.
    pub(crate) async fn with_agency(&self, id: &str) -> pb::Account {
        self.create(account(id, pb::AccountKind::Agency, NORTH_INN)).await
    }

    pub(crate) async fn create(&self, request: pb::CreateAccountRequest) -> pb::Account {
        let created = self.operator().accounts().create_account(request).await.unwrap();
        created.into_inner().account.unwrap()
    }

    /// A client of an agency, made by the agency itself.
    pub(crate) async fn with_client(&self, agency: &'static str, id: &str) -> pb::Account {
        let request = client(id, agency);
        let created = self.agency(agency).accounts().create_account(request).await.unwrap();
        created.into_inner().account.unwrap()
    }

    /// An invoice of this amount, issued by an operator.
    pub(crate) async fn invoice(&self, account: &str, amount: &str) -> pb::Invoice {
        let request = pb::CreateInvoiceRequest {
            parent: name(account),
            amount: rub(amount),
            terms: pb::InvoiceTerms::Prepaid.into(),
            request_id: fresh(),
        };
        let issued = self.operator().invoices().create_invoice(request).await.unwrap();
        issued.into_inner().invoice.unwrap()
    }

    /// Money from outside onto an account: an invoice and its payment.
    pub(crate) async fn pay(&self, account: &str, amount: &str) -> pb::Payment {
        let invoice = self.invoice(account, amount).await;
        let payment = self.record(&invoice.number, amount, &invoice.payer_inn).await;
        assert_eq!(payment.state(), pb::PaymentState::Credited, "{payment:?}");
        payment
    }

    pub(crate) async fn record(&self, purpose: &str, amount: &str, inn: &str) -> pb::Payment {
        let request = payment(purpose, amount, inn);
        let recorded = self.operator().payments().record_payment(request).await.unwrap();
        recorded.into_inner().payment.unwrap()
    }

    pub(crate) async fn transfer(&self, from: &str, to: &str, amount: &str) {
        let request = pb::CreateTransferRequest {
            source: name(from),
            destination: name(to),
            amount: rub(amount),
            request_id: fresh(),
        };
        self.operator().transfers().create_transfer(request).await.unwrap();
    }

    /// The notices that were made, by the name of what they say.
    /// Sets money of an account aside for a quarter of an hour, as pacing does.
    pub(crate) async fn hold(&self, account: &str, amount_micros: i64) -> pb::Hold {
        let item = pb::OpenHoldItem {
            account: name(account),
            amount_micros,
            min_amount_micros: 1,
            ttl: Some(prost_types::Duration { seconds: 900, nanos: 0 }),
            request_id: fresh(),
        };
        let open = pb::OpenHoldsRequest { requests: vec![item] };
        let opened = self.role("pacing", None).holds().open_holds(open).await.unwrap();
        match opened.into_inner().results.remove(0).outcome.unwrap() {
            pb::hold_result::Outcome::Hold(hold) => hold,
            pb::hold_result::Outcome::Error(error) => panic!("{error:?}"),
        }
    }

    /// Spend without cover.
    pub(crate) async fn late_charge(&self, account: &str, amount_micros: i64) {
        let item = pb::RecordChargeItem {
            account: name(account),
            campaign: "campaigns/spring".to_owned(),
            amount_micros,
            request_id: fresh(),
            ..Default::default()
        };
        let request = pb::RecordChargesRequest { requests: vec![item] };
        let done = self.role("pacing", None).holds().record_charges(request).await.unwrap();
        let result = done.into_inner().results.remove(0);
        assert!(result.error.is_none(), "{result:?}");
    }

    pub(crate) async fn notices(&self, content: &str) -> i64 {
        let client = self.database.pool.get().await.unwrap();
        let sql = "-- tests.notices\nSELECT count(*) FROM notice WHERE content ->> 'notice' = $1";
        client.query_one(sql, &[&content]).await.unwrap().get(0)
    }

    pub(crate) async fn balance(&self, account: &str) -> pb::GetBalanceResponse {
        let request = pb::GetBalanceRequest { name: name(account), as_of: None };
        self.operator().accounts().get_balance(request).await.unwrap().into_inner()
    }

    pub(crate) async fn available(&self, account: &str) -> String {
        text(&self.balance(account).await.available)
    }

    pub(crate) async fn promise(
        &self,
        agency: &str,
        amount: &str,
    ) -> Result<pb::PromisedPayment, Status> {
        let request = pb::TakePromisedPaymentRequest {
            parent: name(agency),
            amount: rub(amount),
            request_id: fresh(),
        };
        let taken = self.operator().promises().take_promised_payment(request).await?;
        Ok(taken.into_inner().promised_payment.unwrap())
    }

    pub(crate) async fn promised(&self, promise: &pb::PromisedPayment) -> pb::PromisedPayment {
        let request = pb::GetPromisedPaymentRequest { name: promise.name.clone() };
        let found = self.operator().promises().get_promised_payment(request).await.unwrap();
        found.into_inner().promised_payment.unwrap()
    }

    /// Runs statements on the service's database behind its back.
    pub(crate) async fn sql(&self, statements: &str) {
        let pool = adspend_common::db::Pool::new(&self.database.config(), "test").unwrap();
        pool.get().await.unwrap().batch_execute(statements).await.unwrap();
    }

    /// Proves the ledger and stops the service.
    pub(crate) async fn end(self) {
        let request = pb::VerifyLedgerRequest::default();
        let report = self.operator().audit().verify_ledger(request).await.unwrap().into_inner();
        assert!(report.ok, "{:#?}", report.differences);
        let World { channel, stop, served, .. } = self;
        drop(channel);
        stop.send(()).unwrap();
        served.await.unwrap();
    }
}

pub(crate) fn at(moment: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(moment).unwrap().to_utc()
}

pub(crate) fn stamp(moment: &str) -> Option<prost_types::Timestamp> {
    Some(adspend_common::rpc::timestamp(at(moment)))
}

pub(crate) fn name(account: &str) -> String {
    format!("accounts/{account}")
}

/// A request id that nobody has used.
pub(crate) fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub(crate) fn rub(amount: &str) -> Option<google::Money> {
    money(amount, "RUB")
}

pub(crate) fn money(amount: &str, currency: &str) -> Option<google::Money> {
    let amount: Money = amount.parse().unwrap();
    let (units, nanos) = amount.to_wire();
    Some(google::Money { currency_code: currency.to_owned(), units, nanos })
}

/// An amount as a person writes it, whole units without kopecks.
pub(crate) fn text(money: &Option<google::Money>) -> String {
    let money = money.as_ref().unwrap();
    let balance = adspend_common::money::Balance::from_wire(money.units, money.nanos).unwrap();
    let text = balance.to_string();
    text.strip_suffix(".00").map(str::to_owned).unwrap_or(text)
}

pub(crate) fn account(id: &str, kind: pb::AccountKind, inn: &str) -> pb::CreateAccountRequest {
    pb::CreateAccountRequest {
        account_id: id.to_owned(),
        account: Some(pb::Account {
            kind: kind.into(),
            display_name: format!("The {id}"),
            currency_code: "RUB".to_owned(),
            legal_entity: Some(pb::LegalEntity {
                country_code: "RU".to_owned(),
                name: format!("{id} LLC"),
                inn: inn.to_owned(),
                kpp: "773601001".to_owned(),
                ..Default::default()
            }),
            notification_email: "money@north.example".to_owned(),
            ..Default::default()
        }),
        request_id: fresh(),
    }
}

pub(crate) fn client(id: &str, agency: &str) -> pb::CreateAccountRequest {
    pb::CreateAccountRequest {
        account_id: id.to_owned(),
        account: Some(pb::Account {
            kind: pb::AccountKind::Client.into(),
            agency: name(agency),
            display_name: format!("The {id}"),
            currency_code: "RUB".to_owned(),
            ..Default::default()
        }),
        request_id: fresh(),
    }
}

pub(crate) fn payment(purpose: &str, amount: &str, inn: &str) -> pb::RecordPaymentRequest {
    pb::RecordPaymentRequest {
        amount: rub(amount),
        payer: Some(pb::Payer {
            name: "Somebody".to_owned(),
            inn: inn.to_owned(),
            ..Default::default()
        }),
        purpose: purpose.to_owned(),
        document_number: "17".to_owned(),
        document_date: Some(google::Date { year: 2026, month: 11, day: 20 }),
        request_id: fresh(),
        ..Default::default()
    }
}

/// Why a call was refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) metadata: HashMap<String, String>,
    /// The wrong fields in order.
    pub(crate) fields: Vec<String>,
    /// Everything as it came.
    pub(crate) bytes: (String, Vec<u8>),
}

impl Refused {
    pub(crate) fn is(&self, code: Code, reason: &str) {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{self:?}");
    }
}

pub(crate) fn refused<T: std::fmt::Debug>(result: Result<Response<T>, Status>) -> Refused {
    refusal(&result.unwrap_err())
}

pub(crate) fn refusal(status: &Status) -> Refused {
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal has ErrorInfo");
    assert_eq!(info.domain, "adspend");
    let fields = details.bad_request().map(|bad| &bad.field_violations);
    if status.code() == Code::FailedPrecondition {
        assert!(details.precondition_failure().is_some(), "{status:?}");
    }
    if status.code() == Code::Aborted {
        assert!(details.retry_info().is_some(), "{status:?}");
    }
    Refused {
        code: status.code(),
        reason: info.reason.clone(),
        metadata: info.metadata.clone(),
        fields: fields.into_iter().flatten().map(|violation| violation.field.clone()).collect(),
        bytes: (status.message().to_owned(), status.details().to_vec()),
    }
}
