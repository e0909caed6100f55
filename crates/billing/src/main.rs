//! The `adspend-billing` binary: `serve`, `migrate`, `config`, `audit`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use adspend_billing::{
    MIGRATIONS, app::App, audit_records::chain::Head, config::Config, ledger::audit,
};
use adspend_common::{config, db::Pool, server, telemetry, time::Clock};
use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

// Half the price of glibc's for the many small, short-lived allocations of a gRPC call.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Keeps the money: balances, invoices, payments, promised payments, transfers, holds.
#[derive(Debug, Parser)]
#[command(name = "adspend-billing", version)]
struct Arguments {
    /// A TOML file; variables that begin with ADSPEND_BILLING__ win over it.
    #[arg(long, global = true, env = "ADSPEND_BILLING_CONFIG")]
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
    /// Proves the whole ledger and its audit trail on live data; fails when anything differs.
    Audit {
        /// A head of the audit chain that an earlier audit printed: the chain must still go through it.
        #[arg(long, value_name = "NUMBER:HASH")]
        head: Option<Head>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("adspend-billing: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let mut config = Config::load(arguments.config.as_deref())?;
    if let Some(clock) = arguments.clock {
        config.clock = clock;
    }
    match arguments.command {
        Command::Serve => serve(config).await,
        Command::Migrate => migrate(&config).await,
        Command::Config => {
            print!("{}", config::print(&config)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Audit { head } => audit(&config, head).await,
    }
}

async fn serve(config: Config) -> Result<ExitCode, Box<dyn Error>> {
    let telemetry = telemetry::start("adspend-billing", &config.telemetry)?;
    let clock = Clock::parse(&config.clock)?;
    let app = App::start(config, clock, &telemetry).await?;
    app.run(server::signal()).await;
    telemetry.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(config: &Config) -> Result<ExitCode, Box<dyn Error>> {
    let now = Clock::parse(&config.clock)?.now();
    for name in MIGRATIONS.up(&config.database, now).await? {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn audit(config: &Config, head: Option<Head>) -> Result<ExitCode, Box<dyn Error>> {
    let pool = Pool::new(&config.database, "adspend-billing-audit")?;
    MIGRATIONS.verify(&pool.get().await?).await?;
    let report = audit::verify(&pool, None, Clock::parse(&config.clock)?.now(), head).await?;
    for audit::Difference { check, object, detail } in &report.differences {
        println!("{check}: {object}: {detail}");
    }
    let audit::Report { accounts, entries, legs, holds, trail, .. } = &report;
    println!("checked {accounts} accounts, {entries} entries, {legs} legs, {holds} holds");
    println!("audit records: {} in the chain, {} not yet", trail.linked, trail.unlinked);
    if let Some(head) = trail.head {
        println!("audit chain head: {head}");
    }
    if report.is_ok() {
        println!("ok");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{} differences", report.differences.len());
        Ok(ExitCode::FAILURE)
    }
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
