//! How tokens of cards lie in the database: encrypted and authenticated with a key that the database does not
//! know (ChaCha20-Poly1305, a random nonce before the text), and beside it a keyed hash, by which a token is
//! recognised without being read.

use adspend_common::config::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;

/// Seals and opens tokens.
pub(super) struct Seal {
    key: LessSafeKey,
    hash_key: [u8; 32],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(***)")
    }
}

impl Seal {
    /// From 64 hex digits; none when the secret is not that.
    pub(super) fn new(secret: &Secret) -> Option<Seal> {
        let bytes = *blake3::Hash::from_hex(secret.expose()).ok()?.as_bytes();
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?);
        let hash_key = blake3::derive_key("adspend billing autopay token hash v1", &bytes);
        Some(Seal { key, hash_key })
    }

    /// The token of a card, sealed to that card: it opens for no other.
    pub(super) fn seal(&self, card: Uuid, token: &Secret) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut text = token.expose().as_bytes().to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(card.as_bytes()),
                &mut text,
            )
            .expect("a token is shorter than what can be sealed");
        [nonce.as_slice(), &text].concat()
    }

    /// The token back; none when it was sealed with another key or for another card.
    pub(super) fn open(&self, card: Uuid, sealed: &[u8]) -> Option<Secret> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let open = self.key.open_in_place(nonce, Aad::from(card.as_bytes()), &mut text).ok()?;
        Some(Secret::from(std::str::from_utf8(open).ok()?))
    }

    /// What a token is recognised by.
    pub(super) fn hash(&self, token: &Secret) -> Vec<u8> {
        blake3::keyed_hash(&self.hash_key, token.expose().as_bytes()).as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(digit: &str) -> Seal {
        Seal::new(&Secret::from(digit.repeat(64))).unwrap()
    }

    #[test]
    fn only_the_same_key_opens_and_only_for_the_same_card() {
        let (card, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token = Secret::from("22e12f66-000f-5000-8000-18db351245c7");
        let sealed = seal("a").seal(card, &token);
        assert!(!sealed.windows(8).any(|part| part == b"22e12f66"));
        assert_eq!(seal("a").open(card, &sealed), Some(token.clone()));
        assert_eq!(seal("a").open(other, &sealed), None);
        assert_eq!(seal("b").open(card, &sealed), None);
        assert_eq!(seal("a").open(card, &sealed[..20]), None);
        assert_ne!(sealed, seal("a").seal(card, &token), "a nonce is used once");
        assert_eq!(seal("a").hash(&token), seal("a").hash(&token));
        assert_ne!(seal("a").hash(&token), seal("b").hash(&token));
    }

    #[test]
    fn a_key_is_64_hex_digits() {
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63)] {
            assert!(Seal::new(&Secret::from(text)).is_none(), "{text}");
        }
    }
}
