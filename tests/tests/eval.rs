//! A small evaluation: the same code as `make eval`, on what the repository keeps.

use std::{fs, path::Path};

use e2e::eval::{self, KEYS, Options};

#[test]
fn two_scenarios_on_open_bandit_give_every_figure_and_a_report_that_says_what_is_missing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("target/e2e/eval");
    let options = Options {
        seeds: 1,
        weeks: 1,
        only: vec!["300_charges".into(), "30_clicks".into()],
        data: root.join("target/e2e/no-such-folder"),
        folder: folder.clone(),
        committed: None,
    };
    let evaluated = eval::run(&options).unwrap();
    assert_eq!(evaluated.missing.len(), 5);
    for key in KEYS {
        assert!(evaluated.summary.get(key).is_some(), "{key}");
    }
    let figure = |key: &str| evaluated.summary[key].as_f64().unwrap();
    assert!((0.9..=1.0).contains(&figure("utilisation_300")), "{:?}", evaluated.summary);
    assert!((0.8..=1.0).contains(&figure("utilisation_30")), "{:?}", evaluated.summary);
    let ranks = evaluated.summary["mean_rank"].as_object().unwrap();
    assert_eq!(ranks.len(), 8);
    // Ranks of eight sum to 36, whoever wins.
    let sum: f64 = ranks.values().filter_map(serde_json::Value::as_f64).sum();
    assert!((sum - 36.0).abs() < 1e-6, "{ranks:?}");
    let report = fs::read_to_string(folder.join("report.md")).unwrap();
    assert!(report.contains("**Incomplete:**") && report.contains("| 30 clicks |"), "{report}");
}

/// What is committed was written by the evaluation as it is now: it names every figure and plot.
#[test]
fn the_committed_report_names_every_figure_and_its_plots_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("eval");
    let report = fs::read_to_string(folder.join("report.md")).unwrap();
    for key in KEYS.iter().filter(|key| **key != "mean_rank") {
        assert!(report.contains(&format!("`{key}`")), "{key}");
    }
    assert!(!report.contains("**Incomplete:**"));
    for plot in ["utilisation.svg", "rmse.svg", "spend.svg", "rate.svg"] {
        assert!(report.contains(&format!("]({plot})")) && folder.join(plot).is_file(), "{plot}");
    }
}
