//! The services as real processes: started with a configuration, watched over their health service,
//! stopped or killed. For the development runner, the demonstration and the chaos tests.
//!
//! Every process writes to a log file of its own, is a process group of its own (Ctrl-C in a
//! terminal reaches only the runner, which stops its children in order), and is killed when its
//! handle is dropped. Waiting is polling with a limit; a limit that passes shows the end of the log.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// How long a service may take from its start to its first healthy answer, on a busy machine.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a drain may take before the process is killed.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(25);
const LOG_TAIL_LINES: usize = 15;
/// The requisites of an example: well formed, and nobody's.
const EXECUTOR: &str = r#"{ name = "ООО «Адспенд»", inn = "7736207543", kpp = "770401001", address = "119021, г. Москва, ул. Льва Толстого, д. 16", bank = "ПАО СБЕРБАНК г. Москва", bik = "044525225", correspondent_account = "30101810400000000225", account = "40702810138250123017", director = "Соколова М. А.", accountant = "Беляев К. Д.", contract = "оферты на размещение рекламы от 01.01.2025" }"#;

/// Which of the two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `adspend-billing`.
    Billing,
    /// `adspend-pacing`.
    Pacing,
}

impl Service {
    /// The name of the program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Billing => "adspend-billing",
            Self::Pacing => "adspend-pacing",
        }
    }

    /// The name of an environment variable that sets `key` (`database.url`) of this service.
    pub fn variable(self, key: &str) -> String {
        let prefix = match self {
            Self::Billing => "ADSPEND_BILLING",
            Self::Pacing => "ADSPEND_PACING",
        };
        format!("{prefix}__{}", key.replace('.', "__").to_uppercase())
    }
}

/// What went wrong with a process.
#[derive(Debug)]
pub struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// The path of a program built beside the one that asks (`target/debug`, `target/release`), so that
/// everything in one run is of one profile.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| format!("no path of our own: {error}"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    // Tests lie one folder deeper than programs.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run `cargo build --workspace --bins`", path.display()).into())
    }
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .map_err(|error| format!("no free port on loopback: {error}"))?;
    listener.local_addr().map_err(|error| format!("a port without an address: {error}").into())
}

/// How a service is to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    service: Service,
    name: String,
    log: PathBuf,
    grpc: SocketAddr,
    settings: Vec<(OsString, OsString)>,
    arguments: Vec<OsString>,
}

impl Launch {
    /// A service that answers on `grpc` and writes to `folder/name.log`. Its metrics take any free
    /// port and its drain gives no notice, because nobody balances calls over it; `set` overrides.
    pub fn new(service: Service, name: &str, grpc: SocketAddr, folder: &Path) -> Self {
        let launch = Self {
            service,
            name: name.to_owned(),
            log: folder.join(format!("{name}.log")),
            grpc,
            settings: Vec::new(),
            arguments: Vec::new(),
        };
        launch
            .set("listen.grpc", grpc.to_string())
            .set("listen.metrics", "127.0.0.1:0")
            .set("drain.notice", "0s")
    }

    /// Sets a key of the service's configuration, such as `database.url`.
    #[must_use]
    pub fn set(self, key: &str, value: impl Into<OsString>) -> Self {
        let name = self.service.variable(key);
        self.environment(&name, value)
    }

