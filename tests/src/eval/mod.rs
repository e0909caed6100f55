//! `make eval`: wip

mod contest;
mod metrics;
mod ours;
mod random;
mod rivals;
mod scenario;
mod series;
mod trial;
mod world;

use std::{path::{Path, PathBuf}, time::Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Outcome<T> = Result<T, Failure>;

/// wip
pub fn run(seeds: u64, weeks: usize) -> Result<(), Failure> {
    let root = workspace();
    let began = Instant::now();
    let (series, missing) = series::read(&root.join("target/eval/data"), &root.join("tests/data/open-bandit/events.csv"))?;
    println!("missing {missing:?}");
    for s in &series { println!("{} {} days {} weeks", s.name, s.days.len(), s.weeks().len()); }
    for scenario in scenario::all() {
        let results = contest::run(&scenario, &series, contest::Size { seeds, weeks });
        println!("== {} {:.1}s", scenario.name, began.elapsed().as_secs_f64());
        for (c, rank) in results.ranks() {
            println!("{:20} rank {rank:.1} loss {:.4} util {:.4} rmse {:.4} plan {:.4} early {:.4} dark {:.4} over {:.5} dp {:.5} adm {:.4} gaps {:.2}", c.name(),
                results.mean(c, |d| d.loss()), results.mean(c, |d| d.utilisation), results.mean(c, |d| d.rmse), results.mean(c, |d| d.rmse_plan),
                results.mean(c, |d| f64::from(d.early)), results.mean(c, |d| d.dark), results.mean(c, |d| d.overspend), results.mean(c, |d| d.change), results.mean(c, |d| d.admitted), results.mean(c, |d| d.gaps));
        }
        for s in &series {
            let d: Vec<_> = results.runs(contest::Contestant::Adspend).iter().filter(|r| r.series == s.name).flat_map(|r| &r.days).collect();
            println!("   {:20} util {:.4} rmse {:.4} early {:.4} dp {:.4}", s.name, metrics::mean(d.iter().map(|d| d.utilisation)), metrics::mean(d.iter().map(|d| d.rmse)), metrics::mean(d.iter().map(|d| f64::from(d.early))), metrics::mean(d.iter().map(|d| d.change)));
        }
    }
    Ok(())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
