//! `make bench`: what we promise of speed, measured beside a reference in the same run.
//!
//! | part | ours | reference |
//! |---|---|---|
//! | admission | pacing as a process, over gRPC | an empty tonic server as a process, same messages |
//! | charges | StreamSettle, durable | COPY of the same rows into the same table |
//! | transfers | billing as a process, over gRPC | pgbench in the same cluster |
//! | statements | ImportStatement of a file | RecordPayment of the same mix, 64 callers |
//! | documents | the first download of an invoice, which typesets it | the second one, which reads it |
//! | reports | eight weeks of spend by the minute, a simulated week | none: the bounds are absolute |
//! | decision | the core with 100 000 campaigns | none: the bound is absolute |
//!
//! Rounds of both sides alternate, and a ratio is the median over rounds, so that a noisy machine
//! disturbs both. The cluster is private, fsync is on, all traffic stays on loopback, and whatever was
//! started is ended.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

mod admit;
mod decision;
mod documents;
mod echo;
mod figures;
mod holds;
mod load;
mod pgbench;
mod reports;
mod seed;
mod settle;
mod statements;
mod transfers;
mod wire;
mod world;

use figures::Report;
use world::World;

/// Anything that ends a run.
type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T> = Result<T, Failure>;

/// Rounds of each figure, unless fewer are asked for to try something out.
pub const ROUNDS: usize = 5;
/// How long one side of one round is measured.
const MEASURE: Duration = Duration::from_secs(3);
/// How long each side runs before anything counts.
const WARM: Duration = Duration::from_secs(2);

/// A part of the bench, to run it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Admission over gRPC.
    Admit,
    /// Charges.
    Settle,
    /// Reports of pacing.
    Reports,
    /// Transfers beside pgbench.
    Transfers,
    /// Holds.
    Holds,
    /// Bank statements.
    Statements,
    /// Documents.
    Documents,
    /// Skewed transfers by many writers.
    Deadlocks,
    /// The decision core.
    Decision,
}

/// Runs the parts (all of them when none is named), prints, and writes `target/bench/summary.json`.
/// Gives the figures that missed their bounds.
pub async fn run(only: &[Part], rounds: usize) -> Result<Vec<&'static str>, Failure> {
    let began = Instant::now();
    let folder = workspace().join("target/bench");
    fs::create_dir_all(&folder)?;
    let mut report = Report::default();
    about_the_machine(&mut report);
    report.note("rounds", rounds as u64);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut world = World::start(&folder, rounds).await?;
    let measured = tokio::select! {
        measured = measure(&mut world, only, &mut report) => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    };
    world.stop().await?;
    measured?;
    report.note("seconds", began.elapsed().as_secs());
    println!("{}", report.table());
    let summary = folder.join("summary.json");
    report.write(&summary)?;
    println!("{} in {} s", summary.display(), began.elapsed().as_secs());
    Ok(report.missed())
}

async fn measure(world: &mut World, only: &[Part], report: &mut Report) -> Outcome<()> {
    let wanted = |part| only.is_empty() || only.contains(&part);
    if [Part::Admit, Part::Settle, Part::Reports].into_iter().any(wanted) {
        println!("advertisers and campaigns");
        seed::advertisers(&world.billing_uri()?, &world.pacing_uri()?).await?;
    }
    if wanted(Part::Admit) {
        println!("admission");
        report.add(admit::measure(world).await?);
    }
    if wanted(Part::Settle) {
        println!("charges");
        report.add(settle::measure(world).await?);
    }
    if wanted(Part::Reports) {
        println!("reports");
        report.add(reports::measure(world).await?);
    }
    world.stop_pacing().await?;
    let of_agencies =
        [Part::Transfers, Part::Holds, Part::Statements, Part::Documents, Part::Deadlocks];
    if of_agencies.into_iter().any(wanted) {
        println!("agencies and clients");
        seed::agencies(&world.billing_uri()?).await?;
    }
    if wanted(Part::Transfers) {
        println!("transfers");
        report.add(transfers::measure(world).await?);
    }
    if wanted(Part::Holds) {
        println!("holds");
        report.add(holds::measure(world).await?);
    }
    if wanted(Part::Statements) {
        println!("bank statements");
        report.add(statements::measure(world).await?);
    }
    if wanted(Part::Documents) {
        println!("documents");
        report.add(documents::measure(world).await?);
    }
    if wanted(Part::Deadlocks) {
        println!("skewed transfers");
        report.add(transfers::deadlocks(world).await?);
    }
    world.stop_services().await?;
    if wanted(Part::Decision) {
        println!("decision core");
        report.add(decision::measure(&workspace()).await?);
    }
    Ok(())
}

/// Serves the reference of admission, in a process of its own.
pub async fn echo(listen: std::net::SocketAddr, answer: &str) -> Result<(), Failure> {
    echo::serve(listen, answer).await
}

/// The workspace, where `target` is.
fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// What ratios do not depend on much, and rates do.
fn about_the_machine(report: &mut Report) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report.note("cores", cores as u64);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().and_then(|load| load.parse::<f64>().ok());
    report.note("load_average_before", load);
    report.note("optimised", !cfg!(debug_assertions));
    let load = load.unwrap_or_default();
    if load > cores as f64 / 2.0 {
        println!("the machine is busy (load {load}): rates will be low, ratios less so");
    }
}
