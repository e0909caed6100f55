//! A replica's memory of one slice: a single atomic that admissions take from.
//!
//! The word holds what is left (48 bits of micro-units) under a generation (16 bits), so one
//! compare-exchange both takes the money and proves that the slice read was still the same one.
//! The other fields are written only while the word says CLOSED, before the next generation is
//! published; a reader that saw a field of the next generation has, by the release of that field
//! and its own acquire, also seen that the word was closed, so its compare-exchange fails.
//!
//! A slice is taken from by whole prices, or, when its terms name a largest price, by what each
//! admission is expected to cost. Then the word is no money but leave: how much more expectation
//! the slice's money bears together with the margin for bad luck. The owner works that out
//! (`leases::pool`); here a decision stays one subtraction.
//!
//! One owner (the leases) opens, credits, debits and closes; any number of threads take. Closing is a
//! swap: what it returns is final, so what was taken in all is known exactly (G4).

#![deny(clippy::arithmetic_side_effects)]

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

use super::Moment;

const LEFT_BITS: u32 = 48;
const LEFT_MASK: u64 = (1 << LEFT_BITS) - 1;
const CLOSED: u64 = LEFT_MASK;

/// The largest slice: what fits into the word beside the mark of a closed one, 281 million units.
pub const MAX_SLICE_MICROS: i64 = (1 << LEFT_BITS) - 2;

/// What the owner opens: the terms of a slice that was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Its number within the account.
    pub slice_no: i64,
    /// How much; at most [`MAX_SLICE_MICROS`].
    pub amount_micros: i64,
    /// Its Moscow day as days of the common era.
    pub day_no: i32,
    /// No admission from this moment (microseconds of Unix time).
    pub expires_at_micros: i64,
    /// No admission from this reading of the monotonic clock either, whatever the wall says.
    pub deadline_monotonic_micros: i64,
    /// When less is left, the owner wants to know.
    pub low_water_micros: i64,
    /// Admissions of at most this price take what they are expected to cost, dearer ones nothing.
    /// Zero: every admission takes its whole price.
    pub largest_micros: i64,
}

/// What an admission may cost, and what it is expected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stake {
    /// The price; positive.
    pub price_micros: i64,
    /// Price times chance of a charge, above zero and at most the price.
    pub expected_micros: i64,
}

/// What an admission got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The price, out of this slice.
    Taken {
        /// The slice.
        slice_no: i64,
        /// The admission's number within it.
        admission_no: u32,
        /// The slice's expiry.
        expires_at_micros: i64,
        /// What the slice lost by it: the price, or what it is expected to cost.
        taken_micros: i64,
        /// Little is left: time to fetch more.
        low: bool,
    },
    /// Less is left than the price.
    Short,
    /// There is no slice, or its time is over.
    Nothing,
}

/// A place for a slice, one cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct Slice {
    word: AtomicU64,
    slice_no: AtomicI64,
    expires_at: AtomicI64,
    deadline: AtomicI64,
    low_water: AtomicI64,
    /// Zero: by whole prices.
    largest: AtomicU64,
    day_no: AtomicI32,
    /// The prices of all that was ever admitted here, of any slice; wraps.
    taken: AtomicU64,
    /// Never reset: unique within any slice as long as a slice has fewer than 2^32 admissions.
    admissions: AtomicU32,
}

impl Default for Slice {
    fn default() -> Self {
        Slice {
            word: AtomicU64::new(CLOSED),
            slice_no: AtomicI64::new(0),
            expires_at: AtomicI64::new(i64::MIN),
            deadline: AtomicI64::new(i64::MIN),
            low_water: AtomicI64::new(0),
            largest: AtomicU64::new(0),
            day_no: AtomicI32::new(0),
            taken: AtomicU64::new(0),
            admissions: AtomicU32::new(0),
        }
    }
}

