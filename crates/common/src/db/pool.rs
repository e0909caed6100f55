//! The pool: a bounded number of connections, each set up and checked, with a bounded wait.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, PoolError, QueueMode, RecyclingMethod, Runtime,
};
use tokio::sync::watch;

use super::connect::{Connector, SessionTimeouts, parameters, set_up};
use super::{Client, Error};
use crate::config::Database;

/// Connections to one database. Cheap to clone; all clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    sync_waits_cut: Arc<AtomicU64>,
    work: Arc<watch::Sender<()>>,
}

/// How busy a pool is, for its metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// The most connections that it may have.
    pub max_size: usize,
    /// Connections that it has.
    pub size: usize,
    /// Connections that nobody uses.
    pub available: usize,
    /// Calls that wait for one.
    pub waiting: usize,
}

impl Pool {
    /// A pool that connects when it is first asked to. `application_name` is what the database's
    /// operators see in `pg_stat_activity`.
    pub fn new(database: &Database, application_name: &str) -> Result<Pool, Error> {
        let connector = Connector::default();
        let sync_waits_cut = connector.sync_waits_cut();
        // Fast: a returned connection is checked for being open and nothing else. What a session
        // holds is set once, above; a transaction that was dropped is rolled back in order.
        let manager = Manager::from_connect(
            parameters(database, application_name)?,
            connector,
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let timeouts = SessionTimeouts::of(database);
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(usize::from(database.pool_size.max(1)))
            .wait_timeout(Some(database.pool_wait.get()))
            .create_timeout(Some(database.connect_timeout.get()))
            .recycle_timeout(Some(database.connect_timeout.get()))
            .post_create(Hook::async_fn(move |client, _| {
                let timeouts = timeouts.clone();
                Box::pin(async move {
                    set_up(client, &timeouts).await.map_err(|error| hook_error(&error))
                })
            }))
            // The connection that was used last: its backend's caches and plans are the warmest.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Refused(format!("the pool cannot be made: {error}")))?;
        Ok(Pool { inner, sync_waits_cut, work: Arc::new(watch::Sender::new(())) })
    }

    /// A connection; waits at most `pool_wait` for one that is free.
    pub async fn get(&self) -> Result<Client, Error> {
        let client = self.inner.get().await.map_err(pool_error)?;
        Ok(Client::new(client, self.sync_waits_cut.clone(), self.work.clone()))
    }

    /// Changes whenever a transaction of this pool that left work behind is committed
    /// ([`Tx::wake_on_commit`](super::Tx::wake_on_commit)). A hint and no more: it is lost with the
    /// process and does not reach other replicas, so whoever waits for it looks by the clock too.
    pub fn work(&self) -> watch::Receiver<()> {
        self.work.subscribe()
    }

    /// Whether the database answers: for health.
    pub async fn ping(&self) -> Result<(), Error> {
        self.get().await?.batch_execute("-- db.ping\nSELECT 1").await
    }

    /// How busy it is.
    pub fn status(&self) -> PoolStatus {
        let status = self.inner.status();
        PoolStatus {
            max_size: status.max_size,
            size: status.size,
            available: status.available,
            waiting: status.waiting,
        }
    }

    /// Closes the free connections now and the others when they are given back. Afterwards every
    /// [`Pool::get`] fails.
    pub fn close(&self) {
        self.inner.close();
    }
}

/// Marks a refusal on its way through the pool, whose hooks can only carry a text.
const REFUSED: &str = "refused: ";

fn hook_error(error: &Error) -> HookError {
    match error {
        Error::Refused(reason) => HookError::message(format!("{REFUSED}{reason}")),
        Error::Contention { cause, .. }
        | Error::Unavailable(cause)
        | Error::OutcomeUnknown(cause)
        | Error::Constraint { cause, .. }
        | Error::Other(cause) => HookError::message(cause.to_string()),
    }
}

fn pool_error(error: PoolError) -> Error {
    match error {
        PoolError::Timeout(kind) => Error::unavailable(match kind {
            deadpool_postgres::TimeoutType::Wait => "no connection became free in time",
            deadpool_postgres::TimeoutType::Create => "a connection was not made in time",
            deadpool_postgres::TimeoutType::Recycle => "a connection was not checked in time",
        }),
        PoolError::Backend(error) => {
            // Whatever keeps us from connecting leaves no effect: wrong password included.
            Error::Unavailable(Arc::new(error))
        }
        PoolError::Closed => Error::unavailable("the pool is closed"),
        PoolError::NoRuntimeSpecified => Error::other("the pool has no runtime"),
        PoolError::PostCreateHook(HookError::Message(text)) => match text.strip_prefix(REFUSED) {
            Some(reason) => Error::Refused(reason.to_owned()),
            None => Error::unavailable(text),
        },
        PoolError::PostCreateHook(HookError::Backend(error)) => Error::from(error),
    }
}
