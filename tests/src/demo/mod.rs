//! The demonstration: from an agency's payment to a week of admitted, charged ads, on recorded
//! traffic, against both services as processes on an accelerated clock.
//!
//! Everything goes over gRPC. `scenario` has the figures; `story` (with `funds`, `credit`, `papers`, and
//! the calls in `office`, `clerk` and `marketing`) does what people do, `bank` writes what banks write,
//! `mailbox` reads the mail; `replay` (with `agenda`, `calls` and `fleet`) is the ad servers' traffic; `book` is
//! the driver's own record, `watch` and `ceilings` add the limits to it, and `checks` holds it
//! against what the services say; `table`, `curve` and `summary` tell.
//!
//! Deliberately not here: any look into the services' databases.

mod agenda;
mod bank;
mod book;
mod calls;
mod ceilings;
mod checks;
mod clerk;
mod credit;
mod curve;
mod events;
mod fleet;
mod funds;
mod mailbox;
mod marketing;
mod metrics;
mod office;
mod papers;
mod record;
mod replay;
mod scenario;
mod story;
mod summary;
mod table;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use adspend_common::{
    proto::adspend::pacing::v1::GetPacingStateResponse,
    time::{Clock, Day},
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use self::{
    book::Who,
    checks::Holds,
    events::Event,
    fleet::Fleet,
    office::Office,
    record::Record,
    scenario::Act,
    story::{Seen, Story},
    summary::Findings,
};
use crate::{
    processes::{Failure, Service, free_address},
    smtp::Sink,
    stack::{Plan, Stack},
};

pub use self::{
    credit::Deferred,
    funds::{Statement, TopUps},
    papers::Paper,
    summary::Summary,
};

/// Which of the replicas is killed.
const VICTIM: usize = 1;
/// Processes start while the clock still stands, which takes so long on a busy machine.
const START_UP: Duration = Duration::from_secs(5);
/// The set-up has so long before the first opportunity.
const SET_UP: Duration = Duration::from_secs(4);
/// How fast the clock runs after the traffic, when billing alone lives on until the deferred invoice is
/// overdue and repaid: a day in less than a second, the fastest that there is.
const AFTERWARDS: u32 = 100_000;
/// billing starts again while the faster clock still stands.
const CHANGE_OVER: Duration = Duration::from_millis(1_500);

/// How a run is done.
#[derive(Debug, Clone)]
pub struct Options {
    /// billing's database, empty.
    pub billing_url: String,
    /// pacing's database, empty.
    pub pacing_url: String,
    /// Where the logs and the summary go.
    pub folder: PathBuf,
    /// The first Moscow day that is replayed.
    pub first: Day,
    /// The last one.
    pub last: Day,
    /// Simulated seconds of a real one.
    pub speed: u32,
    /// Replicas of pacing.
    pub replicas: usize,
}

impl Options {
    /// The whole recorded week, a day in about seventeen seconds.
    pub fn week(billing_url: String, pacing_url: String, folder: PathBuf) -> Self {
        let day = |month, day| Day::from_ymd(2019, month, day).expect("days of the data");
        let (first, last) = (day(11, 24), day(12, 1));
        Self { billing_url, pacing_url, folder, first, last, speed: 5_000, replicas: 3 }
    }

    /// One day of it, the one on which a budget changes and a replica is killed.
    pub fn wednesday(billing_url: String, pacing_url: String, folder: PathBuf) -> Self {
        let day = Day::from_ymd(2019, 11, 27).expect("a day of the data");
        Self { first: day, last: day, speed: 8_000, ..Self::week(billing_url, pacing_url, folder) }
    }

    /// Simulated time in which so much real time passes.
    fn simulated(&self, real: Duration) -> TimeDelta {
        TimeDelta::from_std(real * self.speed).unwrap_or(TimeDelta::MAX)
    }

    /// A setting that is counted by the services' clock, so that it lasts so long in real time.
    fn lasting(&self, real: Duration) -> String {
        format!("{}s", (real * self.speed).as_secs())
    }

