//! The server's process, seen through `postmaster.pid` and `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often something is looked at while waiting for it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What `postmaster.pid` says: process id, port and, when it is up, that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: i32,
    pub(super) port: Option<u16>,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn read(data: &Path) -> Option<PidFile> {
        PidFile::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// The lines are: pid, data directory, start time, port, socket directory, address, shared
    /// memory, status.
    fn parse(text: &str) -> Option<PidFile> {
        let line = |number: usize| text.lines().nth(number).map(str::trim);
        Some(PidFile {
            pid: line(0)?.parse().ok()?,
            port: line(3).and_then(|port| port.parse().ok()),
            ready: line(7) == Some("ready"),
        })
    }
}

/// Whether the process is a server of this data directory: every one of them works in it.
pub(super) fn serves(pid: i32, data: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)
}

/// The processes that work in this data directory: a server and its children.
pub(super) fn any_serves(data: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .any(|pid| serves(pid, data))
}

/// Sends a signal; a process that is gone is as good as one that was told.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Looks until it is so, at most as long as `limit`; whether it became so.
pub(super) fn wait_until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let mut waited = Duration::ZERO;
    loop {
        if is_so() {
            return true;
        }
        if waited >= limit {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_says_who_and_where_and_whether_ready() {
        let starting = "4711\n/data\n1743368400\n54321\n/tmp/x\n127.0.0.1\n";
        let ready = format!("{starting}  1234567    98765\nready   \n");
        let read = PidFile::parse(starting).unwrap();
        assert_eq!(read, PidFile { pid: 4711, port: Some(54321), ready: false });
        assert!(PidFile::parse(&ready).unwrap().ready);
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("nonsense\n"), None);
    }

    #[test]
    fn a_process_serves_the_directory_that_it_works_in() {
        let here = std::env::current_dir().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(serves(me, &here) && any_serves(&here));
        assert!(!serves(me, Path::new("/nonexistent")));
    }
}
