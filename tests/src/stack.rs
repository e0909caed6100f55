//! Both services as processes over databases of their own: for the end-to-end tests, the chaos
//! tests and the demonstration.
//!
//! A replica keeps how it was started, so that one that was killed comes back with the same address
//! and the same configuration.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use crate::processes::{Failure, Launch, Process, STOP_LIMIT, Service, free_address};

/// How many replicas, and what they have in common.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Replicas of billing.
    pub billing: usize,
    /// Replicas of pacing.
    pub pacing: usize,
    /// The folder of the log files.
    pub logs: PathBuf,
    /// The clock of all processes, such as `simulated:…`; the real one without it.
    pub clock: Option<String>,
    /// Further settings, such as (`Service::Pacing`, `leases.slice_ttl`, `2s`).
    pub settings: Vec<(Service, String, String)>,
}

impl Plan {
    /// One of each, with logs in a folder of their own under `target/e2e`.
    pub fn new(name: &str) -> Self {
        Self {
            billing: 1,
            pacing: 1,
            logs: target().join("e2e").join(name),
            clock: None,
            settings: Vec::new(),
        }
    }

    /// Sets a key of one service's configuration on all its replicas.
    #[must_use]
    pub fn set(mut self, service: Service, key: &str, value: &str) -> Self {
        self.settings.push((service, key.to_owned(), value.to_owned()));
        self
    }

    /// Sets how many replicas there are.
    #[must_use]
    pub fn replicas(mut self, billing: usize, pacing: usize) -> Self {
        self.billing = billing;
        self.pacing = pacing;
        self
    }
}

/// The workspace's `target` folder: two levels above a program, three above a test.
fn target() -> PathBuf {
    let own = env::current_exe().unwrap_or_default();
    let folders = own.ancestors().find(|folder| folder.ends_with("target"));
    folders.unwrap_or(Path::new("target")).to_owned()
}

/// One process that can be ended and started again.
#[derive(Debug)]
pub struct Replica {
    launch: Launch,
    grpc: SocketAddr,
    process: Option<Process>,
}

impl Replica {
    /// Where it answers, whether it runs or not.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// A client's channel to it; connects when first used, and again after a restart.
    pub fn channel(&self) -> Result<Channel, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc));
        let endpoint = endpoint.map_err(|error| format!("{}: {error}", self.grpc))?;
        Ok(endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy())
    }

    /// Starts it, if it does not run, and waits until it is ready.
    pub async fn start(&mut self) -> Result<(), Failure> {
        if self.process.is_none() {
            self.process = Some(self.launch.serve_until_ready().await?);
        }
        Ok(())
    }

    /// Sets a key of its configuration, from its next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.launch = self.launch.clone().set(key, value);
    }

    /// The running process, for signals.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Runs a subcommand with its configuration, such as `audit`.
    pub async fn run(&self, subcommand: &str) -> Result<String, Failure> {
        self.launch.run(subcommand).await
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<(), Failure> {
        match self.process.take() {
            Some(process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// SIGTERM and the drain; an exit code other than zero is an error.
    pub async fn stop(&mut self) -> Result<(), Failure> {
        let Some(process) = self.process.take() else { return Ok(()) };
        let name = process.name().to_owned();
        let status = process.stop(STOP_LIMIT).await?;
        if status.success() { Ok(()) } else { Err(format!("{name} ended: {status}").into()) }
    }
}

/// All replicas of both services.
#[derive(Debug)]
pub struct Stack {
    /// Replicas of billing.
    pub billing: Vec<Replica>,
    /// Replicas of pacing.
    pub pacing: Vec<Replica>,
}

impl Stack {
    /// Migrates both databases and starts every replica. pacing knows every replica of billing.
    pub async fn start(plan: &Plan, billing: &str, pacing: &str) -> Result<Self, Failure> {
        // Logs of an earlier run would be taken for those of this one.
        let _ = fs::remove_dir_all(&plan.logs);
        let mut stack = Self { billing: Vec::new(), pacing: Vec::new() };
        for number in 1..=plan.billing {
            stack.billing.push(replica(plan, Service::Billing, number, billing)?);
        }
        let targets = stack.billing.iter().map(|replica| format!("http://{}", replica.grpc));
        let targets = targets.collect::<Vec<_>>().join(",");
        for number in 1..=plan.pacing {
            let mut replica = replica(plan, Service::Pacing, number, pacing)?;
            replica.launch = replica.launch.set("billing.endpoint", &targets);
            stack.pacing.push(replica);
        }
        for service in [&mut stack.billing, &mut stack.pacing] {
            if let Some(first) = service.first() {
                first.run("migrate").await?;
            }
            for replica in service {
                replica.start().await?;
            }
        }
        Ok(stack)
    }

    /// Stops pacing, which hands its leases back, and then billing.
    pub async fn stop(mut self) -> Result<(), Failure> {
        for replica in self.pacing.iter_mut().chain(&mut self.billing) {
            replica.stop().await?;
        }
        Ok(())
    }
}

fn replica(plan: &Plan, service: Service, number: usize, url: &str) -> Result<Replica, Failure> {
    let name = match service {
        Service::Billing => format!("billing-{number}"),
        Service::Pacing => format!("pacing-{number}"),
    };
    let grpc = free_address()?;
    let mut launch = Launch::new(service, &name, grpc, &plan.logs)
        .set("database.url", url)
        .set("auth.mode", "development");
    if service == Service::Billing {
        launch = launch.with_executor();
    }
    if let Some(clock) = &plan.clock {
        launch = launch.set("clock", clock);
    }
    for (_, key, value) in plan.settings.iter().filter(|(of, _, _)| *of == service) {
        launch = launch.set(key, value);
    }
    Ok(Replica { launch, grpc, process: None })
}
