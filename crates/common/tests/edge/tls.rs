//! TLS 1.3 with an identity from files, and client certificates when an authority is given.

use std::path::{Path, PathBuf};

use adspend_common::client::{Channel, Retry, Settings, call, request};
use adspend_common::config::Tls;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{Code, Deadline};
use adspend_common::server;
use pb::admission_service_client::AdmissionServiceClient;
use rcgen::{CertificateParams, KeyPair};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::support::{Running, Setup, admit, refused, run};

/// A self-signed certificate for `localhost` and its key, as files.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

fn certificate(name: &str) -> Files {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = cert.self_signed(&key).unwrap();
    let files = Files {
        cert: folder.join(format!("{name}-cert.pem")),
        key: folder.join(format!("{name}-key.pem")),
    };
    std::fs::write(&files.cert, cert.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    files
}

async fn serving(files: &Files, client_ca: Option<&Files>) -> Running {
    let tls = Tls {
        cert: files.cert.clone(),
        key: files.key.clone(),
        client_ca: client_ca.map(|files| files.cert.clone()),
    };
    run(Setup::default().builder().tls(Some(&tls))).await
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn our_client_speaks_tls_to_our_server_and_trusts_no_other() {
    let files = certificate("server");
    let stranger = certificate("stranger");
    let server = serving(&files, None).await;
    let ask = async |ca: &Files| {
        // The name, not the address, is what the certificate is for.
        let mut settings = Settings::new(format!("https://localhost:{}", server.grpc.port()));
        settings.ca = Some(ca.cert.clone());
        let client = AdmissionServiceClient::new(Channel::connect(&settings).unwrap());
        call(Deadline::after(Duration::from_secs(5)), &Retry::default(), |left| {
            let mut client = client.clone();
            async move { client.admit(request(admit("x"), left)).await }
        })
        .await
        .map(|_| ())
        .map_err(|status| status.code())
    };
    assert_eq!(ask(&files).await, Ok(()));
    assert_eq!(ask(&stranger).await, Err(Code::Unavailable));
    server.stopped().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_turned_away_when_an_authority_is_given() {
    let files = certificate("mutual-server");
    let known = certificate("mutual-client");
    let server = serving(&files, Some(&known)).await;
    let ask = async |identity: Option<&Files>| {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&files.cert)))
            .domain_name("localhost");
        if let Some(own) = identity {
            tls = tls.identity(Identity::from_pem(read(&own.cert), read(&own.key)));
        }
        let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
        AdmissionServiceClient::new(channel).admit(admit("x")).await.is_ok()
    };
    assert!(ask(Some(&known)).await);
    assert!(!ask(Some(&files)).await, "another certificate");
    assert!(!ask(None).await);
    server.stopped().await;
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let tls = Tls { cert: "/no/such.pem".into(), key: "/no/such.key".into(), client_ca: None };
    let error = refused(Setup::default().builder().tls(Some(&tls))).await;
    assert!(matches!(error, server::Error::TlsFile { file, .. } if file == "/no/such.key"));
}
