//! A private cluster: made once, started, stopped.
//!
//! In its directory: `data` (the cluster), `password`, `port` (the last one, taken again when it
//! is free, so that URLs stay), `postgres.log`, `lock`, and `postgresql` if it was fetched.
//!
//! The lock is held by whoever started the cluster, so a second start says who runs it. A server
//! that outlived its starter is taken over; one that died leaves a `postmaster.pid` behind, which
//! is removed once nobody works in `data` any more.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::files::{
    last_lines, open_log, password, pick_port, remove_sockets, since, take_lock, write_private,
};
use super::place::Place;
use super::process::{PidFile, any_serves, serves, signal, wait_until};
use super::{Binaries, Error, at, block_on};
use crate::config::Database;
use crate::db::{self, Pool};

/// The superuser of the cluster.
const SUPERUSER: &str = "postgres";
/// The database that always exists.
const FIRST_DATABASE: &str = "postgres";

/// Recovery after a crash included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A fast shutdown writes a checkpoint.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long the children of a server that was killed need to notice.
const ORPHANS_LIMIT: Duration = Duration::from_secs(10);
/// Ports are picked before the server binds them; somebody may be quicker.
const START_ATTEMPTS: u32 = 3;

/// For a laptop and two cores. What is not here is PostgreSQL's default: `fsync`,
/// `full_page_writes` and `synchronous_commit` are on.
const SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "2GB"),
    ("min_wal_size", "256MB"),
    ("checkpoint_timeout", "15min"),
    ("random_page_cost", "1.1"),
    ("jit", "off"),
    ("log_lock_waits", "on"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    // Tests make and drop databases all the time; statistics of them are worth nothing.
    ("track_functions", "none"),
];

/// A running cluster. Dropped it is stopped.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    binaries: Binaries,
    port: u16,
    password: String,
    pid: i32,
    /// Ours to reap; none when the server was taken over.
    child: Option<Child>,
    /// Held as long as we live.
    _lock: File,
}

impl Cluster {
    /// Starts the cluster in `dir`, and makes it first if there is none. Without a port it takes
    /// the one it had last time, or a free one.
    pub fn start(dir: &Path, port: Option<u16>) -> Result<Cluster, Error> {
        let place = Place::prepare(dir)?;
        let lock = take_lock(&place.dir)?;
        let password = password(&place.dir)?;
        let data = place.dir.join("data");
        let fetched = place.dir.join("postgresql");
        let binaries = match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(made_by) => binaries_for(&place.dir, &fetched, made_by.trim())?,
            Err(_) => {
                let binaries = Binaries::find(&fetched)?;
                initialise(&place, &binaries, &password)?;
                binaries
            }
        };
        let mut cluster =
            Cluster { place, binaries, port: 0, password, pid: 0, child: None, _lock: lock };
        match running(&data)? {
            Some((pid, its_port)) if port.is_none_or(|wanted| wanted == its_port) => {
                (cluster.pid, cluster.port) = (pid, its_port);
            }
            Some((pid, _)) => {
                shut_down(pid, || serves(pid, &data))?;
                cluster.launch(port)?;
            }
            None => cluster.launch(port)?,
        }
        Ok(cluster)
    }

    /// The URL of a database of the cluster, for the superuser: a secret.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the cluster really lives: not always where it was asked to.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// The programs that it runs with, `pgbench` among them.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Makes a database unless it exists.
    pub fn create_database(&self, name: &str) -> Result<(), Error> {
        const EXISTS: &str = "-- devpg.database_exists
SELECT 1 FROM pg_database WHERE datname = $1";
        let database = Database::new(self.url(FIRST_DATABASE));
        block_on(async {
            let client = Pool::new(&database, "adspend-devpg")?.get().await?;
            if client.query_opt(EXISTS, &[&name]).await?.is_none() {
                let statement = format!("CREATE DATABASE {}", quoted(name));
                client.batch_execute(&statement).await?;
            }
            Ok::<(), db::Error>(())
        })?;
        Ok(())
    }

    /// Stops the server: transactions in progress are rolled back, the data is complete.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shut_down()
    }

    /// Leaves the server running when this process ends. The next start takes it over.
    pub fn keep_running(mut self) {
        self.pid = 0;
        self.child = None;
    }

    fn launch(&mut self, wanted: Option<u16>) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let port = match wanted {
                Some(port) => port,
                None => pick_port(&self.place.dir)?,
            };
            match self.launch_on(port) {
                Ok(()) => break,
                Err(error) if wanted.is_some() || attempt == START_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
        let file = self.place.dir.join("port");
        fs::write(&file, self.port.to_string()).map_err(at(&file))
    }

    fn launch_on(&mut self, port: u16) -> Result<(), Error> {
        let data = self.place.dir.join("data");
        let (log, log_end) = open_log(&self.place.dir)?;
        let mut command = server_command(&self.place, &self.binaries.program("postgres"));
        command.arg("-D").arg(&data);
        let sockets = self.place.socket_dir()?;
        remove_sockets(&sockets)?;
        let own = [
            ("port", port.to_string()),
            ("unix_socket_directories", sockets.display().to_string()),
        ];
        for (name, value) in
            SETTINGS.map(|(name, value)| (name, value.to_owned())).iter().chain(&own)
        {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let errors = log.try_clone().map_err(at(&data))?;
        let mut child = command
            .current_dir(&data)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C in our terminal is for us; we stop the server when its users have stopped.
            .process_group(0)
            .spawn()
            .map_err(at(&self.binaries.program("postgres")))?;
        let mut ended = false;
        let ready = wait_until(START_LIMIT, || {
            ended = !matches!(child.try_wait(), Ok(None));
            ended
                || PidFile::read(&data).is_some_and(|file| file.ready && is_child(&child, file.pid))
        });
        if ended || !ready {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Failed {
                program: "postgres".to_owned(),
                said: since(&self.place.dir, log_end),
            });
        }
        self.pid = i32::try_from(child.id()).expect("a process id fits an i32");
        (self.port, self.child) = (port, Some(child));
        Ok(())
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        let pid = std::mem::take(&mut self.pid);
        let data = self.place.dir.join("data");
        match self.child.take() {
            Some(mut child) => shut_down(pid, || matches!(child.try_wait(), Ok(None)))?,
            None if pid != 0 => shut_down(pid, || serves(pid, &data))?,
            None => return Ok(()),
        }
        // Outside our directory, so that nothing is left where nobody looks.
        let sockets = self.place.socket_dir()?;
        fs::remove_dir(&sockets).map_err(at(&sockets))
    }
}

