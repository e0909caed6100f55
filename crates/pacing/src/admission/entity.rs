//! A campaign in memory: what a decision reads and counts, all of it atomics.

#![deny(clippy::arithmetic_side_effects)]

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use adspend_common::id::{CampaignId, MAX_ID_BYTES};
use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::hours::Hours;
use super::rate::Rate;
use super::slice::{Slice, Stake, Take, Terms};
use super::{Moment, Refusal};
use crate::calendar::schedule::Schedule;
use crate::controller::inflight;

/// Whether a campaign may spend at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Active,
    /// Somebody paused it.
    Paused,
    /// Billing has blocked or closed its account.
    AccountBlocked,
}

/// A campaign as decisions see it. It lives as long as the process, across directories, so
/// nothing is forgotten when other campaigns come and go.
///
/// Laid out by cache lines: an admission touches the name, the line after it and one slice, and
/// the three can be fetched at the same time. What only denials and the owner need comes last.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Entity {
    name: Name,
    current: AtomicUsize,
    standing: AtomicU8,
    has_hours: AtomicBool,
    /// The owner was told that there is something to do.
    called: AtomicBool,
    /// What share of opportunities is let through.
    pub rate: Rate,
    tenant_no: AtomicU32,
    /// The chance of a charge where the caller names none.
    chance_ppm: AtomicU32,
    /// Offered demand, before any limit or coin: for the sizes of slices and the controller.
    demand_micros: AtomicU64,
    demand_count: AtomicU64,
    /// The number of its account.
    pub account_no: i64,
    /// Its own number.
    pub campaign_no: i64,
    /// Two places, so that a new slice is open before the old one is closed.
    slices: [Slice; 2],
    /// What of the prices is not expected to be charged, of what was offered and of what was
    /// admitted: touched only where a chance is below 1.
    offered_discount: AtomicU64,
    admitted_discount: AtomicU64,
    /// Slices may be taken from by what an admission is expected to cost.
    expects: AtomicBool,
    /// Charges come when tokens are long over.
    converts: AtomicBool,
    /// By how much expectations are raised, in parts of a million; at least 1.
    caution_ppm: AtomicU32,
    pub(crate) seat: u32,
    hours: ArcSwapOption<Hours>,
    /// Counts changes of standing and hours.
    version: AtomicU32,
    refusal: ArcSwapOption<Refusal>,
    /// The smallest and the largest price that found too little, since the owner last looked.
    least_unmet: AtomicI64,
    most_unmet: AtomicI64,
    /// The same of what they were expected to cost.
    least_unmet_expected: AtomicI64,
    most_unmet_expected: AtomicI64,
    arrived: Notify,
}

/// What has been asked for so far; the difference of two readings is the demand between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Demand {
    /// The sum of the prices; wraps.
    pub micros: u64,
    /// The number of opportunities; wraps.
    pub count: u64,
}

/// What the controller reads of a campaign: sums so far, all of which wrap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offer {
    /// Expected charges of all opportunities: price times chance.
    pub offered_micros: u64,
    /// Their number.
    pub offered_count: u64,
    /// Expected charges of those that were admitted.
    pub admitted_micros: u64,
    /// Their number.
    pub admitted_count: u32,
}

/// Marks the admissions of the first place.
const FIRST_PLACE: u32 = 1 << 31;

/// A chance of 1 in parts of a million.
pub const CERTAIN_PPM: u32 = 1_000_000;

/// Prices that found too little in the slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmet {
    /// The smallest.
    pub least_micros: i64,
    /// The largest.
    pub most_micros: i64,
    /// What the least costly of them was expected to cost.
    pub least_expected_micros: i64,
    /// The same of the most costly.
    pub most_expected_micros: i64,
}

