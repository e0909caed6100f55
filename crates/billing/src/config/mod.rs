//! The configuration of billing: the shared sections, and the numbers of its rules.
//!
//! Every number that the product rules mark INFERRED is a setting here with the rule's default. Amounts are
//! texts or whole numbers in units of the currency: `minimum_net = { RUB = "1000" }`.

mod autopay;
mod mail;

use std::{collections::BTreeMap, fmt, net::SocketAddr};

use adspend_common::{
    config::{
        self, Auth, Database, Drain, HumanDuration, Limits, Listen, Telemetry, Tls, system_clock,
    },
    money::{Currency, Money},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use crate::credit::eligibility::Policy;
pub use crate::documents::executor::{Documents, Executor};

pub use autopay::{Autopay, Provider, ProviderError, Webhook};
pub use mail::{Mail, MailTls};

pub use crate::statements::settings::{OwnAccount, Statements};

/// What environment variables of this service begin with.
pub const PREFIX: &str = "ADSPEND_BILLING";

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the time comes from: `system`, or `simulated:<start>,<speed>`.
    #[serde(default = "system_clock")]
    pub clock: String,
    /// Sockets.
    #[serde(default = "default_listen")]
    pub listen: Listen,
    /// PostgreSQL.
    pub database: Database,
    /// Bounds of the edge.
    #[serde(default)]
    pub limits: Limits,
    /// Logs, traces, metrics.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Who may call.
    #[serde(default)]
    pub auth: Auth,
    /// Certificates; plain text without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How the process stops.
    #[serde(default)]
    pub drain: Drain,
    /// The posting engine.
    #[serde(default)]
    pub ledger: Ledger,
    /// Invoices.
    #[serde(default)]
    pub invoices: Invoices,
    /// Promised payments.
    #[serde(default)]
    pub promised_payments: PromisedPayments,
    /// Credit.
    #[serde(default)]
    pub credit: Credit,
    /// Documents.
    #[serde(default)]
    pub documents: Documents,
    /// Autopayment by card.
    #[serde(default)]
    pub autopay: Autopay,
    /// E-mail to owners of money.
    #[serde(default)]
    pub mail: Mail,
    /// Bank statements.
    #[serde(default)]
    pub statements: Statements,
    /// Work by the clock.
    #[serde(default)]
    pub jobs: Jobs,
}

fn default_listen() -> Listen {
    Listen {
        grpc: SocketAddr::from(([127, 0, 0, 1], 7401)),
        metrics: SocketAddr::from(([127, 0, 0, 1], 7402)),
    }
}

impl Config {
    /// The defaults on this database: for tests and tools.
    pub fn new(database: Database) -> Config {
        Config {
            clock: system_clock(),
            listen: default_listen(),
            database,
            limits: Limits::default(),
            telemetry: Telemetry::default(),
            auth: Auth::default(),
            tls: None,
            drain: Drain::default(),
            ledger: Ledger::default(),
            invoices: Invoices::default(),
            promised_payments: PromisedPayments::default(),
            credit: Credit::default(),
            documents: Documents::default(),
            autopay: Autopay::default(),
            mail: Mail::default(),
            statements: Statements::default(),
            jobs: Jobs::default(),
        }
    }

    /// From a file, if one is given, and the environment.
    pub fn load(file: Option<&std::path::Path>) -> Result<Config, config::Error> {
        config::load(PREFIX, file)
    }
}

/// The posting engine.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// Tasks that write batches. More than two on one database only wait for each other.
    pub posters: usize,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger { posters: 2 }
    }
}

/// Invoices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invoices {
    /// The recommended last day of payment, in days after the issue.
    pub pay_by_days: u16,
    /// The least payment by currency, without VAT. A currency that is not here has no minimum.
    pub minimum_net: BTreeMap<Code, Amount>,
}

impl Default for Invoices {
    fn default() -> Invoices {
        let minimum = |currency, units| (Code(currency), Amount(Money::from_units(units)));
        Invoices {
            pay_by_days: 5,
            minimum_net: BTreeMap::from([
                minimum(Currency::RUB, 1_000),
                minimum(Currency::UAH, 250),
                minimum(Currency::KZT, 5_000),
                minimum(Currency::BYN, 30),
                minimum(Currency::USD, 15),
                minimum(Currency::EUR, 15),
                minimum(Currency::CHF, 15),
                minimum(Currency::TRY, 50),
            ]),
        }
    }
}

