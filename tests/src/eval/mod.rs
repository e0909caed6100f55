//! `make eval`: pacing on recorded traffic, beside our own ports of published rules.
//!
//! * [`series`]: the records; [`trial`]: a campaign's days drawn from one; [`scenario`]: the list.
//! * [`world`]: a day, opportunity by opportunity; [`ours`] and [`rivals`]: who sets the rate.
//! * [`metrics`], [`contest`], [`summary`]: what a day was worth, all runs, and the promised figures.
//! * [`week`], [`stops`], [`hierarchy`]: the week plan, open clicks, and an account over campaigns.
//! * [`report`], [`plot`]: Markdown and SVG.
//!
//! The controller, the forecast, the week plan, the margin and the account's ceiling are production
//! code (`adspend_pacing::controller`). The world around them is not: production's own simulation
//! (`controller::simulate`) answers previews from a forecast; here records are replayed for many rules
//! at once, so the judge shares no code with the judged but the stop rule, which all obey.
//!
//! Not here: replicas, slices and lost leases (the chaos tests), speed (`make bench`).

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

mod contest;
mod hierarchy;
mod metrics;
mod ours;
pub(crate) mod plot;
mod plots;
mod random;
mod report;
mod rivals;
mod scenario;
mod series;
mod stops;
mod summary;
mod trial;
mod week;
mod world;

use contest::{Contestant, Size};
use report::Told;

/// Anything that ends a run.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T> = Result<T, Failure>;

pub use summary::KEYS;

/// What to run, and where its results go.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seeds of each week.
    pub seeds: u64,
    /// Weeks of each record, evenly spread over it.
    pub weeks: usize,
    /// Only these scenarios; all when empty.
    pub only: Vec<String>,
    /// The records that `fetch.py` brought; what is not there is left out and named.
    pub data: PathBuf,
    /// Gets `summary.json`, `report.md` and the plots.
    pub folder: PathBuf,
    /// Gets the report and the plots, too: what is committed.
    pub committed: Option<PathBuf>,
}

impl Options {
    /// As `make eval` runs it.
    pub fn full() -> Self {
        let root = workspace();
        Self {
            seeds: 5,
            weeks: 3,
            only: Vec::new(),
            data: root.join("target/eval/data"),
            folder: root.join("target/eval"),
            committed: Some(root.join("tests/eval")),
        }
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Evaluated {
    /// The summary that was written.
    pub summary: serde_json::Value,
    /// Records that were not there.
    pub missing: Vec<&'static str>,
}

/// Runs, prints, and writes the summary, the report and the plots. An error when a record that is
/// there cannot be read.
pub fn run(options: &Options) -> Result<Evaluated, Failure> {
    let began = Instant::now();
    let open_bandit = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/open-bandit/events.csv");
    let (series, missing) = series::read(&options.data, &open_bandit)?;
    let size = Size { seeds: options.seeds, weeks: options.weeks };
    if !missing.is_empty() {
        println!("eval: not there, so left out: {}", missing.join(", "));
    }
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|one| one == name);
    let mut results = Vec::new();
    for scenario in scenario::all().into_iter().filter(|scenario| wanted(scenario.name)) {
        let result = contest::run(&scenario, &series, size);
        println!("{:26} {}", scenario.title, first_ranks(&result));
        results.push(result);
    }
    let weeks = week::run(&series);
    let calm = scenario::calm();
    let stops = stops::run(&calm, &series, size);
    let mixes = hierarchy::run(&calm, &series, size);
    let figures = summary::figures(&results, &weeks, &mixes);
    println!();
    for figure in &figures {
        let mark = if figure.is_met() { "met" } else { "missed" };
        println!("{:30} {:8.4} {:9} {mark}", figure.name, figure.value, figure.target.written());
    }
    for (contestant, rank) in summary::mean_ranks(&results) {
        println!("mean rank {:20} {rank:5.2}", contestant.title());
    }
    let summary = summary::json(&figures, &results, &missing, &size);
    let told = Told {
        size,
        series: &series,
        missing: &missing,
        figures: &figures,
        results: &results,
        weeks: &weeks,
        stops: &stops,
        mixes: &mixes,
    };
    let report = report::write(&told);
    let plots = plots::all(&series, &results);
    for folder in std::iter::once(&options.folder).chain(&options.committed) {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.md"), &report)?;
        for (name, svg) in &plots {
            fs::write(folder.join(name), svg)?;
        }
    }
    let path = options.folder.join("summary.json");
    fs::write(&path, format!("{summary:#}\n"))?;
    println!("\n{} in {} s", path.display(), began.elapsed().as_secs());
    Ok(Evaluated { summary, missing })
}

/// The three best of a scenario with their losses, and ours.
fn first_ranks(results: &contest::Results) -> String {
    let mut ranks = results.ranks();
    ranks.sort_by(|a, b| a.1.total_cmp(&b.1));
    let shown = ranks
        .iter()
        .enumerate()
        .filter(|(index, (one, _))| *index < 3 || *one == Contestant::Adspend);
    let written = shown.map(|(_, (one, rank))| {
        let loss = results.mean(*one, metrics::Measured::loss);
        format!("{rank:.0}. {} {loss:.4}", one.title())
    });
    written.collect::<Vec<_>>().join(", ")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
