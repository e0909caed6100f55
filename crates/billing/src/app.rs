//! The service put together: the pool, the clock, the posting engine, the jobs, the server, and the way they
//! stop.
//!
//! Start: the schema must be this binary's, then the clock takes the database's time, then the sockets
//! open. Stop: the server drains, then the jobs end, then the posting engine has nothing more to do and its
//! queue is empty, then the connections close.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use adspend_common::{
    db::{self, Pool, migrate},
    identity::{Identity, IdentityError},
    rpc::PageKey,
    server::{self, Bound, Server, Stop},
    telemetry::Telemetry,
    time::Clock,
};
use tokio_util::task::TaskTracker;

use crate::{
    MIGRATIONS,
    accounts::Directory,
    config::Config,
    events::Feed,
    grpc::{self, Shared},
    jobs::Jobs,
    ledger::batch::Poster,
    secrets,
};

/// How the database names this process's connections.
const APPLICATION: &str = "adspend-billing";

/// How long jobs may take to end after the server has.
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
    /// The server does not start.
    #[error("the server does not start")]
    Server(#[from] server::Error),
}

/// The service, with open sockets and running jobs. Port 0 in `config.listen` takes a free one.
pub struct App {
    bound: Bound,
    stop: Stop,
    tasks: TaskTracker,
    pool: Pool,
}

impl App {
    /// Checks the schema, takes the time from the database, starts the jobs and opens the sockets.
    pub async fn start(config: Config, clock: Clock, telemetry: &Telemetry) -> Result<App, Error> {
        let pool = Pool::new(&config.database, APPLICATION)?;
        let anchored = db::anchor(&pool, &clock).await?;
        let pages = {
            let client = pool.get().await?;
            MIGRATIONS.verify(&client).await?;
            let secret = secrets::get(&client, "page_tokens", clock.now()).await?;
            PageKey::from_secret(&blake3::Hash::from_bytes(secret).to_hex())
        };
        let stop = Stop::new();
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            clock: clock.clone(),
            directory: Directory::new(pool.clone()),
            poster: Poster::start(&pool, &clock, config.ledger.posters),
            events: Feed::new(&pool),
            pages,
            stop: stop.clone(),
            config,
        });
        shared.events.observe(telemetry);
        let bound = bind(&shared, &stop, telemetry).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(shared.events.clone().run(stop.clone()));
        let feed = shared.events.clone();
        Jobs::new(&pool, &clock, feed, &shared.config.jobs, &stop, telemetry)
            .start(&tasks, anchored);
        Ok(App { bound, stop, tasks, pool })
    }

    /// Where gRPC is served.
    pub fn grpc_addr(&self) -> SocketAddr {
        self.bound.grpc_addr()
    }

    /// Where metrics are served.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.bound.metrics_addr()
    }

    /// Serves until `shutdown` ends, then drains.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        self.bound.run(shutdown).await;
        self.stop.begin();
        self.tasks.close();
        if tokio::time::timeout(JOBS_END_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "jobs did not end in time");
        }
        self.pool.close();
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
