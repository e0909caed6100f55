//! Changing calls take effect once (I-4): the first answer is kept under the caller's tenant, the
//! method and the request id, and a repeat gets the same bytes.
//!
//! ```text
//! begin a transaction
//!     begin     the request's row, new and without an answer: a concurrent repeat waits here
//!     …         the change; a refusal rolls back, the row with it, so no id is burned
//!     finish    the answer into the row
//! commit
//! ```
//!
//! A replay counts itself in the row: its commit waits for the standby as the first one did, so it
//! never vouches for an answer that a failover could lose.
//!
//! Not here: charges, which are recognised by their own ids at a rate that this would not bear.

mod store;
#[cfg(test)]
mod tests;

use adspend_common::db;
use adspend_common::id::RequestId;
use adspend_common::server::Stop;
use chrono::{DateTime, TimeDelta, Utc};

use crate::Services;

pub use store::{begin, finish, replay};

/// How long an answer is kept: nothing here moves money.
const KEPT: TimeDelta = TimeDelta::days(7);

/// How often old answers are removed.
const PURGE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(600);

/// How many answers one statement removes: bounds its locks and its log.
const PURGE_BATCH: i64 = 1_000;

/// A changing call whose answer is made from a `T`.
#[derive(Debug)]
pub struct Call<T> {
    /// The caller's tenant; empty above tenants.
    pub tenant: String,
    /// The method.
    pub method: &'static str,
    /// What the caller marked it with.
    pub id: RequestId,
    /// What was asked for.
    pub payload_hash: [u8; 32],
    /// Writes the answer down: the edge knows how it looks.
    pub encode: fn(&T) -> Vec<u8>,
}

/// What [`begin`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The call is new: carry it out, then [`finish`].
    New,
    /// It was carried out before; this was its answer.
    Replay(Vec<u8>),
}

/// The outcome of a changing operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was done now.
    New(T),
    /// It had been done before; this was its answer, as [`finish`] got it.
    Replayed(Vec<u8>),
}

/// Why a call cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The id belongs to a call with another payload.
    #[error("the request id was used with another payload")]
    Reused,
    /// The row could not be read or written.
    #[error("the storage of requests failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Self::Reused => false,
            Self::Db(error) => error.is_contention(),
        }
    }
}

/// Removes old answers until the service stops.
pub(crate) async fn purge(services: Services, stop: Stop) {
    loop {
        let before = services.clock.now() - KEPT;
        if let Err(error) = purge_once(&services, before).await {
            tracing::warn!(%error, "old answers were not removed");
        }
        tokio::select! {
            () = stop.stopping().cancelled() => return,
            () = tokio::time::sleep(PURGE_INTERVAL) => {}
        }
    }
}

async fn purge_once(services: &Services, before: DateTime<Utc>) -> Result<(), db::Error> {
    let db = services.db.get().await?;
    while store::purge(&db, before, PURGE_BATCH).await? == PURGE_BATCH.unsigned_abs() {}
    Ok(())
}
