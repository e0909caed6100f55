//! Tokens: what an admitted caller shows to settle or cancel.
//!
//! A fixed layout, little end first, and the first 16 bytes of its keyed BLAKE3:
//!
//! ```text
//! version 1 | account 8 | campaign 8 | slice 8 | admission 4 | day 4 | reserved 8 | expires 8 |            MAC 16
//! version 2 | account 8 | campaign 8 | slice 8 | admission 4 | day 4 | reserved 8 | expires 8 | expected 8 | MAC 16
//! ```
//!
//! Version 1 is an admission that took its whole price from its slice, version 2 one that took what
//! it is expected to cost: whoever settles or cancels it tells the slice how much expectation has
//! ended.
//!
//! Any replica opens any token, for all of them share the key. A token proves its own content and
//! nothing more: whether it was used is for the charges to know. The MAC is compared without
//! telling by time how much of it was right.

use adspend_common::time::Day;
use bytes::Bytes;
use chrono::{DateTime, Datelike, NaiveDate, Utc};

/// Whole prices.
const WHOLE: u8 = 1;
const WHOLE_BYTES: usize = 49;
/// With what is expected.
const EXPECTED: u8 = 2;
const EXPECTED_BYTES: usize = WHOLE_BYTES + 8;
const MAC_BYTES: usize = 16;

/// The length of the longest token.
pub const TOKEN_BYTES: usize = EXPECTED_BYTES + MAC_BYTES;

/// An admission: leave to spend up to an amount until a moment, out of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// Whose money.
    pub account_no: i64,
    /// For which campaign.
    pub campaign_no: i64,
    /// Out of which slice of the account.
    pub slice_no: i64,
    /// Tells the admissions of a slice apart.
    pub admission_no: u32,
    /// The Moscow day that a charge belongs to: the day of the admission.
    pub day: Day,
    /// The most that a charge may cost.
    pub reserved_micros: i64,
    /// What it took from the slice: all that is reserved, or less where a charge is only likely.
    pub expected_micros: i64,
    /// From this moment (microseconds of Unix time) a charge is late.
    pub expires_at_micros: i64,
}

impl Token {
    /// From this moment a charge is late.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.expires_at_micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The length of its body.
    fn body_bytes(&self) -> usize {
        if self.expected_micros == self.reserved_micros { WHOLE_BYTES } else { EXPECTED_BYTES }
    }

    /// How long it is when it is sealed; at most [`TOKEN_BYTES`].
    pub fn sealed_bytes(&self) -> usize {
        self.body_bytes() + MAC_BYTES
    }

    /// Whether a charge at `now` is late.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        now.timestamp_micros() >= self.expires_at_micros
    }
}

/// The bytes are not a token of ours: forged, cut or garbled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an admission token of this service")]
pub struct BadToken;

/// The key that all replicas share.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(***)")
    }
}

impl TokenKey {
    /// A key of 32 secret bytes.
    pub const fn new(key: [u8; 32]) -> TokenKey {
        TokenKey(key)
    }

    /// The token in bytes of its own.
    pub fn seal(&self, token: &Token) -> Bytes {
        let mut bytes = Vec::with_capacity(token.sealed_bytes());
        self.seal_into(&mut bytes, token);
        Bytes::from(bytes)
    }

    /// The token at the end of a buffer: for callers that put many into one. It takes
    /// [`Token::sealed_bytes`].
    pub fn seal_into(&self, buffer: &mut Vec<u8>, token: &Token) {
        let mut bytes = [0; EXPECTED_BYTES];
        let length = token.body_bytes();
        let (body, _) = bytes.split_at_mut(length);
        let whole = length == WHOLE_BYTES;
        let mut writer = Writer { rest: &mut *body };
        writer.put([if whole { WHOLE } else { EXPECTED }]);
        writer.put(token.account_no.to_le_bytes());
        writer.put(token.campaign_no.to_le_bytes());
        writer.put(token.slice_no.to_le_bytes());
        writer.put(token.admission_no.to_le_bytes());
        writer.put(token.day.date().num_days_from_ce().to_le_bytes());
        writer.put(token.reserved_micros.to_le_bytes());
        writer.put(token.expires_at_micros.to_le_bytes());
        if !whole {
            writer.put(token.expected_micros.to_le_bytes());
        }
        let mac = self.mac(body);
        buffer.extend_from_slice(body);
        buffer.extend_from_slice(&mac);
    }

