//! `dev run`: both services and their databases on loopback, until Ctrl-C.

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
};

use adspend_common::devpg::Cluster;
use e2e::{
    lock::{Lock, Taken},
    processes::{Failure, Launch, Process, STOP_LIMIT, Service},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::blocking;

/// Where everything is.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The folder of the databases and the logs.
    #[arg(long, default_value = ".data")]
    data: PathBuf,
    /// Where billing answers; the default is what the examples in `proto/` name.
    #[arg(long, default_value = "127.0.0.1:7401")]
    billing: SocketAddr,
    /// Where pacing answers.
    #[arg(long, default_value = "127.0.0.1:7411")]
    pacing: SocketAddr,
    /// Where billing shows its metrics over HTTP; port 0 takes any.
    #[arg(long, default_value = "127.0.0.1:7402")]
    billing_metrics: SocketAddr,
    /// Where pacing shows its metrics.
    #[arg(long, default_value = "127.0.0.1:7412")]
    pacing_metrics: SocketAddr,
}

/// Settings that name a server to use instead of a private one.
const BILLING_URL: &str = "ADSPEND_BILLING_DATABASE_URL";
const PACING_URL: &str = "ADSPEND_PACING_DATABASE_URL";

/// The bank account that the example of ImportStatement is about.
const OWN_ACCOUNTS: &str = r#"[{ account = "40702810138250123017", bik = "044525225" }]"#;

