//! Why an opportunity was admitted or denied: the same decision again, from what is written down.
//!
//! The coin is a function of the opportunity, the account and the day, so it falls the same way for
//! ever; the rate in force is in the log of readings, and limits that were reached are in that of
//! suspensions. Every replica applies a reading within a tick of its moment, so around a change both
//! rates are asked, and where they differ nothing is claimed.
//!
//! What cannot be known: which opportunity filled the sum of a small budget, whether the
//! replica that was asked held money at that moment, what a campaign was before its last change, and
//! the first seconds of a replica that has just started and goes by no reading until its first tick.

mod rules;

use std::time::Duration;

use adspend_common::id::CampaignId;
use adspend_common::identity::Caller;
use adspend_common::money::Currency;
use adspend_common::time::Day;
use chrono::{DateTime, Utc};

use super::reading::Reading;
use super::store::{self, Past};
use super::suspensions::Suspension;
use super::{Error, KEPT};
use crate::admission::rate::{Rate, coin};
use crate::admission::{Level, day_no};
use crate::budgets::Entity;
use crate::campaigns::{self, CampaignState, Listed};
use crate::controller::few;
use crate::{Services, billing};

use rules::{Before, Evidence, Rates, Reached, Standing, Went};
pub use rules::{Unknown, Verdict};

/// The least real time in which a rate is taken over by all replicas.
const SHORTEST_TAKEOVER: Duration = Duration::from_millis(250);

/// Ticks in which it is.
const TAKEOVER_TICKS: u32 = 2;

/// The mean charge of the day is taken for that of the moment; give or take this factor.
const FEW_MARGIN: f64 = 1.5;

/// The decision that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The caller's id of the opportunity.
    pub opportunity: String,
    /// The campaign.
    pub campaign: CampaignId,
    /// When it was decided.
    pub at: DateTime<Utc>,
    /// The price, in micro-units.
    pub price_micros: Option<i64>,
    /// The token of the admission; empty without one.
    pub token: Vec<u8>,
}

/// What became of it, with the numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What became of it.
    pub verdict: Verdict,
    /// Whose limit it was.
    pub level: Option<Level>,
    /// What may have decided otherwise.
    pub unknowns: Vec<Unknown>,
    /// The Moscow day.
    pub day: Day,
    /// The coin, in parts of 2^32.
    pub coin: u32,
    /// The rate in force; `None` when it is not known.
    pub rate: Option<u32>,
    /// The campaign's reading in force.
    pub reading: Option<Reading>,
    /// Its account's.
    pub account_reading: Option<Reading>,
    /// What stood still then.
    pub suspension: Option<Suspension>,
    /// The currency of the amounts.
    pub currency: Currency,
    /// The moment of the answer.
    pub read_at: DateTime<Utc>,
}

/// Explains a decision about a campaign that the caller sees.
pub async fn explain(
    services: &Services,
    caller: &Caller,
    question: &Question,
) -> Result<Explanation, Error> {
    let listed = campaigns::get(services, caller, &question.campaign).await?;
    let (entity, at) = (listed.campaign.entity(), question.at);
    let day = Day::of(at);
    let has_token = !question.token.is_empty();
    if has_token && !is_token_of(services, &question.token, entity, day) {
        return Err(Error::Token);
    }
    let clock = &services.clock;
    let tick = services.config.pacer.tick.get().max(clock.passes_in(SHORTEST_TAKEOVER));
    let takeover = chrono::TimeDelta::from_std(tick * TAKEOVER_TICKS).unwrap_or(KEPT);
    let mut client = services.db.get().await?;
    let snapshot = client.snapshot().await?;
    let past = store::past(&snapshot, entity, at).await?;
    let readings = store::readings(&snapshot, entity, at).await?;
    let account = Entity::account(entity.account_no);
    let account_reading = store::readings(&snapshot, account, at).await?.into_iter().next();
    let near = (at - takeover, at + takeover);
    let suspensions = store::suspended(&snapshot, entity, day, near.0, near.1).await?;
    snapshot.rollback().await?;
    let suspension = suspensions.iter().find(|it| it.stood_at(at)).or(suspensions.first()).cloned();
    let reached = suspension.as_ref().map(|suspension| Reached {
        reason: suspension.reason(),
        level: suspension.level,
        throughout: suspension.stood_at(near.0.max(day.start()))
            && suspension.stood_at(near.1.min(day.end() - chrono::TimeDelta::microseconds(1))),
        left_micros: suspension.limit_micros.saturating_sub(suspension.used_micros),
    });
    let mut newest = readings.iter();
    let (reading, older) = (newest.next(), newest.next());
    // Older readings do not say whether rates were added up.
    let guess = [reading, account_reading.as_ref()]
        .into_iter()
        .flatten()
        .any(|reading| maybe_few(reading, &past));
    let went = |reading: &Reading| Went {
        parts: reading.rate_parts,
        maybe_few: reading.is_few.unwrap_or(guess),
    };
    let in_force = match reading {
        Some(reading) => Some(went(reading)),
        // There was never a budget, so there was never a rate.
        None => (!past.had_budget).then_some(Went { parts: Rate::ALL, maybe_few: false }),
    };
    let changed_lately = reading.is_some_and(|reading| reading.read_at > near.0);
    let before = match older {
        _ if !changed_lately => Before::Same,
        Some(older) => Before::Rate(went(older)),
        None => Before::Nothing,
    };
    let coin = coin(&question.opportunity, entity.account_no.0, day_no(day));
    let judgement = rules::judge(&Evidence {
        has_token,
        standing: standing(&listed, &past, at, takeover),
        reached,
        price_micros: question.price_micros,
        coin,
        rates: Rates { in_force, before },
    });
    Ok(Explanation {
        verdict: judgement.verdict,
        level: judgement.level,
        unknowns: judgement.unknowns,
        day,
        coin,
        rate: in_force.map(|went| went.parts),
        reading: reading.cloned(),
        account_reading,
        suspension,
        currency: listed.account.currency,
        read_at: services.clock.now(),
    })
}

/// A token does not name its opportunity: it proves an admission of the campaign on the day.
fn is_token_of(services: &Services, token: &[u8], entity: Entity, day: Day) -> bool {
    services.token_key.open(token).is_ok_and(|token| {
        token.account_no == entity.account_no.0
            && token.campaign_no == entity.entity_no
            && token.day == day
    })
}

fn standing(
    listed: &Listed,
    past: &Past,
    at: DateTime<Utc>,
    takeover: chrono::TimeDelta,
) -> Standing {
    let campaign = &listed.campaign;
    Standing {
        existed: campaign.created_at <= at,
        is_unchanged: past.changed_at + takeover <= at || past.changed_at == campaign.created_at,
        is_paused: campaign.state == CampaignState::Paused,
        is_blocked: listed.account.state != billing::AccountState::Active,
        closed: campaign.profile.schedule.closed_because(at),
    }
}

fn maybe_few(reading: &Reading, past: &Past) -> bool {
    let charge = if past.charges > 0 {
        past.charged_micros as f64 / past.charges as f64
    } else {
        // What is offered on average: an estimate of what a charge is.
        reading.offered_micros as f64 / reading.offered_count.max(1) as f64
    };
    reading.target_micros.is_some_and(|target| few::is_few(target as f64, FEW_MARGIN * charge))
}
