//! `make bench`: speed beside references; see the module `bench`.

use std::{net::SocketAddr, process::ExitCode};

use clap::{Parser, Subcommand};
use e2e::bench::{self, Part};
use mimalloc::MiMalloc;

// Half the price of glibc's for the many small, short-lived allocations of a gRPC call.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
#[command(about = "Measures adspend beside its references")]
struct Arguments {
    /// Only these parts.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds of each figure; fewer than the default say little.
    #[arg(long, default_value_t = bench::ROUNDS)]
    rounds: usize,
    /// Ends with an error when a bound is missed.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serves the reference of admission; started by the bench itself.
    #[command(hide = true)]
    Echo {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        answer: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Some(Command::Echo { listen, answer }) => {
            bench::echo(*listen, answer).await.map(|()| Vec::new())
        }
        None => bench::run(&arguments.only, arguments.rounds).await,
    };
    match done {
        Ok(missed) if missed.is_empty() => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("bounds missed: {}", missed.join(", "));
            if arguments.check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
