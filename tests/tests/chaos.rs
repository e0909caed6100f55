//! `kill -9` of each service under load: nothing that was acknowledged is lost, nothing is done twice.
//!
//! Every call carries an id and is repeated, on any replica, until it is answered. What was answered is
//! written down; at the end the books must hold exactly that.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adspend_common::{
    devpg::TestDatabase,
    proto::{
        adspend::{
            billing::v1::{self as billing, account_service_client::AccountServiceClient},
            pacing::v1::{self as pacing, campaign_service_client::CampaignServiceClient},
        },
        google::r#type::Money,
    },
};
use billing::{
    audit_service_client::AuditServiceClient, payment_service_client::PaymentServiceClient,
    transfer_service_client::TransferServiceClient,
};
use e2e::{
    processes::Service,
    stack::{Plan, Replica, Stack},
};
use pacing::{
    admission_service_client::AdmissionServiceClient, charge_service_client::ChargeServiceClient,
    report_service_client::ReportServiceClient,
};
use tonic::transport::Channel;

const PRICE_MICROS: i64 = 1_500_000;
const TRANSFER_UNITS: i64 = 1;
/// How long the load runs beside the killing.
const LOAD: Duration = Duration::from_secs(12);
/// How long one call may be repeated, and the settlement may take: a bound, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

fn rub(units: i64) -> Option<Money> {
    Some(Money { currency_code: "RUB".to_owned(), units, nanos: 0 })
}

/// Channels to replicas that come and go; a call goes round until it is answered.
#[derive(Clone)]
struct Fleet {
    channels: Arc<Vec<Channel>>,
}

impl Fleet {
    fn of(replicas: &[Replica]) -> Fleet {
        Fleet { channels: Arc::new(replicas.iter().map(|one| one.channel().unwrap()).collect()) }
    }

