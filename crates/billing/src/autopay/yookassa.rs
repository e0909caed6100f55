//! The provider's API: YooKassa, version 3 (<https://yookassa.ru/developers/api>).
//!
//! | call | for |
//! |---|---|
//! | `POST /payments` with `Idempotence-Key` | charges a saved card; the same key gives the same payment for 24 hours |
//! | `GET /payments/{id}` | how a payment stands |
//! | `GET /payments?created_at…` | which payment a key made, when its answer was lost: the run stands in `metadata` |
//! | `GET /payment_methods/{id}` | whether a saved card can be charged; for one saved by a payment, that payment |
//!
//! What an answer says follows the provider's rules for answers: 200 with an object is what it says; 4xx says
//! that this request was not taken; 500, no answer and everything else say nothing. 401, 403 and 429 count as
//! saying nothing too: they are about the shop, not about the payment.
//!
//! Nothing of an answer but the fields below is read, kept or logged. Redirects are not followed.

use std::time::Duration;

use adspend_common::{
    config::Secret,
    money::{Currency, Money},
};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Face, rules::Answer};
use crate::config::{self, ProviderError};

/// The longest answer that is read, in bytes: a page of a hundred payments is a quarter of it.
const MOST_BYTES: usize = 1 << 20;
/// Payments on a page of the list: the most that the provider gives.
const PAGE: usize = 100;
/// Pages that one search reads.
const MOST_PAGES: usize = 100;
/// The field of a payment's metadata that holds the run.
const RUN: &str = "adspend_run";

/// A shop at YooKassa.
#[derive(Debug)]
pub(super) struct Yookassa {
    http: reqwest::Client,
    base: String,
    shop_id: String,
    secret: Secret,
    pay_timeout: Duration,
    ask_timeout: Duration,
}

/// What is to be charged.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) run: Uuid,
    pub(super) amount: Money,
    pub(super) currency: Currency,
    pub(super) token: &'a Secret,
    pub(super) description: &'a str,
}

/// Why a card cannot be linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoCard {
    /// The provider knows no such saved method.
    Unknown,
    /// It is saved, but not for charging, or not a bank card.
    NotChargeable,
    /// No answer.
    Away,
}

#[derive(Debug, Deserialize)]
struct PaymentObject {
    id: String,
    status: String,
    amount: AmountObject,
    #[serde(default)]
    metadata: Option<MetadataObject>,
    #[serde(default)]
    cancellation_details: Option<CancellationObject>,
    #[serde(default)]
    payment_method: Option<MethodObject>,
}

#[derive(Debug, Deserialize)]
struct AmountObject {
    value: String,
    currency: String,
}

#[derive(Debug, Deserialize)]
struct MetadataObject {
    #[serde(default)]
    adspend_run: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CancellationObject {
    reason: String,
}

#[derive(Debug, Deserialize)]
struct MethodObject {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    saved: bool,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    card: Option<CardObject>,
}

#[derive(Debug, Deserialize)]
struct CardObject {
    #[serde(default)]
    first6: String,
    last4: String,
    expiry_month: String,
    expiry_year: String,
    card_type: String,
}

#[derive(Debug, Deserialize)]
struct ListObject {
    items: Vec<PaymentObject>,
    #[serde(default)]
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    code: String,
}

/// A payment as the provider shows it, and whose it is.
#[derive(Debug)]
pub(super) struct Seen {
    /// The run in its metadata.
    pub(super) run: Option<Uuid>,
    /// None when it is not an amount of ours.
    pub(super) amount: Option<(Money, Currency)>,
    pub(super) answer: Answer,
}

/// An id of the provider, as it stands in paths and in our rows.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A word of the provider: only such are kept and shown.
fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        text.to_owned()
    } else {
        "unknown_reason".to_owned()
    }
}

impl PaymentObject {
    fn seen(self) -> Seen {
        let run = self.metadata.and_then(|metadata| metadata.adspend_run);
        let amount = self.amount.value.parse().ok().zip(self.amount.currency.parse().ok());
        let payment = self.id;
        let answer = match self.status.as_str() {
            _ if !is_id(&payment) => Answer::Unknown { why: "an id that is none" },
            "succeeded" => Answer::Succeeded { payment },
            "canceled" => {
                let reason = self
                    .cancellation_details
                    .map_or("unknown_reason".to_owned(), |why| word(&why.reason));
                Answer::Canceled { payment, reason }
            }
            "pending" | "waiting_for_capture" => Answer::Pending { payment },
            _ => Answer::Unknown { why: "a status that is not known" },
        };
        Seen { run: run.and_then(|run| run.parse().ok()), amount, answer }
    }
}

