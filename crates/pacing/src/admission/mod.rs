//! Admission: one decision for one opportunity, in memory.
//!
//! A decision does not wait, lock, allocate or log. It reads the directory's snapshot, checks in
//! the order of R-201 (known and active, schedule, dates, limits, rate, funds) and takes the price
//! from the campaign's slice with one compare-exchange. The slice was cut at once from the
//! campaign's limit, the account's limit and a hold (see `leases`), so nothing else is asked, and
//! what it takes can pass no limit (I-5). When the slice does not do, the leases' last word on the
//! entity, its [`Refusal`], says why; without one the entity is [cold](Decision::Cold).
//!
//! Cost: about 100 ns warm, and no allocation (`benches/decision.rs` counts).
//!
//! Not here: waiting for a cold entity and sealing tokens for the wire (`grpc::admission`), cutting
//! slices (`leases`), choosing the rate that [`rate`] keeps (`pacer`).

mod directory;
mod entity;
pub mod feed;
mod hours;
mod moment;
pub mod rate;
mod refusal;
pub mod slice;
mod tally;
#[cfg(test)]
mod tests;
pub mod token;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::RandomState;

use adspend_common::id::{AccountId, CampaignId};
use adspend_common::time::Day;

use crate::calendar::schedule::{Closed, Schedule};

pub use entity::{CERTAIN_PPM, Demand, Entity, Offer, Standing, Unmet};
pub use moment::{Moment, day_no};
pub use refusal::Refusal;
pub use tally::Tally;
pub use token::{Token, TokenKey};

use directory::Directory;
use hours::Hours;
use slice::{Stake, Take};

/// What is asked: may this opportunity cost up to this price?
#[derive(Debug, Clone, Copy)]
pub struct Opportunity<'a> {
    /// The caller's id of it.
    pub id: &'a str,
    /// The bare id of the campaign.
    pub campaign: &'a str,
    /// The most that the charge may cost; positive.
    pub max_price_micros: i64,
    /// The chance that an admission is charged, in parts of a million; `None`: as is usual for
    /// the campaign.
    pub chance_ppm: Option<u32>,
}

/// Who asks, as far as a decision cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Sees every campaign.
    All,
    /// Sees the campaigns of one tenant.
    Tenant(u32),
    /// Belongs to a tenant without campaigns.
    Nobody,
}

/// Whether an opportunity is asked for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It is: count its demand.
    First,
    /// Again, after a wait: its demand is counted.
    Again,
}

/// The answer.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Yes. The token is for sealing.
    Admitted(Token),
    /// No, and why.
    Denied(Denial),
    /// Not known yet: the slice, if any, does not do, and the leases have not said more. They
    /// will: wait for the entity's [arrival](Entity::arrival) and ask again.
    Cold(Arc<Entity>),
}

/// The first check that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There is no such campaign for this caller.
    CampaignUnknown,
    /// The campaign is paused.
    CampaignPaused,
    /// The account is blocked or closed at billing.
    AccountBlocked,
    /// Not within the weekly schedule.
    OutsideSchedule,
    /// Before the start or after the end date.
    OutsideDates,
    /// The campaign's limit of the day.
    CampaignDayLimit,
    /// The campaign's limit of the week.
    CampaignWeekLimit,
    /// The account's limit of the day.
    AccountDayLimit,
    /// The account's limit of the week.
    AccountWeekLimit,
    /// The coin fell against it.
    Throttled,
    /// Billing has no more money for the account.
    NoFunds,
    /// Billing could not be asked, and what was set aside is used up.
    NoFundsConfirmed,
    /// Others still hold what is left of a limit, or the answer did not come in time.
    Overloaded,
}

impl Reason {
    /// Whether the check comes before the rate.
    const fn is_before_rate(self) -> bool {
        match self {
            Reason::CampaignUnknown
            | Reason::CampaignPaused
            | Reason::AccountBlocked
            | Reason::OutsideSchedule
            | Reason::OutsideDates
            | Reason::CampaignDayLimit
            | Reason::CampaignWeekLimit
            | Reason::AccountDayLimit
            | Reason::AccountWeekLimit
            | Reason::Throttled => true,
            Reason::NoFunds | Reason::NoFundsConfirmed | Reason::Overloaded => false,
        }
    }
}

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The campaign's.
    Campaign,
    /// The account's.
    Account,
}

/// A denial as the caller hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// Whose limit it was, if anybody's.
    pub level: Option<Level>,
    /// The limit, when the reason is one.
    pub limit_micros: i64,
    /// Charged and reserved, when the reason is a limit.
    pub used_micros: i64,
    /// Asking again earlier is of no use; zero when nothing is known.
    pub retry_after_micros: i64,
}

impl Denial {
    fn plain(reason: Reason) -> Denial {
        Denial { reason, level: None, limit_micros: 0, used_micros: 0, retry_after_micros: 0 }
    }
}

