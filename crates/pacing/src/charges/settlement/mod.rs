//! What was charged goes to billing: every micro-unit once (I-6, I-7), about once a second.
//!
//! A charge adds to a sum per hold and campaign in its own transaction. A round of [`run`] then
//!
//! 1. makes a report of every hold whose sums billing has not acknowledged and that has none yet:
//!    a row with a sequence and the sums so far. The row is there before billing is asked, so a
//!    crash, a lost answer or another replica repeats the same sequence with the same payload;
//! 2. claims the reports that nobody is sending, for `claim`, and sends them in calls of many;
//! 3. marks the sums as acknowledged and deletes the report, in one transaction.
//!
//! Billing books a sequence once, and books what comes after a hold's end as late, so a report
//! does not ask how its hold stands. Charges without a hold take the same way one by one; their
//! request id is derived from the charge's.
//!
//! No lock is held while billing is asked. No row that a charge locks is waited for, except that
//! an acknowledgement waits for the group that adds to the same sums.

mod store;

use std::time::Duration;

use adspend_common::db::{self, Pool};
use adspend_common::id::RequestId;
use adspend_common::server::Stop;
use adspend_common::time::Clock;
use chrono::{DateTime, Utc};
use rand::Rng;

use super::Settings;
use super::metrics::Unsettled;
use crate::app::Services;
use crate::billing::{self, Billing};
use crate::replicas::clock_time;
use store::{DueCharge, DueReport};

/// The most reports or charges of one call; billing takes no more.
const MAX_CALL: usize = 1_000;
/// The most sums of one report; billing takes no more. The rest goes into the next one.
const MAX_SPENDS: i64 = 1_000;
/// The most sums of one call: keeps its message far below the limit of four megabytes.
const MAX_CALL_SPENDS: usize = 20_000;
/// The longest pause when billing or the database is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The first pause after an answer that was lost.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause for what billing refused: somebody has to look first.
const LONGEST_REFUSED: Duration = Duration::from_secs(300);
/// How often an acknowledgement is tried against charges of the same holds.
const ACKNOWLEDGE_ATTEMPTS: u32 = 8;

/// What one round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    /// Reports of holds that billing acknowledged.
    pub reports: usize,
    /// Charges without a hold that billing acknowledged.
    pub charges: usize,
    /// What billing refused: it stays, and is sent again, ever more rarely.
    pub refused: usize,
    /// Whether a call had no answer.
    pub away: bool,
    /// Whether there may be more to be sent at once.
    pub more: bool,
}

