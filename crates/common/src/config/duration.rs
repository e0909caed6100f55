//! Durations as people write them: `250ms`, `30s`, `15m`, `1h30m`, `400d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The units, the largest first: the order in which a duration is printed.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A duration in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration(u64);

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 250ms, 30s, 15m, 1h30m or 7d")]
pub struct InvalidDuration;

impl HumanDuration {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> HumanDuration {
        HumanDuration(millis)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u32) -> HumanDuration {
        HumanDuration(seconds as u64 * 1_000)
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// The duration in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(duration: HumanDuration) -> Duration {
        duration.get()
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<HumanDuration, InvalidDuration> {
        let mut rest = text;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let letters =
                after.len() - after.trim_start_matches(|c: char| c.is_ascii_lowercase()).len();
            let (unit, after) = after.split_at(letters);
            let number: u64 = number.parse().map_err(|_| InvalidDuration)?;
            let (_, millis) =
                UNITS.iter().find(|(name, _)| *name == unit).ok_or(InvalidDuration)?;
            total = number
                .checked_mul(*millis)
                .and_then(|millis| total.checked_add(millis))
                .ok_or(InvalidDuration)?;
            rest = after;
        }
        if text.is_empty() { Err(InvalidDuration) } else { Ok(HumanDuration(total)) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn duration_table() {
        for (text, millis) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("0s", 0),
            ("90s", 90_000),
        ] {
            assert_eq!(text.parse(), Ok(HumanDuration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "1S", "1y", "99999999999999999999s"] {
            assert_eq!(text.parse::<HumanDuration>(), Err(InvalidDuration), "{text:?}");
        }
        assert_eq!(HumanDuration::from_secs(90).to_string(), "1m30s");
    }

    proptest! {
        /// What is printed reads back as the same duration.
        #[test]
        fn durations_read_back(millis: u64) {
            let duration = HumanDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
