//! A connection that was borrowed, and a transaction on it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tokio_postgres::{Row, Statement};

use super::{Error, ToSql};

/// The values of a statement's `$1`, `$2`, ….
pub type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A statement: its text, which is prepared once per connection, or what was prepared.
#[derive(Debug, Clone, Copy)]
pub enum Sql<'a> {
    /// A constant that begins with `-- feature.name`.
    Text(&'a str),
    /// What [`Tx::prepare_cached`] gave.
    Prepared(&'a Statement),
}

impl<'a> From<&'a str> for Sql<'a> {
    fn from(text: &'a str) -> Sql<'a> {
        Sql::Text(text)
    }
}

impl<'a> From<&'a Statement> for Sql<'a> {
    fn from(statement: &'a Statement) -> Sql<'a> {
        Sql::Prepared(statement)
    }
}

// For this transaction only; `SET LOCAL` takes no parameters.
const STATEMENT_TIMEOUT: &str = "-- db.statement_timeout
SELECT set_config('statement_timeout', $1, true)";

/// A connection of the pool; goes back there when it is dropped.
pub struct Client {
    inner: deadpool_postgres::Client,
    sync_waits_cut: Arc<AtomicU64>,
    work: Arc<watch::Sender<()>>,
}

impl Client {
    pub(super) fn new(
        inner: deadpool_postgres::Client,
        sync_waits_cut: Arc<AtomicU64>,
        work: Arc<watch::Sender<()>>,
    ) -> Client {
        Client { inner, sync_waits_cut, work }
    }

    /// Begins a transaction: READ COMMITTED, so lock first and read in a later statement.
    pub async fn transaction(&mut self) -> Result<Tx<'_>, Error> {
        self.begin("BEGIN").await
    }

    /// Begins a transaction and runs its first query on the same way to the server and back.
    pub async fn transaction_with(
        &mut self,
        sql: &str,
        params: Params<'_>,
    ) -> Result<(Tx<'_>, Vec<Row>), Error> {
        let statement = self.prepare_cached(sql).await?;
        let tx = Tx::new(self);
        // Both are sent at the first poll, in this order.
        let (begun, rows) = tokio::join!(biased; tx.client.batch_execute("BEGIN"), tx.client.query(&statement, params));
        begun?;
        Ok((tx, rows?))
    }

    /// Begins a transaction that reads one moment of the database and writes nothing.
    pub async fn snapshot(&mut self) -> Result<Tx<'_>, Error> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await
    }

    async fn begin(&mut self, sql: &str) -> Result<Tx<'_>, Error> {
        // Before it is sent, so that a caller that gives up in between leaves nothing open.
        let tx = Tx::new(self);
        tx.client.batch_execute(sql).await?;
        Ok(tx)
    }

    /// Prepares a statement, once per connection.
    pub async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        Ok(self.inner.prepare_cached(sql).await?)
    }

    async fn statement<'s>(&self, sql: impl Into<Sql<'s>>) -> Result<Statement, Error> {
        match sql.into() {
            Sql::Prepared(statement) => Ok(statement.clone()),
            Sql::Text(text) => self.prepare_cached(text).await,
        }
    }

    /// Runs a statement and gives its rows.
    pub async fn query<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        let statement = self.statement(sql).await?;
        Ok(self.inner.query(&statement, params).await?)
    }

    /// Runs a statement and hands over each row as it comes: what is made of the first ones is made
    /// while the server sends the rest, and they are not kept.
    pub async fn for_each_row<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
        mut take: impl FnMut(&Row) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let statement = self.statement(sql).await?;
        let rows = self.inner.query_raw(&statement, params.iter().copied()).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            take(&row)?;
        }
        Ok(())
    }

    /// Runs a statement that gives exactly one row.
    pub async fn query_one<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Row, Error> {
        one_row(self.query(sql, params).await?)
    }

    /// Runs a statement that gives one row or none.
    pub async fn query_opt<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        at_most_one_row(self.query(sql, params).await?)
    }

    /// Runs a statement and gives the number of rows that it touched. On its own it is a
    /// transaction of its own, so a connection lost under it leaves the outcome open.
    pub async fn execute<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        let statement = self.statement(sql).await?;
        let result = self.inner.execute(&statement, params).await;
        result.map_err(|error| Error::from(error).while_committing())
    }

    /// Runs statements without values, separated by semicolons.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        Ok(self.inner.batch_execute(sql).await?)
    }

    /// What lies below, for COPY and the like.
    pub fn raw(&self) -> &deadpool_postgres::Client {
        &self.inner
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("db::Client")
    }
}