/// Settles until told to stop. What is under way then is finished by whoever claims it next.
pub(crate) async fn run(services: Services, stop: Stop) {
    let Services { db, clock, billing, config, .. } = services;
    let settings = &config.charges;
    let unsettled = Unsettled::new();
    let mut failures = 0u32;
    loop {
        let more = match round(&db, &clock, &*billing, settings).await {
            Ok(done) => {
                failures = if done.away { failures.saturating_add(1) } else { 0 };
                done.more && !done.away
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "charges were not settled"
                );
                failures = failures.saturating_add(1);
                false
            }
        };
        if let Err(error) = watch(&db, &clock, &unsettled).await {
            tracing::debug!(%error, "the age of unsettled charges is not known");
        }
        let pause = if more {
            Duration::ZERO
        } else {
            pause(settings.settle_every.get(), failures, LONGEST_PAUSE)
        };
        tokio::select! {
            () = stop.stopping().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One pass over what is due. Everything that it does may be repeated.
pub async fn round(
    db: &Pool,
    clock: &Clock,
    billing: &dyn Billing,
    settings: &Settings,
) -> Result<Round, db::Error> {
    let mut done = Round::default();
    let now = clock.now();
    let until = now + clock_time(clock, settings.claim.get());
    let mut client = db.get().await?;
    let made = store::make_reports(&mut client, now).await?;
    let reports = store::claim_reports(&client, now, until).await?;
    let charges = store::claim_charges(&client, now, until).await?;
    drop(client);
    done.more = made >= MAX_CALL || reports.len() >= MAX_CALL || charges.len() >= MAX_CALL;
    for call in calls(reports) {
        settle(db, clock, billing, call, &mut done).await?;
    }
    if !charges.is_empty() {
        record(db, clock, billing, charges, &mut done).await?;
    }
    Ok(done)
}

/// Cuts reports into calls that are not too large.
fn calls(reports: Vec<DueReport>) -> Vec<Vec<DueReport>> {
    let mut calls: Vec<Vec<DueReport>> = Vec::new();
    let mut spends = usize::MAX;
    for report in reports {
        let size = report.spends.len();
        match calls.last_mut() {
            Some(call) if spends.saturating_add(size) <= MAX_CALL_SPENDS => {
                spends += size;
                call.push(report);
            }
            Some(_) | None => {
                spends = size;
                calls.push(vec![report]);
            }
        }
    }
    calls
}

async fn settle(
    db: &Pool,
    clock: &Clock,
    billing: &dyn Billing,
    reports: Vec<DueReport>,
    done: &mut Round,
) -> Result<(), db::Error> {
    let message = reports.iter().map(DueReport::message).collect();
    let verdicts = match billing.settle_holds(message).await {
        Ok(verdicts) => verdicts,
        Err(error) => {
            done.away = true;
            tracing::warn!(%error, reports = reports.len(), "billing did not take reports of spend");
            let attempts = reports.iter().map(|report| report.attempts).max().unwrap_or(0);
            let until = again_at(clock, attempts, LONGEST_PAUSE);
            return store::postpone_reports(&db.get().await?, &reports, until).await;
        }
    };
    let mut booked = Vec::with_capacity(reports.len());
    for (report, verdict) in reports.into_iter().zip(verdicts) {
        match verdict {
            Ok(_) => booked.push(report),
            Err(why) => {
                done.refused += 1;
                let (hold, sequence) = (&report.billing_name, report.sequence);
                tracing::error!(hold, sequence, %why, "billing refused a report of spend");
                let until = again_at(clock, report.attempts, LONGEST_REFUSED);
                store::postpone_reports(&db.get().await?, &[report], until).await?;
            }
        }
    }
    db::retry("settlement.acknowledge", ACKNOWLEDGE_ATTEMPTS, || acknowledge(db, &booked)).await?;
    done.reports += booked.len();
    Ok(())
}

async fn acknowledge(db: &Pool, reports: &[DueReport]) -> Result<(), db::Error> {
    let mut client = db.get().await?;
    store::acknowledge_reports(&mut client, reports).await
}

async fn record(
    db: &Pool,
    clock: &Clock,
    billing: &dyn Billing,
    charges: Vec<DueCharge>,
    done: &mut Round,
) -> Result<(), db::Error> {
    let message = charges.iter().map(|charge| billing::LateCharge {
        account: charge.account.clone(),
        campaign: charge.campaign.clone(),
        amount_micros: charge.price_micros,
        day: charge.day,
        request_id: request_id(charge),
    });
    let verdicts = match billing.record_charges(message.collect()).await {
        Ok(verdicts) => verdicts,
        Err(error) => {
            done.away = true;
            tracing::warn!(%error, charges = charges.len(), "billing did not take charges");
            let attempts = charges.iter().map(|charge| charge.attempts).max().unwrap_or(0);
            let until = again_at(clock, attempts, LONGEST_PAUSE);
            return store::postpone_charges(&db.get().await?, &charges, until).await;
        }
    };
    let mut booked = Vec::with_capacity(charges.len());
    for (charge, verdict) in charges.into_iter().zip(verdicts) {
        match verdict {
            Ok(()) => booked.push(charge),
            Err(why) => {
                done.refused += 1;
                let (account, id) = (charge.account.as_str(), &charge.charge_id);
                tracing::error!(account, charge = id, %why, "billing refused a charge");
                let until = again_at(clock, charge.attempts, LONGEST_REFUSED);
                store::postpone_charges(&db.get().await?, &[charge], until).await?;
            }
        }
    }
    store::acknowledge_charges(&db.get().await?, &booked).await?;
    done.charges += booked.len();
    Ok(())
}

/// The id under which billing knows a charge: the same for every repeat, and another for every
/// other charge. A charge's own id is unique only within its account.
fn request_id(charge: &DueCharge) -> RequestId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(charge.account.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(charge.charge_id.as_bytes());
    let hash = hasher.finalize().to_hex();
    RequestId::parse(&format!("late-{}", &hash.as_str()[..40])).expect("hexadecimal digits")
}

async fn watch(db: &Pool, clock: &Clock, unsettled: &Unsettled) -> Result<(), db::Error> {
    let since = store::unsettled_since(&db.get().await?).await?;
    let age = since.and_then(|since| (clock.now() - since).to_std().ok());
    unsettled.set_age(age.unwrap_or_default());
    Ok(())
}

/// When what did not succeed may be tried again.
fn again_at(clock: &Clock, attempts: i32, longest: Duration) -> DateTime<Utc> {
    let attempts = u32::try_from(attempts).unwrap_or(0);
    clock.now() + clock_time(clock, pause(FIRST_PAUSE, attempts, longest))
}

/// The usual pause, doubled with every failure in a row up to a limit, and from half of it to all
/// of it, so that replicas do not come together.
fn pause(usual: Duration, failures: u32, longest: Duration) -> Duration {
    if failures == 0 {
        return usual;
    }
    let full = usual.saturating_mul(1 << failures.min(16)).min(longest.max(usual));
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use adspend_common::id::{AccountId, CampaignId};

    use super::*;

    #[test]
    fn pauses_grow_up_to_their_limit() {
        let second = Duration::from_secs(1);
        assert_eq!(pause(second, 0, LONGEST_PAUSE), second);
        for (failures, full) in [(1, 2), (2, 4), (3, 8), (4, 10), (60, 10)] {
            let full = second * full;
            for _ in 0..50 {
                let pause = pause(second, failures, LONGEST_PAUSE);
                assert!(full / 2 <= pause && pause <= full, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn the_request_id_of_a_charge_is_its_own() {
        let charge = |account: &str, id: &str| DueCharge {
            account_no: 1,
            charge_id: id.to_owned(),
            account: AccountId::parse(account).unwrap(),
            campaign: CampaignId::parse("spring").unwrap(),
            price_micros: 1,
            day: "2025-03-31".parse().unwrap(),
            attempts: 0,
        };
        let id = request_id(&charge("shop", "c-1"));
        assert_eq!(id, request_id(&DueCharge { attempts: 7, ..charge("shop", "c-1") }));
        assert_ne!(id, request_id(&charge("shop", "c-2")));
        assert_ne!(id, request_id(&charge("kiosk", "c-1")));
    }

    #[test]
    fn a_call_has_no_more_sums_than_fit_its_message() {
        let report = |spends: usize| DueReport {
            account_no: 1,
            hold_no: 1,
            sequence: 1,
            billing_name: "accounts/shop/holds/h".to_owned(),
            spends: vec![(1, CampaignId::parse("spring").unwrap(), 1); spends],
            created_at: DateTime::UNIX_EPOCH,
            attempts: 0,
        };
        let sizes = |reports: Vec<DueReport>| -> Vec<usize> {
            calls(reports).iter().map(|call| call.iter().map(|r| r.spends.len()).sum()).collect()
        };
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
        assert_eq!(sizes(vec![report(1_000); 45]), [20_000, 20_000, 5_000]);
        assert_eq!(sizes(vec![report(1); 1_000]), [1_000]);
    }
}
