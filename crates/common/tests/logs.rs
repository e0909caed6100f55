//! What a process writes on standard error, seen from outside: this test runs itself.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::process::Command;

use adspend_common::{config, telemetry};
use serde_json::Value;

const INSIDE: &str = "ADSPEND_TEST_INSIDE";

/// Not a claim of its own: the process that the other test looks at.
#[test]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    telemetry::start("logs-test", &config::Telemetry::default()).unwrap();
    tracing::info!(amount_micros = 5, text = "two\nlines \u{1b}[31mred", "a line");
    tracing::debug!("below the filter");
    std::thread::spawn(|| panic!("something broke")).join().unwrap_err();
}

#[test]
fn log_lines_and_panics_are_objects_of_json_on_a_line_each() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--nocapture"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("{text}"))
    };
    let line = find("a line");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["amount_micros"], 5);
    assert_eq!(line["text"], "two\nlines \u{1b}[31mred");
    let panic = find("panic");
    assert_eq!(panic["level"], "ERROR");
    assert_eq!(panic["panic"], "something broke");
    assert!(panic["location"].as_str().unwrap().contains("logs.rs"), "{panic}");
    assert_eq!(panic["trace_id"].as_str().unwrap().len(), 32);
    assert!(!text.contains("below the filter") && !text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("something broke\n"), "and what was always printed: {text}");
}
