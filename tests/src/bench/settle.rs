//! Charges: StreamSettle beside COPY of the same rows into the same table, and Settle one by one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use adspend_common::proto::adspend::pacing::v1::{
    AdmitRequest, AdmitResponse, BatchAdmitRequest, BatchSettleRequest, SettleRequest,
    SettleResult, StreamSettleRequest, admission_service_client::AdmissionServiceClient,
    admit_response, charge_service_client::ChargeServiceClient, settle_request, settle_result,
};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::Client;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::{
    Outcome,
    admit::{BATCH, PRICE_MICROS},
    figures::{Bound, Figure},
    load::{Done, Draw, as_ad_server, connect, together},
    seed,
    world::{World, database},
};

const CONNECTIONS: usize = 4;
/// Batches of a hundred under way on each stream.
const BATCHES_UNDER_WAY: usize = 16;
/// Charges of one round.
const CHARGES: usize = 60_000;
/// Rows of one COPY, which is a transaction of its own.
const COPY_ROWS: usize = 1_000;
/// Unary callers, and charges of one round of theirs.
const CALLERS: usize = 64;
const UNARY_CHARGES: usize = 8_000;
/// Opportunities in one question while tokens are fetched.
const FETCH: usize = 500;

/// The charge of an admission; none of a denial's.
pub(crate) fn charge(answer: &AdmitResponse, run: &str, number: u64) -> Option<SettleRequest> {
    match &answer.decision {
        Some(admit_response::Decision::Admitted(admission)) => Some(SettleRequest {
            target: Some(settle_request::Target::Token(admission.token.clone())),
            charge_id: format!("{run}-{number:012x}"),
            price_micros: PRICE_MICROS,
        }),
        Some(admit_response::Decision::Denied(_)) | None => None,
    }
}

fn booked(results: &[SettleResult]) -> Outcome<u64> {
    for result in results {
        match &result.outcome {
            Some(settle_result::Outcome::Done(_)) => {}
            Some(settle_result::Outcome::Error(error)) => {
                return Err(format!("a charge was refused: {error:?}").into());
            }
            None => return Err("a charge has no verdict".into()),
        }
    }
    Ok(results.len() as u64)
}

/// Settles what comes, in batches, until nothing can come any more.
pub(crate) async fn settle_as_they_come(
    channel: Channel,
    mut charges: UnboundedReceiver<Option<SettleRequest>>,
) -> Outcome<()> {
    let mut client = ChargeServiceClient::new(channel);
    let mut waiting = Vec::new();
    while charges.recv_many(&mut waiting, BATCH).await > 0 {
        let requests: Vec<SettleRequest> = waiting.drain(..).flatten().collect();
        if !requests.is_empty() {
            let answer = client.batch_settle(as_ad_server(BatchSettleRequest { requests })).await?;
            booked(&answer.get_ref().results)?;
        }
    }
    Ok(())
}

pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let channels = connect(&world.pacing_uri()?, CONNECTIONS).await?;
    let database = database(&world.pacing_url()).await?;
    let mut stream = Figure::new("settle_ratio", "charges/s", Bound::AtLeast(0.3));
    let mut unary = Figure::new("settle_unary_per_second", "charges/s", Bound::None);
    // Once without counting: connections, plans and the first pages of the table.
    settle_streams(&channels, fetch(&channels, "warm", CHARGES / 4).await?).await?;
    for round in 0..world.rounds {
        let run = format!("round-{round}");
        let ours =
            settle_streams(&channels, fetch(&channels, &run, CHARGES).await?).await?.per_second();
        let rows = rows_of(&database, &run).await?;
        stream.beside(ours, copy(&database, rows).await?.per_second());
        let charges = fetch(&channels, &format!("unary-{round}"), UNARY_CHARGES).await?;
        unary.round(settle_unary(&channels, charges).await?.per_second());
    }
    Ok(vec![stream, unary])
}

/// Asks for admissions until there are enough of them.
async fn fetch(channels: &[Channel], run: &str, count: usize) -> Outcome<Vec<SettleRequest>> {
    let campaigns = seed::campaigns();
    let mut client = AdmissionServiceClient::new(channels[0].clone());
    let mut charges = Vec::with_capacity(count);
    let mut draw = Draw::new(count as u64);
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    while charges.len() < count {
        let requests = (0..FETCH.min(count - charges.len())).map(|_| AdmitRequest {
            opportunity_id: format!("{:016x}", draw.next()),
            campaign: campaigns[draw.below(campaigns.len())].clone(),
            max_price_micros: PRICE_MICROS,
            charge_probability_ppm: None,
        });
        let request = BatchAdmitRequest { requests: requests.collect() };
        for answer in &client.batch_admit(as_ad_server(request)).await?.get_ref().responses {
            charges.extend(charge(answer, run, charges.len() as u64));
        }
        if Instant::now() > deadline {
            return Err(format!("{} admissions of {count} in a minute", charges.len()).into());
        }
    }
    Ok(charges)
}

