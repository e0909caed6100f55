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
    autopay::{self, Autopay, runs::Machine},
    config::{Config, Executor, ProviderError},
    events::Feed,
    grpc::{self, Shared},
    jobs::{Jobs, Works},
    ledger::batch::Poster,
    notices::{Delivery, MailError, Mailer},
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
    /// Our requisites are wrong.
    #[error("documents.executor has wrong fields: {}", .0.join(", "))]
    Executor(Vec<&'static str>),
    /// The payment provider's settings cannot be used.
    #[error("the payment provider's settings cannot be used")]
    Autopay(#[from] ProviderError),
    /// The configuration of e-mail cannot be used.
    #[error("e-mail cannot be sent")]
    Mail(#[from] MailError),
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
        match config.documents.executor.as_ref().map(Executor::wrong) {
            Some(wrong) if !wrong.is_empty() => return Err(Error::Executor(wrong)),
            Some(_) => {}
            None => tracing::warn!("documents.executor is not configured: no documents are made"),
        }
        let autopay = Autopay::new(&config.autopay)?;
        let mailer = Mailer::from_config(&config.mail)?;
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
            autopay,
            stop: stop.clone(),
            config,
        });
        shared.events.observe(telemetry);
        let payer = Machine::new(&shared.autopay, &pool, &clock);
        let bound = bind(&shared, &stop, telemetry, payer.as_ref()).await?;
        let tasks = TaskTracker::new();
        tasks.spawn(shared.events.clone().run(stop.clone()));
        if let Some(payer) = payer.filter(|_| shared.config.jobs.enabled) {
            tasks.spawn(payer.keep(stop.clone()));
        }
        let works = Works {
            feed: shared.events.clone(),
            delivery: Delivery::new(&pool, &clock, &shared.config.mail, mailer, telemetry),
        };
        Jobs::new(&pool, &clock, works, &shared.config, &stop, telemetry).start(&tasks, anchored);
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

async fn bind(
    shared: &Arc<Shared>,
    stop: &Stop,
    telemetry: &Telemetry,
    payer: Option<&Machine>,
) -> Result<Bound, Error> {
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
    let server = match payer {
        Some(payer) => {
            let settings = &shared.config.autopay.webhook;
            server.pages(autopay::webhook::pages(payer.clone(), settings))
        }
        None => server,
    };
    Ok(grpc::register(server, shared).bind().await?)
}
