//! Why a server does not start.

use std::net::SocketAddr;

use crate::identity::TableError;

/// The server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The method table does not fit the services.
    #[error("the method table does not fit the services")]
    Methods(#[from] TableError),
    /// Nobody said how callers are known.
    #[error("the server was given no identity")]
    NoIdentity,
    /// Nobody said where metrics go.
    #[error("the server was given no telemetry")]
    NoTelemetry,
    /// An address cannot be listened at.
    #[error("cannot listen at {at}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system does not say where we listen.
    #[error("the listening address is not known")]
    Address(#[source] std::io::Error),
    /// Reflection cannot be served from the descriptors.
    #[error("reflection cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A file of the TLS identity cannot be read.
    #[error("the TLS identity cannot be read from {file}")]
    TlsFile {
        /// The file.
        file: String,
        /// Why not.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The TLS identity cannot be used.
    #[error("the TLS identity cannot be used")]
    Tls(#[from] rustls::Error),
    /// The authority of client certificates cannot be used.
    #[error("the authority of client certificates cannot be used")]
    ClientAuthority(#[from] rustls::server::VerifierBuilderError),
}
