//! `make eval`: pacing on recorded traffic beside published rules; see the module `eval`.

use std::process::ExitCode;

use clap::Parser;
use e2e::eval::{self, Options};

#[derive(Parser)]
#[command(about = "Evaluates adspend's pacing beside published rules")]
struct Arguments {
    /// Seeds of each week; fewer than the default are for trying something out.
    #[arg(long)]
    seeds: Option<u64>,
    /// Weeks of each record.
    #[arg(long)]
    weeks: Option<usize>,
    /// Only these scenarios. Nothing but target/eval is written then.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut options = Options::full();
    let is_full =
        arguments.seeds.is_none() && arguments.weeks.is_none() && arguments.only.is_empty();
    if !is_full {
        options.committed = None;
    }
    options.seeds = arguments.seeds.unwrap_or(options.seeds);
    options.weeks = arguments.weeks.unwrap_or(options.weeks);
    options.only = arguments.only;
    match eval::run(&options) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("eval: {failure}");
            ExitCode::FAILURE
        }
    }
}
