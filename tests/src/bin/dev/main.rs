//! The development runner: private PostgreSQL clusters and both services, for people and for make.

mod run;
mod with_pg;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use e2e::processes::Failure;

#[derive(Parser)]
#[command(about = "Runs adspend on this machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts PostgreSQL, billing and pacing on loopback, until Ctrl-C.
    Run(run::Place),
    /// Runs a command with ADSPEND_TEST_DATABASE_URL set to a private PostgreSQL, and passes on its
    /// exit code. A URL that is set already is used instead.
    WithPg {
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

/// The workspace, where `.data` and `target` are.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Runs what blocks, such as starting PostgreSQL, beside the runtime; a failure tells its causes.
async fn blocking<T, E>(
    what: &str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Failure>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| format!("{what}: {error}"))?;
    done.map_err(|error| {
        let mut text = format!("{what}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text.into()
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let done: Result<ExitCode, Failure> = match Arguments::parse().command {
        Command::Run(place) => run::run(place).await,
        Command::WithPg { command } => with_pg::with_pg(&workspace(), &command).await,
    };
    done.unwrap_or_else(|failure| {
        eprintln!("dev: {failure}");
        ExitCode::FAILURE
    })
}
