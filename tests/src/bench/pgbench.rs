//! The reference of transfers: one PostgreSQL transaction for each, by pgbench, in the same cluster.
//!
//! It is a kind reference: no idempotency, no check of the balance, no index but the primary keys, and
//! the entries are written before the balances, so that a hot row is locked as late as it can be.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

use super::{
    Outcome, seed,
    world::{World, database},
};

const CLIENTS: &str = "16";
const THREADS: &str = "2";

const TABLES: &str = "
CREATE TABLE balance (
    account_id bigint PRIMARY KEY, posted bigint NOT NULL, version bigint NOT NULL
) WITH (fillfactor = 40);
CREATE TABLE entry (
    entry_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transfer_id uuid NOT NULL,
    account_id bigint NOT NULL, amount bigint NOT NULL, posted_at timestamptz NOT NULL
);";

/// An agency's number is below those of its clients, so every transfer updates in the order of ids.
fn script(agencies: usize) -> String {
    let (most, clients, each) = (agencies - 1, seed::CLIENTS, seed::CLIENTS + 1);
    format!(
        "\\set agency random(0, {most}) * {each}
\\set client :agency + random(1, {clients})
BEGIN;
INSERT INTO entry (transfer_id, account_id, amount, posted_at)
    VALUES (gen_random_uuid(), :agency, -10000, now());
INSERT INTO entry (transfer_id, account_id, amount, posted_at)
    VALUES (gen_random_uuid(), :client, 10000, now());
UPDATE balance SET posted = posted - 10000, version = version + 1 WHERE account_id = :agency;
UPDATE balance SET posted = posted + 10000, version = version + 1 WHERE account_id = :client;
COMMIT;
"
    )
}

/// The two workloads, ready to run.
#[derive(Debug)]
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    spread: PathBuf,
    hot: PathBuf,
}

impl Pgbench {
    pub(crate) async fn prepare(world: &World) -> Outcome<Self> {
        let client = database(&world.reference_url()).await?;
        client.batch_execute(TABLES).await?;
        let accounts = seed::AGENCIES * (seed::CLIENTS + 1);
        let fill =
            format!("INSERT INTO balance SELECT n, 0, 0 FROM generate_series(0, {accounts}) n");
        client.batch_execute(&fill).await?;
        client.batch_execute("VACUUM ANALYZE").await?;
        let write = |name: &str, agencies| {
            let path = world.folder().join(name);
            std::fs::write(&path, script(agencies)).map(|()| path)
        };
        Ok(Self {
            program: world.program("pgbench"),
            url: world.reference_url(),
            spread: write("pgbench-spread.sql", seed::AGENCIES)?,
            hot: write("pgbench-hot.sql", 1)?,
        })
    }

    /// Transfers a second.
    pub(crate) async fn run(&self, hot: bool, during: Duration) -> Outcome<f64> {
        let script = if hot { &self.hot } else { &self.spread };
        let seconds = during.as_secs().max(1).to_string();
        let output = Command::new(&self.program)
            .args(["-n", "-M", "prepared", "-c", CLIENTS, "-j", THREADS, "-T", &seconds, "-f"])
            .args([script.as_os_str(), self.url.as_ref()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| {
                format!("{} ({error}): it comes with the server's package", self.program.display())
            })?;
        let said = String::from_utf8_lossy(&output.stdout);
        tps(&said).ok_or_else(|| {
            format!("pgbench: {said}{}", String::from_utf8_lossy(&output.stderr)).into()
        })
    }
}

/// pgbench's own figure, without the time of connecting.
fn tps(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("tps = "))?;
    line.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_pgbench_says() {
        let said = "latency average = 4.5 ms\ntps = 3512.501 (without initial connection time)\n";
        assert_eq!(tps(said), Some(3512.501));
        assert_eq!(tps("pgbench: error"), None);
    }
}
