//! Private PostgreSQL clusters: for `make run`, for tests and for benchmarks. Never in service.
//!
//! [`Cluster::start`] needs nothing prepared: it finds the server's programs or fetches them,
//! makes a cluster in a directory of ours, and starts it on loopback with a password that only
//! the owner of that directory can read. It works for root, whom PostgreSQL refuses to run for.
//! `fsync` stays on, so what is measured on it is what a real server does.
//!
//! [`TestDatabase`] gives each test a database of its own, cloned from a migrated template.
//!
//! Everything in this module blocks and is bounded in time, except [`TestDatabase::create`].
//! Linux only: it reads `/proc`.

mod binaries;
mod cluster;
mod files;
mod place;
mod process;
mod test_database;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use crate::db;

pub use binaries::{BINDIR_VARIABLE, Binaries};
pub use cluster::Cluster;
pub use test_database::{TEST_DATABASE_VARIABLE, TestDatabase};

/// Why there is no cluster. Each text is one line, to be shown to a person with its causes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server's programs were found and none could be fetched.
    #[error(
        "no PostgreSQL 15 or newer: `apt-get install postgresql` helps, or {BINDIR_VARIABLE} \
         naming the folder of initdb and postgres ({tried})"
    )]
    NoServer {
        /// What was tried last and what it said.
        tried: String,
    },
    /// The cluster was made by another version than the programs that were found.
    #[error(
        "{dir} was made by PostgreSQL {made_by}, and {found} was found: remove it, or install {made_by}"
    )]
    OtherVersion {
        /// The cluster's directory.
        dir: PathBuf,
        /// The major version in its data.
        made_by: String,
        /// The major version of the programs.
        found: u32,
    },
    /// Somebody runs this cluster already.
    #[error("the database in {dir} is in use by process {pid}: is this running already?")]
    InUse {
        /// The cluster's directory.
        dir: PathBuf,
        /// Who holds its lock.
        pid: String,
    },
    /// A program of the server failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// The program.
        program: String,
        /// The end of what it said.
        said: String,
    },
    /// A file of the cluster cannot be used.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The cluster runs but does not do what it was asked to.
    #[error("the database refused")]
    Db(#[from] db::Error),
}

/// Says which file an error is about.
fn at(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    move |cause| Error::File { path: path.to_owned(), cause }
}

/// Runs a future to its end from code that may or may not be inside a runtime: on a thread and a
/// small runtime of its own.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a small runtime needs two file descriptors")
                .block_on(future)
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
