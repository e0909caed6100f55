//! What the README promises of `make run`, and the lines of its tour, with the real binaries.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use e2e::processes::{free_address, program};
use rustix::process::{Pid, Signal, kill_process};

use crate::{examples::shell, tools};

/// How long starting or stopping all of it may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// `dev run` in a folder of its own. Dropped it is stopped as by Ctrl-C.
struct Run {
    child: Child,
}

fn command(data: &Path, billing: SocketAddr, pacing: SocketAddr) -> Command {
    let mut command = Command::new(program("dev").unwrap());
    command
        .args(["run", "--billing-metrics", "127.0.0.1:0", "--pacing-metrics", "127.0.0.1:0"])
        .arg("--data")
        .arg(data)
        .args(["--billing", &billing.to_string(), "--pacing", &pacing.to_string()])
        .env_remove("ADSPEND_BILLING_DATABASE_URL")
        .env_remove("ADSPEND_PACING_DATABASE_URL")
        .stdin(Stdio::null());
    command
}

impl Run {
    /// Starts it and waits until it says that it is ready.
    fn start(mut command: Command) -> Self {
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut run = Self { child };
        // Ends at the greeting or, when it fails before, at the end of its output.
        let output = BufReader::new(run.child.stdout.take().unwrap());
        let mut said = String::new();
        let mut lines = output.lines().map_while(Result::ok);
        let ready = lines.any(|line| {
            said = format!("{said}{line}\n");
            line.contains("adspend is ready")
        });
        assert!(ready, "dev run ended before it was ready: {said}");
        // Read on, or its later lines would find a closed pipe.
        std::thread::spawn(move || lines.for_each(drop));
        run
    }

    /// Ctrl-C, and its exit code.
    fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("dev run did not stop in {LIMIT:?}");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

/// The grpcurl lines of the README's shell blocks.
fn tour() -> Vec<String> {
    let readme = fs::read_to_string(tools::root().join("README.md")).unwrap();
    let lines = readme.lines().filter(|line| line.starts_with("grpcurl "));
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    assert!(lines.len() >= 5, "the README has no tour");
    lines
}

#[test]
fn the_tour_works_on_fresh_data_and_data_survives_a_restart() {
    let data = tools::root().join("target/e2e/readme");
    let _ = fs::remove_dir_all(&data);
    let (billing, pacing) = (free_address().unwrap(), free_address().unwrap());
    let ports = [("localhost:7401", billing.to_string()), ("localhost:7411", pacing.to_string())];

    let mut run = Run::start(command(&data, billing, pacing));
    for line in tour() {
        shell(&line, &ports).unwrap_or_else(|complaint| panic!("{line}\n{complaint}"));
    }

    let second = command(&data, billing, pacing).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stdout).into_owned();
    assert!(said.contains("running already"), "{said}");

    let transfers = "grpcurl -plaintext -d '{\"parent\":\"accounts/north\"}' localhost:7401 \
                     adspend.billing.v1.TransferService/ListTransfers";
    let before = shell(transfers, &ports).unwrap();
    assert!(before.contains("transfers/"), "{before}");
    assert_eq!(run.stop(), Some(0));
    let refused = shell(transfers, &ports).unwrap_err();
    assert!(refused.contains("refused"), "billing still answers: {refused}");

    let mut run = Run::start(command(&data, billing, pacing));
    assert_eq!(shell(transfers, &ports).unwrap(), before);
    assert_eq!(run.stop(), Some(0));
}
