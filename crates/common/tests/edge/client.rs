//! Our own client against servers that come and go (facts 2, 3 and 5 of dependencies.md).

use std::time::Duration;

use adspend_common::client::{Channel, Retry, Settings, call, request};
use adspend_common::config::{Auth, AuthMode};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{Code, Deadline};
use pb::admission_service_client::AdmissionServiceClient;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{Running, Setup, admit, token};

fn targets(addresses: &[std::net::SocketAddr]) -> Settings {
    let targets: Vec<String> =
        addresses.iter().map(|address| format!("http://{address}")).collect();
    Settings::new(targets.join(","))
}

async fn ask(
    client: &AdmissionServiceClient<Channel>,
    retry: &Retry,
    campaign: &str,
    wait: Duration,
) -> Result<(), Code> {
    call(Deadline::after(wait), retry, |left| {
        let mut client = client.clone();
        async move { client.admit(request(admit(campaign), left)).await }
    })
    .await
    .map(|_| ())
    .map_err(|status| status.code())
}

#[tokio::test]
async fn a_dead_address_costs_retries_once_and_calls_never() {
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let (one, two) = (Setup::default().start().await, Setup::default().start().await);
    let channel = Channel::connect(&targets(&[one.grpc, nobody, two.grpc])).unwrap();
    let client = AdmissionServiceClient::new(channel.clone());
    let retry = Retry::default();
    for _ in 0..300 {
        ask(&client, &retry, "x", Duration::from_secs(5)).await.unwrap();
    }
    assert_eq!(channel.addresses().len(), 3);
    // Both live ones were used, about equally.
    for server in [&one, &two] {
        let text = server.page("/metrics").await.1;
        let line = text
            .lines()
            .find(|line| line.starts_with("rpc_server_call_duration_seconds_count"))
            .unwrap();
        let count: u32 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!((100..=200).contains(&count), "{line}");
    }
    one.stopped().await;
    two.stopped().await;
}

#[tokio::test]
async fn a_server_that_drains_fails_no_call() {
    let (one, two) = (Setup::with_notice().start().await, Setup::default().start().await);
    let channel = Channel::connect(&targets(&[one.grpc, two.grpc])).unwrap();
    let client = AdmissionServiceClient::new(channel);
    let gone = tokio::spawn(Running::stopped(one));
    let retry = Retry::default();
    let mut calls = 0;
    while !gone.is_finished() {
        ask(&client, &retry, "x", Duration::from_secs(5)).await.unwrap();
        calls += 1;
    }
    for _ in 0..50 {
        ask(&client, &retry, "x", Duration::from_secs(5)).await.unwrap();
    }
    assert!(calls > 0, "no call during the drain");
    gone.await.unwrap();
    two.stopped().await;
}

#[tokio::test]
async fn a_call_to_nobody_ends_at_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Somebody listens and never says a word.
    let client = AdmissionServiceClient::new(Channel::connect(&targets(&[address])).unwrap());
    let begin = Instant::now();
    let wait = Duration::from_millis(300);
    let error = ask(&client, &Retry::default(), "x", wait).await.unwrap_err();
    assert_eq!(error, Code::DeadlineExceeded);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());

    let client = AdmissionServiceClient::new(
        // No name has a label that long, so no resolver is asked.
        Channel::connect(&Settings::new(format!("http://{}:1", "x".repeat(64)))).unwrap(),
    );
    let error = ask(&client, &Retry::never(), "x", Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(error, Code::Unavailable);
}

#[tokio::test]
async fn the_deadline_travels_and_the_token_says_who_we_are() {
    let tokens = vec![token("secret", "ad_server", None)];
    let auth = Auth { mode: AuthMode::Tokens, tokens };
    let server = Setup { auth, ..Setup::default() }.start().await;
    let mut settings = targets(&[server.grpc]);
    let stranger = AdmissionServiceClient::new(Channel::connect(&settings).unwrap());
    let wait = Duration::from_millis(500);
    let error = ask(&stranger, &Retry::default(), "x", wait).await.unwrap_err();
    assert_eq!(error, Code::Unauthenticated);

    settings.token = Some("secret".into());
    let client = AdmissionServiceClient::new(Channel::connect(&settings).unwrap());
    ask(&client, &Retry::default(), "x", wait).await.unwrap();
    let begin = Instant::now();
    let error = ask(&client, &Retry::never(), "hang", wait).await.unwrap_err();
    assert_eq!(error, Code::DeadlineExceeded);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    server.stopped().await;
}
