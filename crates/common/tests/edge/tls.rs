//! TLS 1.3 with an identity from files, and client certificates when an authority is given.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use adspend_common::client::{Channel, Retry, Settings, call, request};
use adspend_common::config::{HumanDuration, Tls};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{Code, Deadline};
use adspend_common::server;
use pb::admission_service_client::AdmissionServiceClient;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::support::{Running, Setup, admit, refused, run};

/// A self-signed certificate for `localhost` and its key, as files.
struct Files {
    cert: PathBuf,
    key: PathBuf,
}

fn certificate(name: &str) -> Files {
    certificate_in(Path::new(env!("CARGO_TARGET_TMPDIR")), name, 2040)
}

/// The same in a folder, until the 6th of May of a year.
fn certificate_in(folder: &Path, name: &str, until_year: i32) -> Files {
    let key = KeyPair::generate().unwrap();
    let mut cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    cert.not_after = date_time_ymd(until_year, 5, 6);
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
        reload_every: HumanDuration::from_millis(20),
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

/// A folder as Kubernetes mounts a secret: its files are links through a link, which is swapped.
struct Mount(PathBuf);

impl Mount {
    fn new() -> Mount {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-mount");
        std::fs::remove_dir_all(&folder).ok();
        std::fs::create_dir_all(&folder).unwrap();
        for file in ["tls-cert.pem", "tls-key.pem"] {
            symlink(Path::new("..data").join(file), folder.join(file)).unwrap();
        }
        Mount(folder)
    }

    fn files(&self) -> Files {
        Files { cert: self.0.join("tls-cert.pem"), key: self.0.join("tls-key.pem") }
    }

    /// A folder for another version of the secret.
    fn version(&self, name: &str) -> PathBuf {
        let folder = self.0.join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    fn swap_to(&self, version: &Path) {
        let link = self.0.join("..data_tmp");
        symlink(version, &link).unwrap();
        std::fs::rename(link, self.0.join("..data")).unwrap();
    }
}

/// A new connection, by a client that trusts this certificate and no other.
async fn connected(server: &Running, trusted: &Files) -> Option<tonic::transport::Channel> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&trusted.cert)))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.ok()
}

/// Waits until the page of metrics holds a line.
async fn told(server: &Running, line: &str) {
    for _ in 0..500 {
        if server.page("/metrics").await.1.contains(line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never told: {line}\n{}", server.page("/metrics").await.1);
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
    let mount = Mount::new();
    let (first, second, broken) =
        (mount.version("..1"), mount.version("..2"), mount.version("..3"));
    let old = certificate_in(&first, "tls", 2031);
    let new = certificate_in(&second, "tls", 2032);
    mount.swap_to(&first);
    let server = serving(&mount.files(), None).await;
    let expiry = |year| {
        let at = date_time_ymd(year, 5, 6).unix_timestamp();
        format!("rpc_server_tls_certificate_expiry_seconds {at}")
    };
    told(&server, &expiry(2031)).await;
    let open = connected(&server, &old).await.expect("the certificate of the start");
    assert!(connected(&server, &new).await.is_none());

    mount.swap_to(&second);
    told(&server, &expiry(2032)).await;
    assert!(connected(&server, &new).await.is_some(), "the renewed one");
    assert!(connected(&server, &old).await.is_none());
    let answer = AdmissionServiceClient::new(open).admit(admit("x")).await;
    assert!(answer.is_ok(), "an open connection goes on: {answer:?}");

    // The renewed certificate with the key of the old one.
    std::fs::copy(&new.cert, broken.join("tls-cert.pem")).unwrap();
    std::fs::copy(&old.key, broken.join("tls-key.pem")).unwrap();
    mount.swap_to(&broken);
    told(&server, "rpc_server_tls_reloads_total{outcome=\"failed\"}").await;
    assert!(connected(&server, &new).await.is_some(), "the last good one stays");
    told(&server, &expiry(2032)).await;
    told(&server, "rpc_server_tls_reloads_total{outcome=\"taken\"} 1").await;
    server.stopped().await;
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let tls = Tls {
        cert: "/no/such.pem".into(),
        key: "/no/such.key".into(),
        client_ca: None,
        reload_every: Tls::default_reload_every(),
    };
    let error = refused(Setup::default().builder().tls(Some(&tls))).await;
    assert!(matches!(error, server::Error::TlsFile { file, .. } if file == "/no/such.key"));
}
