//! The clock of a running service: the database's time, carried by the machine's.
//!
//! The only file that reads the wall clock. It is read once, to begin with, and afterwards only to
//! say how far it is from ours: a jump of a host's wall clock moves nothing here. In between the
//! time is carried by `CLOCK_BOOTTIME`, which cannot be set and does not stand still while a
//! virtual machine is suspended, as `CLOCK_MONOTONIC` (Rust's `Instant`) does.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};

/// What an anchoring did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchored {
    /// How far our time was moved; positive when it had been behind the database's.
    pub moved_micros: i64,
    /// Our time less the host's wall clock. Over a second is worth a warning.
    pub wall_difference_micros: i64,
}

/// Our time is `CLOCK_BOOTTIME + offset`, and never less than it was.
#[derive(Debug)]
pub(super) struct SystemClock {
    offset_micros: AtomicI64,
    latest_micros: AtomicI64,
}

impl SystemClock {
    pub(super) fn new() -> SystemClock {
        SystemClock {
            offset_micros: AtomicI64::new(wall_micros().saturating_sub(boottime_micros())),
            latest_micros: AtomicI64::new(i64::MIN),
        }
    }

    pub(super) fn now_micros(&self) -> i64 {
        let now = boottime_micros().saturating_add(self.offset_micros.load(Ordering::Acquire));
        // An anchor that moves us back makes the clock stand still until the time catches up.
        now.max(self.latest_micros.fetch_max(now, Ordering::AcqRel))
    }

    pub(super) fn anchor(&self, now: DateTime<Utc>) -> Anchored {
        let offset = now.timestamp_micros().saturating_sub(boottime_micros());
        let before = self.offset_micros.swap(offset, Ordering::AcqRel);
        Anchored {
            moved_micros: offset.saturating_sub(before),
            wall_difference_micros: self.wall_difference_micros(),
        }
    }

    pub(super) fn wall_difference_micros(&self) -> i64 {
        let ours = boottime_micros().saturating_add(self.offset_micros.load(Ordering::Acquire));
        ours.saturating_sub(wall_micros())
    }
}

/// Microseconds of `CLOCK_BOOTTIME`.
pub(super) fn boottime_micros() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

/// Microseconds since 1970 by the host's wall clock.
#[allow(clippy::disallowed_methods, reason = "the clock itself: the one reader of the wall clock")]
pub(super) fn wall_micros() -> i64 {
    Utc::now().timestamp_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn now(clock: &SystemClock) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(clock.now_micros()).unwrap()
    }

    const SECOND: i64 = 1_000_000;

    #[test]
    fn an_anchor_moves_the_clock_to_the_databases_time() {
        let clock = SystemClock::new();
        assert!(clock.wall_difference_micros().abs() < SECOND);
        let tomorrow = now(&clock) + TimeDelta::days(1);
        let anchored = clock.anchor(tomorrow);
        assert!((anchored.moved_micros - 86_400 * SECOND).abs() < SECOND, "{anchored:?}");
        assert!((anchored.wall_difference_micros - 86_400 * SECOND).abs() < SECOND);
        let ahead = now(&clock) - tomorrow;
        assert!(ahead >= TimeDelta::zero() && ahead < TimeDelta::seconds(1), "{ahead}");
    }

    #[test]
    fn an_anchor_in_the_past_stops_the_clock_but_does_not_turn_it_back() {
        let clock = SystemClock::new();
        let before = now(&clock);
        let anchored = clock.anchor(before - TimeDelta::hours(1));
        assert!(anchored.moved_micros < -3_599 * SECOND);
        let after = now(&clock);
        assert!(before <= after && after < before + TimeDelta::seconds(1));
        assert_eq!(now(&clock), after, "it waits for the time to catch up");
    }
}
