//! How e-mail goes out.

use adspend_common::config::{HumanDuration, Secret};
use serde::{Deserialize, Serialize};

/// E-mail through a relay. Off without a host: notices wait, and are given up
/// when they are too old.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mail {
    /// The relay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port: 587, 465 or 25 when it is not given, by `tls`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// An authority that is trusted beside the system's, PEM; give it as `ca_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Who we are to the relay; nobody is said without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password; give it as `password_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The sender, such as `Adspend <noreply@adspend.example>`.
    pub from: String,
    /// The wait after the first failure; it doubles.
    pub first_retry: HumanDuration,
    /// The longest wait after a failure.
    pub longest_retry: HumanDuration,
    /// How old a notice may become before nobody wants it any more.
    pub give_up_after: HumanDuration,
}

impl Default for Mail {
    fn default() -> Mail {
        Mail {
            host: None,
            port: None,
            tls: MailTls::Starttls,
            ca: None,
            username: None,
            password: None,
            from: String::new(),
            first_retry: HumanDuration::from_secs(60),
            longest_retry: HumanDuration::from_secs(6 * 3_600),
            give_up_after: HumanDuration::from_secs(3 * 24 * 3_600),
        }
    }
}

/// How the connection to the relay is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// By STARTTLS; a relay that does not offer it gets nothing.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all: for a relay on the same host.
    None,
}
