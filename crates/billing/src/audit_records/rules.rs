//! What of a request is kept, and which accounts it is about. A request is looked at as protobuf fields,
//! whatever its message: a record needs no code for each.

/// A field longer than this is left out: the text of a bank statement is not kept twice.
const MOST_FIELD_BYTES: usize = 4_096;
/// What is kept of one request, at most.
const MOST_BYTES: usize = 65_536;
/// Accounts that one record names, at most: those of a full batch.
const MOST_ACCOUNTS: usize = 1_000;
/// Messages within messages that are looked into for names.
const MOST_DEPTH: usize = 4;

/// Fields that are never kept: the method, and the number of the field in its request. The saved payment method
/// of a card is the right to charge it.
const SECRET: &[(&str, u32)] = &[("LinkCard", 2)];

/// A request as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) request: Vec<u8>,
    /// The numbers of the fields that are left out, each once.
    pub(crate) omitted: Vec<i32>,
}

/// The request without secrets and without what is too long.
pub(crate) fn kept(method: &str, request: &[u8]) -> Kept {
    kept_without(SECRET, method, request)
}

fn kept_without(secret: &[(&str, u32)], method: &str, request: &[u8]) -> Kept {
    let mut kept =
        Kept { request: Vec::with_capacity(request.len().min(MOST_BYTES)), omitted: vec![] };
    let mut rest = request;
    while let Some(field) = Field::take(&mut rest) {
        let whole = field.whole.len();
        let fits = whole <= MOST_FIELD_BYTES && kept.request.len() + whole <= MOST_BYTES;
        if fits && !secret.contains(&(method, field.number)) {
            kept.request.extend_from_slice(field.whole);
        } else {
            let number = i32::try_from(field.number).unwrap_or(i32::MAX);
            if !kept.omitted.contains(&number) {
                kept.omitted.push(number);
            }
        }
    }
    kept
}

/// The ids of the accounts that the messages name, in order and each once: every text that is a name in
/// `accounts/`.
pub(crate) fn accounts(messages: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    for message in messages {
        look_into(message, MOST_DEPTH, &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST_ACCOUNTS);
    found
}

fn look_into(message: &[u8], depth: usize, found: &mut Vec<String>) {
    let mut rest = message;
    while let Some(field) = Field::take(&mut rest) {
        let Some(content) = field.content else { continue };
        if let Some(id) = account(content) {
            found.push(id.to_owned());
        } else if depth > 0 && content.len() <= MOST_FIELD_BYTES {
            // Text that happens to read as fields names nothing: it does not begin with `accounts/`.
            look_into(content, depth.saturating_sub(1), found);
        }
    }
}

fn account(content: &[u8]) -> Option<&str> {
    let id = content.strip_prefix(b"accounts/")?;
    let id = id.split(|byte| *byte == b'/').next()?;
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let fine = !id.is_empty() && id.len() <= 63 && id.iter().all(plain);
    std::str::from_utf8(id).ok().filter(|_| fine)
}

/// One field of a message.
struct Field<'a> {
    number: u32,
    /// With its key.
    whole: &'a [u8],
    /// Of a text, of bytes, or of a message.
    content: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    /// None at the end, and where the bytes are no field.
    fn take(rest: &mut &'a [u8]) -> Option<Field<'a>> {
        let start = *rest;
        let key = varint(rest)?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0)?;
        let mut content = None;
        match key & 7 {
            0 => {
                varint(rest)?;
            }
            1 => *rest = rest.get(8..)?,
            2 => {
                let length = usize::try_from(varint(rest)?).ok()?;
                content = Some(rest.get(..length)?);
                *rest = rest.get(length..)?;
            }
            5 => *rest = rest.get(4..)?,
            _ => return None,
        }
        let whole = start.get(..start.len().saturating_sub(rest.len()))?;
        Some(Field { number, whole, content })
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field of bytes; numbers below 16, lengths below 16 384.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut field = vec![number << 3 | 2];
        if length < 128 {
            field.push(length as u8);
        } else {
            field.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        }
        field.extend_from_slice(content);
        field
    }

    fn omitted(request: &[u8]) -> (usize, Vec<i32>) {
        let kept = kept_without(&[("LinkCard", 2)], "LinkCard", request);
        (kept.request.len(), kept.omitted)
    }

    #[test]
    fn what_is_secret_or_too_long_is_left_out_and_named() {
        let name = bytes(1, b"accounts/north");
        let token = bytes(2, b"token");
        let long = bytes(3, &[b'x'; 5_000]);
        let number = vec![4 << 3, 0x96, 0x01];
        for (what, request, expected) in [
            ("nothing", vec![], (0, vec![])),
            ("all fits", [name.clone(), number.clone()].concat(), (name.len() + 3, vec![])),
            ("a secret", [name.clone(), token, number.clone()].concat(), (name.len() + 3, vec![2])),
            (
                "too long",
                [name.clone(), long.clone(), long, number].concat(),
                (name.len() + 3, vec![3]),
            ),
            ("too many", bytes(1, &[b'x'; 4_000]).repeat(20), (16 * 4_003, vec![1])),
        ] {
            assert_eq!(omitted(&request), expected, "{what}");
        }
        let other = kept_without(&[("LinkCard", 2)], "SetAutopay", &bytes(2, b"token"));
        assert_eq!(other.omitted, [0; 0], "a field is secret in its own request only");
    }

    #[test]
    fn accounts_are_found_wherever_they_are_named() {
        let item = [bytes(1, b"accounts/shop/holds/1"), bytes(2, b"accounts/north")].concat();
        let answer = bytes(7, &bytes(1, b"accounts/south"));
        let text = bytes(3, b"for accounts/other");
        let wrong = bytes(4, b"accounts/Not An Id");
        let request = [bytes(5, &item), text, wrong, bytes(1, b"payments/7")].concat();
        assert_eq!(accounts(&[&request, &answer]), ["north", "shop", "south"]);
        assert_eq!(accounts(&[]), [""; 0]);
    }

    proptest! {
        /// Whatever comes, nothing panics, and what is kept is made of whole fields of it.
        #[test]
        fn any_bytes_are_an_answer(request: Vec<u8>) {
            let kept = kept("CreateInvoice", &request);
            prop_assert!(kept.request.len() <= request.len());
            let _ = accounts(&[&request]);
        }
    }
}