/// A transaction. Dropped without [`Tx::commit`] it is rolled back.
pub struct Tx<'a> {
    /// Of this transaction alone: it is made of the only reference.
    client: &'a Client,
    leaves_work: AtomicBool,
    ended: bool,
}

impl<'a> Tx<'a> {
    fn new(client: &'a mut Client) -> Tx<'a> {
        Tx { client, leaves_work: AtomicBool::new(false), ended: false }
    }

    /// This transaction writes down work that somebody should begin as soon as it is committed: see
    /// [`Pool::work`](super::Pool::work).
    pub fn wake_on_commit(&self) {
        self.leaves_work.store(true, Ordering::Relaxed);
    }

    /// Prepares a statement, once per connection.
    pub async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        self.client.prepare_cached(sql).await
    }

    /// Runs a statement and gives its rows.
    pub async fn query<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Error> {
        self.client.query(sql, params).await
    }

    /// Runs a statement that gives exactly one row.
    pub async fn query_one<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Row, Error> {
        one_row(self.query(sql, params).await?)
    }

    /// Runs a statement that gives one row or none.
    pub async fn query_opt<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<Option<Row>, Error> {
        at_most_one_row(self.query(sql, params).await?)
    }

    /// Runs a statement and gives the number of rows that it touched.
    pub async fn execute<'s>(
        &self,
        sql: impl Into<Sql<'s>>,
        params: Params<'_>,
    ) -> Result<u64, Error> {
        let statement = self.client.statement(sql).await?;
        Ok(self.raw().execute(&statement, params).await?)
    }

    /// Runs statements without values, separated by semicolons.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }

    /// Lets no statement of this transaction run longer: the time that the caller has left.
    pub async fn statement_timeout(&self, limit: Duration) -> Result<(), Error> {
        // Zero would mean no limit at all.
        let millis = format!("{}ms", limit.as_millis().max(1));
        self.execute(STATEMENT_TIMEOUT, &[&millis]).await.map(|_| ())
    }

    /// Commits. [`Error::OutcomeUnknown`] when the connection was lost on the way, or when the
    /// server did not wait for its standby (any commit of this pool in the meantime counts, for
    /// the server's warning does not say whose; a repeat with the same request id finds out).
    pub async fn commit(mut self) -> Result<(), Error> {
        let before = self.client.sync_waits_cut.load(Ordering::Acquire);
        self.ended = true;
        let committed = self.client.batch_execute("COMMIT").await;
        self.committed(before, committed)
    }

    /// Runs a last statement and commits, on the same way to the server and back. A statement that fails
    /// leaves nothing; one that must count its rows counts them itself and fails, for nobody looks at the
    /// count before the commit. Errors as of [`Tx::commit`].
    pub async fn execute_and_commit(mut self, sql: &str, params: Params<'_>) -> Result<(), Error> {
        let statement = self.prepare_cached(sql).await?;
        let before = self.client.sync_waits_cut.load(Ordering::Acquire);
        self.ended = true;
        // Both are sent at the first poll, in this order; the server makes a COMMIT after a failure a
        // ROLLBACK.
        let (done, committed) = tokio::join!(
            biased;
            self.raw().execute(&statement, params),
            self.client.batch_execute("COMMIT")
        );
        let committed = self.committed(before, committed);
        done.map_err(|error| Error::from(error).while_committing())?;
        committed
    }

    fn committed(&self, before: u64, committed: Result<(), Error>) -> Result<(), Error> {
        if self.leaves_work.load(Ordering::Relaxed) {
            // Also after an error: the outcome may be unknown, and to look for nothing is harmless.
            self.client.work.send_replace(());
        }
        committed.map_err(Error::while_committing)?;
        if self.client.sync_waits_cut.load(Ordering::Acquire) == before {
            Ok(())
        } else {
            Err(Error::outcome_unknown("the server did not wait for its standby"))
        }
    }

    /// Rolls back and waits for it. Dropping does the same without waiting.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.ended = true;
        self.client.batch_execute("ROLLBACK").await
    }

    /// What lies below, for COPY and the like.
    pub fn raw(&self) -> &deadpool_postgres::Client {
        self.client.raw()
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Sent at the first poll; what the server answers is for nobody.
            let _ = self.client.batch_execute("ROLLBACK").now_or_never();
        }
    }
}

impl fmt::Debug for Tx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("db::Tx")
    }
}

fn at_most_one_row(rows: Vec<Row>) -> Result<Option<Row>, Error> {
    if rows.len() > 1 {
        return Err(Error::other(format!("{} rows instead of one", rows.len())));
    }
    Ok(rows.into_iter().next())
}

fn one_row(rows: Vec<Row>) -> Result<Row, Error> {
    at_most_one_row(rows)?.ok_or_else(|| Error::other("no row instead of one"))
}
