//! SMTP by lettre: one connection for a letter, TLS by rustls.
//!
//! Whether a letter came to the relay is known only by the relay's answer. Whatever happens before it is
//! tried again; a letter that was taken and not acknowledged is sent twice, under the same Message-ID.

use std::time::{Duration, SystemTime};

use adspend_common::config::HumanDuration;
use chrono::{DateTime, Utc};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};
use uuid::Uuid;

use super::{letter::Letter, rules::Patience};
use crate::config::{Mail, MailTls};

/// How long the relay may take for one command.
const COMMAND_WITHIN: Duration = Duration::from_secs(20);
/// How long sending one letter may take in all: well below the lease of a notice.
pub(super) const SEND_WITHIN: Duration = Duration::from_secs(60);
/// The longest text of a relay's answer that is kept.
const MOST_SAID: usize = 300;

/// The configuration of e-mail cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No sender.
    #[error("mail.from must be an address such as \"Adspend <noreply@adspend.example>\"")]
    From,
    /// A user without a password, or the other way.
    #[error("mail.username and mail.password belong together")]
    Credentials,
    /// A password that anybody on the way could read.
    #[error("mail.password is not sent without TLS: set mail.tls")]
    PlainPassword,
    /// The authority is not PEM.
    #[error("mail.ca is not a certificate in PEM")]
    Authority(#[source] lettre::transport::smtp::Error),
    /// The host is no name that TLS could check.
    #[error("mail.host cannot be used")]
    Host(#[source] lettre::transport::smtp::Error),
}

/// Why a letter was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotSent {
    /// It may work later.
    Later(String),
    /// It never will.
    Never(String),
}

/// Sends letters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailer({})", self.from)
    }
}

impl Mailer {
    /// The mailer of the configuration; none when it names no host.
    pub(crate) fn from_config(mail: &Mail) -> Result<Option<Mailer>, Error> {
        let Some(host) = mail.host.as_deref().filter(|host| !host.is_empty()) else {
            return Ok(None);
        };
        let from: Mailbox = mail.from.parse().map_err(|_| Error::From)?;
        let (tls, port) = match mail.tls {
            MailTls::Starttls => (Tls::Required(tls_parameters(host, mail)?), 587),
            MailTls::Implicit => (Tls::Wrapper(tls_parameters(host, mail)?), 465),
            MailTls::None => (Tls::None, 25),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .tls(tls)
            .port(mail.port.unwrap_or(port))
            .timeout(Some(COMMAND_WITHIN))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        match (&mail.username, &mail.password) {
            (Some(_), Some(_)) if mail.tls == MailTls::None => return Err(Error::PlainPassword),
            (Some(user), Some(password)) => {
                let password = password.expose().to_owned();
                builder = builder.credentials(Credentials::new(user.clone(), password));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(Error::Credentials),
        }
        Ok(Some(Mailer { transport: builder.build(), from }))
    }

    /// Sends a letter under the id of its notice.
    pub(super) async fn send(
        &self,
        id: Uuid,
        to: &str,
        letter: Letter,
        now: DateTime<Utc>,
    ) -> Result<(), NotSent> {
        let message = self.message(id, to, letter, now).map_err(NotSent::Never)?;
        match tokio::time::timeout(SEND_WITHIN, self.transport.send(message)).await {
            Ok(Ok(_taken)) => Ok(()),
            Ok(Err(error)) => Err(sorted(&error)),
            Err(_elapsed) => Err(NotSent::Later("the relay took too long".to_owned())),
        }
    }

    fn message(
        &self,
        id: Uuid,
        to: &str,
        letter: Letter,
        now: DateTime<Utc>,
    ) -> Result<Message, String> {
        let to: Address = to.parse().map_err(|_| "the address cannot be used".to_owned())?;
        let Letter { subject, text, html } = letter;
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(subject)
            .date(SystemTime::from(now))
            // A letter that is sent twice is one letter to the reader's mail program (G9).
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .header(AutoSubmitted)
            .multipart(
                MultiPart::alternative()
                    .singlepart(SinglePart::plain(text))
                    .singlepart(SinglePart::html(html)),
            )
            .map_err(|error| said(&error))
    }
}

/// The roots of the system, and the authority of the configuration beside them.
fn tls_parameters(host: &str, mail: &Mail) -> Result<TlsParameters, Error> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(pem) = &mail.ca {
        let certificate = Certificate::from_pem(pem.as_bytes()).map_err(Error::Authority)?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build_rustls().map_err(Error::Host)
}

/// What a relay refuses for good is not sent again, unless it refuses us and not the letter.
fn sorted(error: &lettre::transport::smtp::Error) -> NotSent {
    // Authentication: 530 needed, 534 too weak, 535 wrong, 538 needs encryption.
    const OURS: [u16; 4] = [530, 534, 535, 538];
    let ours = error.status().is_some_and(|code| OURS.contains(&u16::from(code)));
    if error.is_permanent() && !ours {
        NotSent::Never(said(error))
    } else {
        NotSent::Later(said(error))
    }
}

/// An error with its causes on one line, for the log and the table.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_SAID).collect()
}

/// Tells other machines not to answer (RFC 3834).
#[derive(Debug, Clone, Copy)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(AutoSubmitted)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl From<&Mail> for Patience {
    fn from(mail: &Mail) -> Patience {
        let delta = |duration: HumanDuration| {
            chrono::TimeDelta::from_std(duration.get()).unwrap_or(chrono::TimeDelta::MAX)
        };
        Patience {
            first_retry: delta(mail.first_retry),
            longest_retry: delta(mail.longest_retry),
            give_up_after: delta(mail.give_up_after),
        }
    }
}
