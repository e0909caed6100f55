//! The clock itself: which time it is, and waiting for a time to come.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::simulated::SimulatedClock;
use super::system::{Anchored, SystemClock, boottime_micros};

/// The longest real sleep before the clock is asked again, so that an anchor that moved the time
/// while somebody sleeps is noticed within it.
const MAX_NAP: Duration = Duration::from_secs(60);

/// Says what time it is. Cheap to clone; all clones tell the same time.
///
/// Its time never goes back within a process and has whole microseconds, as PostgreSQL has.
#[derive(Clone)]
pub struct Clock(Arc<Kind>);

enum Kind {
    System(SystemClock),
    Manual(Manual),
    Simulated(SimulatedClock),
}

/// A time that somebody moves, as one host knows it.
struct Manual {
    /// Microseconds since 1970; all hosts share it.
    time: watch::Sender<i64>,
    /// How far this host is ahead of it.
    ahead_micros: AtomicI64,
    latest_micros: AtomicI64,
}

impl Manual {
    fn of(time: watch::Sender<i64>) -> Manual {
        Manual { time, ahead_micros: AtomicI64::new(0), latest_micros: AtomicI64::new(i64::MIN) }
    }

    fn now_micros(&self) -> i64 {
        let now = self.time.borrow().saturating_add(self.ahead_micros.load(Ordering::Acquire));
        now.max(self.latest_micros.fetch_max(now, Ordering::AcqRel))
    }
}

/// Moves a manual clock. All handles and clocks made together share one time.
#[derive(Clone, Debug)]
pub struct ManualClock(Clock);

/// Puts one host's idea of the time off the time of [`ManualClock`].
#[derive(Clone, Debug)]
pub struct HostClock(Clock);

/// The text does not describe a clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidClock {
    /// Neither of the two forms.
    #[error("a clock is `system` or `simulated:START,SPEED[,BEGINS]`")]
    Form,
    /// A moment that cannot be read.
    #[error("`{0}` is not a moment such as 2025-03-31T00:00:00+03:00")]
    Instant(String),
    /// A speed that is missing or beyond the bounds.
    #[error("the speed of a simulated clock is a whole number from 1 to 100000")]
    Speed,
}

impl Clock {
    /// The clock of a service: begins with the host's wall clock, until it is [anchored] to the
    /// database's time.
    ///
    /// [anchored]: Clock::anchor
    pub fn system() -> Clock {
        Clock(Arc::new(Kind::System(SystemClock::new())))
    }

    /// A clock that stands until it is moved, and what moves it.
    pub fn manual(start: DateTime<Utc>) -> (Clock, ManualClock) {
        let (time, _) = watch::channel(start.timestamp_micros());
        let clock = Clock(Arc::new(Kind::Manual(Manual::of(time))));
        (clock.clone(), ManualClock(clock))
    }

