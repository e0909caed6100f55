//! An accelerated clock for demonstrations: a week in a few minutes.
//!
//! Its time is `start + speed × (time since it began)`. When it began is either the moment the
//! process started or a wall clock moment that is given, so that two processes that are told the
//! same three values tell the same time, whenever each of them starts. After the start it is
//! carried by `CLOCK_BOOTTIME`, like the system clock.

use chrono::{DateTime, Utc};

use super::clock::InvalidClock;
use super::system::{boottime_micros, wall_micros};

/// A thousand days in a day and a half: beyond this a network round trip is hours.
const MAX_SPEED: u32 = 100_000;

#[derive(Debug)]
pub(super) struct SimulatedClock {
    start_micros: i64,
    speed: u32,
    /// What `CLOCK_BOOTTIME` shows when our time is `start`.
    began_boottime_micros: i64,
}

impl SimulatedClock {
    /// Reads `<rfc3339 start>,<speed>[,<rfc3339 wall moment at which it begins>]`.
    pub(super) fn parse(text: &str) -> Result<SimulatedClock, InvalidClock> {
        let mut parts = text.split(',');
        let start = instant(parts.next().unwrap_or_default())?;
        let speed = parts
            .next()
            .and_then(|part| part.trim().parse().ok())
            .filter(|speed| (1..=MAX_SPEED).contains(speed))
            .ok_or(InvalidClock::Speed)?;
        let (boottime, wall) = (boottime_micros(), wall_micros());
        let began = match parts.next() {
            Some(part) => {
                let lead = instant(part)?.timestamp_micros().saturating_sub(wall);
                boottime.saturating_add(lead)
            }
            None => boottime,
        };
        if parts.next().is_some() {
            return Err(InvalidClock::Form);
        }
        Ok(SimulatedClock {
            start_micros: start.timestamp_micros(),
            speed,
            began_boottime_micros: began,
        })
    }

    pub(super) fn now_micros(&self) -> i64 {
        self.at_boottime(boottime_micros())
    }

    /// Before it begins the clock stands at its start.
    fn at_boottime(&self, boottime_micros: i64) -> i64 {
        let elapsed = boottime_micros.saturating_sub(self.began_boottime_micros).max(0);
        self.start_micros.saturating_add(elapsed.saturating_mul(i64::from(self.speed)))
    }

    pub(super) fn speed(&self) -> u32 {
        self.speed
    }
}

fn instant(text: &str) -> Result<DateTime<Utc>, InvalidClock> {
    DateTime::parse_from_rfc3339(text.trim())
        .map(|moment| moment.with_timezone(&Utc))
        .map_err(|_| InvalidClock::Instant(text.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_speed_times_faster_from_its_start() {
        let clock = SimulatedClock::parse("2025-03-31T00:00:00+03:00,1000").unwrap();
        let began = clock.began_boottime_micros;
        let start = clock.start_micros;
        assert_eq!(start, 1_743_368_400_000_000);
        assert_eq!(clock.at_boottime(began), start);
        assert_eq!(clock.at_boottime(began + 86_400_000), start + 86_400_000_000);
        assert_eq!(clock.at_boottime(began - 5), start, "it stands still before it begins");
        assert!(clock.now_micros() >= start);
    }

    #[test]
    fn two_processes_given_the_same_moment_agree() {
        let began = DateTime::from_timestamp_micros(wall_micros() - 3_600_000_000).unwrap();
        let text = format!("2025-03-31T00:00:00Z,100,{}", began.to_rfc3339());
        let (first, second) =
            (SimulatedClock::parse(&text).unwrap(), SimulatedClock::parse(&text).unwrap());
        let apart = first.now_micros() - second.now_micros();
        assert!(apart.abs() < 100 * 1_000_000, "apart by {apart} simulated microseconds");
        assert!(first.now_micros() - first.start_micros >= 100 * 3_599_000_000);
    }

    #[test]
    fn what_cannot_be_a_clock_is_refused() {
        for text in [
            "",
            "2025-03-31,10",
            "2025-03-31T00:00:00Z",
            "2025-03-31T00:00:00Z,0",
            "2025-03-31T00:00:00Z,-1",
            "2025-03-31T00:00:00Z,1.5",
            "2025-03-31T00:00:00Z,100001",
            "2025-03-31T00:00:00Z,10,yesterday",
            "2025-03-31T00:00:00Z,10,2025-03-31T00:00:00Z,",
        ] {
            assert!(SimulatedClock::parse(text).is_err(), "{text:?}");
        }
    }
}