impl Drop for Cluster {
    /// As good as it goes: there is nobody to tell.
    fn drop(&mut self) {
        let _ = self.shut_down();
    }
}

/// Fast first; immediately when that takes too long, which the next start recovers from.
fn shut_down(pid: i32, mut runs: impl FnMut() -> bool) -> Result<(), Error> {
    for (how, limit) in [(Signal::INT, STOP_LIMIT), (Signal::QUIT, ORPHANS_LIMIT)] {
        signal(pid, how);
        if wait_until(limit, || !runs()) {
            return Ok(());
        }
    }
    let said = format!("process {pid} does not stop");
    Err(Error::Failed { program: "postgres".to_owned(), said })
}

/// Makes the cluster beside its place and moves it there when it is complete, so that a start
/// that was interrupted leaves nothing that looks like a cluster.
fn initialise(place: &Place, binaries: &Binaries, password: &str) -> Result<(), Error> {
    let unfinished = place.dir.join("data.unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    fs::create_dir(&unfinished).map_err(at(&unfinished))?;
    place.give_to_server(&unfinished)?;
    let password_file = place.dir.join("password.initdb");
    write_private(&password_file, password)?;
    place.give_to_server(&password_file)?;
    let output = server_command(place, &binaries.program("initdb"))
        .arg("-D")
        .arg(&unfinished)
        .args(["--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=scram-sha-256"])
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--pwfile={}", password_file.display()))
        .current_dir(&unfinished)
        .stdin(Stdio::null())
        .output()
        .map_err(at(&binaries.program("initdb")))?;
    fs::remove_file(&password_file).map_err(at(&password_file))?;
    if !output.status.success() {
        let said = last_lines(&String::from_utf8_lossy(&output.stderr));
        return Err(Error::Failed { program: "initdb".to_owned(), said });
    }
    let data = place.dir.join("data");
    fs::rename(&unfinished, &data).map_err(at(&data))
}

/// The programs of the version that the cluster was made by: no other can run it.
fn binaries_for(dir: &Path, fetched: &Path, made_by: &str) -> Result<Binaries, Error> {
    let binaries = match made_by.parse() {
        Ok(major) => Binaries::find_version(fetched, major)?,
        Err(_) => Binaries::find(fetched)?,
    };
    if made_by == binaries.major().to_string() {
        return Ok(binaries);
    }
    Err(Error::OtherVersion {
        dir: dir.to_owned(),
        made_by: made_by.to_owned(),
        found: binaries.major(),
    })
}

/// A program of the server, run as the server's user and with nothing of our environment that
/// could redirect it.
fn server_command(place: &Place, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(user) = place.user {
        // With these the standard library also drops root's supplementary groups.
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// The server that runs on this data, once it is ready, with its port; removes what one that
/// died has left.
fn running(data: &Path) -> Result<Option<(i32, u16)>, Error> {
    let Some(file) = PidFile::read(data) else { return Ok(None) };
    if serves(file.pid, data) {
        let mut port = None;
        wait_until(START_LIMIT, || {
            let now = PidFile::read(data).filter(|now| now.ready);
            port = now.and_then(|now| now.port);
            port.is_some() || !serves(file.pid, data)
        });
        if let Some(port) = port {
            return Ok(Some((file.pid, port)));
        }
    }
    // PostgreSQL would refuse to start when the process id was given to another process of its
    // user. While a child of the dead server still lives the file must stay.
    if !wait_until(ORPHANS_LIMIT, || !any_serves(data)) {
        let said = format!("processes of a dead server still use {}", data.display());
        return Err(Error::Failed { program: "postgres".to_owned(), said });
    }
    let path = data.join("postmaster.pid");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(error)),
        Ok(()) | Err(_) => Ok(None),
    }
}

fn is_child(child: &Child, pid: i32) -> bool {
    i32::try_from(child.id()) == Ok(pid)
}

/// A name as SQL takes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
