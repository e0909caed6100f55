//! The configuration of the process: sections that both services have, and pacing's own. Each
//! part's section stands in its module, beside what it governs.

use std::net::{Ipv4Addr, SocketAddr};

use adspend_common::config::{Auth, Database, Drain, Limits, Listen, Telemetry, Tls, system_clock};
use serde::{Deserialize, Serialize};

use crate::{accounts, billing, budgets, charges, leases, pacer};

/// What the variables begin with: `ADSPEND_PACING__DATABASE__URL`.
pub const PREFIX: &str = "ADSPEND_PACING";

/// All that can be configured.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `system`, or `simulated:<start>,<speed>[,<wall moment>]` for demonstrations.
    #[serde(default = "system_clock")]
    pub clock: String,
    /// Where the process listens.
    #[serde(default = "default_listen")]
    pub listen: Listen,
    /// Pacing's own database.
    pub database: Database,
    /// How much the edge takes on at once.
    #[serde(default)]
    pub limits: Limits,
    /// Who may call.
    #[serde(default)]
    pub auth: Auth,
    /// TLS of the gRPC port; plain without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What the process tells about itself.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// How the process stops.
    #[serde(default)]
    pub drain: Drain,
    /// How billing is reached.
    #[serde(default)]
    pub billing: billing::Settings,
    /// How long billing's facts are trusted.
    #[serde(default)]
    pub accounts: accounts::Settings,
    /// The policy of new budgets.
    #[serde(default)]
    pub budgets: budgets::Settings,
    /// How charges are written and sent on.
    #[serde(default)]
    pub charges: charges::Settings,
    /// How slices and holds are cut.
    #[serde(default)]
    pub leases: leases::Settings,
    /// How rates are set.
    #[serde(default)]
    pub pacer: pacer::Settings,
}

impl Config {
    /// The defaults on this database.
    pub fn new(database: Database) -> Config {
        Config {
            clock: system_clock(),
            listen: default_listen(),
            database,
            limits: Limits::default(),
            auth: Auth::default(),
            tls: None,
            telemetry: Telemetry::default(),
            drain: Drain::default(),
            billing: billing::Settings::default(),
            accounts: accounts::Settings::default(),
            budgets: budgets::Settings::default(),
            charges: charges::Settings::default(),
            leases: leases::Settings::default(),
            pacer: pacer::Settings::default(),
        }
    }
}

/// Loopback, on the ports that the documentation names.
fn default_listen() -> Listen {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Listen { grpc: at(7411), metrics: at(7412) }
}

#[cfg(test)]
mod tests {
    use adspend_common::config::{load_from, print};

    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, adspend_common::config::Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load_from(PREFIX, None, variables)
    }

    #[test]
    fn a_database_is_all_that_must_be_said() {
        let config = load(&[("ADSPEND_PACING__DATABASE__URL", "postgres://h/p")]).unwrap();
        assert_eq!(config.listen.grpc.to_string(), "127.0.0.1:7411");
        assert_eq!(config.listen.metrics.to_string(), "127.0.0.1:7412");
        assert_eq!(config.billing.endpoint, "http://127.0.0.1:7401");
        assert!(load(&[]).unwrap_err().to_string().contains("database"));
    }

    #[test]
    fn what_is_printed_holds_no_secret_and_can_be_read_again() {
        let config = load(&[
            ("ADSPEND_PACING__DATABASE__URL", "postgres://u:hunter2@h/p"),
            ("ADSPEND_PACING__BILLING__TOKEN", "hunter2"),
        ]);
        let text = print(&config.unwrap()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        let again: Config = load_from(PREFIX, Some(("printed", &text)), []).unwrap();
        assert_eq!(print(&again).unwrap(), text);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load(&[
            ("ADSPEND_PACING__DATABASE__URL", "postgres://h/p"),
            ("ADSPEND_PACING__BUDGETS__DAILY_PRESETS", "strict"),
        ]);
        assert!(error.unwrap_err().to_string().contains("daily_presets"));
    }
}
