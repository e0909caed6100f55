//! A payment provider that speaks the HTTP API of YooKassa v3, as far as billing's adapter uses it, and can
//! do everything that a provider does to a shop: decline with any reason, stay pending, answer with an error
//! after it has charged or before, never answer, answer late, and notify twice, early, or not at all.
//!
//! Idempotence is the provider's: one key, one payment; a repeat gets the payment as it stands. What a test
//! asks at the end is [`Simulator::charges`]: what was really taken from cards, by key.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// The shop that the simulator knows.
pub const SHOP: &str = "100500";
/// Its secret key.
pub const SECRET: &str = "test_simulated";

/// What the provider does with a try.
#[derive(Debug, Clone)]
pub enum Act {
    /// Charges and says so.
    Succeed,
    /// Declines for a reason.
    Decline(&'static str),
    /// Declines for a reason, and takes the next try under the same key anew: not as YooKassa does today, but
    /// as R-127 hopes.
    DeclineOnce(&'static str),
    /// Says that it has not decided; [`Simulator::decide`] decides.
    StayPending,
    /// Charges, and answers with an error.
    ChargeAndFail,
    /// Answers with an error and does nothing.
    Fail,
    /// Charges, and never answers.
    ChargeAndHang,
    /// Does nothing, and never answers.
    Hang,
    /// Charges, and answers after a while.
    Late(Duration),
    /// Charges, and notifies before it answers.
    NotifyFirst,
    /// Charges, and answers something that nobody can read.
    Garble,
    /// Does not take the request.
    Refuse(u16, &'static str),
}

#[derive(Debug, Clone)]
struct Payment {
    id: String,
    key: String,
    amount: Value,
    metadata: Value,
    status: &'static str,
    reason: Option<&'static str>,
    created_at: DateTime<Utc>,
}

impl Payment {
    fn json(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "status": self.status,
            "amount": self.amount,
            "paid": self.status == "succeeded",
            "created_at": self.created_at.to_rfc3339_opts(SecondsFormat::Millis, true),
            "metadata": self.metadata,
            "test": true,
        });
        if let Some(reason) = self.reason {
            object["cancellation_details"] =
                json!({ "party": "payment_network", "reason": reason });
        }
        object
    }
}

#[derive(Debug, Default)]
struct Books {
    methods: HashMap<String, Value>,
    payments: BTreeMap<String, Payment>,
    by_key: HashMap<String, String>,
    acts: VecDeque<Act>,
    /// Bodies of tries with their keys, in the order in which they came.
    tries: Vec<(String, Value)>,
    looks: usize,
    away: bool,
    notify: Option<SocketAddr>,
    notify_times: u32,
    serial: u64,
}

/// A running provider. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Simulator {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
    clock: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
}

