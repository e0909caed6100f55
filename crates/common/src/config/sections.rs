//! The sections that both services have. Each service adds its own around them.
//!
//! Every limit has a name, a unit and a reason; the reasons stand here, beside the defaults.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{HumanDuration, Secret};

/// The default of the setting `clock`: the real time.
pub fn system_clock() -> String {
    "system".to_owned()
}

/// Where the process listens. Port 0 takes a free one.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// gRPC: the services, health and reflection.
    pub grpc: SocketAddr,
    /// HTTP: metrics.
    pub metrics: SocketAddr,
}

impl Default for Listen {
    /// Loopback, because being reachable from elsewhere is a decision.
    fn default() -> Listen {
        Listen {
            grpc: SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)),
            metrics: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)),
        }
    }
}

/// The database and how much patience there is with it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:port/database`: a direct connection or a session pool.
    /// PgBouncer in transaction mode breaks prepared statements.
    pub url: Secret,
    /// Connections of this process. More than twice the server's cores adds waiting, not speed.
    #[serde(default = "Database::default_pool_size")]
    pub pool_size: u16,
    /// How long a call waits for a free connection; below its deadline, so that it is told.
    #[serde(default = "Database::default_pool_wait")]
    pub pool_wait: HumanDuration,
    /// How long a connection may take to be made.
    #[serde(default = "Database::default_connect_timeout")]
    pub connect_timeout: HumanDuration,
    /// How long one statement may run: bounds what a caller that has gone leaves behind.
    #[serde(default = "Database::default_statement_timeout")]
    pub statement_timeout: HumanDuration,
    /// How long one statement may wait for a lock; then it is contention and is tried again.
    #[serde(default = "Database::default_lock_timeout")]
    pub lock_timeout: HumanDuration,
    /// How long a transaction may do nothing: frees the locks of a process that hangs.
    #[serde(default = "Database::default_idle_in_transaction_timeout")]
    pub idle_in_transaction_timeout: HumanDuration,
    /// How long sent data may stay unacknowledged before the connection counts as lost.
    #[serde(default = "Database::default_tcp_user_timeout")]
    pub tcp_user_timeout: HumanDuration,
    /// After how much silence the other side is probed.
    #[serde(default = "Database::default_keepalive_idle")]
    pub keepalive_idle: HumanDuration,
}

impl Database {
    /// The defaults with this URL.
    pub fn new(url: impl Into<Secret>) -> Database {
        Database {
            url: url.into(),
            pool_size: Self::default_pool_size(),
            pool_wait: Self::default_pool_wait(),
            connect_timeout: Self::default_connect_timeout(),
            statement_timeout: Self::default_statement_timeout(),
            lock_timeout: Self::default_lock_timeout(),
            idle_in_transaction_timeout: Self::default_idle_in_transaction_timeout(),
            tcp_user_timeout: Self::default_tcp_user_timeout(),
            keepalive_idle: Self::default_keepalive_idle(),
        }
    }

    fn default_pool_size() -> u16 {
        16
    }
    fn default_pool_wait() -> HumanDuration {
        HumanDuration::from_secs(1)
    }
    fn default_connect_timeout() -> HumanDuration {
        HumanDuration::from_secs(3)
    }
    fn default_statement_timeout() -> HumanDuration {
        HumanDuration::from_secs(5)
    }
    fn default_lock_timeout() -> HumanDuration {
        HumanDuration::from_secs(2)
    }
    fn default_idle_in_transaction_timeout() -> HumanDuration {
        HumanDuration::from_secs(10)
    }
    fn default_tcp_user_timeout() -> HumanDuration {
        HumanDuration::from_secs(10)
    }
    fn default_keepalive_idle() -> HumanDuration {
        HumanDuration::from_secs(30)
    }
}

/// How much the edge takes on at once. Reasons: reliability.md, Limits.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TCP connections; more are closed at once.
    pub max_connections: usize,
    /// TCP connections from one address.
    pub max_connections_per_peer: usize,
    /// How long a new connection may take to say what HTTP/2 begins with.
    pub handshake_timeout: HumanDuration,
    /// Requests in progress on one connection.
    pub max_concurrent_streams: u32,
    /// Requests in progress in the whole process; more wait.
    pub max_in_flight: usize,
    /// How long a request waits for its turn before it gets RESOURCE_EXHAUSTED.
    pub max_queue_wait: HumanDuration,
    /// The largest message either way, in bytes.
    pub max_message_bytes: usize,
    /// The deadline of a unary call whose caller gave none.
    pub default_deadline: HumanDuration,
    /// The longest deadline a unary call can have, whatever its caller gave.
    pub max_deadline: HumanDuration,
    /// How long a stream may be open without a message.
    pub stream_idle_timeout: HumanDuration,
    /// After how much silence a connection is probed, and how long its answer may take.
    pub keepalive_interval: HumanDuration,
    /// How long the answer to a probe may take.
    pub keepalive_timeout: HumanDuration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_connections: 1_000,
            max_connections_per_peer: 100,
            handshake_timeout: HumanDuration::from_secs(5),
            max_concurrent_streams: 1_000,
            max_in_flight: 1_024,
            max_queue_wait: HumanDuration::from_millis(50),
            max_message_bytes: 4 * 1024 * 1024,
            default_deadline: HumanDuration::from_secs(5),
            max_deadline: HumanDuration::from_secs(30),
            stream_idle_timeout: HumanDuration::from_secs(60),
            keepalive_interval: HumanDuration::from_secs(20),
            keepalive_timeout: HumanDuration::from_secs(10),
        }
    }
}

/// What the process tells about itself.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where traces and metrics are sent by OTLP over gRPC; nothing is sent without it.
    pub otlp_endpoint: Option<String>,
    /// Which log lines are written, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

impl Default for Telemetry {
    fn default() -> Telemetry {
        Telemetry { otlp_endpoint: None, log: "info".to_owned(), log_format: LogFormat::Json }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// Text, for a person at a terminal.
    Text,
}

/// Who may call.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How a caller proves who it is.
    pub mode: AuthMode,
    /// The bearer tokens that are known, by hash.
    pub tokens: Vec<TokenEntry>,
}

/// How a caller proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// By a bearer token of the table; whoever has none is denied.
    #[default]
    Tokens,
    /// Everybody may do everything: never on data that matters.
    Development,
}

/// One bearer token.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// The SHA-256 of the token in hex: the configuration does not know the token.
    pub hash: String,
    /// What its bearer may do.
    pub role: String,
    /// Whose data it sees; none for roles that are above tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// Files of a TLS identity, PEM.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain.
    pub cert: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// The authority that client certificates must come from; none are asked for without it.
    pub client_ca: Option<PathBuf>,
    /// How often the files are read again; what has changed is taken without a restart.
    #[serde(default = "Tls::default_reload_every")]
    pub reload_every: HumanDuration,
}

impl Tls {
    /// A minute: certificates are renewed days before they end.
    pub fn default_reload_every() -> HumanDuration {
        HumanDuration::from_secs(60)
    }
}

/// How the process stops. A supervisor must wait longer than both together.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long it is NOT_SERVING while it still takes calls, so that callers go elsewhere.
    pub notice: HumanDuration,
    /// How long calls in progress may take to finish after that.
    pub finish: HumanDuration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { notice: HumanDuration::from_secs(5), finish: HumanDuration::from_secs(20) }
    }
}