impl Entity {
    pub(super) fn new(name: &CampaignId, account_no: i64, campaign_no: i64, seat: u32) -> Entity {
        Entity {
            name: Name::of(name),
            slices: <[Slice; 2]>::default(),
            current: AtomicUsize::new(0),
            rate: Rate::default(),
            standing: AtomicU8::new(0),
            has_hours: AtomicBool::new(false),
            tenant_no: AtomicU32::new(0),
            called: AtomicBool::new(false),
            demand_micros: AtomicU64::new(0),
            demand_count: AtomicU64::new(0),
            offered_discount: AtomicU64::new(0),
            admitted_discount: AtomicU64::new(0),
            chance_ppm: AtomicU32::new(CERTAIN_PPM),
            expects: AtomicBool::new(false),
            converts: AtomicBool::new(false),
            caution_ppm: AtomicU32::new(CERTAIN_PPM),
            least_unmet: AtomicI64::new(i64::MAX),
            most_unmet: AtomicI64::new(0),
            least_unmet_expected: AtomicI64::new(i64::MAX),
            most_unmet_expected: AtomicI64::new(0),
            hours: ArcSwapOption::empty(),
            version: AtomicU32::new(0),
            refusal: ArcSwapOption::empty(),
            account_no,
            campaign_no,
            seat,
            arrived: Notify::new(),
        }
    }

