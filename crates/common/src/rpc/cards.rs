//! The guard against card numbers: none is ever stored, logged or shown, so none is let in (G15).
//!
//! A number is found as people write it: 13 to 19 digits in a row, or groups of four (or 4-6-5) parted by
//! single spaces or hyphens; beginning as card numbers of its length do, and with a valid Luhn digit.
//! Bank accounts (20 digits), INN (10, 12) and OGRN (13, beginning with 1 or 5) are none of these. UUIDs are left
//! out: one of some ten thousand has four groups of digits that would pass for a card.

/// The fewest digits of a card number.
const FEWEST: usize = 13;
/// The most.
const MOST: usize = 19;

/// How long a UUID is, and where its hyphens are.
const UUID: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// What is said of a text with a card number in it; the text itself is not repeated.
pub(super) const REFUSED: &str = "must not hold a card number";

/// Whether a card number stands somewhere in the text.
pub fn holds_card_number(text: &str) -> bool {
    if text.len() < FEWEST {
        return false;
    }
    let mut runs: Vec<&[u8]> = Vec::new();
    let mut last_end = None;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (before, rest) = bytes.split_at(at);
        if begins_with_uuid(before, rest) {
            at += UUID;
            continue;
        }
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            at += 1;
            continue;
        }
        let adjoins = last_end
            .is_some_and(|end: usize| at == end + 1 && matches!(bytes.get(end), Some(b' ' | b'-')));
        if !adjoins {
            if in_groups(&runs) {
                return true;
            }
            runs.clear();
        }
        let run = bytes.get(at..at + digits).unwrap_or_default();
        if is_card_number(run) {
            return true;
        }
        runs.push(run);
        at += digits;
        last_end = Some(at);
    }
    in_groups(&runs)
}

/// Whether a UUID, as a word of its own, begins here.
fn begins_with_uuid(before: &[u8], rest: &[u8]) -> bool {
    let part_of_a_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let shaped = |(at, byte): (usize, &u8)| match HYPHENS.contains(&at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    !part_of_a_word(before.last())
        && !part_of_a_word(rest.get(UUID))
        && rest.get(..UUID).is_some_and(|uuid| uuid.iter().enumerate().all(shaped))
}

/// Whether some of these adjoining groups of digits are one number in groups.
fn in_groups(groups: &[&[u8]]) -> bool {
    (0..groups.len()).any(|from| {
        let tail = groups.get(from..).unwrap_or_default();
        let sizes: Vec<usize> = tail.iter().take(5).map(|group| group.len()).collect();
        let shapes: [&[usize]; 4] = [&[4, 4, 4, 4], &[4, 6, 5], &[4, 4, 4, 4, 2], &[4, 4, 4, 4, 3]];
        shapes.iter().any(|shape| {
            sizes.starts_with(shape)
                && is_card_number(
                    &tail.iter().take(shape.len()).copied().collect::<Vec<_>>().concat(),
                )
        })
    })
}

fn is_card_number(digits: &[u8]) -> bool {
    (FEWEST..=MOST).contains(&digits.len()) && begins_as_card(digits) && luhn(digits)
}

/// Mir and Mastercard begin with 2, American Express, Diners and JCB with 3, Visa with 4, Mastercard and
/// Maestro with 5 or 6, UnionPay with 6.
fn begins_as_card(digits: &[u8]) -> bool {
    matches!(
        (digits.len(), digits),
        (13, [b'4', ..])
            | (14, [b'3', b'0' | b'6' | b'8' | b'9', ..])
            | (15, [b'3', b'4' | b'7', ..])
            | (16, [b'2' | b'3' | b'4' | b'5' | b'6', ..])
            | (17..=19, [b'2' | b'4' | b'5' | b'6', ..])
    )
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit.saturating_sub(b'0'));
            let weighed = if place % 2 == 1 { digit * 2 } else { digit };
            if weighed > 9 { weighed - 9 } else { weighed }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn card_number_table() {
        for (text, found) in [
            ("4111111111111111", true),
            ("pay by 4111111111111111 please", true),
            ("4111 1111 1111 1111", true),
            ("4111-1111-1111-1111.", true),
            ("карта 2200000000000053", true),
            ("378282246310005", true),
            ("3782 822463 10005", true),
            ("5555555555554477", true),
            ("№1 4111 1111 1111 1111", true),
            ("4111111111111112", false),
            ("40702810138250123017", false),
            ("1027739850962", false),
            ("304500116000157", false),
            ("7707083893", false),
            ("22e12f66-000f-5000-8000-18db351245c7", false),
            ("41111111-1111-1111-1111-111111111111", false),
            ("0000000a-4111-1111-1111-1111aaaaaaaa", false),
            ("0000000A-4111-1111-1111-1111AAAAAAAA", false),
            ("request a0004111-1111-1111-1111-a00000000000.", false),
            ("0000000a-4111-1111-1111-1111aaaaaaaab", true),
            ("x0000000a-4111-1111-1111-1111aaaaaaaa", true),
            ("0000000a-4111-1111-1111-1111aaaaaaaa 4111 1111 1111 1111", true),
            ("1700000000000000", false),
            ("220000******0053", false),
            ("4111  1111 1111 1111", false),
            ("", false),
        ] {
            assert_eq!(holds_card_number(text), found, "{text}");
        }
    }

    proptest! {
        /// Every number with a valid check digit is found wherever it stands; with another digit it is not.
        #[test]
        fn a_number_is_found_in_any_text(
            body in "4[0-9]{14}",
            before in "[а-яa-z .,]{0,20}",
            after in "[а-яa-z.,]{0,20}",
        ) {
            let valid: Vec<String> =
                (0..10).map(|last| format!("{body}{last}")).filter(|number| luhn(number.as_bytes())).collect();
            prop_assert_eq!(valid.len(), 1);
            for last in 0..10 {
                let number = format!("{body}{last}");
                let found = holds_card_number(&format!("{before}{number}{after}"));
                prop_assert_eq!(found, valid.contains(&number));
            }
        }

        /// Request ids that callers make of UUIDs are never taken for cards.
        #[test]
        fn a_uuid_is_no_card(bits: u128) {
            let text = uuid::Uuid::from_u128(bits).to_string();
            prop_assert!(!holds_card_number(&text));
        }

        /// The rare ones too, with digits where a card has its groups.
        #[test]
        fn a_uuid_of_digits_is_no_card(
            text in "[0-9a-f]{4}[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{4}[0-9a-f]{8}",
        ) {
            prop_assert!(!holds_card_number(&text));
        }

        /// Nothing panics.
        #[test]
        fn any_text_is_looked_through(text in "\\PC{0,80}") {
            let _ = holds_card_number(&text);
        }
    }
}
