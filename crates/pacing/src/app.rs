//! The service put together: what operations need, the loops in the background, the server.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adspend_common::db::{self, Pool, migrate};
use adspend_common::id;
use adspend_common::identity::{Identity, IdentityError};
use adspend_common::rpc::PageKey;
use adspend_common::server::{self, Bound, Server, Stop};
use adspend_common::telemetry::{self, Telemetry};
use adspend_common::time::{Clock, InvalidClock};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::admission::feed::Feed;
use crate::admission::{Admission, TokenKey};
use crate::billing::Billing;
use crate::charges::{self, Charges};
use crate::config::Config;
use crate::leases::{self, Leases};
use crate::pacer::{self, Pacer};
use crate::{MIGRATIONS, accounts, grpc, replicas, requests};

/// How the database names this process's connections.
const APPLICATION: &str = "adspend-pacing";

/// How often the clock is compared with the database's.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(5);

/// A difference between the host's wall clock and ours that somebody should know of.
const WALL_DIFFERENCE_WARNING_MICROS: i64 = 1_000_000;

/// How long the loops may take to end after the server has.
const TASKS_END_WITHIN: Duration = Duration::from_secs(10);

/// What operations need. Cheap to clone; every handler and every loop has one.
#[derive(Clone)]
pub struct Services {
    /// The database.
    pub db: Pool,
    /// The time.
    pub clock: Clock,
    /// The service that owns the money.
    pub billing: Arc<dyn Billing>,
    /// The configuration.
    pub config: Arc<Config>,
    /// This process among its like.
    pub replica: Uuid,
    /// How many processes serve.
    pub replicas: replicas::Count,
    /// Seals page tokens; the same on all replicas.
    pub page_key: Arc<PageKey>,
    /// Seals admissions; the same on all replicas.
    pub token_key: TokenKey,
    /// Books charges.
    pub charges: Charges,
    /// Decides about opportunities, in memory.
    pub admission: Arc<Admission>,
    /// Keeps the directory of admission at what the database says.
    pub feed: Arc<Feed>,
    /// Where admission's slices come from.
    pub leases: Arc<Leases>,
    /// Sets the rates of admission.
    pub pacer: Arc<Pacer>,
}