impl Seen {
    /// What it says of a run; nothing when it is not the run's payment, or not of its amount.
    pub(super) fn of(self, run: Uuid, amount: (Money, Currency)) -> Answer {
        if self.run != Some(run) {
            return Answer::Unknown { why: "a payment of another run" };
        }
        if self.amount != Some(amount) {
            tracing::error!(%run, "the provider's payment is not of the amount that was asked for");
            return Answer::Unknown { why: "a payment of another amount" };
        }
        self.answer
    }
}

impl Yookassa {
    pub(super) fn new(settings: &config::Provider) -> Result<Yookassa, ProviderError> {
        let url = Url::parse(&settings.url).map_err(|_| ProviderError::Url)?;
        let here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if url.scheme() != "https" && !(url.scheme() == "http" && here) {
            return Err(ProviderError::Url);
        }
        // Whoever is first installs it; all of us bring the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(settings.ask_timeout.get())
            .user_agent(concat!("adspend-billing/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ProviderError::Client)?;
        Ok(Yookassa {
            http,
            base: settings.url.trim_end_matches('/').to_owned(),
            shop_id: settings.shop_id.clone(),
            secret: settings.secret.clone(),
            pay_timeout: settings.pay_timeout.get(),
            ask_timeout: settings.ask_timeout.get(),
        })
    }

    /// How long one question may take at most.
    pub(super) fn longest_call(&self) -> Duration {
        self.pay_timeout.max(self.ask_timeout)
    }

    fn request(&self, method: Method, path: &str, timeout: Duration) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.base);
        let request = self.http.request(method, url).timeout(timeout);
        request.basic_auth(&self.shop_id, Some(self.secret.expose()))
    }

    /// Charges a saved card under the run's key.
    pub(super) async fn pay(&self, order: &Order<'_>) -> Answer {
        let Order { run, amount, currency, token, description } = order;
        let body = json!({
            "amount": { "value": amount.to_string(), "currency": currency.as_str() },
            "capture": true,
            "payment_method_id": token.expose(),
            "description": description,
            "metadata": { RUN: run.to_string() },
        });
        let request = self
            .request(Method::POST, "/payments", self.pay_timeout)
            .header("Idempotence-Key", run.to_string())
            .header("Content-Type", "application/json")
            .body(body.to_string());
        match answer(request).await {
            Ok((StatusCode::OK, body)) => match parse::<PaymentObject>(&body) {
                Some(payment) => payment.seen().of(*run, (*amount, *currency)),
                None => Answer::Unknown { why: "an answer that cannot be read" },
            },
            Ok((status, body)) => not_taken(status, &body),
            Err(why) => Answer::Unknown { why },
        }
    }

    /// How a payment stands; none when there is no answer.
    pub(super) async fn payment(&self, id: &str) -> Option<Seen> {
        let path = format!("/payments/{id}");
        match answer(self.request(Method::GET, &path, self.ask_timeout)).await {
            Ok((StatusCode::OK, body)) => parse::<PaymentObject>(&body).map(PaymentObject::seen),
            Ok(_) | Err(_) => None,
        }
    }

    /// The payment of a run, if the list of a time shows one; of several the one that went furthest.
    pub(super) async fn search(
        &self,
        (run, amount): (Uuid, (Money, Currency)),
        (since, until): (DateTime<Utc>, DateTime<Utc>),
    ) -> Answer {
        let (mut cursor, mut best) = (None, Answer::Absent);
        let moment = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
        for _ in 0..MOST_PAGES {
            let mut path = format!(
                "/payments?limit={PAGE}&created_at.gte={}&created_at.lte={}",
                moment(since),
                moment(until)
            );
            if let Some(cursor) = &cursor {
                path.push_str(&format!("&cursor={cursor}"));
            }
            let page = match answer(self.request(Method::GET, &path, self.ask_timeout)).await {
                Ok((StatusCode::OK, body)) => parse::<ListObject>(&body),
                Ok(_) | Err(_) => None,
            };
            let Some(page) = page else { return Answer::Unknown { why: "no list" } };
            for payment in page.items {
                let seen = payment.seen();
                if seen.run == Some(run) {
                    best = further(best, seen.of(run, amount));
                }
            }
            match page.next_cursor {
                None => return best,
                Some(next) if is_id(&next) => cursor = Some(next),
                Some(_) => return Answer::Unknown { why: "a cursor that is none" },
            }
        }
        Answer::Unknown { why: "a list without an end" }
    }

