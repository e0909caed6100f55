//! The TLS identity: TLS 1.3, HTTP/2, and client certificates when an authority is given.
//!
//! The files are read again every `tls.reload_every`, so a renewed certificate is taken without a
//! restart. They are compared by content: a Kubernetes secret is swapped as a symbolic link, and
//! the time of a file says nothing. New connections get the new identity, open ones keep theirs.
//! Files that cannot be used change nothing; a certificate that was written before its key is one
//! of them, until the key is there. Both outcomes are counted, and the end of the certificate in
//! force is a metric to alarm on.

mod expiry;

use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::Error;
use crate::config::Tls;
use crate::telemetry::Telemetry;

/// The identity in force, and where it comes from.
pub(super) struct Identity {
    files: Tls,
    /// Of the identity in force.
    seen: Mutex<blake3::Hash>,
    config: ArcSwap<ServerConfig>,
    expires_at: Arc<AtomicI64>,
    reloads: Counter<u64>,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// When a file cannot be read, or what is in it cannot be used.
    pub(super) fn load(files: &Tls, telemetry: &Telemetry) -> Result<Identity, Error> {
        let contents = Contents::read(files)?;
        let loaded = contents.loaded(files)?;
        let expires_at = Arc::new(AtomicI64::new(loaded.expires_at));
        let meter = telemetry.meter();
        let observed = Arc::clone(&expires_at);
        meter
            .i64_observable_gauge("rpc.server.tls.certificate_expiry")
            .with_unit("s")
            .with_description("When the certificate in force ends, as a Unix time; 0 if unknown.")
            .with_callback(move |gauge| gauge.observe(observed.load(Ordering::Relaxed), &[]))
            .build();
        let reloads = meter
            .u64_counter("rpc.server.tls.reloads")
            .with_description("Changed files of the TLS identity: taken, or failed.")
            .build();
        let config = ArcSwap::new(Arc::new(loaded.config));
        let seen = Mutex::new(contents.digest());
        Ok(Identity { files: files.clone(), seen, config, expires_at, reloads })
    }

    /// What makes a TLS connection of the next TCP connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Takes over what changes in the files, for ever.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.files.reload_every.get()).await;
            let identity = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || identity.look()).await.is_err() {
                tracing::error!("the files of the TLS identity were not looked at");
            }
        }
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let news = Contents::read(&self.files).and_then(|contents| {
            let digest = contents.digest();
            let changed = digest != *seen;
            changed.then(|| Ok((contents.loaded(&self.files)?, digest))).transpose()
        });
        match news {
            Ok(None) => {}
            Ok(Some((loaded, digest))) => {
                *seen = digest;
                self.expires_at.store(loaded.expires_at, Ordering::Relaxed);
                self.config.store(Arc::new(loaded.config));
                self.reloads.add(1, &[KeyValue::new("outcome", "taken")]);
                tracing::info!(expires_at = loaded.expires_at, "a new TLS identity");
            }
            Err(error) => {
                self.reloads.add(1, &[KeyValue::new("outcome", "failed")]);
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the TLS identity has changed to what cannot be used");
            }
        }
    }
}

/// What is in the files.
struct Contents {
    key: Vec<u8>,
    cert: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What became of it.
struct Loaded {
    config: ServerConfig,
    /// Unix time; 0 where the certificate does not say it in a way that we read.
    expires_at: i64,
}

impl Contents {
    fn read(files: &Tls) -> Result<Contents, Error> {
        Ok(Contents {
            key: content(&files.key)?,
            cert: content(&files.cert)?,
            client_ca: files.client_ca.as_deref().map(content).transpose()?,
        })
    }

    /// Tells one identity from another, without keeping a key.
    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for content in [Some(&self.key), Some(&self.cert), self.client_ca.as_ref()] {
            let content = content.map_or(&[][..], Vec::as_slice);
            hasher.update(&content.len().to_le_bytes()).update(content);
        }
        hasher.finalize()
    }

    fn loaded(&self, files: &Tls) -> Result<Loaded, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from_pem_reader(Cursor::new(&self.key))
            .map_err(|error| unreadable(&files.key, error))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(authority), Some(file)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(authority, file)? {
                    roots.add(certificate)?;
                }
                let roots = Arc::new(roots);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
            (None, _) | (_, None) => builder.with_no_client_auth(),
        };
        let chain = certificates(&self.cert, &files.cert)?;
        let expires_at = chain.first().and_then(|own| expiry::not_after(own)).unwrap_or(0);
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Loaded { config, expires_at })
    }
}

fn content(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| unreadable(file, pem::Error::Io(error)))
}

fn certificates(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_reader_iter(Cursor::new(text))
        .collect::<Result<_, _>>()
        .map_err(|error| unreadable(file, error))
}

fn unreadable(file: &Path, source: pem::Error) -> Error {
    Error::TlsFile { file: file.display().to_string(), source }
}
