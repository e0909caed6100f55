//! Admission: throughput beside an empty handler, latency by a schedule, calls to billing.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adspend_common::proto::adspend::pacing::v1::{
    AdmitRequest, AdmitResponse, StreamAdmitRequest,
    admission_service_client::AdmissionServiceClient, admit_response,
};
use prost::Message as _;
use tokio::process::{Child, Command};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    MEASURE, Outcome, WARM, echo,
    figures::{Bound, Figure},
    load::{Done, Draw, Latencies, as_ad_server, connect, open_loop, together},
    seed, settle,
    world::World,
};
use crate::processes::free_address;

const CONNECTIONS: usize = 4;
/// Unary callers, each with one call in progress.
const CALLERS: usize = 64;
/// Opportunities in a message of a stream, and messages under way on it.
pub(crate) const BATCH: usize = 100;
const BATCHES_UNDER_WAY: usize = 4;
/// One kopeck: money is not what is measured.
pub(crate) const PRICE_MICROS: i64 = 10_000;

const OPEN_LOOP_RATE: u32 = 5_000;
/// Four tenths of a second of the schedule: a server further behind does not keep up.
const OPEN_LOOP_MOST_OPEN: usize = 2_000;
/// How long the steady state is counted.
const STEADY: Duration = Duration::from_secs(15);
/// How long slices may take to come when traffic begins.
const FIRST_ADMISSION_LIMIT: Duration = Duration::from_secs(20);

/// Where opportunities go, and what came back.
#[derive(Debug, Clone)]
struct Target {
    channels: Vec<Channel>,
    campaigns: Arc<[String]>,
    denied: Arc<AtomicU64>,
}

impl Target {
    async fn new(uri: &str) -> Outcome<Self> {
        Ok(Self {
            channels: connect(uri, CONNECTIONS).await?,
            campaigns: seed::campaigns().into(),
            denied: Arc::default(),
        })
    }

    fn request(&self, draw: &mut Draw) -> AdmitRequest {
        AdmitRequest {
            opportunity_id: format!("{:016x}{:016x}", draw.next(), draw.next()),
            campaign: self.campaigns[draw.below(self.campaigns.len())].clone(),
            max_price_micros: PRICE_MICROS,
            charge_probability_ppm: None,
        }
    }