/// What a campaign is, for the directory.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its account.
    pub account_no: i64,
    /// Its number.
    pub campaign_no: i64,
    /// Its id.
    pub name: CampaignId,
    /// Who sees it.
    pub tenant: AccountId,
    /// Whether it may spend.
    pub standing: Standing,
    /// When it serves.
    pub schedule: Schedule,
    /// It pays per click: what it admits before the click is mostly not charged.
    pub pays_per_click: bool,
    /// Whether it pays per conversion: for most admissions nothing, and for the others much later.
    pub pays_per_conversion: bool,
}

/// All decisions of this replica.
pub struct Admission {
    directory: ArcSwap<Directory>,
    /// A bit per seat: the entity wants its owner.
    calls: Box<[AtomicU64]>,
    admission_lifetime_micros: i64,
    registry: Mutex<Registry>,
}

/// What a directory is built from; only the feed touches it.
#[derive(Default)]
struct Registry {
    by_no: HashMap<(i64, i64), Arc<Entity>, RandomState>,
    entities: Vec<Arc<Entity>>,
    tenants: HashMap<Box<str>, u32, RandomState>,
}

impl Admission {
    /// Room for so many campaigns; more are not known to this replica.
    pub fn new(capacity: u32, admission_lifetime: std::time::Duration) -> Admission {
        let words = (capacity as usize).div_ceil(64);
        let empty = Directory::new(Vec::new(), HashMap::default());
        Admission {
            directory: ArcSwap::from_pointee(empty),
            calls: (0..words).map(|_| AtomicU64::new(0)).collect(),
            admission_lifetime_micros: i64::try_from(admission_lifetime.as_micros())
                .unwrap_or(i64::MAX),
            registry: Mutex::default(),
        }
    }

    /// The present snapshot, for one request or batch.
    pub fn view(&self) -> View<'_> {
        View { admission: self, directory: self.directory.load() }
    }

    /// Takes in what campaigns are now. Returns how many did not fit.
    pub fn apply(&self, facts: &[Facts], day: Day) -> usize {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let before = (registry.entities.len(), registry.tenants.len());
        let mut left_out = 0;
        for facts in facts {
            let Some(entity) = self.seat(&mut registry, facts) else {
                left_out += 1;
                continue;
            };
            entity.set_tenant_no(registry.tenant_no(&facts.tenant));
            let before = (entity.standing(), entity.schedule());
            entity.set_standing(facts.standing);
            entity.set_expects(facts.pays_per_click || facts.pays_per_conversion);
            entity.set_converts(facts.pays_per_conversion);
            entity.set_hours(Hours::of(&facts.schedule, day));
            if before != (entity.standing(), entity.schedule()) {
                entity.note_change();
            }
        }
        if before != (registry.entities.len(), registry.tenants.len()) {
            let directory = Directory::new(registry.entities.clone(), registry.tenants.clone());
            self.directory.store(Arc::new(directory));
        }
        left_out
    }

    fn seat(&self, registry: &mut Registry, facts: &Facts) -> Option<Arc<Entity>> {
        let key = (facts.account_no, facts.campaign_no);
        if let Some(entity) = registry.by_no.get(&key) {
            return Some(Arc::clone(entity));
        }
        if registry.entities.len() >= self.calls.len().saturating_mul(64) {
            return None;
        }
        let seat = u32::try_from(registry.entities.len()).ok()?;
        let entity = Entity::new(&facts.name, facts.account_no, facts.campaign_no, seat);
        let entity = Arc::new(entity);
        registry.by_no.insert(key, Arc::clone(&entity));
        registry.entities.push(Arc::clone(&entity));
        Some(entity)
    }

    /// Makes the masks of `day` and the next for every campaign that has none for it.
    pub fn roll(&self, day: Day) {
        for entity in self.directory.load().entities() {
            let Some(hours) = entity.hours() else { continue };
            if let Some(old) = hours.as_ref().filter(|hours| hours.first_day() != day) {
                entity.set_hours(Hours::of(old.schedule(), day));
            }
        }
    }

    /// Every campaign that is known, as a snapshot by seat.
    pub fn entities(&self) -> Vec<Arc<Entity>> {
        self.directory.load().entities().to_vec()
    }

    /// The campaign with these numbers.
    pub fn entity(&self, account_no: i64, campaign_no: i64) -> Option<Arc<Entity>> {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.by_no.get(&(account_no, campaign_no)).map(Arc::clone)
    }

    /// Every campaign of an account. Walks all campaigns: for rare events.
    pub fn entities_of(&self, account_no: i64) -> Vec<Arc<Entity>> {
        let directory = self.directory.load();
        let of_account = |entity: &&Arc<Entity>| entity.account_no == account_no;
        directory.entities().iter().filter(of_account).map(Arc::clone).collect()
    }

    /// How many campaigns are known.
    pub fn known(&self) -> usize {
        self.directory.load().entities().len()
    }

    /// Puts the entity on the list of those that want their owner.
    pub fn call(&self, entity: &Entity) {
        if entity.call() {
            let word = self.calls.get(entity.seat as usize / 64);
            if let Some(word) = word {
                word.fetch_or(1 << (entity.seat % 64), Ordering::Release);
            }
        }
    }

    /// Empties that list. Owner only.
    pub fn answer_calls(&self) -> Vec<Arc<Entity>> {
        let directory = self.directory.load();
        let entities = directory.entities();
        let mut called = Vec::new();
        let words = self.calls.iter().take(entities.len().div_ceil(64));
        for (index, word) in words.enumerate() {
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                let seat = index * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                match entities.get(seat) {
                    Some(entity) => {
                        entity.answer_call();
                        called.push(Arc::clone(entity));
                    }
                    // Seated after our snapshot: its turn comes with the next.
                    None => _ = word.fetch_or(1 << (seat % 64), Ordering::Release),
                }
            }
        }
        called
    }
}

