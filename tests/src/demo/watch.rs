//! Looks on while the traffic runs: asks for the ceilings of the day, which the record is held
//! against, and tells how far the week has come.

use std::{sync::Arc, time::Duration};

use adspend_common::{
    proto::adspend::pacing::v1::{GetPacingStateRequest, GetPacingStateResponse},
    time::{Clock, Day},
};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{
    book::Who,
    calls::within,
    fleet::{Fleet, request},
    record::Record,
    scenario::{account_name, campaign_name},
    table::{moment, roubles},
};

/// How often the ceilings are asked for, in real time: a few times in the shortest day that counts.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// How often progress is told, in simulated time.
const TELL_EVERY: TimeDelta = TimeDelta::hours(6);

/// The resource that a limit belongs to.
pub(crate) fn parent(who: Who) -> String {
    match who {
        Who::Account(number) => account_name(number),
        Who::Campaign(number) => campaign_name(number),
    }
}

/// The Moscow day of an answer.
pub(crate) fn day_of(state: &GetPacingStateResponse) -> Option<Day> {
    let date = state.day.as_ref()?;
    let (month, day) = (u32::try_from(date.month).ok()?, u32::try_from(date.day).ok()?);
    NaiveDate::from_ymd_opt(date.year, month, day).map(Day::from_date)
}

/// Goes on until it is dropped.
pub(crate) async fn watch(clock: &Clock, fleet: &Arc<Fleet>, record: &Record, from: DateTime<Utc>) {
    let mut turns = tokio::time::interval(ASK_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tell_at = from + TELL_EVERY;
    loop {
        turns.tick().await;
        ceilings(fleet, record).await;
        let now = clock.now();
        if now >= tell_at {
            tell(now, record);
            while tell_at <= now {
                tell_at += TELL_EVERY;
            }
        }
    }
}

/// Asks one replica for the ceilings of all that have a budget; whoever does not answer is asked
/// again next time.
async fn ceilings(fleet: &Arc<Fleet>, record: &Record) {
    let replica = fleet.pick();
    let asked = Who::all().into_iter().filter(|who| who.has_budget()).map(|who| {
        let mut member = fleet.member(replica);
        let message = GetPacingStateRequest { parent: parent(who), day: None };
        async move { (who, within(member.reports.get_pacing_state(request(message))).await) }
    });
    for (who, answer) in futures_util::future::join_all(asked).await {
        match answer {
            Ok(state) => {
                if let Some(day) = day_of(&state) {
                    record.book().told(who, day, state.limit_micros);
                }
            }
            Err(_) => fleet.rest(replica),
        }
    }
}

fn tell(now: DateTime<Utc>, record: &Record) {
    let total = record.book().total();
    println!(
        "{}  {:>6} opportunities, {:>6} admitted, {:>6} charges of {:>10} in all",
        moment(now),
        total.opportunities,
        total.admitted,
        total.charges,
        roubles(total.charged_micros)
    );
}