    /// Gives billing the requisites of an example, so that it makes documents.
    #[must_use]
    pub fn with_executor(self) -> Self {
        self.set("documents.executor", EXECUTOR)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds an argument that every subcommand gets.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    fn command(&self, subcommand: &str) -> Result<Command, Failure> {
        let mut command = Command::new(program(self.service.program())?);
        command
            .arg(subcommand)
            .args(&self.arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Runs a subcommand to its end (`migrate`, `audit`, `config`) and gives what it printed.
    pub async fn run(&self, subcommand: &str) -> Result<String, Failure> {
        let output = self.command(subcommand)?.output().await;
        let output = output.map_err(|error| format!("{} did not start: {error}", self.name))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint = last_lines(&format!("{printed}{complaint}"));
        Err(format!("`{} {subcommand}`: {}\n{complaint}", self.name, output.status).into())
    }

    /// Starts `serve`; the log of an earlier start is kept and continued.
    pub fn serve(&self) -> Result<Process, Failure> {
        let log = (|| {
            fs::create_dir_all(self.log.parent().unwrap_or(Path::new(".")))?;
            let log = File::options().create(true).append(true).open(&self.log)?;
            Ok::<_, io::Error>((log.try_clone()?, log))
        })();
        let (out, err) =
            log.map_err(|error| format!("cannot write {}: {error}", self.log.display()))?;
        let child = self.command("serve")?.stdout(out).stderr(err).spawn();
        let child = child.map_err(|error| format!("{} did not start: {error}", self.name))?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let pid = pid.ok_or_else(|| format!("{} ended at once", self.name))?;
        Ok(Process { name: self.name.clone(), log: self.log.clone(), grpc: self.grpc, pid, child })
    }

    /// Starts `serve` and waits until it is ready for calls.
    pub async fn serve_until_ready(&self) -> Result<Process, Failure> {
        let mut process = self.serve()?;
        process.wait_until_ready(START_LIMIT).await?;
        Ok(process)
    }
}

/// A running service. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    grpc: SocketAddr,
    pid: Pid,
    child: Child,
}

impl Process {
    /// The name given at the launch.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers gRPC.
    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// The same as a URI for a client.
    pub fn uri(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The log file.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until the service says on `grpc.health.v1` that it is ready for calls.
    pub async fn wait_until_ready(&mut self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let endpoint = Endpoint::from_shared(self.uri())
            .map_err(|error| format!("{}: {error}", self.grpc))?
            .connect_timeout(Duration::from_secs(1));
        loop {
            let why = match timeout(Duration::from_secs(2), readiness(&endpoint)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => "no answer in two seconds".to_owned(),
            };
            if let Some(status) = self.try_wait()? {
                let tail = self.log_tail();
                return Err(
                    format!("{} ended before it was ready: {status}\n{tail}", self.name).into()
                );
            }
            if Instant::now() >= deadline {
                let tail = self.log_tail();
                return Err(
                    format!("{} was not ready in {limit:?} ({why})\n{tail}", self.name).into()
                );
            }
            sleep(POLL).await;
        }
    }

    /// Whether it has ended, and how.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child
            .try_wait()
            .map_err(|error| format!("{} cannot be watched: {error}", self.name).into())
    }

    /// Waits for its end without asking for it.
    pub async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let status = self.child.wait().await;
        status.map_err(|error| format!("{} cannot be watched: {error}", self.name).into())
    }

    /// Sends a signal; a process that has ended already is left in peace.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // Not reaped yet, so the id still belongs to this child.
        kill_process(self.pid, signal)
            .map_err(|error| format!("no signal to {}: {error}", self.name).into())
    }

    /// SIGTERM, the wait for the drain, and SIGKILL for one that does not stop in time, which is
    /// an error.
    pub async fn stop(mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        self.signal(Signal::TERM)?;
        if let Ok(status) = timeout(limit, self.child.wait()).await {
            return status.map_err(|error| format!("{}: {error}", self.name).into());
        }
        let tail = self.log_tail();
        let name = self.name.clone();
        self.kill().await?;
        Err(format!("{name} did not stop in {limit:?} and was killed\n{tail}").into())
    }

    /// SIGKILL, and the wait until the system has taken it.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.signal(Signal::KILL)?;
        self.wait().await.map(drop)
    }

    /// SIGSTOP: a process that stands still but keeps its connections.
    pub fn pause(&mut self) -> Result<(), Failure> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> Result<(), Failure> {
        self.signal(Signal::CONT)
    }

    /// The end of its log, for people.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        format!("the end of {}:\n{}", self.log.display(), last_lines(&text))
    }
}

async fn readiness(endpoint: &Endpoint) -> Result<(), String> {
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let request = HealthCheckRequest { service: "readiness".to_owned() };
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer.map_err(|status| status.to_string())?.into_inner().status();
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::Unknown | ServingStatus::NotServing | ServingStatus::ServiceUnknown => {
            Err(status.as_str_name().to_owned())
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
