//! Making a connection: its parameters, its set-up, and the checks of the server behind it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Config, Connection, NoTls};

use super::Error;
use crate::config::Database;

/// Probes of a silent connection before it counts as lost.
const KEEPALIVE_PROBES: u32 = 3;
/// Time between two probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The function of the server that warns when a commit did not wait for the standby. Its name is
/// looked at instead of the text, which follows the server's language.
const SYNC_WAIT_ROUTINE: &str = "SyncRepWaitForLSN";

// One round trip: sets the session and reads back what it may not be.
const SESSION: &str = "-- db.session
SELECT set_config('statement_timeout', $1, false),
       set_config('lock_timeout', $2, false),
       set_config('idle_in_transaction_session_timeout', $3, false),
       set_config('TimeZone', 'UTC', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('jit', 'off', false),
       current_setting('fsync'),
       current_setting('full_page_writes'),
       current_setting('synchronous_commit'),
       current_setting('server_version_num')";

/// The oldest server that we are tested with.
const MIN_SERVER_VERSION: u32 = 150_000;

/// The parameters of a connection, from the settings.
pub(super) fn parameters(database: &Database, application_name: &str) -> Result<Config, Error> {
    let mut config: Config = database
        .url
        .expose()
        .parse()
        .map_err(|error| Error::Refused(format!("database.url cannot be used: {error}")))?;
    config
        .application_name(application_name)
        .connect_timeout(database.connect_timeout.get())
        .tcp_user_timeout(database.tcp_user_timeout.get())
        .keepalives(true)
        .keepalives_idle(database.keepalive_idle.get())
        .keepalives_interval(KEEPALIVE_INTERVAL)
        .keepalives_retries(KEEPALIVE_PROBES)
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    Ok(config)
}

/// The timeouts of a session as PostgreSQL writes them.
#[derive(Debug, Clone)]
pub(super) struct SessionTimeouts {
    statement: String,
    lock: String,
    idle_in_transaction: String,
}

impl SessionTimeouts {
    pub(super) fn of(database: &Database) -> SessionTimeouts {
        let millis = |duration: crate::config::HumanDuration| format!("{}ms", duration.as_millis());
        SessionTimeouts {
            statement: millis(database.statement_timeout),
            lock: millis(database.lock_timeout),
            idle_in_transaction: millis(database.idle_in_transaction_timeout),
        }
    }

    /// For migrations: an index takes as long as it takes.
    pub(super) fn unbounded_statements(self) -> SessionTimeouts {
        SessionTimeouts { statement: "0".to_owned(), ..self }
    }
}

/// Sets a fresh connection up and refuses a server that could lose an acknowledged commit.
pub(super) async fn set_up(
    client: &tokio_postgres::Client,
    timeouts: &SessionTimeouts,
) -> Result<(), Error> {
    let row = client
        .query_typed(
            SESSION,
            &[
                (&timeouts.statement, Type::TEXT),
                (&timeouts.lock, Type::TEXT),
                (&timeouts.idle_in_transaction, Type::TEXT),
            ],
        )
        .await?;
    let row = row.first().ok_or_else(|| Error::other("db.session gave no row"))?;
    let setting = |column: usize| row.try_get::<_, String>(column).map_err(Error::from);
    check_server(&setting(6)?, &setting(7)?, &setting(8)?, &setting(9)?)
}

fn check_server(
    fsync: &str,
    full_page_writes: &str,
    synchronous_commit: &str,
    version: &str,
) -> Result<(), Error> {
    let refuse = |reason: String| Err(Error::Refused(reason));
    for (name, value) in [("fsync", fsync), ("full_page_writes", full_page_writes)] {
        if value != "on" {
            return refuse(format!("{name} is {value}, money needs it on"));
        }
    }
    if !matches!(synchronous_commit, "on" | "remote_apply") {
        return refuse(format!("synchronous_commit is {synchronous_commit}, money needs it on"));
    }
    if version.parse().unwrap_or(0) < MIN_SERVER_VERSION {
        return refuse(format!("PostgreSQL 15 or newer is needed, this is {version}"));
    }
    Ok(())
}

/// Makes connections for the pool and listens to what their servers remark.
#[derive(Debug, Default)]
pub(super) struct Connector {
    sync_waits_cut: Arc<AtomicU64>,
}

impl Connector {
    /// How many commits, of all connections, were acknowledged without their standby.
    pub(super) fn sync_waits_cut(&self) -> Arc<AtomicU64> {
        self.sync_waits_cut.clone()
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        config: &Config,
    ) -> BoxFuture<'_, Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error>>
    {
        let config = config.clone();
        let sync_waits_cut = self.sync_waits_cut.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(NoTls).await?;
            // Owned by the pool's client wrapper, which aborts it when the connection is dropped.
            let task = tokio::spawn(drive(connection, sync_waits_cut));
            Ok((client, task))
        })
    }
}

/// Carries a connection's messages until it ends.
pub(super) async fn drive<S, T>(mut connection: Connection<S, T>, sync_waits_cut: Arc<AtomicU64>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|context| connection.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                if notice.routine() == Some(SYNC_WAIT_ROUTINE) {
                    // Before the answer to the COMMIT, which comes later on the same connection.
                    sync_waits_cut.fetch_add(1, Ordering::Release);
                }
                let (severity, text) = (notice.severity(), notice.message());
                tracing::debug!(severity, text, "notice from the database");
            }
            // Notifications, and what a later version of the driver may add: not listened to.
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "a database connection was lost");
                return;
            }
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_could_lose_money_is_refused() {
        for (fsync, pages, commit, version, refused) in [
            ("on", "on", "on", "150018", None),
            ("on", "on", "remote_apply", "180001", None),
            ("off", "on", "on", "150018", Some("fsync")),
            ("on", "off", "on", "150018", Some("full_page_writes")),
            ("on", "on", "off", "150018", Some("synchronous_commit")),
            ("on", "on", "local", "150018", Some("synchronous_commit")),
            ("on", "on", "remote_write", "150018", Some("synchronous_commit")),
            ("on", "on", "on", "140010", Some("PostgreSQL 15")),
        ] {
            match (check_server(fsync, pages, commit, version), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(word)) => assert!(error.to_string().contains(word), "{error}"),
                (other, _) => panic!("{fsync} {pages} {commit} {version}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_wrong_url_is_refused_without_printing_it() {
        let database = Database::new("postgres://u:hunter2@host:notaport/x");
        let error = parameters(&database, "test").unwrap_err();
        assert!(matches!(error, Error::Refused(_)));
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
