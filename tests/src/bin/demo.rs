//! `make demo`: from an agency's payment to a week of admitted, charged ads.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use adspend_common::{
    config::Database,
    db::{self, Pool},
    devpg::{self, Cluster},
};
use e2e::{
    demo::{self, Options, Summary},
    processes::Failure,
};
use tokio::signal::unix::{SignalKind, signal};

const DATABASES: [&str; 2] = ["demo_billing", "demo_pacing"];

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate().await {
        Ok(summary) => report(&summary),
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// A cluster of its own, so that neither `make run` nor `make test` is in the way.
async fn demonstrate() -> Result<Summary, Failure> {
    let no_signal = |error: std::io::Error| Failure::from(format!("no signal handler: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;
    let folder = workspace().join("target/demo");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    println!("starting PostgreSQL in target/demo/postgres");
    let cluster = {
        let folder = folder.join("postgres");
        blocking(move || Cluster::start(&folder, None)).await?
    };
    let done = tokio::select! {
        done = on(&cluster, folder) => done,
        _ = interrupt.recv() => Err("interrupted".to_owned().into()),
        _ = terminate.recv() => Err("stopped".to_owned().into()),
    };
    blocking(move || cluster.stop()).await?;
    done
}

async fn on(cluster: &Cluster, folder: PathBuf) -> Result<Summary, Failure> {
    empty_databases(&cluster.url("postgres"))
        .await
        .map_err(|error| format!("the databases of the demonstration: {error}"))?;
    let [billing, pacing] = DATABASES.map(|name| cluster.url(name));
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/open-bandit/events.csv");
    demo::run(&Options::week(billing, pacing, folder), &data).await
}

/// What an earlier run left is removed; nothing of it is of use.
async fn empty_databases(server: &str) -> Result<(), db::Error> {
    let client = Pool::new(&Database::new(server.to_owned()), "adspend-demo")?.get().await?;
    for name in DATABASES {
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    }
    Ok(())
}

fn report(summary: &Summary) -> ExitCode {
    match serde_json::to_string_pretty(summary) {
        Ok(text) => println!("\ntarget/demo/summary.json:\n{text}\n"),
        Err(error) => eprintln!("demo: {error}"),
    }
    let faults = summary.faults();
    for fault in &faults {
        eprintln!("demo: {fault}");
    }
    if faults.is_empty() {
        println!("every charge is in the ledger, no limit was passed, the books agree");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The workspace, where `target` is.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Runs what blocks beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, devpg::Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| format!("PostgreSQL: {error}"))?;
    done.map_err(|error| format!("PostgreSQL: {error}").into())
}