pub(crate) async fn run(place: Place) -> Result<ExitCode, Failure> {
    let lock = place.data.join("run.lock");
    let no_lock = |error| Failure::from(format!("{}: {error}", lock.display()));
    let mut lock = match Lock::try_take(&lock).map_err(no_lock)? {
        Taken::Ours(lock) => lock,
        Taken::Theirs(about) => {
            println!("adspend is running already ({}). Stop it with Ctrl-C there.", about.trim());
            return Ok(ExitCode::FAILURE);
        }
    };
    let Place { billing, pacing, .. } = place;
    let about = format!("process {}, billing on {billing}, pacing on {pacing}", std::process::id());
    lock.describe(&about).map_err(|error| format!("run.lock: {error}"))?;
    for address in [billing, pacing] {
        // A program of another kind: better told now than by a service that cannot bind.
        TcpListener::bind(address).map_err(|error| format!("cannot use {address}: {error}"))?;
    }
    // From here on a signal must not end us before the cluster is stopped.
    let no_signal = |error: std::io::Error| Failure::from(format!("no signal handler: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signal)?;

    let (databases, cluster) = databases(&place.data).await?;
    let mut stack = tokio::select! {
        stack = Stack::start(&place, &databases) => stack,
        _ = interrupt.recv() => Err("interrupted".to_owned().into()),
        _ = terminate.recv() => Err("stopped".to_owned().into()),
    };
    let ended = match &mut stack {
        Ok(stack) => {
            greet(&place, cluster.is_some());
            tokio::select! {
                _ = interrupt.recv() => None,
                _ = terminate.recv() => None,
                why = stack.first_end() => Some(why),
            }
        }
        Err(_) => None,
    };
    println!("\nstopping");
    let stopped = match stack {
        Ok(stack) => stack.stop().await,
        Err(failure) => Err(failure),
    };
    if let Some(cluster) = cluster {
        blocking("PostgreSQL", move || cluster.stop()).await?;
    }
    match ended {
        Some(why) => Err(why),
        None => stopped.map(|()| ExitCode::SUCCESS),
    }
}

struct Databases {
    billing: String,
    pacing: String,
}

/// The URLs that the environment names; for those that it does not, a private cluster.
async fn databases(data: &Path) -> Result<(Databases, Option<Cluster>), Failure> {
    let named = |variable| env::var(variable).ok().filter(|url: &String| !url.is_empty());
    let (billing, pacing) = (named(BILLING_URL), named(PACING_URL));
    if let (Some(billing), Some(pacing)) = (&billing, &pacing) {
        let databases = Databases { billing: billing.clone(), pacing: pacing.clone() };
        return Ok((databases, None));
    }
    let folder = data.join("postgres");
    println!("starting PostgreSQL in {}", folder.display());
    let started = blocking("PostgreSQL", move || {
        let cluster = Cluster::start(&folder, None)?;
        for database in ["adspend_billing", "adspend_pacing"] {
            cluster.create_database(database)?;
        }
        Ok::<_, adspend_common::devpg::Error>(cluster)
    });
    let cluster = started.await?;
    let databases = Databases {
        billing: billing.unwrap_or_else(|| cluster.url("adspend_billing")),
        pacing: pacing.unwrap_or_else(|| cluster.url("adspend_pacing")),
    };
    Ok((databases, Some(cluster)))
}

struct Stack {
    billing: Process,
    pacing: Process,
}

impl Stack {
    async fn start(place: &Place, databases: &Databases) -> Result<Self, Failure> {
        let logs = place.data.join("log");
        let billing = Launch::new(Service::Billing, "billing", place.billing, &logs)
            .set("listen.metrics", place.billing_metrics.to_string())
            .set("database.url", &databases.billing)
            .set("auth.mode", "development")
            .set("statements.own_accounts", OWN_ACCOUNTS)
            .with_executor();
        let pacing = Launch::new(Service::Pacing, "pacing", place.pacing, &logs)
            .set("listen.metrics", place.pacing_metrics.to_string())
            .set("database.url", &databases.pacing)
            .set("auth.mode", "development")
            .set("billing.endpoint", format!("http://{}", place.billing));
        println!("migrating both databases");
        billing.run("migrate").await?;
        pacing.run("migrate").await?;
        println!("starting billing and pacing; their logs are in {}", logs.display());
        let billing = billing.serve_until_ready().await?;
        let pacing = pacing.serve_until_ready().await?;
        Ok(Self { billing, pacing })
    }

    /// Waits until one of them ends by itself, which neither should.
    async fn first_end(&mut self) -> Failure {
        let (process, status) = tokio::select! {
            status = self.billing.wait() => (&self.billing, status),
            status = self.pacing.wait() => (&self.pacing, status),
        };
        let tail = process.log_tail();
        match status {
            Ok(status) => format!("{} ended: {status}\n{tail}", process.name()).into(),
            Err(failure) => failure,
        }
    }

    /// pacing first: it hands its leases back to a billing that still answers.
    async fn stop(self) -> Result<(), Failure> {
        let pacing = self.pacing.stop(STOP_LIMIT).await;
        let billing = self.billing.stop(STOP_LIMIT).await;
        pacing?;
        billing?;
        Ok(())
    }
}

fn greet(place: &Place, private: bool) {
    let Place { data, billing, pacing, billing_metrics, pacing_metrics } = place;
    let kept =
        if private { format!("Data is kept in {}. ", data.display()) } else { String::new() };
    println!(
        "
adspend is ready, in development mode: every caller is an operator. {kept}Ctrl-C stops it.

  billing  {billing}   metrics http://{billing_metrics}/metrics
  pacing   {pacing}   metrics http://{pacing_metrics}/metrics

Try (`make setup` put grpcurl into target/tools/bin; each RPC's comment in proto/ has its own line):

  grpcurl -plaintext {billing} list
  grpcurl -plaintext {billing} describe adspend.billing.v1.TransferService
  grpcurl -plaintext -d '{{\"account_id\":\"shop\",\"account\":{{\"kind\":\"ACCOUNT_KIND_ADVERTISER\",\"display_name\":\"Shop\",\"currency_code\":\"RUB\",\"legal_entity\":{{\"country_code\":\"RU\",\"name\":\"Shop LLC\",\"inn\":\"7707083893\",\"kpp\":\"773601001\"}}}},\"request_id\":\"create-shop\"}}' {billing} adspend.billing.v1.AccountService/CreateAccount
  grpcurl -plaintext -d '{{\"name\":\"accounts/shop\"}}' {billing} adspend.billing.v1.AccountService/GetBalance
  grpcurl -plaintext -d '{{\"opportunity_id\":\"o-1\",\"campaign\":\"campaigns/spring\",\"max_price_micros\":\"2500000\"}}' {pacing} adspend.pacing.v1.AdmissionService/Admit
"
    );
}