    /// What may be known of a saved card that can be charged.
    pub(super) async fn card(&self, token: &Secret) -> Result<Face, NoCard> {
        let path = format!("/payment_methods/{}", token.expose());
        match answer(self.request(Method::GET, &path, self.ask_timeout)).await {
            Ok((StatusCode::OK, body)) => {
                parse::<MethodObject>(&body).ok_or(NoCard::Away)?.face(token)
            }
            Ok((StatusCode::NOT_FOUND, _)) => self.card_of_payment(token).await,
            Ok((StatusCode::BAD_REQUEST, _)) => Err(NoCard::Unknown),
            Ok(_) | Err(_) => Err(NoCard::Away),
        }
    }

    /// A method that was saved by a payment has the payment's id.
    async fn card_of_payment(&self, token: &Secret) -> Result<Face, NoCard> {
        let path = format!("/payments/{}", token.expose());
        match answer(self.request(Method::GET, &path, self.ask_timeout)).await {
            Ok((StatusCode::OK, body)) => {
                let payment = parse::<PaymentObject>(&body).ok_or(NoCard::Away)?;
                payment.payment_method.ok_or(NoCard::NotChargeable)?.face(token)
            }
            Ok((StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, _)) => Err(NoCard::Unknown),
            Ok(_) | Err(_) => Err(NoCard::Away),
        }
    }
}

impl MethodObject {
    fn face(self, token: &Secret) -> Result<Face, NoCard> {
        let active = self.status.is_none_or(|status| status == "active");
        if self.id != token.expose() || self.kind != "bank_card" || !self.saved || !active {
            return Err(NoCard::NotChargeable);
        }
        let CardObject { first6, last4, expiry_month, expiry_year, card_type } =
            self.card.ok_or(NoCard::NotChargeable)?;
        let digits = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let month = expiry_month.parse().ok().filter(|month| (1..=12).contains(month));
        let year = expiry_year.parse().ok().filter(|year| (2000..=9999).contains(year));
        let brand = card_type.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
        if !digits(&last4, 4) {
            return Err(NoCard::NotChargeable);
        }
        Ok(Face {
            first6: if digits(&first6, 6) { first6 } else { String::new() },
            last4,
            brand,
            expiry_month: month.ok_or(NoCard::NotChargeable)?,
            expiry_year: year.ok_or(NoCard::NotChargeable)?,
        })
    }
}

/// Of two payments of one run, the one that decides.
fn further(one: Answer, other: Answer) -> Answer {
    fn rank(answer: &Answer) -> u8 {
        match answer {
            Answer::Succeeded { .. } => 4,
            Answer::Unknown { .. } => 3,
            Answer::Pending { .. } => 2,
            Answer::Canceled { .. } | Answer::Refused { .. } => 1,
            Answer::Absent => 0,
        }
    }
    if rank(&other) > rank(&one) { other } else { one }
}

/// What a status other than 200 says of a try.
fn not_taken(status: StatusCode, body: &[u8]) -> Answer {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            tracing::error!(%status, "the payment provider does not accept the shop's credentials");
            Answer::Unknown { why: "the shop is refused" }
        }
        StatusCode::BAD_REQUEST
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => {
            let code = parse::<ErrorObject>(body).map_or("refused".to_owned(), |e| word(&e.code));
            Answer::Refused { code }
        }
        _ => Answer::Unknown { why: "the provider is not able to say" },
    }
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok()
}

/// The status and the body, bounded. Errors are told in our words: the driver's name the address.
async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Vec<u8>), &'static str> {
    let words = |error: reqwest::Error| {
        if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection was lost"
        }
    };
    let mut response: Response = request.send().await.map_err(words)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(words)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err("an answer without an end");
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}