    /// What a token says, if it is one of ours.
    pub fn open(&self, bytes: &[u8]) -> Result<Token, BadToken> {
        let length = bytes.len().checked_sub(MAC_BYTES).ok_or(BadToken)?;
        let version = match length {
            WHOLE_BYTES => WHOLE,
            EXPECTED_BYTES => EXPECTED,
            _ => return Err(BadToken),
        };
        let (body, mac) = bytes.split_at(length);
        let differs =
            self.mac(body).iter().zip(mac).fold(0, |sum, (ours, theirs)| sum | (ours ^ theirs));
        if differs != 0 {
            return Err(BadToken);
        }
        let mut reader = Reader { rest: body };
        if reader.take::<1>()? != [version] {
            return Err(BadToken);
        }
        let mut token = Token {
            account_no: i64::from_le_bytes(reader.take()?),
            campaign_no: i64::from_le_bytes(reader.take()?),
            slice_no: i64::from_le_bytes(reader.take()?),
            admission_no: u32::from_le_bytes(reader.take()?),
            day: day_of(i32::from_le_bytes(reader.take()?))?,
            reserved_micros: i64::from_le_bytes(reader.take()?),
            expected_micros: 0,
            expires_at_micros: i64::from_le_bytes(reader.take()?),
        };
        token.expected_micros = match version {
            WHOLE => token.reserved_micros,
            _ => i64::from_le_bytes(reader.take()?),
        };
        Ok(token)
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        let hash = blake3::keyed_hash(&self.0, body);
        for (to, from) in mac.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        mac
    }
}

fn day_of(number: i32) -> Result<Day, BadToken> {
    NaiveDate::from_num_days_from_ce_opt(number).map(Day::from_date).ok_or(BadToken)
}

struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let (head, tail) = std::mem::take(&mut self.rest).split_at_mut(N);
        head.copy_from_slice(&bytes);
        self.rest = tail;
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadToken> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(BadToken)?;
        self.rest = tail;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token {
            account_no: 7,
            campaign_no: 11,
            slice_no: 13,
            admission_no: 17,
            day: "2025-03-31".parse().unwrap(),
            reserved_micros: 2_500_000,
            expected_micros: 2_500_000,
            expires_at_micros: 1_743_368_400_000_000,
        }
    }

    #[test]
    fn a_token_of_another_key_is_refused() {
        let bytes = TokenKey::new([1; 32]).seal(&token());
        assert_eq!(TokenKey::new([2; 32]).open(&bytes), Err(BadToken));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let key = TokenKey::new([9; 32]);
        for token in [token(), Token { expected_micros: 50_000, ..token() }] {
            let bytes = key.seal(&token).to_vec();
            assert_eq!(bytes.len(), token.sealed_bytes());
            for position in 0..bytes.len() * 8 {
                let mut forged = bytes.clone();
                forged[position / 8] ^= 1 << (position % 8);
                assert_eq!(key.open(&forged), Err(BadToken), "bit {position}");
            }
            for length in 0..bytes.len() {
                assert_eq!(key.open(&bytes[..length]), Err(BadToken), "{length} bytes");
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert_eq!(key.open(&longer), Err(BadToken));
        }
    }

    /// Replicas of the release before open what takes whole prices.
    #[test]
    fn a_token_of_a_whole_price_is_as_it_was() {
        let bytes = TokenKey::new([9; 32]).seal(&token());
        assert_eq!((bytes.len(), bytes[0]), (65, 1));
    }

    #[test]
    fn a_token_expires_at_its_moment() {
        let token = token();
        let moment = token.expires_at();
        assert!(!token.is_expired(moment - chrono::TimeDelta::microseconds(1)));
        assert!(token.is_expired(moment));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", TokenKey::new([1; 32])), "TokenKey(***)");
    }

    proptest! {
        /// Opening undoes sealing, whatever the content.
        #[test]
        fn opening_undoes_sealing(
            account_no: i64, campaign_no: i64, slice_no: i64, admission_no: u32,
            days in 0..1_000_000i32, reserved_micros: i64, expected_micros: i64,
            expires_at_micros: i64, key: [u8; 32],
        ) {
            let day = Day::from_date(NaiveDate::from_num_days_from_ce_opt(days).unwrap());
            let token = Token {
                account_no, campaign_no, slice_no, admission_no, day, reserved_micros,
                expected_micros, expires_at_micros,
            };
            let key = TokenKey::new(key);
            prop_assert_eq!(key.open(&key.seal(&token)), Ok(token));
        }

        /// Bytes from elsewhere are refused and never panic.
        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(TokenKey::new([3; 32]).open(&bytes), Err(BadToken));
        }
    }
}
