//! The decision core: pacing's own benchmark, whose last line is JSON.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::process::Command;

use super::{
    Outcome,
    figures::{Bound, Figure},
};

/// Runs `cargo bench`, which builds it first unless `make bench` has.
pub(crate) async fn measure(workspace: &Path) -> Outcome<Vec<Figure>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["bench", "-q", "-p", "adspend-pacing", "--bench", "decision", "--", "--json"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let Some(found) = result(&said) else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("the decision benchmark: {said}{complaint}").into());
    };
    let figure = |name, unit, bound, key: &str| {
        let value = found.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        Figure::of(name, unit, bound, value)
    };
    let allocations = "allocations_per_decision";
    Ok(vec![
        figure("decision_ns", "ns, 100 000 campaigns", Bound::AtMost(300.0), "decision_ns"),
        figure(allocations, "", Bound::AtMost(0.0), allocations),
    ])
}

fn result(said: &str) -> Option<Value> {
    let line = said.lines().rev().find(|line| line.starts_with('{'))?;
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_json_is_the_result() {
        let said = "decision core  time: [90 ns]\n{\"decision_ns\":91.5}\n";
        assert_eq!(result(said).unwrap()["decision_ns"], 91.5);
        assert!(result("nothing").is_none());
    }
}
