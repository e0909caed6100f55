//! Configuration: an optional TOML file, then environment variables, then nothing else.
//!
//! One scheme for variables: the prefix, then the path of the key in capitals, joined by two
//! underscores. With the prefix `ADSPEND_BILLING`:
//!
//! ```text
//! ADSPEND_BILLING__DATABASE__POOL_SIZE=10        database.pool_size = 10
//! ADSPEND_BILLING__CLOCK=system                  clock = "system"
//! ADSPEND_BILLING__DATABASE__URL_FILE=/run/url   database.url = what the file says, trimmed
//! ADSPEND_BILLING__AUTH__TOKENS=[{ … }]          a list or a table is written as TOML
//! ```
//!
//! A variable wins over the file. A key that ends in `_file` names a file that holds the value of
//! the key without the suffix: for secrets, in variables and in the file alike. A key that nobody
//! knows is refused by name, whichever way it came, so a misspelt limit does not go unnoticed.
//! Variables with one underscore behind the prefix are not ours: Kubernetes sets such ones for
//! every Service (`ADSPEND_BILLING_SERVICE_HOST`). One that looks like a slip is refused too.
//!
//! The text of a variable is read as whatever its key wants, so a password of digits stays text.
//!
//! Deliberately not here: reloading. A new configuration is a new process.

mod duration;
mod secret;
mod sections;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use duration::{HumanDuration, InvalidDuration};
pub use secret::Secret;
pub use sections::{
    Auth, AuthMode, Database, Drain, Limits, Listen, LogFormat, Telemetry, Tls, TokenEntry,
    system_clock,
};
use tree::Node;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that was named cannot be read.
    #[error("cannot read {path} ({named_by})")]
    Unreadable {
        /// The file.
        path: String,
        /// The option, key or variable that named it.
        named_by: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {reason}")]
    NotToml {
        /// The file.
        path: String,
        /// What its parser said, with line and column.
        reason: String,
    },
    /// A variable that cannot be a path of keys.
    #[error("variable {name}: {reason}")]
    Variable {
        /// The variable.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key that is unknown, missing, or has a value that cannot be used.
    #[error("{at}: {reason}")]
    Key {
        /// Where: the path of the key and the variable or file that set it.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration of ours that TOML cannot say.
    #[error("cannot print the configuration: {0}")]
    Unprintable(String),
}

/// Reads the configuration of a process: the file if one is given, then the variables that begin
/// with `prefix` and two underscores.
pub fn load<T: DeserializeOwned>(prefix: &str, file: Option<&Path>) -> Result<T, Error> {
    let text = match file {
        Some(path) => {
            Some((path.display().to_string(), read_file(path, "the configuration file")?))
        }
        None => None,
    };
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        // A name that is not text cannot begin with our prefix and be spelt right.
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) if name.starts_with(prefix) => {
                return Err(Error::Variable { name, reason: "its value is not UTF-8".to_owned() });
            }
            Err(_) => {}
        }
    }
    load_from(prefix, file, variables)
}

