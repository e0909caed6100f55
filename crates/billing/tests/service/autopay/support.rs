//! A service with a simulated payment provider, and processes beside it that can be killed.

use std::time::Duration;

use adspend_billing::{app::App, config};
use adspend_common::{
    config::{HumanDuration, Secret},
    proto::adspend::billing::v1 as pb,
    telemetry::Telemetry,
};
use tonic::Status;

use crate::{
    provider::{SECRET, SHOP, Simulator},
    support::*,
};

/// How a shop's settings are in these tests: everything may happen within a second.
fn settings(simulator: &Simulator) -> config::Provider {
    config::Provider {
        url: simulator.url(),
        shop_id: SHOP.to_owned(),
        secret: Secret::from(SECRET),
        token_key: Secret::from("7".repeat(64)),
        pay_timeout: HumanDuration::from_millis(1_500),
        ask_timeout: HumanDuration::from_millis(1_500),
    }
}

/// A service that takes calls and notifications but makes no payments, and the provider.
pub(super) async fn world() -> (World, Simulator) {
    world_with(|_| {}).await
}

pub(super) async fn world_with(change: impl FnOnce(&mut config::Autopay)) -> (World, Simulator) {
    // The provider's clock must be the service's, which exists only with the service.
    let clock = std::sync::Arc::new(std::sync::OnceLock::<adspend_common::time::Clock>::new());
    let of = clock.clone();
    let simulator = Simulator::start(move || of.get().map_or_else(|| at(START), |c| c.now())).await;
    let provider = settings(&simulator);
    let world = World::with(|config| {
        config.autopay.provider = Some(provider);
        config.autopay.every = HumanDuration::from_millis(50);
        config.autopay.webhook.sources = vec!["127.0.0.0/8".parse().unwrap()];
        change(&mut config.autopay);
    })
    .await;
    clock.set(world.clock.clone()).unwrap();
    (world, simulator)
}

/// Another process on the same database, with its jobs: it makes the payments. It can be killed.
pub(super) struct Payer(Option<tokio::runtime::Runtime>);

impl Payer {
    pub(super) async fn start(world: &World) -> Payer {
        let mut config = world.config.clone();
        config.jobs.enabled = true;
        config.listen.grpc.set_port(0);
        config.listen.metrics.set_port(0);
        Payer::with(world, config).await
    }

    pub(super) async fn with(world: &World, config: config::Config) -> Payer {
        let clock = world.clock.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let running = runtime.spawn(async move {
            let app = App::start(config, clock, &Telemetry::for_tests()).await.unwrap();
            tokio::spawn(app.run(std::future::pending()));
        });
        running.await.unwrap();
        Payer(Some(runtime))
    }

    /// Ends it as SIGKILL does: nothing that it was doing is finished.
    pub(super) fn kill(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for Payer {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for a condition, at most a minute.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within a minute");
}

impl World {
    /// A direct advertiser in Russia.
    pub(super) async fn with_advertiser(&self, id: &str) -> pb::Account {
        self.create(account(id, pb::AccountKind::Advertiser, NORTH_INN)).await
    }

    /// The advertiser itself.
    pub(super) fn advertiser(&self, id: &'static str) -> Caller {
        self.role("advertiser", Some(id))
    }

    pub(super) async fn link(&self, account: &str, token: &str) -> Result<pb::Card, Status> {
        let request = pb::LinkCardRequest {
            parent: name(account),
            payment_method: token.to_owned(),
            request_id: fresh(),
        };
        let linked = self.operator().autopay().link_card(request).await?;
        Ok(linked.into_inner().card.unwrap())
    }

    pub(super) async fn set_autopay(
        &self,
        account: &str,
        card: &str,
        (amount, threshold): (&str, &str),
    ) -> Result<pb::Autopay, Status> {
        let request = pb::SetAutopayRequest {
            parent: name(account),
            card: card.to_owned(),
            amount: rub(amount),
            threshold: rub(threshold),
            request_id: fresh(),
        };
        let set = self.operator().autopay().set_autopay(request).await?;
        Ok(set.into_inner().autopay.unwrap())
    }

    pub(super) async fn autopay(&self, account: &str) -> pb::Autopay {
        let request = pb::GetAutopayRequest { parent: name(account) };
        let found = self.operator().autopay().get_autopay(request).await.unwrap();
        found.into_inner().autopay.unwrap()
    }

    pub(super) async fn cards(&self, account: &str) -> Vec<pb::Card> {
        let request = pb::ListCardsRequest { parent: name(account) };
        self.operator().autopay().list_cards(request).await.unwrap().into_inner().cards
    }

    /// Newest first.
    pub(super) async fn charges_of(&self, account: &str) -> Vec<pb::AutopayRun> {
        let request = pb::ListAutopayRunsRequest { parent: name(account), ..Default::default() };
        self.operator().autopay().list_autopay_runs(request).await.unwrap().into_inner().runs
    }

    /// A saved and linked card, and an autopayment of `amount` at `threshold` on an account without money.
    pub(super) async fn low(
        &self,
        simulator: &Simulator,
        account: &str,
        (amount, threshold): (&str, &str),
    ) -> (String, pb::Card) {
        self.with_advertiser(account).await;
        let token = simulator.save_card("0053");
        let card = self.link(account, &token).await.unwrap();
        self.set_autopay(account, &card.name, (amount, threshold)).await.unwrap();
        (token, card)
    }

    pub(super) async fn available_is(&self, account: &str, amount: &str) {
        until(&format!("{account} has {amount}"), async || self.available(account).await == amount)
            .await;
    }

    /// Waits until the newest run has ended in this state.
    pub(super) async fn ends(&self, account: &str, state: pb::AutopayRunState) -> pb::AutopayRun {
        until(&format!("the run of {account} ends {state:?}"), async || {
            self.charges_of(account).await.first().is_some_and(|run| run.state() == state)
        })
        .await;
        self.charges_of(account).await.remove(0)
    }

    /// Lets so much time pass.
    pub(super) fn pass(&self, seconds: u64) {
        self.hand.advance(Duration::from_secs(seconds));
    }
}

/// One charge under one key for every payment, and the sums agree.
pub(super) fn charged_once(simulator: &Simulator, charges: usize) {
    let made = simulator.charges();
    let mut keys: Vec<_> = made.iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((made.len(), keys.len()), (charges, charges), "{made:?}");
}