    /// The bare id: what comes after `campaigns/`.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name
    }

    /// Whether the campaign may spend at all.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Active,
            1 => Standing::Paused,
            _ => Standing::AccountBlocked,
        }
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        let number = match standing {
            Standing::Active => 0,
            Standing::Paused => 1,
            Standing::AccountBlocked => 2,
        };
        self.standing.store(number, Ordering::Relaxed);
    }

    pub(super) fn tenant_no(&self) -> u32 {
        self.tenant_no.load(Ordering::Relaxed)
    }

    pub(super) fn set_tenant_no(&self, tenant_no: u32) {
        self.tenant_no.store(tenant_no, Ordering::Relaxed);
    }

    /// The directory was told of it again: whatever was derived from it may be old.
    pub(super) fn note_change(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Grows with every change of standing or hours.
    pub fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether its hours and dates let it serve now.
    pub fn is_open(&self, moment: &Moment) -> bool {
        let Some(hours) = self.hours() else { return true };
        hours.as_ref().is_none_or(|hours| hours.shut(moment).is_none())
    }

    /// Its schedule; `None` when it always serves.
    pub fn schedule(&self) -> Option<Schedule> {
        let hours = self.hours()?;
        Some(hours.as_ref()?.schedule().clone())
    }

    /// The hours, unless it always serves.
    pub(super) fn hours(&self) -> Option<arc_swap::Guard<Option<Arc<Hours>>>> {
        self.has_hours.load(Ordering::Acquire).then(|| self.hours.load())
    }

    pub(super) fn set_hours(&self, hours: Option<Hours>) {
        let any = hours.is_some();
        self.hours.store(hours.map(Arc::new));
        self.has_hours.store(any, Ordering::Release);
    }

    /// Counts an opportunity that was asked for the first time; `discount_micros` is what of its
    /// price is not expected to be charged.
    pub(super) fn count_demand(&self, price_micros: i64, discount_micros: u64) {
        self.demand_micros.fetch_add(price_micros.unsigned_abs(), Ordering::Relaxed);
        self.demand_count.fetch_add(1, Ordering::Relaxed);
        if discount_micros > 0 {
            self.offered_discount.fetch_add(discount_micros, Ordering::Relaxed);
        }
    }

    /// Counts an admission; the slice has counted its price.
    pub(super) fn count_admission(&self, discount_micros: u64) {
        if discount_micros > 0 {
            self.admitted_discount.fetch_add(discount_micros, Ordering::Relaxed);
        }
    }

    /// What of a price is not expected to be charged, by the caller's chance or by what is usual
    /// here.
    pub(super) fn discount(&self, price_micros: i64, chance_ppm: Option<u32>) -> u64 {
        let chance = chance_ppm.unwrap_or_else(|| self.chance_ppm.load(Ordering::Relaxed));
        let Some(never) = CERTAIN_PPM.checked_sub(chance).filter(|never| *never > 0) else {
            return 0;
        };
        // An estimate for the controller, never part of a limit.
        (price_micros.unsigned_abs() as f64 * f64::from(never) * 1e-6) as u64
    }

    /// What an admission puts at stake: of its price, `discount_micros` is not expected.
    pub(super) fn stake(&self, price_micros: i64, discount_micros: u64) -> Stake {
        if discount_micros == 0 || !self.expects() {
            return Stake { price_micros, expected_micros: price_micros };
        }
        let expected = price_micros.saturating_sub_unsigned(discount_micros) as f64;
        let caution = f64::from(self.caution_ppm.load(Ordering::Relaxed)) * 1e-6;
        let expected_micros = inflight::at_stake(price_micros, expected, caution);
        Stake { price_micros, expected_micros }
    }

    /// Whether its slices may be taken from by what an admission is expected to cost.
    pub fn expects(&self) -> bool {
        self.expects.load(Ordering::Relaxed)
    }

    pub(super) fn set_expects(&self, expects: bool) {
        self.expects.store(expects, Ordering::Relaxed);
    }

    /// Whether it pays per conversion, so that what comes of a slice comes when it is long over.
    pub fn converts(&self) -> bool {
        self.converts.load(Ordering::Relaxed)
    }

    pub(super) fn set_converts(&self, converts: bool) {
        self.converts.store(converts, Ordering::Relaxed);
    }

    /// Raises expectations by what charges have shown (κ); never below what callers say. For the
    /// controller.
    pub fn set_caution(&self, kappa: f64) {
        let ppm = (kappa.clamp(1.0, 4.0) * f64::from(CERTAIN_PPM)) as u32;
        self.caution_ppm.store(ppm, Ordering::Relaxed);
    }

    /// Sets the chance of a charge where the caller names none. For the controller.
    pub fn set_chance(&self, ppm: u32) {
        self.chance_ppm.store(ppm.min(CERTAIN_PPM), Ordering::Relaxed);
    }

    /// What was offered and admitted so far.
    pub fn offer(&self) -> Offer {
        let demand = self.demand();
        let [first, second] = self.slices.each_ref().map(Slice::taken);
        Offer {
            offered_micros: demand
                .micros
                .wrapping_sub(self.offered_discount.load(Ordering::Relaxed)),
            offered_count: demand.count,
            admitted_micros: first
                .0
                .wrapping_add(second.0)
                .wrapping_sub(self.admitted_discount.load(Ordering::Relaxed)),
            admitted_count: first.1.wrapping_add(second.1),
        }
    }

    /// What was asked for so far.
    pub fn demand(&self) -> Demand {
        Demand {
            micros: self.demand_micros.load(Ordering::Relaxed),
            count: self.demand_count.load(Ordering::Relaxed),
        }
    }

    /// Takes a stake from the slice in use; the old one may still be in use by a slower thread.
    pub(super) fn take(&self, moment: &Moment, stake: Stake) -> Take {
        let current = self.current.load(Ordering::Acquire);
        let taken = self.take_at(current, moment, stake);
        if taken == Take::Nothing {
            // Replaced between the two loads?
            let now = self.current.load(Ordering::Acquire);
            if now != current {
                return self.take_at(now, moment, stake);
            }
        }
        taken
    }

    fn take_at(&self, index: usize, moment: &Moment, stake: Stake) -> Take {
        match self.place(index).take(moment, stake) {
            Take::Taken { slice_no, admission_no, expires_at_micros, taken_micros, low } => {
                // A slice that is extended moves to the other place, where the count is another.
                let of_first = if index.is_multiple_of(2) { FIRST_PLACE } else { 0 };
                let admission_no = admission_no & !FIRST_PLACE | of_first;
                Take::Taken { slice_no, admission_no, expires_at_micros, taken_micros, low }
            }
            Take::Short => Take::Short,
            Take::Nothing => Take::Nothing,
        }
    }

    /// Whether the slice in use covers a stake. Only a hint: the answer may be old at once.
    pub(super) fn covers(&self, stake: Stake) -> bool {
        self.place(self.current.load(Ordering::Acquire)).covers(stake)
    }

    fn place(&self, index: usize) -> &Slice {
        let [first, second] = &self.slices;
        if index.is_multiple_of(2) { first } else { second }
    }

    /// What is left of the slice in use.
    pub fn left(&self) -> Option<i64> {
        self.place(self.current.load(Ordering::Acquire)).left()
    }

    /// Puts a slice in use and closes the one before; what that had left. Owner only.
    pub fn replace(&self, terms: &Terms) -> Option<i64> {
        let old = self.current.load(Ordering::Acquire);
        let new = old.wrapping_add(1);
        self.place(new).open(terms);
        self.current.store(new, Ordering::Release);
        let left = self.place(old).close();
        self.arrived.notify_waiters();
        left
    }

    /// Takes the slice out of use for good; what it had left. Owner only.
    pub fn close(&self) -> Option<i64> {
        self.place(self.current.load(Ordering::Acquire)).close()
    }

    /// Gives the slice in use back what it need not keep. Owner only.
    pub fn credit(&self, freed_micros: i64) {
        self.place(self.current.load(Ordering::Acquire)).credit(freed_micros);
    }

    /// Takes back what is left of the slice in use, at most so much. Owner only.
    pub fn debit(&self, wanted_micros: i64) -> i64 {
        self.place(self.current.load(Ordering::Acquire)).debit(wanted_micros)
    }

    pub(super) fn refusal(&self) -> arc_swap::Guard<Option<Arc<Refusal>>> {
        self.refusal.load()
    }

    /// Remembers why there is no more, or that it is not known; wakes those who wait. Owner only.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.refusal.store(refusal.map(Arc::new));
        self.arrived.notify_waiters();
    }

    pub(super) fn note_unmet(&self, stake: Stake) {
        self.least_unmet_expected.fetch_min(stake.expected_micros, Ordering::Relaxed);
        self.most_unmet_expected.fetch_max(stake.expected_micros, Ordering::Relaxed);
        self.least_unmet.fetch_min(stake.price_micros, Ordering::Relaxed);
        self.most_unmet.fetch_max(stake.price_micros, Ordering::Relaxed);
    }

    /// The prices that found too little since the last call. Owner only.
    pub fn take_unmet(&self) -> Option<Unmet> {
        let most_micros = self.most_unmet.swap(0, Ordering::Relaxed);
        let least_micros = self.least_unmet.swap(i64::MAX, Ordering::Relaxed);
        let most_expected = self.most_unmet_expected.swap(0, Ordering::Relaxed);
        let least_expected = self.least_unmet_expected.swap(i64::MAX, Ordering::Relaxed);
        // Between the swaps a price may have moved only some of them.
        let most_expected_micros = if most_expected > 0 { most_expected } else { most_micros };
        (most_micros > 0).then(|| Unmet {
            least_micros: least_micros.min(most_micros),
            most_micros,
            least_expected_micros: least_expected.min(most_expected_micros),
            most_expected_micros,
        })
    }

    /// True for the first caller since the owner last came.
    pub(super) fn call(&self) -> bool {
        !self.called.load(Ordering::Relaxed) && !self.called.swap(true, Ordering::AcqRel)
    }

    /// The owner has come. It must look at everything else after this.
    pub(super) fn answer_call(&self) {
        self.called.store(false, Ordering::Release);
    }

    /// Wakes when a slice or a refusal arrives. Create the wait before looking once more.
    pub fn arrival(&self) -> tokio::sync::futures::Notified<'_> {
        self.arrived.notified()
    }
}

/// A campaign's id inside the entity itself: one cache line, no pointer to follow.
#[derive(Debug)]
#[repr(align(64))]
struct Name {
    bytes: [u8; MAX_ID_BYTES],
    length: u8,
}

impl Name {
    fn of(id: &CampaignId) -> Name {
        let mut bytes = [0; MAX_ID_BYTES];
        let mut length = 0u8;
        for (to, from) in bytes.iter_mut().zip(id.as_str().bytes()) {
            *to = from;
            length = length.saturating_add(1);
        }
        Name { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}