impl Invoices {
    /// The least payment in a currency, without VAT.
    pub(crate) fn minimum_net(&self, currency: Currency) -> Money {
        self.minimum_net.get(&Code(currency)).map_or(Money::ZERO, |amount| amount.0)
    }
}

/// The terms of promised payments (R-64..R-69): the defaults, and what differs for single agencies.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromisedPayments {
    /// For every agency.
    pub terms: PromiseTerms,
    /// What differs, by the id of the agency.
    pub agencies: BTreeMap<String, PromiseTermsChange>,
    /// How long before the end of the due day the agency is reminded.
    pub remind_before: HumanDuration,
}

impl Default for PromisedPayments {
    fn default() -> PromisedPayments {
        PromisedPayments {
            terms: PromiseTerms::default(),
            agencies: BTreeMap::new(),
            remind_before: HumanDuration::from_secs(24 * 3_600),
        }
    }
}

/// On which terms an agency may take promised payments.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromiseTerms {
    /// The least amount of one promise.
    pub min: Amount,
    /// The most of one promise.
    pub max: Amount,
    /// The most that may be owed at once, whatever the turnover.
    pub cap: Amount,
    /// The most that may be owed, in percent of what was paid in the last `turnover_days`.
    pub turnover_percent: u32,
    /// The days that turnover is counted over.
    pub turnover_days: u16,
    /// Days from taking to the due day, 1 to 30.
    pub term_days: u8,
    /// Promises in `window_days`, at most.
    pub activations: u32,
    /// The days that activations are counted over.
    pub window_days: u16,
    /// Days without a new promise after one that was overdue is repaid.
    pub block_days: u16,
    /// The currency that the amounts above are in; agencies with another one may not take promises.
    pub currency: Code,
    /// Where the agency's legal entity must be.
    pub country: String,
}

impl Default for PromiseTerms {
    fn default() -> PromiseTerms {
        PromiseTerms {
            min: Amount(Money::from_units(100)),
            max: Amount(Money::from_units(1_000_000)),
            cap: Amount(Money::from_units(3_000_000)),
            turnover_percent: 30,
            turnover_days: 30,
            term_days: 5,
            activations: 2,
            window_days: 28,
            block_days: 7,
            currency: Code(Currency::RUB),
            country: "RU".to_owned(),
        }
    }
}

/// What differs from the default terms.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromiseTermsChange {
    /// See [`PromiseTerms::min`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Amount>,
    /// See [`PromiseTerms::max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Amount>,
    /// See [`PromiseTerms::cap`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cap: Option<Amount>,
    /// See [`PromiseTerms::turnover_percent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turnover_percent: Option<u32>,
    /// See [`PromiseTerms::term_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term_days: Option<u8>,
    /// See [`PromiseTerms::activations`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<u32>,
    /// See [`PromiseTerms::block_days`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_days: Option<u16>,
}

impl PromisedPayments {
    /// The terms of one agency.
    pub(crate) fn of(&self, agency: &str) -> PromiseTerms {
        let terms = self.terms.clone();
        let Some(change) = self.agencies.get(agency).cloned() else { return terms };
        PromiseTerms {
            min: change.min.unwrap_or(terms.min),
            max: change.max.unwrap_or(terms.max),
            cap: change.cap.unwrap_or(terms.cap),
            turnover_percent: change.turnover_percent.unwrap_or(terms.turnover_percent),
            term_days: change.term_days.unwrap_or(terms.term_days),
            activations: change.activations.unwrap_or(terms.activations),
            block_days: change.block_days.unwrap_or(terms.block_days),
            ..terms
        }
    }
}

/// Credit.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credit {
    /// What an account's record is held against before a sum is granted.
    pub eligibility: Policy,
}

