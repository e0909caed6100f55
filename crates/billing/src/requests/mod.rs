//! The first answer to a changing request, kept and given again (I-4).
//!
//! A feature begins its transaction with [`begin`]: the row of a new request is inserted before anything
//! else, so that an equal request that runs at the same time waits there, and then finds the answer. The
//! answer is written by [`finish`] in the same transaction. A refused call rolls all of it back: its id is
//! not burned.
//!
//! The scope of an id is the caller's tenant and the method. Callers without a tenant (operators) share the
//! platform's scope. The answer is kept as the bytes that the edge made of it; here they mean nothing.
//!
//! A replay counts itself: it writes, so that it waits for the same flush (and the same standby) as the
//! first answer did. A read could repeat an answer that a failover loses.
//!
//! Who asked for what is written down with the answer, for the audit trail (`audit_records`).
//!
//! Transfers and holds are not here: their posting id finds their answer again.

mod store;

use std::{fmt, future::Future, sync::Arc};

use adspend_common::{
    db::{self, Client, Tx},
    id::RequestId,
    identity::Caller,
};
use chrono::{DateTime, Utc};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::ledger::{TenantNo, posting_id};

pub(crate) use store::forget;

/// Tries of one transaction against contention, before the caller is told to come back.
pub(crate) const TRIES: u32 = 6;

/// The hash of everything that a request asked for.
pub(crate) type PayloadHash = [u8; 32];

/// Makes the bytes of an answer.
pub(crate) type Encode<T> = Box<dyn Fn(&T) -> Vec<u8> + Send + Sync>;

/// A changing request: what it is recognised by, and how its answer is written down.
pub(crate) struct Call<T> {
    /// Who asks.
    pub(crate) caller: Arc<Caller>,
    /// Whose ids are meant.
    pub(crate) scope: TenantNo,
    /// The method, without its service.
    pub(crate) method: &'static str,
    /// What the caller marked it with.
    pub(crate) id: RequestId,
    /// What it asks for, as the message of the method.
    pub(crate) request: Vec<u8>,
    /// The hash of that.
    pub(crate) hash: PayloadHash,
    /// The bytes of an answer.
    pub(crate) encode: Encode<T>,
}

impl<T> Call<T> {
    /// The id of the posting that this request makes in the ledger.
    pub(crate) fn posting_id(&self) -> Uuid {
        posting_id(self.scope, self.method, self.id.as_str())
    }

    /// The payload's hash as the ledger keeps it.
    pub(crate) fn short_hash(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.hash[..8]);
        i64::from_be_bytes(bytes)
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} in {:?})", self.method, self.id, self.scope)
    }
}

/// What a changing request got.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It took effect now.
    Fresh(T),
    /// It had taken effect before: the bytes of the first answer.
    Replayed(Vec<u8>),
}

/// Why a request cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The id was used with another payload.
    #[error("the request id was used with another payload")]
    Reused,
    /// The store failed.
    #[error("request storage failed")]
    Db(#[from] db::Error),
}

impl db::Contended for Error {
    fn is_contention(&self) -> bool {
        match self {
            Error::Db(cause) => cause.is_contention(),
            Error::Reused => false,
        }
    }
}

/// How a request begins.
pub(crate) enum Begun<'a> {
    /// Nobody has asked it before: do the work in this transaction and [`finish`] it.
    New(Tx<'a>),
    /// It took effect before.
    Known(Vec<u8>),
}

/// Begins the transaction of a request: claims its id, or gives the answer that it has. Waits for an equal
/// request in progress.
pub(crate) async fn begin<'a, T>(
    client: &'a mut Client,
    call: &Call<T>,
    now: DateTime<Utc>,
) -> Result<Begun<'a>, Error> {
    let tx = client.transaction().await?;
    if store::claim(&tx, call, now).await? {
        return Ok(Begun::New(tx));
    }
    let (hash, answer) = store::replay(&tx, call).await?;
    if hash != call.hash {
        return Err(Error::Reused);
    }
    tx.commit().await?;
    Ok(Begun::Known(answer))
}

/// Writes down the answer, and who asked for what, in the transaction of what it tells, and commits it.
pub(crate) async fn finish<T>(tx: Tx<'_>, call: &Call<T>, answer: T) -> Result<Outcome<T>, Error> {
    store::answer(&tx, call, (call.encode)(&answer)).await?;
    tx.commit().await?;
    Ok(Outcome::Fresh(answer))
}

/// Runs work to its end, whether or not the caller waits for it: a handler that is dropped at its deadline
/// must not leave a transaction half done on a pooled connection.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and then nobody is left to be told.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