/// What is made outside: in `main`, or by a test that owns time and billing.
pub struct Parts {
    /// The time.
    pub clock: Clock,
    /// Billing.
    pub billing: Arc<dyn Billing>,
    /// Where metrics and traces go.
    pub telemetry: Telemetry,
}

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used.
    #[error("the database cannot be used")]
    Db(#[from] db::Error),
    /// The schema is not the one that this binary was made for.
    #[error("the database does not have this binary's schema")]
    Schema(#[from] migrate::Error),
    /// The configuration does not say who may call.
    #[error("the configuration does not say who may call")]
    Identity(#[from] IdentityError),
    /// The setting `clock` says no time.
    #[error("the setting clock")]
    Clock(#[from] InvalidClock),
    /// The server does not start.
    #[error("the server does not start")]
    Server(#[from] server::Error),
}

/// The service, with open sockets and running loops.
pub struct App {
    services: Services,
    bound: Bound,
    stop: Stop,
    tasks: TaskTracker,
}

impl App {
    /// Checks the schema, takes the time from the database, starts the loops and opens the sockets.
    pub async fn start(config: Config, parts: Parts) -> Result<App, Error> {
        let Parts { clock, billing, telemetry } = parts;
        let db = Pool::new(&config.database, APPLICATION)?;
        db::anchor(&db, &clock).await?;
        let (page_key, token_key) = {
            let client = db.get().await?;
            MIGRATIONS.verify(&client).await?;
            let secret = replicas::secret(&client, "page_tokens", clock.now()).await?;
            let page_key = PageKey::from_secret(&blake3::Hash::from_bytes(secret).to_hex());
            let secret = replicas::secret(&client, "admission_token", clock.now()).await?;
            (Arc::new(page_key), TokenKey::new(secret))
        };
        let token_life = config.leases.token_life();
        let settings = charges::Settings { token_life, ..config.charges.clone() };
        let (charges, writers) = charges::start(&db, &clock, &settings);
        let (replica, replicas) = (id::new_uuid(clock.now()), replicas::Count::new());
        let settings = config.leases.clone();
        let admission =
            Arc::new(Admission::new(settings.campaigns, settings.admission_lifetime.get()));
        let feed = Arc::new(Feed::new(db.clone(), clock.clone(), Arc::clone(&admission)));
        feed.catch_up().await?;
        let leases = Leases::new(leases::Parts {
            db: db.clone(),
            clock: clock.clone(),
            billing: Arc::clone(&billing),
            admission: Arc::clone(&admission),
            replica,
            replicas: replicas.clone(),
            first_rate_parts: config.pacer.first_rate_parts(),
            settings,
        });
        let pacer = Pacer::new(pacer::Parts {
            db: db.clone(),
            clock: clock.clone(),
            admission: Arc::clone(&admission),
            lags: charges.lags(),
            reached: leases.reached(),
            news: leases.newcomers(),
            replica,
            token_life: config.leases.token_life(),
            settings: config.pacer.clone(),
        });
        let services = Services {
            db,
            replica,
            replicas,
            clock,
            billing,
            config: Arc::new(config),
            page_key,
            token_key,
            charges,
            admission,
            feed,
            leases,
            pacer,
        };
        let stop = Stop::new();
        let bound = bind(&services, &stop, &telemetry).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(keep_time(services.clone(), stop.clone()));
        tasks.spawn(replicas::keep(services.clone(), stop.clone()));
        tasks.spawn(accounts::refresh(services.clone(), stop.clone()));
        tasks.spawn(requests::purge(services.clone(), stop.clone()));
        for writer in writers {
            tasks.spawn(writer);
        }
        tasks.spawn(charges::settlement::run(services.clone(), stop.clone()));
        tasks.spawn(Arc::clone(&services.feed).run(stop.clone()));
        tasks.spawn(Arc::clone(&services.leases).run(stop.stopping().clone()));
        tasks.spawn(Arc::clone(&services.pacer).run(stop.stopping().clone()));
        Ok(App { services, bound, stop, tasks })
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.bound.grpc_addr()
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.bound.metrics_addr()
    }

    /// What its operations work with.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Serves until `shutdown` ends, then drains: the server first, the loops after it, the
    /// connections to the database last.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.bound.run(shutdown).await;
        self.stop.begin();
        self.services.charges.close();
        self.tasks.close();
        if tokio::time::timeout(TASKS_END_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "loops did not end in time");
        }
        self.services.db.close();
    }
}

async fn bind(services: &Services, stop: &Stop, telemetry: &Telemetry) -> Result<Bound, Error> {
    let Config { listen, limits, drain, auth, tls, .. } = &*services.config;
    let db = services.db.clone();
    let server = Server::new("pacing", listen, limits, drain)
        .stop(stop)
        .tls(tls.as_ref())
        .identity(Identity::from_config(auth)?)
        .methods(grpc::METHODS)
        .telemetry(telemetry)
        .ready(move || {
            let db = db.clone();
            async move { db.ping().await.is_ok() }
        });
    Ok(grpc::register(server, services).bind().await?)
}

/// Keeps a system clock at the database's time until the service stops.
async fn keep_time(services: Services, stop: Stop) {
    let gauge = telemetry::meter()
        .i64_gauge("clock.wall_difference")
        .with_unit("us")
        .with_description("The service's time less the wall clock of its host")
        .build();
    loop {
        tokio::select! {
            () = stop.stopping().cancelled() => return,
            () = tokio::time::sleep(ANCHOR_INTERVAL) => {}
        }
        match db::anchor(&services.db, &services.clock).await {
            Ok(Some(anchored)) => {
                let difference_micros = anchored.wall_difference_micros;
                gauge.record(difference_micros, &[]);
                if difference_micros.saturating_abs() > WALL_DIFFERENCE_WARNING_MICROS {
                    tracing::warn!(difference_micros, "the host's clock is not the database's");
                }
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "the clock could not be compared"),
        }
    }
}