    /// One for an admission. The same for an answer of the reference, which is always one.
    fn count(&self, answer: &AdmitResponse) -> u64 {
        let admitted = matches!(answer.decision, Some(admit_response::Decision::Admitted(_)));
        if !admitted {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        u64::from(admitted)
    }

    async fn unary(&self, seed: usize, during: Duration) -> Outcome<Done> {
        let until = Instant::now() + during;
        let channels = self.channels.iter().cycle().cloned();
        let callers = (0..CALLERS).zip(channels).map(|(caller, channel)| {
            let target = self.clone();
            let mut draw = Draw::new((seed * CALLERS + caller) as u64);
            let mut client = AdmissionServiceClient::new(channel);
            async move {
                let mut count = 0;
                while Instant::now() < until {
                    let answer = client.admit(as_ad_server(target.request(&mut draw))).await?;
                    count += target.count(answer.get_ref());
                }
                Ok(count)
            }
        });
        together(callers).await
    }

    async fn stream(&self, seed: usize, during: Duration) -> Outcome<Done> {
        let until = Instant::now() + during;
        let callers = self.channels.iter().enumerate().map(|(caller, channel)| {
            let target = self.clone();
            let mut draw = Draw::new((seed * CONNECTIONS + caller + 1_000_000) as u64);
            let mut client = AdmissionServiceClient::new(channel.clone());
            async move {
                let (batches, sent) = tokio::sync::mpsc::channel(BATCHES_UNDER_WAY);
                let mut sequence = 0;
                let mut batch = move || {
                    sequence += 1;
                    let requests = (0..BATCH).map(|_| target.request(&mut draw)).collect();
                    StreamAdmitRequest { sequence, requests }
                };
                for _ in 0..BATCHES_UNDER_WAY {
                    batches.send(batch()).await?;
                }
                let answers = client.stream_admit(as_ad_server(ReceiverStream::new(sent))).await?;
                let mut answers = answers.into_inner();
                let mut batches = Some(batches);
                let mut answered = 0_u64;
                while let Some(answer) = answers.message().await? {
                    answered += answer.responses.len() as u64;
                    if Instant::now() >= until {
                        batches = None;
                    }
                    if let Some(batches) = &batches {
                        batches.send(batch()).await?;
                    }
                }
                Ok(answered)
            }
        });
        together(callers).await
    }
}

/// The reference's process; killed when dropped.
struct Reference {
    _process: Child,
    target: Target,
}

impl Reference {
    async fn start(answer: &AdmitResponse) -> Outcome<Self> {
        let address = free_address()?;
        let process = Command::new(std::env::current_exe()?)
            .args(["echo", "--listen", &address.to_string()])
            .args(["--answer", &echo::to_hex(&answer.encode_to_vec())])
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let deadline = Instant::now() + Duration::from_secs(5);
        let uri = format!("http://{address}");
        loop {
            match Target::new(&uri).await {
                Ok(target) => return Ok(Self { _process: process, target }),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// All figures of admission.
pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let ours = Target::new(&world.pacing_uri()?).await?;
    let answer = first_admission(&ours).await?;
    let reference = Reference::start(&answer).await?;
    let mut unary = Figure::new("admit_unary_ratio", "calls/s", Bound::AtLeast(0.85));
    let mut stream = Figure::new("admit_stream_ratio", "decisions/s", Bound::AtLeast(0.5));
    for target in [&ours, &reference.target] {
        target.unary(usize::MAX >> 16, WARM).await?;
        target.stream(usize::MAX >> 16, WARM).await?;
    }
    ours.denied.store(0, Ordering::Relaxed);
    let mut asked = 0;
    for round in 0..world.rounds {
        let (mine, theirs) =
            both(round, || ours.unary(round, MEASURE), || reference.target.unary(round, MEASURE))
                .await?;
        unary.beside(mine.per_second(), theirs.per_second());
        asked += mine.count;
    }
    let denied = ours.denied.load(Ordering::Relaxed) as f64;
    let denied = denied / (denied + asked as f64);
    for round in 0..world.rounds {
        let (mine, theirs) =
            both(round, || ours.stream(round, MEASURE), || reference.target.stream(round, MEASURE))
                .await?;
        stream.beside(mine.per_second(), theirs.per_second());
    }
    let mut figures =
        vec![unary, stream, Figure::of("admit_denied_share", "", Bound::AtMost(0.001), denied)];
    figures.extend(latencies(&ours, world.rounds).await?);
    figures.push(steady_state(world, &ours).await?);
    Ok(figures)
}

/// Runs both sides, in turns who begins.
async fn both<A, B>(
    round: usize,
    ours: impl FnOnce() -> A,
    reference: impl FnOnce() -> B,
) -> Outcome<(Done, Done)>
where
    A: Future<Output = Outcome<Done>>,
    B: Future<Output = Outcome<Done>>,
{
    if round.is_multiple_of(2) {
        let ours = ours().await?;
        Ok((ours, reference().await?))
    } else {
        let reference = reference().await?;
        Ok((ours().await?, reference))
    }
}

/// Asks until an opportunity is admitted: slices are cut when traffic comes.
async fn first_admission(target: &Target) -> Outcome<AdmitResponse> {
    let mut client = AdmissionServiceClient::new(target.channels[0].clone());
    let mut draw = Draw::new(1);
    let deadline = Instant::now() + FIRST_ADMISSION_LIMIT;
    loop {
        let answer = client.admit(as_ad_server(target.request(&mut draw))).await?.into_inner();
        if target.count(&answer) == 1 {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(format!("nothing is admitted: {answer:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn scheduled(target: &Target, seed: u64) -> impl Fn(u64) -> Answer + Send + 'static {
    let target = target.clone();
    move |number| {
        let channel = target.channels[number as usize % target.channels.len()].clone();
        let request = as_ad_server(target.request(&mut Draw::new(seed.wrapping_add(number))));
        Box::pin(async move {
            AdmissionServiceClient::new(channel).admit(request).await.map(|it| it.into_inner()).ok()
        })
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Option<AdmitResponse>> + Send>>;

async fn latencies(target: &Target, rounds: usize) -> Outcome<Vec<Figure>> {
    let names = ["admit_p50_us", "admit_p99_us", "admit_p999_us"];
    let mut figures = names.map(|name| Figure::new(name, "us at 5000/s, open loop", Bound::None));
    let mut unsent = Figure::new("admit_open_loop_unsent", "calls", Bound::None);
    for round in 0..rounds {
        let call = scheduled(target, (round as u64) << 32);
        let call = move |number| {
            let answer = call(number);
            async move { answer.await.is_some() }
        };
        let latencies: Latencies =
            open_loop(OPEN_LOOP_RATE, MEASURE, OPEN_LOOP_MOST_OPEN, call).await?;
        for (figure, quantile) in figures.iter_mut().zip([0.5, 0.99, 0.999]) {
            figure.round(latencies.micros_at(quantile));
        }
        unsent.round((latencies.unsent + latencies.failed) as f64);
    }
    Ok(figures.into_iter().chain([unsent]).collect())
}

/// Five thousand opportunities a second, every tenth charged: how often pacing asks billing.
async fn steady_state(world: &World, target: &Target) -> Outcome<Figure> {
    let (charges, waiting) = tokio::sync::mpsc::unbounded_channel();
    let settling = tokio::spawn(settle::settle_as_they_come(target.channels[0].clone(), waiting));
    let run = |seed: u64, during| {
        let (call, charges) = (scheduled(target, seed), charges.clone());
        let call = move |number: u64| {
            let (answer, charges) = (call(number), charges.clone());
            async move {
                let answer = answer.await;
                if let (Some(admitted), true) = (answer.as_ref(), number.is_multiple_of(10)) {
                    // The other end lives until the last sender is gone.
                    let _ = charges.send(settle::charge(admitted, "steady", seed + number));
                }
                answer.is_some()
            }
        };
        open_loop(OPEN_LOOP_RATE, during, OPEN_LOOP_MOST_OPEN, call)
    };
    run(1 << 40, Duration::from_secs(5)).await?;
    let before = world.billing_calls().await?;
    let admissions = run(2 << 40, STEADY).await?.histogram.len();
    let calls = world.billing_calls().await?.saturating_sub(before);
    drop(charges);
    settling.await??;
    let per_thousand = calls as f64 * 1_000.0 / admissions as f64;
    let (name, unit) = ("billing_calls_per_1000_admissions", "calls");
    Ok(Figure::of(name, unit, Bound::AtMost(1.0), per_thousand))
}
