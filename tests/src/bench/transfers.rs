//! Transfers over gRPC beside pgbench: one by one from many callers and in batches, spread over a
//! thousand agencies and out of one. What they write to the WAL, and that they never deadlock.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use adspend_common::{
    proto::adspend::billing::v1::{
        BatchCreateTransfersRequest, CreateTransferRequest, CreateTransferResponse,
        batch_create_transfers_result::Outcome as Verdict,
        transfer_service_client::TransferServiceClient,
    },
    server::MAX_MESSAGE_BYTES,
};
use tokio_postgres::Client;
use tonic::transport::Channel;

use super::{
    MEASURE, Outcome, WARM,
    figures::{Bound, Figure},
    load::{Done, Draw, Zipf, connect, together},
    pgbench::Pgbench,
    seed,
    wire::closed_loops,
    world::{World, database},
};

const CONNECTIONS: usize = 4;
const CREATE_TRANSFER: &str = "/adspend.billing.v1.TransferService/CreateTransfer";
/// Concurrent callers of CreateTransfer, and the connections that they share.
const CALLERS: usize = 256;
const CALLERS_CONNECTIONS: usize = 2;
/// Transfers in a batch, and callers with a batch each: two for each of billing's posters.
const BATCH: usize = 1_000;
const BATCH_CALLERS: usize = 4;

/// Writers of the skewed load: replicas with two posters each, so that as many transactions of
/// different processes fight for the same rows.
const ZIPF_REPLICAS: usize = 8;
const ZIPF_CALLERS: usize = 16;
const ZIPF_BATCH: usize = 100;
const ZIPF_EXPONENT: f64 = 2.0;
const ZIPF_DURING: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    Random,
    Hot,
}

/// One side of the bench: where requests go, and a name for the run that request ids begin with.
#[derive(Debug, Clone)]
struct Target {
    address: SocketAddr,
    channels: Vec<Channel>,
    runs: Arc<AtomicU64>,
}

fn request(
    run: u64,
    caller: usize,
    number: u64,
    agency: usize,
    client: usize,
) -> CreateTransferRequest {
    CreateTransferRequest {
        source: format!("accounts/{}", seed::agency(agency)),
        destination: format!("accounts/{}", seed::client(agency, client)),
        amount: Some(seed::rub(0, 10_000_000)),
        request_id: format!("{run:x}-{caller:x}-{number:x}"),
    }
}

impl Target {
    fn agencies(spread: Spread) -> usize {
        match spread {
            Spread::Random => seed::AGENCIES,
            Spread::Hot => 1,
        }
    }

    async fn one_by_one(&self, spread: Spread, during: Duration) -> Outcome<Done> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + during;
        let agencies = Self::agencies(spread);
        let address = self.address;
        together((0..CALLERS_CONNECTIONS).map(|connection| async move {
            let mut draw = Draw::new(run << 16 | connection as u64);
            let callers = CALLERS / CALLERS_CONNECTIONS;
            let loops = move || {
                closed_loops::<_, CreateTransferResponse>(
                    address,
                    CREATE_TRANSFER,
                    callers,
                    until,
                    |caller, count| {
                        let (agency, to) = (draw.below(agencies), draw.below(seed::CLIENTS));
                        request(run, connection * callers + caller, count, agency, to)
                    },
                )
            };
            tokio::task::spawn_blocking(loops).await?
        }))
        .await
    }

    async fn batches(&self, spread: Spread, during: Duration) -> Outcome<Done> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let until = Instant::now() + during;
        let agencies = Self::agencies(spread);
        let channels = self.channels.iter().cycle().cloned();
        together((0..BATCH_CALLERS).zip(channels).map(|(caller, channel)| async move {
            let mut client =
                TransferServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let mut draw = Draw::new(run << 16 | caller as u64);
            let mut count = 0;
            while Instant::now() < until {
                let requests = (0..BATCH as u64).map(|at| {
                    let (agency, to) = (draw.below(agencies), draw.below(seed::CLIENTS));
                    request(run, caller, count + at, agency, to)
                });
                let requests = requests.collect();
                let batch = BatchCreateTransfersRequest { requests, atomic: false };
                for result in client.batch_create_transfers(batch).await?.into_inner().results {
                    match result.outcome {
                        Some(Verdict::Done(_)) => count += 1,
                        other => return Err(format!("a transfer was refused: {other:?}").into()),
                    }
                }
            }
            Ok(count)
        }))
        .await
    }
}

