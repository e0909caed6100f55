//! The settings of autopayment by card (R-120..R-128).

use adspend_common::{
    config::{HumanDuration, Secret},
    money::{Currency, Money},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Amount, Code};

/// Autopayment by card. Off without a provider.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Autopay {
    /// The most that one payment brings, at most 299 999.
    pub max_amount: Amount,
    /// Payments of one account in a Moscow day, at most; then it waits for the next day.
    pub max_payments_per_day: u32,
    /// The currency of accounts that may have it.
    pub currency: Code,
    /// Where the advertiser's legal entity must be.
    pub country: String,
    /// How often accounts are looked at, and payments under way.
    pub every: HumanDuration,
    /// Tries to charge a card under one key, at most; then the autopayment is switched off.
    pub tries: u32,
    /// The wait before the second try; it doubles from try to try.
    pub retry_after: HumanDuration,
    /// The wait before the provider is asked how a payment stands; it doubles from look to look.
    pub poll_after: HumanDuration,
    /// The longest of these waits.
    pub longest_wait: HumanDuration,
    /// How long the provider surely knows an idempotence key. YooKassa: 24 hours.
    pub key_lives: HumanDuration,
    /// A payment that the provider's list does not show so long after the last try was never made.
    pub absent_after: HumanDuration,
    /// The payment provider; autopayment is off without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Notifications of the provider, on the HTTP port under `/webhooks/yookassa`.
    pub webhook: Webhook,
}

impl Default for Autopay {
    fn default() -> Autopay {
        Autopay {
            max_amount: Amount(Money::from_units(299_999)),
            max_payments_per_day: 30,
            currency: Code(Currency::RUB),
            country: "RU".to_owned(),
            every: HumanDuration::from_millis(500),
            tries: 5,
            retry_after: HumanDuration::from_secs(5),
            poll_after: HumanDuration::from_secs(3),
            longest_wait: HumanDuration::from_secs(600),
            key_lives: HumanDuration::from_secs(23 * 3_600),
            absent_after: HumanDuration::from_secs(3_600),
            provider: None,
            webhook: Webhook::default(),
        }
    }
}

/// Why the provider's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The address is no URL, or would carry the shop's secret in the clear.
    #[error("autopay.provider.url must be https, or http to this machine")]
    Url,
    /// The key for tokens is not one.
    #[error("autopay.provider.token_key must be 64 hex digits")]
    TokenKey,
    /// The HTTP client cannot be made.
    #[error("the HTTP client of autopay.provider cannot be made")]
    Client(#[source] reqwest::Error),
}

/// A shop at YooKassa.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The API with its version. HTTPS, or plain HTTP to this machine.
    #[serde(default = "Provider::default_url")]
    pub url: String,
    /// The shop.
    pub shop_id: String,
    /// The shop's secret key; better as `secret_file`.
    pub secret: Secret,
    /// What tokens of cards are sealed with in the database: 64 hex digits; better as `token_key_file`.
    pub token_key: Secret,
    /// How long a try may take. YooKassa gives up by itself after 30 seconds.
    #[serde(default = "Provider::default_pay_timeout")]
    pub pay_timeout: HumanDuration,
    /// How long a question may take.
    #[serde(default = "Provider::default_ask_timeout")]
    pub ask_timeout: HumanDuration,
}

impl Provider {
    fn default_url() -> String {
        "https://api.yookassa.ru/v3".to_owned()
    }
    fn default_pay_timeout() -> HumanDuration {
        HumanDuration::from_secs(35)
    }
    fn default_ask_timeout() -> HumanDuration {
        HumanDuration::from_secs(4)
    }
}

/// Who may notify.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Where notifications come from. The default is YooKassa's list,
    /// <https://yookassa.ru/developers/using-api/webhooks#ip>.
    pub sources: Vec<IpNet>,
    /// Proxies in front of us, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Webhook {
    fn default() -> Webhook {
        let published = [
            "185.71.76.0/27",
            "185.71.77.0/27",
            "77.75.153.0/25",
            "77.75.156.11/32",
            "77.75.156.35/32",
            "77.75.154.128/25",
            "2a02:5180::/32",
        ];
        let range = |text: &str| text.parse().expect("a range of the list above");
        Webhook { sources: published.into_iter().map(range).collect(), trusted_proxies: Vec::new() }
    }
}