impl Slice {
    /// Takes a stake, all of it or nothing.
    pub fn take(&self, moment: &Moment, stake: Stake) -> Take {
        let Ok(price) = u64::try_from(stake.price_micros) else { return Take::Short };
        let Ok(expected) = u64::try_from(stake.expected_micros) else { return Take::Short };
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let left = word & LEFT_MASK;
            if left == CLOSED {
                return Take::Nothing;
            }
            let slice_no = self.slice_no.load(Ordering::Acquire);
            let expires_at_micros = self.expires_at.load(Ordering::Acquire);
            if moment.micros >= expires_at_micros
                || moment.monotonic_micros >= self.deadline.load(Ordering::Acquire)
                || moment.day_no != self.day_no.load(Ordering::Acquire)
            {
                return Take::Nothing;
            }
            let low_water = self.low_water.load(Ordering::Acquire);
            let largest = self.largest.load(Ordering::Acquire);
            let amount = match largest {
                0 => price,
                largest if price <= largest => expected,
                _ => return Take::Short,
            };
            let Some(rest) = left.checked_sub(amount) else { return Take::Short };
            let next = (word & !LEFT_MASK) | rest;
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let admission_no = self.admissions.fetch_add(1, Ordering::Relaxed);
                    self.taken.fetch_add(price, Ordering::Relaxed);
                    let low = i64::try_from(rest).is_ok_and(|rest| rest < low_water);
                    let taken_micros = i64::try_from(amount).unwrap_or(stake.price_micros);
                    return Take::Taken {
                        slice_no,
                        admission_no,
                        expires_at_micros,
                        taken_micros,
                        low,
                    };
                }
                Err(seen) => word = seen,
            }
        }
    }

    /// Opens a slice here. Owner only; the place must be closed.
    pub fn open(&self, terms: &Terms) {
        let word = self.word.load(Ordering::Acquire);
        debug_assert_eq!(word & LEFT_MASK, CLOSED, "a slice is opened in a closed place");
        self.slice_no.store(terms.slice_no, Ordering::Release);
        self.expires_at.store(terms.expires_at_micros, Ordering::Release);
        self.deadline.store(terms.deadline_monotonic_micros, Ordering::Release);
        self.low_water.store(terms.low_water_micros, Ordering::Release);
        self.largest.store(terms.largest_micros.max(0).unsigned_abs(), Ordering::Release);
        self.day_no.store(terms.day_no, Ordering::Release);
        let amount = terms.amount_micros.clamp(0, MAX_SLICE_MICROS).unsigned_abs();
        let generation = (word & !LEFT_MASK).wrapping_add(1 << LEFT_BITS);
        self.word.store(generation | amount, Ordering::Release);
    }

    /// Closes it for ever and gives what was left; `None` when it was closed before. Owner only.
    pub fn close(&self) -> Option<i64> {
        let generation = self.word.load(Ordering::Acquire) & !LEFT_MASK;
        let left = self.word.swap(generation | CLOSED, Ordering::AcqRel) & LEFT_MASK;
        if left == CLOSED { None } else { i64::try_from(left).ok() }
    }

    /// Gives back what settled below its reservation or was cancelled. Owner only; what is given
    /// back was taken from this slice before, so the word cannot overflow into the generation.
    pub fn credit(&self, freed_micros: i64) {
        let Ok(freed) = u64::try_from(freed_micros) else { return };
        let word = self.word.load(Ordering::Acquire);
        if word & LEFT_MASK != CLOSED {
            self.word.fetch_add(freed, Ordering::AcqRel);
        }
    }

    /// Takes back what is left, at most so much; gives what it got. Owner only.
    pub fn debit(&self, wanted_micros: i64) -> i64 {
        let Ok(wanted) = u64::try_from(wanted_micros) else { return 0 };
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let left = word & LEFT_MASK;
            if left == CLOSED {
                return 0;
            }
            let cut = left.min(wanted);
            let next = (word & !LEFT_MASK) | left.saturating_sub(cut);
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return i64::try_from(cut).unwrap_or(0),
                Err(seen) => word = seen,
            }
        }
    }

    /// The prices of all that was ever admitted here, and how many; both wrap.
    pub(super) fn taken(&self) -> (u64, u32) {
        (self.taken.load(Ordering::Relaxed), self.admissions.load(Ordering::Relaxed))
    }

    /// Whether it covers a stake at this moment. Only a hint.
    pub(super) fn covers(&self, stake: Stake) -> bool {
        let amount = match self.largest.load(Ordering::Acquire) {
            0 => stake.price_micros,
            largest if stake.price_micros.unsigned_abs() <= largest => stake.expected_micros,
            _ => return false,
        };
        self.left().is_some_and(|left| left >= amount)
    }

    /// What is left; `None` when closed.
    pub fn left(&self) -> Option<i64> {
        let left = self.word.load(Ordering::Acquire) & LEFT_MASK;
        if left == CLOSED { None } else { i64::try_from(left).ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    const DAY: i32 = 739_341;

    fn moment(micros: i64) -> Moment {
        Moment { micros, monotonic_micros: micros, ..Moment::for_tests(DAY) }
    }

    fn terms(slice_no: i64, amount_micros: i64) -> Terms {
        Terms {
            slice_no,
            amount_micros,
            day_no: DAY,
            expires_at_micros: 1_000,
            deadline_monotonic_micros: 900,
            low_water_micros: amount_micros / 2,
            largest_micros: 0,
        }
    }

    fn whole(price_micros: i64) -> Stake {
        Stake { price_micros, expected_micros: price_micros }
    }

    #[test]
    fn a_slice_gives_what_it_has_and_no_more() {
        let slice = Slice::default();
        assert_eq!(slice.take(&moment(0), whole(1)), Take::Nothing, "none yet");
        slice.open(&terms(7, 100));
        let taken = |admission_no, taken_micros, low| Take::Taken {
            slice_no: 7,
            admission_no,
            expires_at_micros: 1_000,
            taken_micros,
            low,
        };
        assert_eq!(slice.take(&moment(0), whole(50)), taken(0, 50, false));
        let doubtful = Stake { price_micros: 10, expected_micros: 1 };
        assert_eq!(slice.take(&moment(0), doubtful), taken(1, 10, true), "by whole prices");
        assert_eq!(slice.take(&moment(0), whole(41)), Take::Short);
        assert_eq!(slice.take(&moment(0), whole(i64::MAX)), Take::Short);
        assert_eq!(slice.take(&moment(0), whole(-1)), Take::Short);
        slice.credit(10);
        assert_eq!(slice.take(&moment(0), whole(50)), taken(2, 50, true));
        assert_eq!(slice.close(), Some(0));
        assert_eq!(slice.close(), None);
        slice.credit(10);
        assert_eq!((slice.left(), slice.take(&moment(0), whole(1))), (None, Take::Nothing));
    }

    /// Section 5: leave is taken by what an admission is expected to cost.
    #[test]
    fn leave_goes_by_expectation_and_no_dearer_price_takes_of_it() {
        let slice = Slice::default();
        slice.open(&Terms { largest_micros: 100, ..terms(7, 10) });
        let stake = |price_micros, expected_micros| Stake { price_micros, expected_micros };
        let taken = slice.take(&moment(0), stake(100, 2));
        assert!(matches!(taken, Take::Taken { taken_micros: 2, .. }), "{taken:?}");
        assert_eq!(
            slice.take(&moment(0), stake(101, 2)),
            Take::Short,
            "dearer than the margin knows"
        );
        assert_eq!(slice.take(&moment(0), stake(90, 9)), Take::Short, "more than is left");
        assert_eq!((slice.left(), slice.taken()), (Some(8), (100, 1)));
        assert_eq!((slice.debit(5), slice.left()), (5, Some(3)));
        assert_eq!((slice.debit(5), slice.left()), (3, Some(0)), "no more than there is");
        slice.close();
        assert_eq!((slice.debit(5), slice.left()), (0, None));
    }

    #[test]
    fn a_slice_ends_at_its_expiry_at_its_deadline_and_with_its_day() {
        let slice = Slice::default();
        slice.open(&Terms { deadline_monotonic_micros: 2_000, ..terms(1, 100) });
        assert!(matches!(slice.take(&moment(999), whole(1)), Take::Taken { .. }));
        assert_eq!(slice.take(&moment(1_000), whole(1)), Take::Nothing, "expiry");
        slice.close();
        slice.open(&terms(2, 100));
        assert!(matches!(slice.take(&moment(899), whole(1)), Take::Taken { .. }));
        assert_eq!(slice.take(&moment(900), whole(1)), Take::Nothing, "deadline");
        let tomorrow = Moment { day_no: DAY + 1, ..moment(0) };
        assert_eq!(slice.take(&tomorrow, whole(1)), Take::Nothing, "day");
    }

    #[test]
    fn the_largest_slice_fits_and_its_generation_wraps() {
        let slice = Slice::default();
        for no in 0..70_000 {
            slice.open(&terms(no, MAX_SLICE_MICROS));
            assert!(
                matches!(slice.take(&moment(0), whole(1)), Take::Taken { slice_no, .. } if slice_no == no)
            );
            assert_eq!(slice.close(), Some(MAX_SLICE_MICROS - 1));
        }
    }

    /// Threads take while the owner replaces slice after slice: every slice is taken from exactly
    /// as often as its owner finds when it closes it, and never beyond its amount.
    #[test]
    fn replacing_under_fire_loses_and_invents_nothing() {
        const SLICES: i64 = 2_000;
        const AMOUNT: i64 = 50;
        let slice = Arc::new(Slice::default());
        let done = Arc::new(AtomicBool::new(false));
        let takers: Vec<_> = (0..4)
            .map(|_| {
                let (slice, done) = (Arc::clone(&slice), Arc::clone(&done));
                std::thread::spawn(move || {
                    let mut taken = vec![0i64; SLICES as usize];
                    let mut numbers = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        if let Take::Taken { slice_no, admission_no, expires_at_micros, .. } =
                            slice.take(&moment(0), whole(3))
                        {
                            assert_eq!(expires_at_micros, 1_000 + slice_no, "fields of one slice");
                            taken[slice_no as usize] += 3;
                            numbers.push(admission_no);
                        }
                    }
                    (taken, numbers)
                })
            })
            .collect();
        let mut found = vec![0i64; SLICES as usize];
        for no in 0..SLICES {
            slice.open(&Terms { expires_at_micros: 1_000 + no, ..terms(no, AMOUNT) });
            for _ in 0..no % 50 {
                std::hint::spin_loop();
            }
            slice.credit(1);
            std::thread::yield_now();
            found[no as usize] = AMOUNT + 1 - slice.close().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let mut sums = vec![0i64; SLICES as usize];
        let mut numbers = Vec::new();
        for taker in takers {
            let (taken, theirs) = taker.join().unwrap();
            for (sum, taken) in sums.iter_mut().zip(taken) {
                *sum += taken;
            }
            numbers.extend(theirs);
        }
        assert_eq!(sums, found);
        assert!(sums.iter().all(|sum| *sum <= AMOUNT + 1));
        assert!(sums.iter().sum::<i64>() > 0, "the takers never met an open slice");
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "admission numbers are unique");
    }
}