    /// Repeats a call with the same id until it gets an answer that is one.
    async fn insist<T, F: Future<Output = Result<T, tonic::Status>>>(
        &self,
        first: usize,
        call: impl Fn(Channel) -> F,
    ) -> T {
        let began = tokio::time::Instant::now();
        let mut turn = first;
        loop {
            let channel = self.channels[turn % self.channels.len()].clone();
            let attempt = tokio::time::timeout(Duration::from_secs(5), call(channel)).await;
            match attempt {
                Ok(Ok(answer)) => return answer,
                Ok(Err(status)) => assert!(is_passing(&status), "a final refusal: {status:?}"),
                Err(_) => {}
            }
            assert!(began.elapsed() < PATIENCE, "no answer within {PATIENCE:?}");
            turn += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What a killed server, or one that lost its peer, answers; a caller comes again.
fn is_passing(status: &tonic::Status) -> bool {
    use tonic::Code::{
        Aborted, Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable, Unknown,
    };
    matches!(
        status.code(),
        Aborted | Cancelled | DeadlineExceeded | ResourceExhausted | Unavailable | Unknown
    )
}

async fn transfer(fleet: &Fleet, id: &str) -> billing::CreateTransferResponse {
    fleet
        .insist(id.len(), |channel| {
            let request = billing::CreateTransferRequest {
                source: "accounts/agency".to_owned(),
                destination: "accounts/client".to_owned(),
                amount: rub(TRANSFER_UNITS),
                request_id: id.to_owned(),
            };
            async move {
                let mut client = TransferServiceClient::new(channel);
                client.create_transfer(request).await.map(tonic::Response::into_inner)
            }
        })
        .await
}

async fn settle(
    fleet: &Fleet,
    turn: usize,
    token: tonic::codegen::Bytes,
    id: &str,
) -> pacing::SettleResponse {
    fleet
        .insist(turn, |channel| {
            let request = pacing::SettleRequest {
                charge_id: id.to_owned(),
                price_micros: PRICE_MICROS,
                target: Some(pacing::settle_request::Target::Token(token.clone())),
            };
            async move {
                let mut client = ChargeServiceClient::new(channel);
                client.settle(request).await.map(tonic::Response::into_inner)
            }
        })
        .await
}

/// One admission; none when it was denied or the replica is away.
async fn admit(fleet: &Fleet, turn: usize, id: &str) -> Option<tonic::codegen::Bytes> {
    let mut client =
        AdmissionServiceClient::new(fleet.channels[turn % fleet.channels.len()].clone());
    let request = pacing::AdmitRequest {
        opportunity_id: id.to_owned(),
        campaign: "campaigns/chaos".to_owned(),
        max_price_micros: PRICE_MICROS,
        charge_probability_ppm: None,
    };
    let call = tokio::time::timeout(Duration::from_secs(5), client.admit(request)).await.ok()?;
    match call.ok()?.into_inner().decision? {
        pacing::admit_response::Decision::Admitted(admission) => Some(admission.token),
        pacing::admit_response::Decision::Denied(_) => None,
    }
}

async fn set_up(stack: &Stack) {
    let channel = stack.billing[0].channel().unwrap();
    let mut accounts = AccountServiceClient::new(channel.clone());
    for (id, kind, agency) in [
        ("agency", billing::AccountKind::Agency, ""),
        ("client", billing::AccountKind::Client, "accounts/agency"),
    ] {
        let legal_entity = agency.is_empty().then(|| billing::LegalEntity {
            country_code: "RU".to_owned(),
            name: "Agency LLC".to_owned(),
            inn: "7707083893".to_owned(),
            kpp: "773601001".to_owned(),
            ..Default::default()
        });
        let account = billing::Account {
            kind: kind.into(),
            agency: agency.to_owned(),
            display_name: id.to_owned(),
            currency_code: "RUB".to_owned(),
            legal_entity,
            ..Default::default()
        };
        let request = billing::CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(account),
            request_id: format!("create-{id}"),
        };
        accounts.create_account(request).await.unwrap();
    }
    let mut payments = PaymentServiceClient::new(channel.clone());
    let recorded = payments
        .record_payment(billing::RecordPaymentRequest {
            amount: rub(1_000_000),
            payer: Some(billing::Payer {
                name: "Agency LLC".to_owned(),
                inn: "7707083893".to_owned(),
                ..Default::default()
            }),
            purpose: "no number".to_owned(),
            request_id: "pay".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    payments
        .allocate_payment(billing::AllocatePaymentRequest {
            name: recorded.into_inner().payment.unwrap().name,
            account: "accounts/agency".to_owned(),
            invoice: String::new(),
            request_id: "allocate".to_owned(),
        })
        .await
        .unwrap();
    let mut transfers = TransferServiceClient::new(channel);
    let request = billing::CreateTransferRequest {
        source: "accounts/agency".to_owned(),
        destination: "accounts/client".to_owned(),
        amount: rub(500_000),
        request_id: "funds".to_owned(),
    };
    transfers.create_transfer(request).await.unwrap();
    let mut campaigns = CampaignServiceClient::new(stack.pacing[0].channel().unwrap());
    let request = pacing::CreateCampaignRequest {
        campaign_id: "chaos".to_owned(),
        campaign: Some(pacing::Campaign {
            account: "accounts/client".to_owned(),
            payment_model: pacing::PaymentModel::PerImpression.into(),
            ..Default::default()
        }),
        request_id: "campaign".to_owned(),
    };
    campaigns.create_campaign(request).await.unwrap();
}

/// Kills each process in turn while the load runs, and starts it again.
async fn kill_one_after_the_other(stack: &mut Stack) {
    let pause = || tokio::time::sleep(Duration::from_millis(1_200));
    pause().await;
    for round in 0..2 {
        for replica in stack.billing.iter_mut().chain(&mut stack.pacing) {
            replica.kill().await.unwrap();
            tokio::time::sleep(Duration::from_millis(300 * (round + 1))).await;
            replica.start().await.unwrap();
            pause().await;
        }
    }
}

async fn figures(stack: &Stack, account: &str) -> billing::GetBalanceResponse {
    let mut accounts = AccountServiceClient::new(stack.billing[0].channel().unwrap());
    let request = billing::GetBalanceRequest { name: format!("accounts/{account}"), as_of: None };
    accounts.get_balance(request).await.unwrap().into_inner()
}

fn micros(money: &Option<Money>) -> i64 {
    let money = money.as_ref().unwrap();
    money.units * 1_000_000 + i64::from(money.nanos) / 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_each_process_is_killed_under_load() {
    let (for_billing, for_pacing) = (
        TestDatabase::create(&adspend_billing::MIGRATIONS).await,
        TestDatabase::create(&adspend_pacing::MIGRATIONS).await,
    );
    let plan = Plan::new("chaos")
        .replicas(1, 2)
        .set(Service::Pacing, "leases.slice_ttl", "2s")
        .set(Service::Pacing, "leases.admission_lifetime", "5s")
        .set(Service::Pacing, "leases.grace", "1s");
    let mut stack = Stack::start(&plan, for_billing.url(), for_pacing.url()).await.unwrap();
    set_up(&stack).await;

    let (billings, pacings) = (Fleet::of(&stack.billing), Fleet::of(&stack.pacing));
    let over = Arc::new(AtomicBool::new(false));
    let transfers = (0..8).map(|worker| {
        let (fleet, over) = (billings.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let id = format!("t-{worker}-{}", acknowledged.len());
                let name = transfer(&fleet, &id).await.transfer.unwrap().name;
                acknowledged.push((id, name));
            }
            acknowledged
        })
    });
    let transfers: Vec<_> = transfers.collect();
    let charges = (0..8_usize).map(|worker| {
        let (fleet, over) = (pacings.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut acknowledged = HashMap::new();
            for turn in worker.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("c-{worker}-{turn}");
                match admit(&fleet, turn, &id).await {
                    // Another replica settles than the one that admitted.
                    Some(token) => {
                        settle(&fleet, turn + 1, token.clone(), &id).await;
                        acknowledged.insert(id, token);
                    }
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            acknowledged
        })
    });
    let charges: Vec<_> = charges.collect();
    let began = tokio::time::Instant::now();
    kill_one_after_the_other(&mut stack).await;
    tokio::time::sleep(LOAD.saturating_sub(began.elapsed())).await;
    over.store(true, Ordering::Relaxed);

    let mut done = Vec::new();
    for worker in transfers {
        done.extend(worker.await.unwrap());
    }
    let mut charged = HashMap::new();
    for worker in charges {
        charged.extend(worker.await.unwrap());
    }
    assert!(done.len() > 100 && charged.len() > 100, "{} and {}", done.len(), charged.len());
    // Every acknowledged call is known: a repeat says so, and moves nothing.
    for (id, name) in done.iter().step_by(7) {
        let again = transfer(&billings, id).await;
        assert!(again.replayed, "{id}");
        assert_eq!(again.transfer.unwrap().name, *name);
    }
    for (id, token) in charged.iter().step_by(7) {
        assert!(settle(&pacings, 0, token.clone(), id).await.replayed, "{id}");
    }
    let sent = i64::try_from(done.len()).unwrap() * TRANSFER_UNITS * 1_000_000;
    assert_eq!(micros(&figures(&stack, "agency").await.posted), 500_000_000_000 - sent);

    // Billing comes to hold exactly the acknowledged charges.
    let spent = i64::try_from(charged.len()).unwrap() * PRICE_MICROS;
    let expected = 500_000_000_000 + sent - spent;
    let began = tokio::time::Instant::now();
    loop {
        let posted = micros(&figures(&stack, "client").await.posted);
        assert!(posted >= expected, "billing booked more than was acknowledged");
        if posted == expected {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{posted} instead of {expected} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut reports = ReportServiceClient::new(stack.pacing[1].channel().unwrap());
    let request = pacing::GetPacingStateRequest { parent: "accounts/client".to_owned(), day: None };
    let state = reports.get_pacing_state(request).await.unwrap().into_inner();
    assert_eq!(state.unsettled_micros, 0);
    let mut audit = AuditServiceClient::new(stack.billing[0].channel().unwrap());
    let verdict = audit.verify_ledger(billing::VerifyLedgerRequest::default()).await.unwrap();
    assert!(verdict.get_ref().ok, "{:#?}", verdict.get_ref().differences);
    stack.stop().await.unwrap();
}
