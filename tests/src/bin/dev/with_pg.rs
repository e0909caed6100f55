//! `dev with-pg COMMAND`: a command and the PostgreSQL that it needs.

use std::{
    env, ffi::OsString, os::unix::process::ExitStatusExt as _, path::Path, process::ExitCode,
};

use adspend_common::devpg::{Cluster, TEST_DATABASE_VARIABLE};
use e2e::{
    lock::{Lock, Taken},
    processes::Failure,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::blocking;

pub(crate) async fn with_pg(workspace: &Path, command: &[OsString]) -> Result<ExitCode, Failure> {
    if env::var_os(TEST_DATABASE_VARIABLE).is_some_and(|url| !url.is_empty()) {
        return pass_on(command, None).await;
    }
    let path = workspace.join("target/pg.lock");
    // The cluster is one for the workspace: a second user would lose it when the first ends.
    let lock = blocking("target/pg.lock", move || match Lock::try_take(&path)? {
        Taken::Ours(lock) => Ok(lock),
        Taken::Theirs(_) => {
            eprintln!("waiting for another run that uses target/pg");
            Lock::wait(&path)
        }
    });
    let _lock = lock.await?;
    let folder = workspace.join("target/pg");
    let cluster = blocking("PostgreSQL", move || Cluster::start(&folder, None)).await?;
    let code = pass_on(command, Some(cluster.url("postgres"))).await;
    blocking("PostgreSQL", move || cluster.stop()).await?;
    code
}

/// Ctrl-C reaches the command by itself, being in the terminal's group; SIGTERM is passed on. Either
/// way the runner waits for the command, so that the cluster outlives it.
async fn pass_on(command: &[OsString], url: Option<String>) -> Result<ExitCode, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("no command".to_owned().into());
    };
    let no_signal = |error: std::io::Error| Failure::from(format!("no signal handler: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let mut child = Command::new(program)
        .args(arguments)
        .envs(url.map(|url| (TEST_DATABASE_VARIABLE, url)))
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
                if let Some(pid) = pid {
                    // An error means that it has ended, which the loop is about to see.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
        }
    };
    let status = status.map_err(|error| format!("{}: {error}", program.display()))?;
    // As a shell says it: 128 and the signal.
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
