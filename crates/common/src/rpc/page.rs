//! Page tokens: where the next page starts, sealed against change and bound to the question.
//!
//! A token is `mac ‖ position` in URL-safe base64. The MAC is keyed BLAKE3 over the method, the
//! caller's tenant and role, every other argument, and the position; so a token works only for the
//! list it was made for, and a caller can neither read another list with it nor make one up. The
//! position is not secret: it names rows that the caller has just seen.
//!
//! Replicas must share the key, or a page asked of another replica is refused.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::identity::Caller;

/// Half of a BLAKE3 hash: forging it takes 2^128 guesses, and the token stays short.
const MAC_BYTES: usize = 16;

/// The longest token that is looked at; ours are far shorter.
const MAX_TOKEN_BYTES: usize = 1_024;

/// The token was not made by us, or not for this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a token of this list with these arguments")]
pub struct BadPageToken;

/// The secret that page tokens are sealed with.
#[derive(Clone)]
pub struct PageKey([u8; 32]);

impl std::fmt::Debug for PageKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PageKey(***)")
    }
}

impl PageKey {
    /// The key of a configured secret; the same on every replica.
    pub fn from_secret(secret: &str) -> PageKey {
        PageKey(blake3::derive_key("adspend 2026-11 page tokens", secret.as_bytes()))
    }

    /// A key of this process alone: for tests, and for a service that runs as one replica.
    pub fn random() -> PageKey {
        PageKey(rand::random())
    }

    /// The token for the page that starts at `position`.
    pub fn seal(&self, scope: &PageScope, position: &[u8]) -> String {
        let mut token = Vec::with_capacity(MAC_BYTES + position.len());
        token.extend_from_slice(&self.mac(scope, position));
        token.extend_from_slice(position);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// The position in a token that was sealed for the same scope.
    pub fn open(&self, scope: &PageScope, token: &str) -> Result<Vec<u8>, BadPageToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(BadPageToken);
        }
        let token = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadPageToken)?;
        let (mac, position) = token.split_at_checked(MAC_BYTES).ok_or(BadPageToken)?;
        let expected = self.mac(scope, position);
        // Every byte is looked at, so that the time taken tells nothing.
        let difference = mac.iter().zip(expected).fold(0, |all, (a, b)| all | (a ^ b));
        if difference == 0 { Ok(position.to_vec()) } else { Err(BadPageToken) }
    }

    fn mac(&self, scope: &PageScope, position: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(scope.0.finalize().as_bytes());
        hasher.update(position);
        let mut mac = [0; MAC_BYTES];
        hasher.finalize_xof().fill(&mut mac);
        mac
    }
}

/// What a page token is bound to: the method, who asks, and every argument but the page's own.
#[derive(Debug, Clone)]
pub struct PageScope(blake3::Hasher);

impl PageScope {
    /// The list of this method as this caller sees it.
    pub fn new(method: &str, caller: &Caller) -> PageScope {
        let tenant = caller.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        PageScope(blake3::Hasher::new()).with(method).with(caller.role.word()).with(tenant)
    }

    /// Binds one more argument; the order counts.
    #[must_use]
    pub fn with(mut self, argument: impl AsRef<[u8]>) -> PageScope {
        let argument = argument.as_ref();
        // The length goes in, so that "ab" + "c" is not "a" + "bc".
        self.0.update(&argument.len().to_le_bytes());
        self.0.update(argument);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;
    use crate::identity::Role;
    use proptest::prelude::*;

    fn caller(tenant: &str) -> Caller {
        Caller {
            role: Role::Agency,
            tenant: Some(AccountId::parse(tenant).unwrap()),
            label: "test".to_owned(),
        }
    }

    #[test]
    fn a_token_works_only_for_the_question_it_was_made_for() {
        let key = PageKey::from_secret("k");
        let scope = PageScope::new("List", &caller("a")).with("ab").with("c");
        let token = key.seal(&scope, b"position");
        assert_eq!(key.open(&scope, &token).unwrap(), b"position");
        assert_eq!(PageKey::from_secret("k").open(&scope, &token).unwrap(), b"position");
        for (name, other) in [
            ("another tenant", PageScope::new("List", &caller("b")).with("ab").with("c")),
            ("another method", PageScope::new("Other", &caller("a")).with("ab").with("c")),
            ("shifted arguments", PageScope::new("List", &caller("a")).with("a").with("bc")),
            ("an argument less", PageScope::new("List", &caller("a")).with("ab")),
        ] {
            assert_eq!(key.open(&other, &token), Err(BadPageToken), "{name}");
        }
        assert_eq!(PageKey::random().open(&scope, &token), Err(BadPageToken));
    }

    proptest! {
        /// No text but the token itself opens.
        #[test]
        fn a_changed_token_is_refused(position: Vec<u8>, at: prop::sample::Index, flip in 1u8..) {
            let key = PageKey::from_secret("k");
            let scope = PageScope::new("List", &caller("a"));
            let mut bytes = URL_SAFE_NO_PAD.decode(key.seal(&scope, &position)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(key.open(&scope, &URL_SAFE_NO_PAD.encode(bytes)), Err(BadPageToken));
        }

        /// Garbage is an answer, not a panic.
        #[test]
        fn garbage_is_refused(token in "\\PC{0,64}") {
            let scope = PageScope::new("List", &caller("a"));
            prop_assert_eq!(PageKey::random().open(&scope, &token), Err(BadPageToken));
        }
    }
}