impl Simulator {
    /// Opens it on a free port; `clock` is its time.
    pub async fn start(clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Simulator {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let simulator = Simulator { address, books: Arc::default(), clock: Arc::new(clock) };
        let api = Router::new()
            .route("/v3/payments", post(pay).get(list))
            .route("/v3/payments/{id}", get(look))
            .route("/v3/payment_methods/{id}", get(method))
            .with_state(simulator.clone());
        tokio::spawn(async move { axum::serve(listener, api).await });
        simulator
    }

    /// What `autopay.provider.url` must be.
    pub fn url(&self) -> String {
        format!("http://{}/v3", self.address)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nobody panics with the books in hand")
    }

    /// Saves a card, as the provider's own page does; gives its token.
    pub fn save_card(&self, last4: &str) -> String {
        let mut books = self.books();
        books.serial += 1;
        let id = format!("22e12f66-000f-5000-8000-{:012x}", books.serial);
        let method = json!({
            "type": "bank_card", "id": id, "saved": true, "status": "active",
            "title": format!("Bank card *{last4}"),
            "card": {
                "first6": "220000", "last4": last4, "expiry_month": "07", "expiry_year": "2030",
                "card_type": "Mir", "issuer_country": "RU"
            },
        });
        books.methods.insert(id.clone(), method);
        id
    }

    /// The same with a token of the caller's choice.
    pub fn save_card_as(&self, token: &str, last4: &str) {
        let id = self.save_card(last4);
        let mut books = self.books();
        let mut method = books.methods.remove(&id).expect("it was just saved");
        method["id"] = json!(token);
        books.methods.insert(token.to_owned(), method);
    }

    /// Changes a field of a saved card: its `status`, its `type`, whether it is `saved`.
    pub fn change_card(&self, token: &str, field: &str, value: Value) {
        let mut books = self.books();
        books.methods.get_mut(token).expect("a saved card")[field] = value;
    }

    /// Says what is done with the next tries; later ones succeed.
    pub fn will(&self, acts: impl IntoIterator<Item = Act>) {
        self.books().acts.extend(acts);
    }

    /// Answers every question with an error, or not any more.
    pub fn away(&self, away: bool) {
        self.books().away = away;
    }

    /// Sends notifications so many times to an HTTP port; none without one.
    pub fn notify(&self, to: Option<SocketAddr>, times: u32) {
        let mut books = self.books();
        (books.notify, books.notify_times) = (to, times);
    }

    /// Keys of tries, in the order in which they came.
    pub fn tries(&self) -> Vec<String> {
        self.books().tries.iter().map(|(key, _)| key.clone()).collect()
    }

    /// The body of the last try.
    pub fn last_try(&self) -> Value {
        self.books().tries.last().expect("a try").1.clone()
    }

    /// Questions about payments so far.
    pub fn looks(&self) -> usize {
        self.books().looks
    }

    /// Money that was taken: the key and the amount of every charge.
    pub fn charges(&self) -> Vec<(String, String)> {
        let books = self.books();
        let charged = books.payments.values().filter(|payment| payment.status == "succeeded");
        charged
            .map(|payment| {
                let amount = payment.amount["value"].as_str().unwrap_or_default();
                (payment.key.clone(), amount.to_owned())
            })
            .collect()
    }

    /// The id of the payment that a key made last.
    pub fn payment_of(&self, key: &str) -> Option<String> {
        self.books().by_key.get(key).cloned()
    }

    /// Decides a pending payment: none for charged, or the reason of a decline. Notifies if it is to.
    pub async fn decide(&self, payment: &str, reason: Option<&'static str>) {
        {
            let mut books = self.books();
            let payment = books.payments.get_mut(payment).expect("a payment");
            payment.status = if reason.is_none() { "succeeded" } else { "canceled" };
            payment.reason = reason;
        }
        self.announce(payment).await;
    }

    /// Sends what is to be sent about a payment now; gives the answers.
    pub async fn announce(&self, payment: &str) -> Vec<u16> {
        let (to, times) = {
            let books = self.books();
            (books.notify, books.notify_times)
        };
        let mut answers = Vec::new();
        if let Some(to) = to {
            for _ in 0..times {
                answers.push(self.send(to, payment, &[]).await);
            }
        }
        answers
    }

    /// Sends one notification about a payment as it stands, with more headers; gives the status.
    pub async fn send(&self, to: SocketAddr, payment: &str, headers: &[(&str, &str)]) -> u16 {
        let object = self.books().payments.get(payment).map(Payment::json);
        let object = object.unwrap_or_else(|| json!({ "id": payment, "status": "succeeded" }));
        let event = format!("payment.{}", object["status"].as_str().unwrap_or_default());
        let body = json!({ "type": "notification", "event": event, "object": object });
        notify(to, &body.to_string(), headers).await
    }

    fn authorised(headers: &HeaderMap) -> bool {
        // `100500:test_simulated` in base64.
        const BASIC: &str = "Basic MTAwNTAwOnRlc3Rfc2ltdWxhdGVk";
        headers.get("authorization").is_some_and(|given| given == BASIC)
    }

    fn make(
        &self,
        key: &str,
        body: &Value,
        status: &'static str,
        reason: Option<&'static str>,
    ) -> Payment {
        let mut books = self.books();
        books.serial += 1;
        let payment = Payment {
            id: format!("2d0e12f6-000f-5000-9000-{:012x}", books.serial),
            key: key.to_owned(),
            amount: body["amount"].clone(),
            metadata: body["metadata"].clone(),
            status,
            reason,
            created_at: (self.clock)(),
        };
        books.by_key.insert(key.to_owned(), payment.id.clone());
        books.payments.insert(payment.id.clone(), payment.clone());
        payment
    }
}

/// Posts a text to the page of notifications; gives the status.
pub async fn notify(to: SocketAddr, body: &str, headers: &[(&str, &str)]) -> u16 {
    let url = format!("http://{to}/webhooks/yookassa");
    let mut request = reqwest::Client::new().post(url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.map_or(0, |response| response.status().as_u16())
}

fn error(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let body =
        json!({ "type": "error", "id": "ab5a11cd-13cc-4e33-af8b-75a74e18dd09", "code": code });
    (status, Json(body)).into_response()
}

async fn pay(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    if !Simulator::authorised(&headers) {
        return error(401, "invalid_credentials");
    }
    let key = headers.get("idempotence-key").and_then(|key| key.to_str().ok());
    let Some(key) = key.filter(|key| !key.is_empty() && key.len() <= 64) else {
        return error(400, "invalid_request");
    };
    let (known, act) = {
        let mut books = simulator.books();
        books.tries.push((key.to_owned(), body.clone()));
        let act = books.acts.pop_front();
        let known = books.by_key.get(key).and_then(|id| books.payments.get(id)).cloned();
        (known, act)
    };
    let token = body["payment_method_id"].as_str().unwrap_or_default();
    if !simulator.books().methods.contains_key(token) || body["capture"] != json!(true) {
        return error(400, "invalid_request");
    }
    let act = act.unwrap_or(Act::Succeed);
    // A key that has made a payment never makes another; only how the answer travels differs.
    let make = |status, reason| match &known {
        Some(payment) => payment.clone(),
        None => simulator.make(key, &body, status, reason),
    };
    match act {
        Act::Succeed => {
            let payment = make("succeeded", None);
            let answer = Json(payment.json()).into_response();
            tokio::spawn({
                let simulator = simulator.clone();
                async move { simulator.announce(&payment.id).await }
            });
            answer
        }
        Act::Decline(reason) => Json(make("canceled", Some(reason)).json()).into_response(),
        Act::DeclineOnce(reason) => {
            let payment = make("canceled", Some(reason));
            if known.is_none() {
                simulator.books().by_key.remove(key);
            }
            Json(payment.json()).into_response()
        }
        Act::StayPending => Json(make("pending", None).json()).into_response(),
        Act::ChargeAndFail => {
            make("succeeded", None);
            error(500, "internal_server_error")
        }
        Act::Fail => error(500, "internal_server_error"),
        Act::ChargeAndHang => {
            make("succeeded", None);
            std::future::pending().await
        }
        Act::Hang => std::future::pending().await,
        Act::Late(after) => {
            let payment = make("succeeded", None);
            tokio::time::sleep(after).await;
            Json(payment.json()).into_response()
        }
        Act::NotifyFirst => {
            let payment = make("succeeded", None);
            simulator.announce(&payment.id).await;
            Json(payment.json()).into_response()
        }
        Act::Garble => {
            make("succeeded", None);
            "<html>".into_response()
        }
        Act::Refuse(status, code) => error(status, code),
    }
}

async fn look(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if !Simulator::authorised(&headers) {
        return error(401, "invalid_credentials");
    }
    let mut books = simulator.books();
    books.looks += 1;
    if books.away {
        return error(500, "internal_server_error");
    }
    match books.payments.get(&id) {
        Some(payment) => Json(payment.json()).into_response(),
        None => error(404, "not_found"),
    }
}

async fn method(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    if !Simulator::authorised(&headers) {
        return error(401, "invalid_credentials");
    }
    let books = simulator.books();
    if books.away {
        return error(500, "internal_server_error");
    }
    match books.methods.get(&id) {
        Some(method) => Json(method.clone()).into_response(),
        None => error(404, "not_found"),
    }
}

/// The list by time, newest first, in pages with a cursor.
async fn list(
    State(simulator): State<Simulator>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if !Simulator::authorised(&headers) {
        return error(401, "invalid_credentials");
    }
    let mut books = simulator.books();
    books.looks += 1;
    if books.away {
        return error(500, "internal_server_error");
    }
    let moment = |name: &str| {
        let at = DateTime::parse_from_rfc3339(query.get(name)?).ok()?;
        Some(at.to_utc())
    };
    let (Some(since), Some(until)) = (moment("created_at.gte"), moment("created_at.lte")) else {
        return error(400, "invalid_request");
    };
    let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(10_usize);
    let within = |payment: &&Payment| (since..=until).contains(&payment.created_at);
    let before = |payment: &&Payment| query.get("cursor").is_none_or(|cursor| payment.id < *cursor);
    let found = books.payments.values().rev().filter(within).filter(before);
    let found: Vec<&Payment> = found.take(limit + 1).collect();
    let page: Vec<Value> = found.iter().take(limit).map(|payment| payment.json()).collect();
    let mut answer = json!({ "type": "list", "items": page });
    if found.len() > limit
        && let Some(last) = found.get(limit.saturating_sub(1))
    {
        answer["next_cursor"] = json!(last.id);
    }
    Json(answer).into_response()
}