/// Work by the clock. Nothing that a caller is told depends on it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Off for a replica that only serves, and in tests that show that nothing depends on jobs.
    pub enabled: bool,
    /// How often expired holds are given back in the books.
    pub release_holds_every: HumanDuration,
    /// How often due auto top-ups are looked for; those of this process's own commits do not wait for it.
    pub top_up_every: HumanDuration,
    /// How often months that ended, overdue invoices and ended liens are booked.
    pub book_credit_every: HumanDuration,
    /// How often the whole ledger is verified; never without it. It reads every entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_ledger_every: Option<HumanDuration>,
    /// How often new audit records are linked into their chain.
    pub chain_audit_every: HumanDuration,
    /// How often queued notices are sent.
    pub send_notices_every: HumanDuration,
    /// How often promises are looked through for what is due soon or overdue.
    pub announce_promises_every: HumanDuration,
    /// How often balances are looked through for low ones.
    pub warn_balances_every: HumanDuration,
    /// How often the clock is set to the database's time.
    pub anchor_clock_every: HumanDuration,
    /// How often it is asked whether a month has ended whose documents are not made.
    pub close_months_every: HumanDuration,
    /// How long answers to requests are kept.
    pub keep_answers: HumanDuration,
    /// How long events are kept for those who have not seen them yet.
    pub keep_events: HumanDuration,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs {
            enabled: true,
            release_holds_every: HumanDuration::from_secs(1),
            top_up_every: HumanDuration::from_millis(250),
            book_credit_every: HumanDuration::from_secs(10),
            verify_ledger_every: None,
            chain_audit_every: HumanDuration::from_secs(1),
            send_notices_every: HumanDuration::from_secs(5),
            announce_promises_every: HumanDuration::from_secs(60),
            warn_balances_every: HumanDuration::from_secs(300),
            anchor_clock_every: HumanDuration::from_secs(60),
            close_months_every: HumanDuration::from_secs(60),
            keep_answers: HumanDuration::from_secs(400 * 24 * 3_600),
            keep_events: HumanDuration::from_secs(400 * 24 * 3_600),
        }
    }
}

/// A currency in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code(pub Currency);

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        // In capitals: a variable's path comes in small letters.
        let text = String::deserialize(deserializer)?.to_uppercase();
        text.parse().map(Code).map_err(de::Error::custom)
    }
}

/// An amount in a configuration: `"1000.50"` or `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub Money);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as \"1000.50\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                text.parse().map(Amount).map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, units: i64) -> Result<Amount, E> {
                self.visit_str(&units.to_string())
            }

            fn visit_u64<E: de::Error>(self, units: u64) -> Result<Amount, E> {
                self.visit_str(&units.to_string())
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, vars: &[(&str, &str)]) -> Result<Config, config::Error> {
        let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config::load_from(PREFIX, Some(("config.toml", file)), vars)
    }

    const DATABASE: &str = "[database]\nurl = \"postgres://localhost/billing\"\n";

    #[test]
    fn the_rules_numbers_are_defaults() {
        let config = read(DATABASE, &[]).unwrap();
        assert_eq!(config.listen.grpc.port(), 7401);
        assert_eq!(config.listen.metrics.port(), 7402);
        assert_eq!(config.invoices.minimum_net(Currency::RUB), Money::from_units(1_000));
        assert_eq!(config.promised_payments.of("north"), PromiseTerms::default());
    }

    #[test]
    fn terms_can_differ_for_one_agency() {
        let file = format!(
            "{DATABASE}[promised_payments.terms]\nterm_days = 3\n\
             [promised_payments.agencies.north]\nmax = \"50000.50\"\nturnover_percent = 100\n"
        );
        let config = read(&file, &[]).unwrap();
        let north = config.promised_payments.of("north");
        assert_eq!((north.term_days, north.turnover_percent), (3, 100));
        assert_eq!(north.max.0, "50000.5".parse().unwrap());
        assert_eq!(config.promised_payments.of("south").turnover_percent, 30);
    }

    #[test]
    fn variables_and_numbers_are_amounts_too() {
        let vars = [
            ("ADSPEND_BILLING__PROMISED_PAYMENTS__TERMS__CAP", "7"),
            ("ADSPEND_BILLING__INVOICES__MINIMUM_NET", "{ RUB = 300, USD = \"10\" }"),
        ];
        let config = read(DATABASE, &vars).unwrap();
        assert_eq!(config.promised_payments.terms.cap.0, Money::from_units(7));
        assert_eq!(config.invoices.minimum_net(Currency::RUB), Money::from_units(300));
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for file in
            [format!("{DATABASE}[invoices]\npay_by = 5\n"), format!("speed = 3\n{DATABASE}")]
        {
            assert!(read(&file, &[]).is_err(), "{file}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        let config = read(DATABASE, &[]).unwrap();
        let printed = config::print(&config).unwrap();
        assert!(!printed.contains("localhost"), "{printed}");
        let again = read(&printed, &[]).unwrap();
        assert_eq!(config::print(&again).unwrap(), printed);
    }
}