async fn settle_streams(channels: &[Channel], charges: Vec<SettleRequest>) -> Outcome<Done> {
    let mut parts: Vec<VecDeque<StreamSettleRequest>> = vec![VecDeque::new(); channels.len()];
    for (number, batch) in charges.chunks(BATCH).enumerate() {
        let message = StreamSettleRequest { sequence: number as i64, requests: batch.to_vec() };
        parts[number % channels.len()].push_back(message);
    }
    let callers = channels.iter().zip(parts).map(|(channel, mut part)| {
        let mut client = ChargeServiceClient::new(channel.clone());
        async move {
            let (batches, sent) = tokio::sync::mpsc::channel(BATCHES_UNDER_WAY);
            for message in part.drain(..BATCHES_UNDER_WAY.min(part.len())) {
                batches.send(message).await?;
            }
            let mut batches = Some(batches);
            let answers = client.stream_settle(as_ad_server(ReceiverStream::new(sent))).await?;
            let mut answers = answers.into_inner();
            let mut count = 0;
            while let Some(answer) = answers.message().await? {
                count += booked(&answer.results)?;
                match (part.pop_front(), &batches) {
                    (Some(message), Some(batches)) => batches.send(message).await?,
                    (None, _) | (_, None) => batches = None,
                }
            }
            Ok(count)
        }
    });
    together(callers).await
}

async fn settle_unary(channels: &[Channel], charges: Vec<SettleRequest>) -> Outcome<Done> {
    let charges = Arc::new(Mutex::new(charges));
    let callers = (0..CALLERS).zip(channels.iter().cycle().cloned()).map(|(_, channel)| {
        let mut client = ChargeServiceClient::new(channel);
        let charges = Arc::clone(&charges);
        let next = move || charges.lock().unwrap_or_else(PoisonError::into_inner).pop();
        async move {
            let mut count = 0;
            while let Some(charge) = next() {
                client.settle(as_ad_server(charge)).await?;
                count += 1;
            }
            Ok(count)
        }
    });
    together(callers).await
}

/// The rows that a run has written, as payloads for COPY. They get an account number of their own,
/// because their keys are taken; nothing else differs.
async fn rows_of(database: &Client, run: &str) -> Outcome<Vec<Bytes>> {
    database
        .batch_execute(&format!(
            "DROP TABLE IF EXISTS copied;
             CREATE TEMPORARY TABLE copied AS
             SELECT (row_number() OVER (ORDER BY ctid) - 1) / {COPY_ROWS} AS part,
                 -account_no AS account_no, charge_id, campaign_no, slice_no, admission_no,
                 reserved_micros, price_micros, day, late, booked_at
             FROM charge WHERE charge_id LIKE '{run}-%'"
        ))
        .await?;
    let parts: i64 = database.query_one("SELECT max(part) FROM copied", &[]).await?.get(0);
    let mut payloads = Vec::new();
    for part in 0..=parts {
        let query = format!(
            "COPY (SELECT account_no, charge_id, campaign_no, slice_no, admission_no,
                 reserved_micros, price_micros, day, late, booked_at
             FROM copied WHERE part = {part}) TO STDOUT (FORMAT binary)"
        );
        let stream = database.copy_out(&query).await?;
        pin_mut!(stream);
        let mut payload = Vec::new();
        while let Some(chunk) = stream.next().await {
            payload.extend_from_slice(&chunk?);
        }
        payloads.push(Bytes::from(payload));
    }
    Ok(payloads)
}

async fn copy(database: &Client, payloads: Vec<Bytes>) -> Outcome<Done> {
    const COPY: &str = "COPY charge (account_no, charge_id, campaign_no, slice_no, admission_no, \
         reserved_micros, price_micros, day, late, booked_at) FROM STDIN (FORMAT binary)";
    let began = Instant::now();
    let mut count = 0;
    for payload in payloads {
        let sink = database.copy_in(COPY).await?;
        pin_mut!(sink);
        sink.send(payload).await?;
        count += sink.finish().await?;
    }
    Ok(Done { count, took: began.elapsed() })
}
