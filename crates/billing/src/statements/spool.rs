//! A file on disk while it is being read: it comes in pieces, is read twice, and has no name, so that nothing
//! of it is left however the process ends.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sha2::{Digest as _, Sha256};
use tokio::task;

/// What has come so far.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Spool {
    /// An empty file in the folder, or where the system keeps such files.
    pub(crate) async fn new(folder: Option<&Path>) -> io::Result<Spool> {
        let folder = folder.map_or_else(env::temp_dir, Path::to_owned);
        let path = folder.join(format!("adspend-statement-{}", uuid::Uuid::new_v4()));
        let file = blocking(move || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            fs::remove_file(&path)?;
            io::Result::Ok(file)
        });
        Ok(Spool { file: file.await?, hash: Sha256::new(), bytes: 0 })
    }

    /// Adds a piece.
    pub(crate) async fn add(self, piece: Vec<u8>) -> io::Result<Spool> {
        let Spool { mut file, mut hash, bytes } = self;
        blocking(move || {
            file.write_all(&piece)?;
            hash.update(&piece);
            let bytes = bytes.saturating_add(piece.len() as u64);
            Ok(Spool { file, hash, bytes })
        })
        .await
    }

    /// How much there is.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file, and the hash of what is in it.
    pub(crate) fn finish(self) -> (File, [u8; 32]) {
        (self.file, self.hash.finalize().into())
    }
}

/// Runs work that waits for the disk or takes long, off the threads that serve calls.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and then nobody is left to be told.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
