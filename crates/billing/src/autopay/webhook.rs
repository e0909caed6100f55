//! Notifications of the provider: `POST /webhooks/yookassa` on the HTTP port.
//!
//! A notification is a hint and no more: YooKassa does not sign it. Its source address must be of the
//! provider's ranges, and the payment that it names is read again from the API before anything is written; so
//! one that is forged, repeated, late or early changes nothing that is not true. Whatever is missed is asked
//! for by the machine anyway.
//!
//! | answer | when |
//! |---|---|
//! | 200 | understood, or not about a payment of ours: it need not be sent again |
//! | 400 | no notification |
//! | 403 | not from the provider |
//! | 413 | longer than a notification |
//! | 503 | more than are handled at once, or the API or the database does not answer: it should be sent again |

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use ipnet::IpNet;
use serde::Deserialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    runs::{Heard, Machine},
    yookassa::is_id,
};
use crate::config;

/// Where notifications are sent.
const PATH: &str = "/webhooks/yookassa";
/// The longest notification, in bytes.
const MOST_BYTES: usize = 64 * 1024;
/// Notifications that are handled at once; each costs a question to the provider.
const AT_ONCE: usize = 16;

#[derive(Debug)]
struct Desk {
    machine: Machine,
    settings: config::Webhook,
    places: Semaphore,
}

#[derive(Debug, Deserialize)]
struct Notification {
    event: String,
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    id: String,
    #[serde(default)]
    metadata: Option<Metadata>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    adspend_run: Option<String>,
}

/// The page that takes notifications.
pub(crate) fn pages(machine: Machine, settings: &config::Webhook) -> Router {
    let places = Semaphore::new(AT_ONCE);
    let desk = Arc::new(Desk { machine, settings: settings.clone(), places });
    Router::new()
        .route(PATH, post(notified))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(desk)
}

async fn notified(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let forwarded =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let forwarded: Vec<&str> = forwarded.collect();
    let Some(source) = source(peer.ip(), &forwarded, &desk.settings.trusted_proxies) else {
        return StatusCode::FORBIDDEN;
    };
    if !contains(&desk.settings.sources, source) {
        tracing::warn!(%source, "a notification that is not from the payment provider");
        return StatusCode::FORBIDDEN;
    }
    let Ok(notification) = serde_json::from_slice::<Notification>(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    if !notification.event.starts_with("payment.") {
        return StatusCode::OK;
    }
    let Object { id, metadata } = notification.object;
    if !is_id(&id) {
        return StatusCode::BAD_REQUEST;
    }
    let Ok(_place) = desk.places.try_acquire() else { return StatusCode::SERVICE_UNAVAILABLE };
    let run = metadata.and_then(|metadata| metadata.adspend_run);
    let run = run.and_then(|run| Uuid::parse_str(&run).ok());
    match desk.machine.hear(&id, run).await {
        Ok(Heard::Nothing | Heard::Settled) => StatusCode::OK,
        Ok(Heard::Away) => StatusCode::SERVICE_UNAVAILABLE,
        Err(error) => {
            tracing::warn!(%error, "a notification could not be handled; it will be sent again");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// Who sent a request: the peer, or what proxies that we trust say, read from our end of the chain; none when
/// they say something that is no address.
fn source(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> Option<IpAddr> {
    let mut source = peer.to_canonical();
    let chain = forwarded.iter().flat_map(|header| header.split(','));
    for hop in chain.collect::<Vec<_>>().into_iter().rev() {
        if !contains(trusted, source) {
            break;
        }
        source = hop.trim().parse::<IpAddr>().ok()?.to_canonical();
    }
    Some(source)
}

fn contains(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_proxies_that_are_trusted_are_believed() {
        let trusted = ranges(&["10.0.0.0/8"]);
        for (name, peer, forwarded, found) in [
            ("straight", "185.71.76.1", &[][..], Some("185.71.76.1")),
            ("a stranger says what it likes", "1.2.3.4", &["185.71.76.1"], Some("1.2.3.4")),
            ("one proxy", "10.0.0.1", &["185.71.76.1"], Some("185.71.76.1")),
            ("two proxies", "10.0.0.1", &["185.71.76.1, 10.0.0.2"], Some("185.71.76.1")),
            ("two headers", "10.0.0.1", &["185.71.76.1", "10.0.0.2"], Some("185.71.76.1")),
            ("forged before the proxy", "10.0.0.1", &["185.71.76.1, 1.2.3.4"], Some("1.2.3.4")),
            ("a proxy that says nothing", "10.0.0.1", &[], Some("10.0.0.1")),
            ("a proxy that says nonsense", "10.0.0.1", &["unknown"], None),
            ("IPv4 in IPv6", "::ffff:185.71.76.1", &[], Some("185.71.76.1")),
        ] {
            let found = found.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(source(peer.parse().unwrap(), forwarded, &trusted), found, "{name}");
        }
    }

    #[test]
    fn the_published_ranges_are_the_default() {
        let published = config::Webhook::default().sources;
        for (address, inside) in [
            ("185.71.76.0", true),
            ("185.71.76.31", true),
            ("185.71.76.32", false),
            ("185.71.77.30", true),
            ("77.75.153.127", true),
            ("77.75.153.128", false),
            ("77.75.154.128", true),
            ("77.75.154.127", false),
            ("77.75.156.11", true),
            ("77.75.156.12", false),
            ("77.75.156.35", true),
            ("2a02:5180::1", true),
            ("2a02:5181::1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(contains(&published, address.parse().unwrap()), inside, "{address}");
        }
    }
}
