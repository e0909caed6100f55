//! Reports that a person waits for: eight weeks of a campaign by the minute, and a simulated week.

use std::{future::Future, time::Instant};

use adspend_common::proto::adspend::pacing::v1::{
    BudgetUnit, GetSpendCurveRequest, SimulateBudgetRequest,
    report_service_client::ReportServiceClient,
};
use prost_types::Timestamp;
use tonic::Status;

use super::{
    Outcome,
    figures::{Bound, Figure, median},
    load::connect,
    seed,
    world::{World, database},
};

/// Calls in a round; the first one warms.
const CALLS: usize = 10;
/// The largest message that the service sends.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

// Every minute of eight weeks until now, and a quarter of an hour's demand four weeks long.
const FILL: &str = "
INSERT INTO pace_hour (account_no, level, entity_no, hour, minutes, late_micros)
SELECT account_no, 1, campaign_no, date_trunc('hour', $2::timestamptz) - h * INTERVAL '1 hour',
    (SELECT string_agg(int8send(1234567 * n) || int8send(4234567 * n) || int8send(n) || int8send(n / 3)
            || int8send(1230000 * n) || int4send(300000), ''::bytea ORDER BY m)
        FROM (SELECT m, (m + h % 24)::bigint AS n FROM generate_series(1, 60) AS m) AS minutes), 0
FROM campaign, generate_series(0, 1343) AS h WHERE name = $1
ON CONFLICT DO NOTHING";
const DEMAND: &str = "
INSERT INTO demand_day (account_no, level, entity_no, day, offered_micros, offered_count, known_seconds,
    total_micros, total_count)
SELECT account_no, 1, campaign_no, ($2::timestamptz)::date - d, array_fill(104000000::bigint, ARRAY[96]),
    array_fill(416::bigint, ARRAY[96]), array_fill(900::real, ARRAY[96]), 96 * 104000000::bigint, 96 * 416
FROM campaign, generate_series(1, 28) AS d WHERE name = $1
ON CONFLICT DO NOTHING";
const NOW: &str = "SELECT clock_timestamp(), extract(epoch FROM clock_timestamp())::bigint";

pub(crate) async fn measure(world: &World) -> Outcome<Vec<Figure>> {
    let parent = seed::campaigns().into_iter().next().ok_or("there is no campaign")?;
    let name = parent.rsplit('/').next().unwrap_or_default().to_owned();
    let database = database(&world.pacing_url()).await?;
    let now = database.query_one(NOW, &[]).await?;
    let (now, seconds): (chrono::DateTime<chrono::Utc>, i64) = (now.try_get(0)?, now.try_get(1)?);
    database.execute(FILL, &[&name, &now]).await?;
    database.execute(DEMAND, &[&name, &now]).await?;
    database.batch_execute("VACUUM ANALYZE pace_hour, demand_day").await?;

    let channel = connect(&world.pacing_uri()?, 1).await?.remove(0);
    let reports = ReportServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let weeks = GetSpendCurveRequest {
        parent: parent.clone(),
        // A minute less: the clock goes on meanwhile.
        start_time: Some(Timestamp { seconds: seconds - 8 * 7 * 86_400 + 60, nanos: 0 }),
        end_time: Some(Timestamp { seconds, nanos: 0 }),
        step: None,
    };
    let budget = SimulateBudgetRequest {
        parent,
        amount: Some(seed::rub(2_000, 0)),
        unit: BudgetUnit::AverageDaily.into(),
        ..SimulateBudgetRequest::default()
    };
    let mut curve = Figure::new("spend_curve_ms", "ms, 8 weeks by the minute", Bound::AtMost(20.0));
    let mut week = Figure::new("simulate_budget_ms", "ms, a week, 3 runs", Bound::AtMost(200.0));
    for _ in 0..world.rounds {
        let call = || async {
            let answer = reports.clone().get_spend_curve(weeks.clone()).await?;
            Ok(answer.into_inner().charged_micros.len())
        };
        curve.round(milliseconds(call).await?);
        let call = || async {
            let answer = reports.clone().simulate_budget(budget.clone()).await?;
            Ok(answer.into_inner().days.len())
        };
        week.round(milliseconds(call).await?);
    }
    Ok(vec![curve, week])
}

/// The median of calls one after the other.
async fn milliseconds<F>(mut call: impl FnMut() -> F) -> Outcome<f64>
where
    F: Future<Output = Result<usize, Status>>,
{
    let mut took = Vec::with_capacity(CALLS);
    for number in 0..=CALLS {
        let began = Instant::now();
        if call().await? == 0 {
            return Err("a report is empty".into());
        }
        if number > 0 {
            took.push(began.elapsed().as_secs_f64() * 1_000.0);
        }
    }
    Ok(median(took.into_iter()))
}
