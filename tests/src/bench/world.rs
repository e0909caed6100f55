//! Where the measurements happen: a private cluster under `target/bench`, fresh databases in it, and
//! both services as processes.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use adspend_common::devpg::Cluster;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

use super::{Outcome, statements};
use crate::{
    processes::{Service, free_address},
    stack::{Plan, Replica, Stack},
};

const BILLING: &str = "bench_billing";
const PACING: &str = "bench_pacing";
/// Where pgbench has its tables.
const REFERENCE: &str = "bench_reference";
/// How long a page of metrics may take.
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// The cluster and the services on it.
#[derive(Debug)]
pub(crate) struct World {
    folder: PathBuf,
    cluster: Cluster,
    stack: Option<Stack>,
    billing_metrics: SocketAddr,
    /// Rounds of each figure.
    pub(crate) rounds: usize,
}

impl World {
    /// Starts the cluster and one replica of each service on empty databases.
    pub(crate) async fn start(folder: &Path, rounds: usize) -> Outcome<Self> {
        let place = folder.join("pg");
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(&place, None)).await??;
        let mut world = Self {
            folder: folder.to_owned(),
            cluster,
            stack: None,
            billing_metrics: free_address()?,
            rounds,
        };
        let admin = database(&world.cluster.url("postgres")).await?;
        for name in [BILLING, PACING, REFERENCE] {
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
            admin.batch_execute(&format!("CREATE DATABASE {name}")).await?;
        }
        let metrics = world.billing_metrics.to_string();
        let plan = world.plan(1, 1).set(Service::Billing, "listen.metrics", &metrics);
        world.stack = Some(Stack::start(&plan, &world.billing_url(), &world.pacing_url()).await?);
        Ok(world)
    }

    fn plan(&self, billing: usize, pacing: usize) -> Plan {
        let mut plan = Plan::new("bench").replicas(billing, pacing);
        plan.logs = self.folder.join("logs");
        plan.set(Service::Billing, "statements.own_accounts", statements::OWN_ACCOUNTS)
    }

    pub(crate) fn billing_uri(&self) -> Outcome<String> {
        let billing = self.stack.iter().flat_map(|stack| &stack.billing).next();
        Ok(format!("http://{}", billing.ok_or("billing does not run")?.grpc()))
    }

    /// The same, without a scheme.
    pub(crate) fn billing_address(&self) -> Outcome<SocketAddr> {
        let billing = self.stack.iter().flat_map(|stack| &stack.billing).next();
        Ok(billing.ok_or("billing does not run")?.grpc())
    }

    /// The process of billing.
    pub(crate) fn billing_pid(&mut self) -> Outcome<i32> {
        let billing = self.stack.iter_mut().flat_map(|stack| &mut stack.billing).next();
        let process = billing.and_then(Replica::process).ok_or("billing does not run")?;
        Ok(process.pid())
    }

    pub(crate) fn pacing_uri(&self) -> Outcome<String> {
        let pacing = self.stack.iter().flat_map(|stack| &stack.pacing).next();
        Ok(format!("http://{}", pacing.ok_or("pacing does not run")?.grpc()))
    }

    pub(crate) fn billing_url(&self) -> String {
        self.cluster.url(BILLING)
    }

    pub(crate) fn pacing_url(&self) -> String {
        self.cluster.url(PACING)
    }

    pub(crate) fn reference_url(&self) -> String {
        self.cluster.url(REFERENCE)
    }

    /// A folder for files of the run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program of the server, such as `pgbench`.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.cluster.binaries().program(name)
    }

    /// Stops pacing, so that its loops do not run beside what follows.
    pub(crate) async fn stop_pacing(&mut self) -> Outcome<()> {
        if let Some(stack) = &mut self.stack {
            for mut replica in stack.pacing.drain(..) {
                replica.stop().await?;
            }
        }
        Ok(())
    }

    /// Stops the services and starts so many replicas of billing; gives their addresses.
    pub(crate) async fn only_billing(&mut self, replicas: usize) -> Outcome<Vec<String>> {
        self.stop_services().await?;
        let plan = self.plan(replicas, 0);
        let stack = Stack::start(&plan, &self.billing_url(), &self.pacing_url()).await?;
        let uris = stack.billing.iter().map(|replica| format!("http://{}", replica.grpc()));
        let uris = uris.collect();
        self.stack = Some(stack);
        Ok(uris)
    }

    pub(crate) async fn stop_services(&mut self) -> Outcome<()> {
        if let Some(stack) = self.stack.take() {
            stack.stop().await?;
        }
        Ok(())
    }

    /// Ends everything that was started.
    pub(crate) async fn stop(mut self) -> Outcome<()> {
        self.stop_services().await?;
        let cluster = self.cluster;
        tokio::task::spawn_blocking(move || cluster.stop()).await??;
        Ok(())
    }

    /// How many calls billing has answered since it started, health left out.
    pub(crate) async fn billing_calls(&self) -> Outcome<u64> {
        let page = timeout(SCRAPE_LIMIT, scrape(self.billing_metrics)).await??;
        Ok(calls(&page))
    }
}

async fn scrape(address: SocketAddr) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await?;
    Ok(page)
}

/// The sum of our methods' counters on a page of metrics.
fn calls(page: &str) -> u64 {
    let ours = |line: &&str| {
        line.starts_with("rpc_server_call_duration_seconds_count{") && line.contains("\"adspend.")
    };
    let count = |line: &str| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
    page.lines().filter(ours).filter_map(count).sum()
}

/// One connection.
pub(crate) async fn database(url: &str) -> Outcome<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with its client.
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_over_our_methods_and_codes() {
        let page = "\
# TYPE rpc_server_call_duration_seconds histogram
rpc_server_call_duration_seconds_bucket{rpc_method=\"adspend.x/A\",le=\"1\"} 9
rpc_server_call_duration_seconds_count{rpc_method=\"adspend.x/A\",code=\"OK\"} 5
rpc_server_call_duration_seconds_count{rpc_method=\"adspend.x/A\",code=\"ABORTED\"} 2
rpc_server_call_duration_seconds_count{rpc_method=\"grpc.health.v1.Health/Check\"} 70
";
        assert_eq!(calls(page), 7);
    }
}
