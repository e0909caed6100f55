//! The `adspend-pacing` binary: `serve`, `migrate`, `config`.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use adspend_common::time::Clock;
use adspend_common::{config, server, telemetry};
use adspend_pacing::app::{App, Parts};
use adspend_pacing::config::{Config, PREFIX};
use adspend_pacing::{MIGRATIONS, billing};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

// Half the price of glibc's for the many small, short-lived allocations of a gRPC call.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Decides, for every ad opportunity, whether its spend is admitted.
#[derive(Debug, Parser)]
#[command(name = "adspend-pacing", version)]
struct Arguments {
    /// A TOML file; variables that begin with ADSPEND_PACING__ win over it.
    #[arg(long, global = true, env = "ADSPEND_PACING_CONFIG")]
    config: Option<PathBuf>,
    /// Instead of the setting: `system`, or `simulated:<start>,<speed>[,<wall moment>]`.
    #[arg(long, global = true)]
    clock: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT, then drains.
    Serve,
    /// Brings the database's schema up to this binary's.
    Migrate,
    /// Prints the resolved configuration, without secrets.
    Config,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("adspend-pacing: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let mut config: Config = config::load(PREFIX, arguments.config.as_deref())?;
    if let Some(clock) = arguments.clock {
        config.clock = clock;
    }
    match arguments.command {
        Command::Serve => serve(config).await,
        Command::Migrate => migrate(&config).await,
        Command::Config => {
            print!("{}", config::print(&config)?);
            Ok(())
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let telemetry = telemetry::start("adspend-pacing", &config.telemetry)?;
    let parts = Parts {
        clock: Clock::parse(&config.clock)?,
        billing: billing::connect(&config.billing)?,
        telemetry: telemetry.clone(),
    };
    App::start(config, parts).await?.run(server::signal()).await;
    telemetry.shutdown().await;
    Ok(())
}

async fn migrate(config: &Config) -> Result<(), Box<dyn Error>> {
    let now = Clock::parse(&config.clock)?.now();
    for name in MIGRATIONS.up(&config.database, now).await? {
        println!("{name}");
    }
    Ok(())
}

/// An error and its causes on one line: for a person at a terminal.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
