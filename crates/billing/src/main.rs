//! The `adspend-billing` binary: `serve`, `migrate`, `config`, `audit`.

use std::{path::PathBuf, process::ExitCode};

use adspend_billing::{
    MIGRATIONS,
    app::App,
    config::{Config, PREFIX},
    ledger::audit,
};
use adspend_common::{config, db::Pool, server, telemetry, time::Clock};
use clap::{Parser, Subcommand};

/// The money of an advertising platform: balances, invoices, payments, promises, transfers, holds.
///
/// Settings come from the file and from environment variables named ADSPEND_BILLING__SECTION__KEY, which win.
/// `adspend-billing config` prints what they come to.
#[derive(Parser)]
#[command(name = "adspend-billing", version)]
struct Arguments {
    /// A TOML file with settings.
    #[arg(long, global = true, env = "ADSPEND_BILLING_CONFIG")]
    config: Option<PathBuf>,
    /// Where the time comes from, instead of the setting `clock`: `system`, or
    /// `simulated:<start>,<speed>[,<since>]`.
    #[arg(long, global = true)]
    clock: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves until SIGTERM or SIGINT, then drains.
    Serve,
    /// Brings the database's schema up to this binary's.
    Migrate,
    /// Prints the resolved configuration, secrets redacted.
    Config,
    /// Verifies the ledger and says what differs; exits with 1 when anything does.
    Audit,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(arguments)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("adspend-billing: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut settings: Config = config::load(PREFIX, arguments.config.as_deref())?;
    if let Some(clock) = arguments.clock {
        settings.clock = clock;
    }
    let clock = Clock::parse(&settings.clock)?;
    match arguments.command {
        Command::Serve => serve(settings, clock).await,
        Command::Migrate => migrate(&settings, &clock).await,
        Command::Config => {
            print!("{}", config::print(&settings)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Audit => verify(&settings, &clock).await,
    }
}

async fn serve(settings: Config, clock: Clock) -> Result<ExitCode, Failure> {
    let telemetry = telemetry::start("adspend-billing", &settings.telemetry)?;
    let app = App::start(settings, clock, &telemetry).await?;
    tracing::info!(grpc = %app.grpc_addr(), metrics = %app.metrics_addr(), "serving");
    app.run(server::signal()).await;
    telemetry.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

async fn migrate(settings: &Config, clock: &Clock) -> Result<ExitCode, Failure> {
    let applied = MIGRATIONS.up(&settings.database, clock.now()).await?;
    for name in &applied {
        println!("applied {name}");
    }
    println!("the schema is up to date");
    Ok(ExitCode::SUCCESS)
}

async fn verify(settings: &Config, clock: &Clock) -> Result<ExitCode, Failure> {
    let pool = Pool::new(&settings.database, "adspend-billing-audit")?;
    let report = audit::verify(&pool, None, clock.now()).await?;
    for difference in &report.differences {
        println!("{}: {}: {}", difference.check, difference.object, difference.detail);
    }
    println!(
        "{}: {} accounts, {} entries, {} legs, {} holds",
        if report.is_ok() { "ok" } else { "DIFFERS" },
        report.accounts,
        report.entries,
        report.legs,
        report.holds
    );
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text.push_str(": ");
        text.push_str(&deeper.to_string());
        cause = deeper.source();
    }
    text
}