impl Registry {
    fn tenant_no(&mut self, tenant: &AccountId) -> u32 {
        if let Some(number) = self.tenants.get(tenant.as_str()) {
            return *number;
        }
        let number = u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        self.tenants.insert(tenant.as_str().into(), number);
        number
    }
}

/// A snapshot to decide with.
pub struct View<'a> {
    admission: &'a Admission,
    directory: Guard<Arc<Directory>>,
}

impl View<'_> {
    /// What a caller of this tenant sees; `None` is a caller above tenants.
    pub fn viewer(&self, tenant: Option<&str>) -> Viewer {
        match tenant {
            None => Viewer::All,
            Some(tenant) => match self.directory.tenant_no(tenant) {
                Some(number) => Viewer::Tenant(number),
                None => Viewer::Nobody,
            },
        }
    }

    /// Decides.
    pub fn admit(
        &self,
        moment: &Moment,
        viewer: Viewer,
        asked: Asked,
        opportunity: &Opportunity<'_>,
    ) -> Decision {
        let Some(entity) = self.directory.find(opportunity.campaign) else {
            return Decision::Denied(Denial::plain(Reason::CampaignUnknown));
        };
        let seen = match viewer {
            Viewer::All => true,
            Viewer::Tenant(number) => entity.tenant_no() == number,
            Viewer::Nobody => false,
        };
        if !seen {
            return Decision::Denied(Denial::plain(Reason::CampaignUnknown));
        }
        match entity.standing() {
            Standing::Active => {}
            Standing::Paused => return Decision::Denied(Denial::plain(Reason::CampaignPaused)),
            Standing::AccountBlocked => {
                return Decision::Denied(Denial::plain(Reason::AccountBlocked));
            }
        }
        if let Some(denial) = outside_hours(entity, moment) {
            return Decision::Denied(denial);
        }
        let discount = entity.discount(opportunity.max_price_micros, opportunity.chance_ppm);
        let stake = entity.stake(opportunity.max_price_micros, discount);
        let decision = self.spend(entity, moment, opportunity.id, stake);
        if asked == Asked::First {
            // After the slice: a locked instruction before it would wait for the line of the one
            // while the other is not even asked for.
            entity.count_demand(opportunity.max_price_micros, discount);
        }
        if matches!(decision, Decision::Admitted(_)) {
            entity.count_admission(discount);
        }
        decision
    }

    /// Limits, rate, funds. The slice stands for the first and the last of them, so the coin is
    /// asked before it is taken from, and a known limit is named before the coin.
    fn spend(&self, entity: &Arc<Entity>, moment: &Moment, id: &str, stake: Stake) -> Decision {
        let price = stake.price_micros;
        let passes = entity.rate.admits(id, entity.account_no, moment.day_no);
        if passes {
            let taken = entity.take(moment, stake);
            if let Take::Taken { slice_no, admission_no, expires_at_micros, taken_micros, low } =
                taken
            {
                if low {
                    self.admission.call(entity);
                }
                let lifetime = self.admission.admission_lifetime_micros;
                return Decision::Admitted(Token {
                    account_no: entity.account_no,
                    campaign_no: entity.campaign_no,
                    slice_no,
                    admission_no,
                    day: moment.day,
                    reserved_micros: price,
                    expected_micros: taken_micros,
                    expires_at_micros: expires_at_micros.saturating_add(lifetime),
                });
            }
        } else if entity.covers(stake) {
            return Decision::Denied(Denial::plain(Reason::Throttled));
        }
        if passes {
            entity.rate.not_taken();
        }
        entity.note_unmet(stake);
        self.admission.call(entity);
        let refusal = entity.refusal();
        match refusal.as_ref().filter(|refusal| refusal.stands(moment, price)) {
            Some(refusal) if passes || refusal.reason.is_before_rate() => {
                Decision::Denied(refusal.denial(moment))
            }
            None if passes => Decision::Cold(Arc::clone(entity)),
            Some(_) | None => Decision::Denied(Denial::plain(Reason::Throttled)),
        }
    }
}

fn outside_hours(entity: &Entity, moment: &Moment) -> Option<Denial> {
    let hours = entity.hours()?;
    let shut = hours.as_ref()?.shut(moment)?;
    let reason = match shut.because {
        Closed::BeforeStart | Closed::AfterEnd => Reason::OutsideDates,
        Closed::OutsideHours => Reason::OutsideSchedule,
    };
    let retry_after_micros = shut.until.timestamp_micros().saturating_sub(moment.micros).max(0);
    Some(Denial { retry_after_micros, ..Denial::plain(reason) })
}
