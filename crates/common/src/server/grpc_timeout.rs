//! The header `grpc-timeout`: at most eight digits and a unit.

use std::time::Duration;

use http::HeaderMap;

/// The header's text is not a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// How many digits the protocol allows.
const MAX_DIGITS: usize = 8;

/// How long the caller waits, if it says so.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    match headers.get("grpc-timeout") {
        None => Ok(None),
        Some(value) => parse(value.as_bytes()).map(Some).ok_or(Malformed),
    }
}

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return None;
    }
    let mut count: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Eight digits stay far below the range.
        count = count * 10 + u64::from(digit - b'0');
    }
    match unit {
        b'H' => Some(Duration::from_secs(count * 3_600)),
        b'M' => Some(Duration::from_secs(count * 60)),
        b'S' => Some(Duration::from_secs(count)),
        b'm' => Some(Duration::from_millis(count)),
        b'u' => Some(Duration::from_micros(count)),
        b'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_table() {
        for (text, read) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("9u", Some(Duration::from_micros(9))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("0S", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("100000000n", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("-5S", None),
            ("+5S", None),
            ("1.5S", None),
            ("5 S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            assert_eq!(of(&headers), read.map(Some).ok_or(Malformed), "{text:?}");
        }
        assert_eq!(of(&HeaderMap::new()), Ok(None));
    }
}