/// The four ratios and the WAL of each workload.
pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let pgbench = Pgbench::prepare(world).await?;
    let channels = connect(&world.billing_uri()?, CONNECTIONS).await?;
    let address = world.billing_address()?;
    let target = Target { address, channels, runs: Arc::default() };
    let database = database(&world.billing_url()).await?;
    database.batch_execute("CHECKPOINT").await?;
    let ratio = |name, least| Figure::new(name, "transfers/s", Bound::AtLeast(least));
    let wal = |name| Figure::new(name, "bytes", Bound::None);
    // In the order: one by one, in batches.
    let mut workloads = [
        (
            Spread::Random,
            [ratio("transfer_random_ratio", 2.5), ratio("transfer_batch_random_ratio", 4.0)],
            [wal("wal_bytes_random"), wal("wal_bytes_batch_random")],
        ),
        (
            Spread::Hot,
            [ratio("transfer_hot_ratio", 6.0), ratio("transfer_batch_hot_ratio", 12.0)],
            [wal("wal_bytes_hot"), wal("wal_bytes_batch_hot")],
        ),
    ];
    for (spread, _, _) in &workloads {
        pgbench.run(*spread == Spread::Hot, WARM).await?;
        target.one_by_one(*spread, WARM).await?;
        target.batches(*spread, WARM).await?;
    }
    for round in 0..world.rounds {
        for (spread, ratios, wals) in &mut workloads {
            let spread = *spread;
            let hot = spread == Spread::Hot;
            // The reference runs before, between or after the two that it stands beside.
            let mut reference = f64::NAN;
            let mut ours = Vec::new();
            for turn in 0..3 {
                if turn == round % 3 {
                    reference = pgbench.run(hot, MEASURE).await?;
                    continue;
                }
                let before = wal_position(&database).await?;
                let done = match ours.len() {
                    0 => target.one_by_one(spread, MEASURE).await?,
                    _ => target.batches(spread, MEASURE).await?,
                };
                let written = wal_position(&database).await? - before;
                ours.push((done.per_second(), written as f64 / done.count as f64));
            }
            for ((figure, wal), (rate, bytes)) in ratios.iter_mut().zip(wals).zip(ours) {
                figure.beside(rate, reference);
                wal.round(bytes);
            }
        }
    }
    let worst = workloads.iter().flat_map(|(_, _, wals)| wals).map(Figure::value);
    let worst = worst.fold(f64::NAN, f64::max);
    let bound = Bound::AtMost(1_200.0);
    let worst = Figure::of("wal_bytes_per_transfer", "bytes, worst workload", bound, worst);
    let figures =
        workloads.into_iter().flat_map(|(_, ratios, wals)| ratios.into_iter().chain(wals));
    Ok(figures.chain([worst]).collect())
}

async fn wal_position(database: &Client) -> Outcome<i64> {
    const POSITION: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    Ok(database.query_one(POSITION, &[]).await?.get(0))
}

/// Deadlocks while sixteen writers move money between the same few accounts, both ways.
pub(crate) async fn deadlocks(world: &mut World) -> Outcome<Vec<Figure>> {
    let database = database(&world.billing_url()).await?;
    let uris = world.only_billing(ZIPF_REPLICAS).await?;
    let before = deadlocks_so_far(&database).await?;
    let until = Instant::now() + ZIPF_DURING;
    let refused = Arc::new(AtomicU64::new(0));
    let (agencies, clients) =
        (Zipf::new(seed::AGENCIES, ZIPF_EXPONENT), Zipf::new(seed::CLIENTS, ZIPF_EXPONENT));
    let mut callers = Vec::new();
    for caller in 0..ZIPF_CALLERS {
        let channel = connect(&uris[caller % uris.len()], 1).await?.remove(0);
        let (agencies, clients) = (agencies.clone(), clients.clone());
        let refused = Arc::clone(&refused);
        callers.push(async move {
            let mut client = TransferServiceClient::new(channel);
            let mut draw = Draw::new(caller as u64);
            let mut count = 0;
            let mut sent = 0;
            while Instant::now() < until {
                let mut requests = Vec::with_capacity(ZIPF_BATCH);
                for _ in 0..ZIPF_BATCH {
                    let (agency, to) = (agencies.draw(&mut draw), clients.draw(&mut draw));
                    let mut request = request(u64::MAX, caller, sent, agency, to);
                    if draw.below(2) == 0 {
                        std::mem::swap(&mut request.source, &mut request.destination);
                    }
                    requests.push(request);
                    sent += 1;
                }
                let batch = BatchCreateTransfersRequest { requests, atomic: false };
                let answer = client.batch_create_transfers(batch).await?;
                for result in answer.into_inner().results {
                    match result.outcome {
                        Some(Verdict::Done(_)) => count += 1,
                        // A client that has nothing to give back yet.
                        Some(Verdict::Error(error)) if error.reason == "INSUFFICIENT_FUNDS" => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        other => return Err(format!("a transfer failed: {other:?}").into()),
                    }
                }
            }
            Ok(count)
        });
    }
    let done = together(callers).await?;
    // A backend hands its counters in when it ends, at the latest.
    world.stop_services().await?;
    let deadlocks = deadlocks_so_far(&database).await? - before;
    Ok(vec![
        Figure::of("transfer_zipf_per_second", "transfers/s", Bound::None, done.per_second()),
        Figure::of("deadlocks", "", Bound::AtMost(0.0), deadlocks as f64),
    ])
}

async fn deadlocks_so_far(database: &Client) -> Outcome<i64> {
    const DEADLOCKS: &str =
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    Ok(database.query_one(DEADLOCKS, &[]).await?.get(0))
}
