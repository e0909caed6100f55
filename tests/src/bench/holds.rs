//! OpenHolds, one by one from many callers.

use std::time::{Duration, Instant};

use adspend_common::proto::adspend::billing::v1::{
    OpenHoldItem, OpenHoldsRequest, hold_result, hold_service_client::HoldServiceClient,
};
use tonic::transport::Channel;

use super::{
    MEASURE, Outcome, WARM,
    figures::{Bound, Figure},
    load::{Done, connect, together},
    seed,
    world::World,
};

const CONNECTIONS: usize = 4;
const CALLERS: usize = 64;
/// Longer than the run, so that expiry is not measured here.
const TTL_SECONDS: i64 = 3_600;

pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let channels = connect(&world.billing_uri()?, CONNECTIONS).await?;
    let mut figure = Figure::new("open_holds_per_second", "holds/s", Bound::None);
    open(&channels, "warm", WARM).await?;
    for round in 0..world.rounds {
        figure.round(open(&channels, &round.to_string(), MEASURE).await?.per_second());
    }
    Ok(vec![figure])
}

async fn open(channels: &[Channel], run: &str, during: Duration) -> Outcome<Done> {
    let until = Instant::now() + during;
    let callers = (0..CALLERS).zip(channels.iter().cycle().cloned()).map(|(caller, channel)| {
        let mut client = HoldServiceClient::new(channel);
        let run = run.to_owned();
        async move {
            let mut count = 0_u64;
            while Instant::now() < until {
                let item = OpenHoldItem {
                    account: format!("accounts/{}", seed::agency(caller * 10)),
                    amount_micros: 1_000_000,
                    min_amount_micros: 1_000_000,
                    ttl: Some(prost_types::Duration { seconds: TTL_SECONDS, nanos: 0 }),
                    request_id: format!("hold-{run}-{caller}-{count}"),
                };
                let answer = client.open_holds(OpenHoldsRequest { requests: vec![item] }).await?;
                match answer.into_inner().results.pop().and_then(|result| result.outcome) {
                    Some(hold_result::Outcome::Hold(_)) => count += 1,
                    other => return Err(format!("a hold was refused: {other:?}").into()),
                }
            }
            Ok(count)
        }
    });
    together(callers).await
}