    /// Reads the setting `clock`: `system`, or `simulated:<rfc3339 start>,<speed>` with an
    /// optional third part, the wall clock moment (rfc3339) at which the simulated time begins.
    pub fn parse(text: &str) -> Result<Clock, InvalidClock> {
        if text == "system" {
            return Ok(Clock::system());
        }
        let simulated = text.strip_prefix("simulated:").ok_or(InvalidClock::Form)?;
        Ok(Clock(Arc::new(Kind::Simulated(SimulatedClock::parse(simulated)?))))
    }

    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match &*self.0 {
            Kind::System(clock) => clock.now_micros(),
            Kind::Manual(manual) => manual.now_micros(),
            Kind::Simulated(clock) => clock.now_micros(),
        };
        DateTime::from_timestamp_micros(micros).expect("a clock stays inside the calendar")
    }

    /// Microseconds that only their differences give a meaning: they pass at the clock's speed
    /// and no anchor moves them. For deadlines of leases.
    pub fn monotonic_micros(&self) -> i64 {
        match &*self.0 {
            Kind::System(_) => boottime_micros(),
            Kind::Manual(manual) => *manual.time.borrow(),
            Kind::Simulated(clock) => clock.now_micros(),
        }
    }

    /// Sets a system clock to the time of the database, read this instant. Other clocks have a
    /// time of their own and answer `None`.
    pub fn anchor(&self, database_now: DateTime<Utc>) -> Option<Anchored> {
        match &*self.0 {
            Kind::System(clock) => Some(clock.anchor(database_now)),
            Kind::Manual(_) | Kind::Simulated(_) => None,
        }
    }

    /// Our time less the host's wall clock, for the metric; zero unless this is a system clock.
    pub fn wall_difference_micros(&self) -> i64 {
        match &*self.0 {
            Kind::System(clock) => clock.wall_difference_micros(),
            Kind::Manual(_) | Kind::Simulated(_) => 0,
        }
    }

    /// How long to wait for so much of this clock's time to pass: less than it for a simulated
    /// clock. A manual clock does not run; wait for it with [`Clock::sleep`].
    pub fn real_duration(&self, duration: Duration) -> Duration {
        match &*self.0 {
            Kind::System(_) | Kind::Manual(_) => duration,
            Kind::Simulated(clock) => duration / clock.speed(),
        }
    }

    /// How much of this clock's time passes in so much real time: more than it for a simulated
    /// clock.
    pub fn passes_in(&self, real: Duration) -> Duration {
        match &*self.0 {
            Kind::System(_) | Kind::Manual(_) => real,
            Kind::Simulated(clock) => real.saturating_mul(clock.speed()),
        }
    }

    /// Waits until so much of this clock's time has passed.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits until this clock shows `moment`. Under a manual clock somebody has to move it there.
    pub async fn sleep_until(&self, moment: DateTime<Utc>) {
        if let Kind::Manual(manual) = &*self.0 {
            let mut time = manual.time.subscribe();
            // The sender lives as long as `self`, so the wait cannot fail.
            let _ = time.wait_for(|_| manual.now_micros() >= moment.timestamp_micros()).await;
            return;
        }
        loop {
            let left = moment - self.now();
            match left.to_std() {
                Ok(left) if !left.is_zero() => {
                    // A microsecond more, so that the division for a simulated clock does not
                    // end just before the moment and go round once again.
                    let nap = self.real_duration(left) + Duration::from_micros(1);
                    tokio::time::sleep(nap.min(MAX_NAP)).await;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// What a clock of [`ManualClock`] or [`HostClock`] is.
    fn manual_kind(&self) -> &Manual {
        let Kind::Manual(manual) = &*self.0 else { unreachable!("made by Clock::manual only") };
        manual
    }
}

impl ManualClock {
    /// The time.
    pub fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    /// Lets so much time pass.
    pub fn advance(&self, duration: Duration) {
        self.set(self.now() + duration);
    }

    /// Moves the clock to a moment.
    ///
    /// # Panics
    /// When the moment is in the past: a clock does not go back.
    pub fn set(&self, moment: DateTime<Utc>) {
        let moment = moment.timestamp_micros();
        self.0.manual_kind().time.send_modify(|micros| {
            assert!(*micros <= moment, "a clock does not go back");
            *micros = moment;
        });
    }

    /// The clock of one host of several, and what makes it jump: its deadlines pass with the shared
    /// time, what time it is may be off.
    pub fn host(&self) -> (Clock, HostClock) {
        let clock = Clock(Arc::new(Kind::Manual(Manual::of(self.0.manual_kind().time.clone()))));
        (clock.clone(), HostClock(clock))
    }
}

impl HostClock {
    /// Now the host is so much ahead of the shared time, or behind it. Its time stands still rather
    /// than go back.
    pub fn jump_to(&self, ahead_micros: i64) {
        let Kind::Manual(manual) = &*self.0.0 else {
            unreachable!("made by ManualClock::host only")
        };
        manual.ahead_micros.store(ahead_micros, Ordering::Release);
    }
}

impl FromStr for Clock {
    type Err = InvalidClock;

    fn from_str(text: &str) -> Result<Clock, InvalidClock> {
        Clock::parse(text)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &*self.0 {
            Kind::System(_) => "system",
            Kind::Manual(_) => "manual",
            Kind::Simulated(_) => "simulated",
        };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_manual_clock_moves_only_when_it_is_moved() {
        let (clock, hand) = Clock::manual(instant("2025-03-31T20:59:59.999Z"));
        let mark = clock.monotonic_micros();
        hand.advance(Duration::from_millis(1));
        assert_eq!(clock.now(), instant("2025-03-31T21:00:00Z"));
        assert_eq!(clock.monotonic_micros() - mark, 1_000);
        hand.set(instant("2025-04-01T00:00:00Z"));
        assert_eq!(clock.clone().now(), hand.now());
        assert_eq!(
            (clock.anchor(instant("2030-01-01T00:00:00Z")), clock.now()),
            (None, hand.now())
        );
    }

    #[test]
    fn a_hosts_clock_is_off_and_its_deadlines_are_not() {
        let (clock, hand) = Clock::manual(instant("2025-03-31T00:00:00Z"));
        let (host, jumps) = hand.host();
        let mark = host.monotonic_micros();
        jumps.jump_to(2_000_000);
        assert_eq!(host.now(), clock.now() + Duration::from_secs(2));
        jumps.jump_to(-1_000_000);
        assert_eq!(host.now(), clock.now() + Duration::from_secs(2), "it stands still");
        hand.advance(Duration::from_secs(10));
        assert_eq!(host.now(), clock.now() - Duration::from_secs(1));
        assert_eq!(host.monotonic_micros() - mark, 10_000_000);
    }

    #[test]
    #[should_panic(expected = "a clock does not go back")]
    fn a_manual_clock_does_not_go_back() {
        let (_, hand) = Clock::manual(instant("2025-03-31T00:00:00Z"));
        hand.set(instant("2025-03-30T00:00:00Z"));
    }

    #[test]
    fn a_system_clock_never_goes_back_and_has_whole_microseconds() {
        let clock = Clock::parse("system").unwrap();
        let mut latest = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= latest);
            latest = now;
        }
        assert_eq!(latest.timestamp_subsec_nanos() % 1_000, 0);
    }

    #[test]
    fn clocks_are_described_in_words() {
        assert!(Clock::parse("simulated:2025-03-31T00:00:00+03:00,3600").is_ok());
        for (text, error) in [
            ("", InvalidClock::Form),
            ("System", InvalidClock::Form),
            ("manual", InvalidClock::Form),
            ("simulated:now,1", InvalidClock::Instant("now".to_owned())),
            ("simulated:2025-03-31T00:00:00Z,fast", InvalidClock::Speed),
        ] {
            assert_eq!(Clock::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[tokio::test]
    async fn sleeping_on_a_manual_clock_ends_when_it_is_moved_there() {
        let (clock, hand) = Clock::manual(instant("2025-03-31T00:00:00Z"));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(60)).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        hand.advance(Duration::from_secs(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), instant("2025-03-31T00:01:00Z"));
    }

    #[tokio::test]
    async fn sleeping_on_a_simulated_clock_takes_less_real_time() {
        let clock = Clock::parse("simulated:2025-03-31T00:00:00Z,100000").unwrap();
        assert_eq!(clock.real_duration(Duration::from_secs(100_000)), Duration::from_secs(1));
        let until = clock.now() + Duration::from_secs(600);
        clock.sleep_until(until).await;
        assert!(clock.now() >= until);
    }
}