    fn plan(&self, clock: &str, metrics: &str, mail: &Sink) -> Plan {
        let real = Duration::from_millis;
        let mut plan = Plan::new("demo").replicas(1, self.replicas);
        plan.logs = self.folder.join("log");
        plan.clock = Some(clock.to_owned());
        let own = format!("[{{ account = \"{}\", bik = \"{}\" }}]", bank::OWN_ACCOUNT, bank::BIK);
        for (key, value) in [
            ("listen.metrics", metrics.to_owned()),
            ("mail.host", mail.at.ip().to_string()),
            ("mail.port", mail.at.port().to_string()),
            ("mail.tls", "none".to_owned()),
            ("mail.from", "Рекламный кабинет <noreply@adspend.example>".to_owned()),
            ("statements.own_accounts", own),
        ] {
            plan = plan.set(Service::Billing, key, &value);
        }
        for (key, value) in [
            // Long enough for a report to come while the machine is busy, short enough for what is
            // not reported to come back within the day.
            ("leases.admission_lifetime", self.lasting(real(1_800))),
            ("leases.grace", self.lasting(real(700))),
            ("leases.slice_ttl", self.lasting(real(1_200))),
            ("leases.hold_ttl", self.lasting(real(10_000))),
            ("leases.hold_idle", self.lasting(real(5_000))),
            ("leases.idle_after", self.lasting(real(400))),
            // Real time: a second would be more than an hour and a half of the simulated one.
            ("leases.exchange_interval", "200ms".to_owned()),
            ("leases.sweep_interval", "200ms".to_owned()),
            ("leases.recheck", "100ms".to_owned()),
            ("leases.slice_spend", "1s".to_owned()),
            ("leases.hold_horizon", "5s".to_owned()),
            ("leases.hold_interval", "1s".to_owned()),
            ("leases.hold_backoff", "500ms".to_owned()),
            ("accounts.facts_ttl", "500ms".to_owned()),
            ("accounts.refresh_after", "500ms".to_owned()),
            ("accounts.refresh_interval", "250ms".to_owned()),
            ("charges.settle_every", "1s".to_owned()),
            // Larger groups: three replicas share two cores with everything else.
            ("charges.writers", "1".to_owned()),
            ("charges.linger", "5ms".to_owned()),
        ] {
            plan = plan.set(Service::Pacing, key, &value);
        }
        plan
    }
}

/// Does a run to its end: starts the services, tells the story, replays the traffic, checks, stops.
/// The processes end with it whatever happens; dropping the future kills them.
pub async fn run(options: &Options, data: &Path) -> Result<Summary, Failure> {
    let began = Instant::now();
    let events = events::read(data, options.first, options.last)?;
    let first_at = events.first().map(|event| event.at);
    let first_at = first_at.ok_or_else(|| "no events on these days".to_owned())?;
    println!(
        "{} recorded impressions from {} to {}, a day in {:.1} s",
        events.len(),
        options.first,
        options.last,
        86_400.0 / f64::from(options.speed)
    );
    let start = first_at - options.simulated(SET_UP);
    let (text, clock) = clock(start, options.speed, START_UP)?;
    let metrics = free_address()?;
    let sink = Sink::plain().await.map_err(|error| format!("the SMTP server: {error}"))?;
    let plan = options.plan(&text, &metrics.to_string(), &sink);
    let mut stack = Stack::start(&plan, &options.billing_url, &options.pacing_url).await?;
    let (seconds, replicas) = (began.elapsed().as_secs_f64(), options.replicas);
    println!("billing and {replicas} replicas of pacing answer after {seconds:.1} s");
    let record = Record::default();
    let (office, fleet) = clients(&stack)?;
    let seen = Seen::default();
    let mut story = Story { clock: &clock, office: &office, fleet: &fleet, sink: &sink, seen };
    story.set_up().await?;
    traffic(options, &mut story, &mut stack, &record, &events).await?;

    by_the_rules(&record, &story.seen);
    // Before we ask that service ourselves, and before it starts again.
    let billing_calls = metrics::calls(metrics, "adspend.billing.v1.HoldService").await?;
    let days = record.book().days();
    let told = checks::told(&fleet, &days).await?;
    for (who, day, state) in &told {
        let target = state.reading.as_ref().and_then(|reading| reading.target_micros);
        record.book().target(*who, *day, target);
    }
    println!("\n{}", table::table(&record.book()));
    let courses = curve::ask(&fleet, options.first, options.last).await?;
    let plot = options.folder.join("week.svg");
    curve::plot(&courses, &record.book(), &days, &plot)?;
    println!("the curve of the week is in {}", plot.display());
    let clock = afterwards(&mut stack, &clock).await?;
    story.clock = &clock;
    story.month_end(&options.folder.join("documents")).await?;
    let seen = story.seen;
    let mut outcome = Outcome::ask(&office, &told, &record, &seen).await?;
    outcome.billing_calls = billing_calls;
    let audit = stop(stack).await?;
    println!("adspend-billing audit: {}", audit.as_deref().unwrap_or("ok"));
    if let (true, Some(differs)) = (outcome.ledger_audit == "ok", audit) {
        outcome.ledger_audit = differs;
    }
    let book = record.book();
    for passed in summary::passed_limits(&book) {
        println!("a limit was passed: {passed}");
    }
    let summary = Summary::new(Findings {
        book: &book,
        counters: &record.counters,
        seen: &seen,
        outcome,
        letters: sink.taken().len(),
        distance_from_curve: curve::distance(&courses),
        replicas,
        clock_speed: options.speed,
        wall_seconds: began.elapsed().as_secs_f64(),
    });
    summary.write(&options.folder.join("summary.json"))?;
    Ok(summary)
}

/// The clock of all processes: it stands for `standing` while they start.
fn clock(start: DateTime<Utc>, speed: u32, standing: Duration) -> Result<(String, Clock), Failure> {
    let begins = Clock::system().now() + standing;
    let text = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let text = format!("simulated:{},{speed},{}", text(start), text(begins));
    let clock = Clock::parse(&text).map_err(|error| error.to_string())?;
    Ok((text, clock))
}

/// The traffic is over: pacing stops, and billing goes on where it was, on a faster clock.
async fn afterwards(stack: &mut Stack, before: &Clock) -> Result<Clock, Failure> {
    for replica in &mut stack.pacing {
        replica.stop().await?;
    }
    for billing in &mut stack.billing {
        billing.stop().await?;
    }
    let (text, clock) = clock(before.now(), AFTERWARDS, CHANGE_OVER)?;
    for billing in &mut stack.billing {
        billing.set("clock", &text);
        billing.start().await?;
    }
    println!(
        "pacing has stopped; billing lives on, a day in {:.2} s",
        86_400.0 / f64::from(AFTERWARDS)
    );
    Ok(clock)
}

fn clients(stack: &Stack) -> Result<(Office, Arc<Fleet>), Failure> {
    let billing = stack.billing.first().ok_or_else(|| "no billing".to_owned())?;
    Ok((Office::new(billing.channel()?), Arc::new(Fleet::new(&stack.pacing)?)))
}

/// The week: traffic, people, and the kill, until everything is acknowledged and settled.
async fn traffic(
    options: &Options,
    story: &mut Story<'_>,
    stack: &mut Stack,
    record: &Record,
    events: &[Event],
) -> Result<(), Failure> {
    let acts: Vec<(DateTime<Utc>, Act)> = scenario::acts(options.first, options.last);
    let (clock, fleet) = (story.clock, story.fleet);
    let victim = stack.pacing.get_mut(VICTIM).ok_or_else(|| "no replica to kill".to_owned())?;
    let replay = replay::replay(clock, options.speed, fleet, record, events);
    let week = story.week(&acts, victim);
    let done = tokio::select! {
        done = async { tokio::try_join!(replay, week) } => done,
        () = watch::watch(clock, fleet, record, options.first.start()) => Ok(((), ())),
    };
    done.map(drop)?;
    checks::settled(fleet).await
}

/// Writes the ceilings that the rules give into the book.
fn by_the_rules(record: &Record, seen: &Seen) {
    let mut book = record.book();
    let keys: Vec<_> = book.cells().map(|(who, day, _)| (who, day)).collect();
    for (who, day) in keys {
        let ceiling = ceilings::highest(&book, &seen.changes, who, day);
        book.rule(who, day, ceiling);
    }
}

/// What the services say at the end.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    booked: BTreeMap<String, i64>,
    holds: Holds,
    differences: Vec<String>,
    missing_micros: i64,
    ledger_audit: String,
    billing_calls: u64,
}

impl Outcome {
    async fn ask(
        office: &Office,
        told: &[(Who, Day, GetPacingStateResponse)],
        record: &Record,
        seen: &Seen,
    ) -> Result<Self, Failure> {
        let booked = checks::booked(office).await?;
        let holds = checks::holds(office).await?;
        let charged = record.book().total().charged_micros;
        let mut differences = checks::pacing_differs(&record.book(), told);
        differences.extend(checks::ceilings_differ(&record.book()));
        differences.extend(checks::billing_differs(&record.book(), &booked));
        differences.extend(holds.differ(charged));
        let missing_micros = checks::missing_micros(office, seen.paid_in, charged).await?;
        let ledger_audit = checks::verify_ledger(office).await?;
        Ok(Self { booked, holds, differences, missing_micros, ledger_audit, billing_calls: 0 })
    }
}

/// Stops what still runs and runs the audit of the ledger as it then stands: nothing, or what
/// differs.
async fn stop(mut stack: Stack) -> Result<Option<String>, Failure> {
    let mut audit = None;
    for billing in &mut stack.billing {
        audit = billing.run("audit").await.err().map(|failure| failure.to_string());
        billing.stop().await?;
    }
    Ok(audit)
}
