//! The service put together: what the edge needs, the work by the clock, the server.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use adspend_common::{
    db::{self, Pool, migrate},
    identity::{Identity, IdentityError},
    rpc::PageKey,
    server::{self, Bound, Server, Stop},
    telemetry::Telemetry,
    time::{Clock, InvalidClock},
};
use tokio_util::task::TaskTracker;

use crate::{
    MIGRATIONS,
    accounts::Directory,
    config::Config,
    grpc::{self, Shared},
    jobs,
    ledger::batch::Poster,
};

/// How the database names this process's connections.
const APPLICATION: &str = "adspend-billing";

/// How long the jobs may take to end after the server has.
const JOBS_END_WITHIN: Duration = Duration::from_secs(10);

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

/// The service, with open sockets and running jobs.
pub struct App {
    shared: Arc<Shared>,
    bound: Bound,
    stop: Stop,
    jobs: TaskTracker,
}

impl App {
    /// Checks the schema, takes the time from the database, starts the jobs and opens the sockets.
    pub async fn start(config: Config, clock: Clock, telemetry: &Telemetry) -> Result<App, Error> {
        let pool = Pool::new(&config.database, APPLICATION)?;
        db::anchor(&pool, &clock).await?;
        MIGRATIONS.verify(&pool.get().await?).await?;
        let pages = match &config.page_secret {
            Some(secret) => PageKey::from_secret(secret.expose()),
            None => PageKey::random(),
        };
        let shared = Arc::new(Shared {
            directory: Directory::new(pool.clone()),
            poster: Poster::start(&pool, &clock, config.ledger.posters),
            pool,
            clock,
            pages,
            config,
        });
        let stop = Stop::new();
        let bound = bind(&shared, &stop, telemetry).await?;
        let tracker = TaskTracker::new();
        jobs::start(&tracker, &shared, &stop);
        Ok(App { shared, bound, stop, jobs: tracker })
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.bound.grpc_addr()
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.bound.metrics_addr()
    }

    /// Serves until `shutdown` ends, then drains: the server first, the jobs after it, the connections to the
    /// database last.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.bound.run(shutdown).await;
        self.stop.begin();
        self.jobs.close();
        if tokio::time::timeout(JOBS_END_WITHIN, self.jobs.wait()).await.is_err() {
            tracing::warn!(open = self.jobs.len(), "jobs did not end in time");
        }
        self.shared.pool.close();
    }
}

async fn bind(shared: &Arc<Shared>, stop: &Stop, telemetry: &Telemetry) -> Result<Bound, Error> {
    let Config { listen, limits, drain, auth, tls, .. } = &shared.config;
    let pool = shared.pool.clone();
    let server = Server::new("billing", listen, limits, drain)
        .stop(stop)
        .tls(tls.as_ref())
        .identity(Identity::from_config(auth)?)
        .methods(grpc::METHODS)
        .telemetry(telemetry)
        .ready(move || {
            let pool = pool.clone();
            async move { pool.ping().await.is_ok() }
        });
    Ok(grpc::register(server, shared).bind().await?)
}