/// The same from values: a named TOML text and variables.
pub fn load_from<T: DeserializeOwned>(
    prefix: &str,
    file: Option<(&str, &str)>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    let mut root = Node::table();
    if let Some((name, text)) = file {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| Error::NotToml {
            path: name.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        root = Node::from_file(table, name);
    }
    // In order of their names: the environment has none that a reader could rely on.
    for (name, value) in BTreeMap::from_iter(variables) {
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        if let Some(path) = rest.strip_prefix("__") {
            let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            root.set(&keys, &name, value)?;
        } else if rest.starts_with('_') && rest.contains("__") {
            let reason = format!("two underscores must follow {prefix}");
            return Err(Error::Variable { name, reason });
        }
    }
    root.read_secret_files()?;
    T::deserialize(root.into_deserializer()).map_err(tree::Problem::into_error)
}

/// The resolved configuration as TOML, secrets redacted: what `config` prints.
pub fn print<T: Serialize>(config: &T) -> Result<String, Error> {
    toml::to_string_pretty(config).map_err(|error| Error::Unprintable(error.to_string()))
}

fn read_file(path: &Path, named_by: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|cause| Error::Unreadable {
        path: path.display().to_string(),
        named_by: named_by.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, Serialize)]
    #[serde(deny_unknown_fields)]
    struct Service {
        database: Database,
        #[serde(default = "system_clock")]
        clock: String,
        #[serde(default)]
        auth: Auth,
        #[serde(default)]
        listen: Listen,
        #[serde(default)]
        limits: Limits,
        #[serde(default)]
        telemetry: Telemetry,
        tls: Option<Tls>,
        #[serde(default)]
        drain: Drain,
    }

    const MINIMAL: &str = "[database]\nurl = 'postgres://localhost/billing'\n";

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Service, Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load_from("ADSPEND_TEST", Some(("test.toml", file)), variables)
    }

    fn refusal(file: &str, variables: &[(&str, &str)]) -> String {
        read(file, variables).unwrap_err().to_string()
    }

    #[test]
    fn defaults_fill_what_is_not_said() {
        let config = read(MINIMAL, &[]).unwrap();
        assert_eq!(config.clock, "system");
        assert_eq!(config.database.pool_size, Database::new("x").pool_size);
        assert!(config.tls.is_none());
        assert!(matches!(config.auth.mode, AuthMode::Tokens));
    }

    #[test]
    fn a_variable_wins_over_the_file_and_is_read_as_its_key_wants() {
        let file = "clock = 'system'\n[database]\nurl = 'a'\npool_size = 3\n";
        let config = read(
            file,
            &[
                ("ADSPEND_TEST__DATABASE__POOL_SIZE", "7"),
                ("ADSPEND_TEST__DATABASE__URL", "12345"),
                ("ADSPEND_TEST__DATABASE__STATEMENT_TIMEOUT", "1m30s"),
                ("ADSPEND_TEST__LISTEN__GRPC", "127.0.0.1:0"),
                ("ADSPEND_TEST__AUTH__MODE", "development"),
                ("ADSPEND_TEST__AUTH__TOKENS", "[{ hash = 'ab', role = 'OPERATOR' }]"),
                ("ADSPEND_TEST__TLS__CERT", "/c"),
                ("ADSPEND_TEST__TLS__KEY", "/k"),
            ],
        )
        .unwrap();
        assert_eq!(config.database.pool_size, 7);
        assert_eq!(config.database.url.expose(), "12345");
        assert_eq!(config.database.statement_timeout.get(), Duration::from_secs(90));
        assert_eq!(config.listen.grpc.port(), 0);
        assert!(matches!(config.auth.mode, AuthMode::Development));
        assert_eq!(config.auth.tokens[0].role, "OPERATOR");
        assert_eq!(config.tls.unwrap().client_ca, None);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let by_file = refusal(&format!("{MINIMAL}pool_sise = 1\n"), &[]);
        assert!(
            by_file.contains("database.pool_sise") && by_file.contains("test.toml"),
            "{by_file}"
        );
        let by_variable = refusal(MINIMAL, &[("ADSPEND_TEST__DATABASE__POOL_SISE", "1")]);
        assert!(by_variable.contains("database.pool_sise"), "{by_variable}");
        assert!(by_variable.contains("ADSPEND_TEST__DATABASE__POOL_SISE"), "{by_variable}");
        let section = refusal(MINIMAL, &[("ADSPEND_TEST__DATABAES__URL", "1")]);
        assert!(section.contains("ADSPEND_TEST__DATABAES__URL"), "{section}");
        let slip = refusal(MINIMAL, &[("ADSPEND_TEST_DATABASE__URL", "1")]);
        assert!(slip.contains("ADSPEND_TEST_DATABASE__URL"), "{slip}");
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        let variables = [("ADSPEND_TEST_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin")];
        assert!(read(MINIMAL, &variables).is_ok());
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_with_its_place() {
        for (name, value, place) in [
            ("ADSPEND_TEST__DATABASE__POOL_SIZE", "many", "database.pool_size"),
            ("ADSPEND_TEST__DATABASE__POOL_SIZE", "-1", "database.pool_size"),
            ("ADSPEND_TEST__DATABASE__LOCK_TIMEOUT", "soon", "database.lock_timeout"),
            ("ADSPEND_TEST__LISTEN__GRPC", "localhost", "listen.grpc"),
            ("ADSPEND_TEST__AUTH__MODE", "open", "auth.mode"),
            ("ADSPEND_TEST__AUTH__TOKENS", "[{", "auth.tokens"),
            ("ADSPEND_TEST__AUTH__TOKENS", "[{ hash = 'a', roll = 'b' }]", "auth.tokens"),
        ] {
            let text = refusal(MINIMAL, &[(name, value)]);
            assert!(text.contains(place) && text.contains(name), "{text}");
        }
        let missing = refusal("", &[]);
        assert!(missing.contains("database"), "{missing}");
        let collision = refusal(
            MINIMAL,
            &[("ADSPEND_TEST__DATABASE", "x"), ("ADSPEND_TEST__DATABASE__URL", "y")],
        );
        assert!(collision.contains("ADSPEND_TEST__DATABASE"), "{collision}");
    }

    #[test]
    fn a_secret_is_read_from_the_file_that_is_named() {
        let path = std::env::temp_dir().join(format!("adspend-secret-{}", std::process::id()));
        std::fs::write(&path, "postgres://secret\n").unwrap();
        let name = "ADSPEND_TEST__DATABASE__URL_FILE";
        let config = read("", &[(name, path.to_str().unwrap())]).unwrap();
        assert_eq!(config.database.url.expose(), "postgres://secret");
        let both = refusal(MINIMAL, &[(name, path.to_str().unwrap())]);
        assert!(both.contains("database.url"), "{both}");
        std::fs::remove_file(&path).unwrap();
        let gone = refusal("", &[(name, path.to_str().unwrap())]);
        assert!(gone.contains(name) && gone.contains("cannot read"), "{gone}");
    }

    #[test]
    fn what_is_printed_hides_secrets_and_reads_back() {
        let config = read("[database]\nurl = 'postgres://u:hunter2@localhost/x'\n", &[]).unwrap();
        let text = print(&config).unwrap();
        assert!(!text.contains("hunter2") && text.contains("url = \"***\""), "{text}");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(print(&read(&text, &[]).unwrap()).unwrap(), text);
    }
}
