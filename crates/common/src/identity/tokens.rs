//! From a request's metadata to a [`Caller`]: the static table, or development mode.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use tonic::Code;

use super::{Caller, Role, UnknownRole};
use crate::config::{Auth, AuthMode, TokenEntry};
use crate::id::AccountId;
use crate::rpc::{Reason, Refusal, refuse};

/// Metadata that chooses the role in development mode.
const DEVELOPMENT_ROLE: &str = "adspend-role";
/// Metadata that chooses the tenant in development mode.
const DEVELOPMENT_TENANT: &str = "adspend-tenant";

/// How many hex digits of a hash name its row in the audit trail.
const LABEL_DIGITS: usize = 12;

type Hash = [u8; 32];

/// The configuration does not say who may call.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The hash of a row is not SHA-256 in hex.
    #[error("auth.tokens[{row}].hash is not 64 hexadecimal digits")]
    Hash {
        /// The row, from 0.
        row: usize,
    },
    /// Two rows have the same hash.
    #[error("auth.tokens[{row}].hash is that of an earlier row")]
    Twice {
        /// The later row, from 0.
        row: usize,
    },
    /// The role of a row is not known.
    #[error("auth.tokens[{row}].role")]
    Role {
        /// The row, from 0.
        row: usize,
        /// Why it is not.
        source: UnknownRole,
    },
    /// The tenant of a row is not an account id.
    #[error("auth.tokens[{row}].tenant is not the id of an account")]
    Tenant {
        /// The row, from 0.
        row: usize,
    },
    /// An agency or an advertiser that would see every tenant.
    #[error("auth.tokens[{row}] has a role that needs a tenant")]
    TenantMissing {
        /// The row, from 0.
        row: usize,
    },
    /// Tokens are asked for and none is known: nobody could call.
    #[error("auth.tokens is empty: add a token, or ask for auth.mode = \"development\"")]
    Nobody,
}

/// Knows who calls.
#[derive(Debug)]
pub struct Identity(Kind);

#[derive(Debug)]
enum Kind {
    Tokens(HashMap<Hash, Arc<Caller>>),
    Development(Arc<Caller>),
}

impl Identity {
    /// The table of the configuration, or development mode, with a warning in the log.
    pub fn from_config(auth: &Auth) -> Result<Identity, IdentityError> {
        match auth.mode {
            AuthMode::Tokens => {
                if auth.tokens.is_empty() {
                    return Err(IdentityError::Nobody);
                }
                let mut table = HashMap::with_capacity(auth.tokens.len());
                for (row, entry) in auth.tokens.iter().enumerate() {
                    let (hash, caller) = read_row(row, entry)?;
                    if table.insert(hash, Arc::new(caller)).is_some() {
                        return Err(IdentityError::Twice { row });
                    }
                }
                Ok(Identity(Kind::Tokens(table)))
            }
            AuthMode::Development => {
                tracing::warn!(
                    "auth.mode is development: every caller is an operator; never on data that matters"
                );
                Ok(Identity::development())
            }
        }
    }

    /// Development mode: for tests.
    pub fn development() -> Identity {
        let caller = Caller { label: "development".to_owned(), ..Caller::operator() };
        Identity(Kind::Development(Arc::new(caller)))
    }

    /// Whether everybody may do everything.
    pub(crate) fn is_development(&self) -> bool {
        matches!(self.0, Kind::Development(_))
    }

    /// Who sent these headers.
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        match &self.0 {
            Kind::Tokens(table) => {
                let token = bearer(headers).ok_or_else(|| unauthenticated("no bearer token"))?;
                let hash: Hash = Sha256::digest(token).into();
                let caller = table.get(&hash);
                caller.cloned().ok_or_else(|| unauthenticated("the bearer token is not known"))
            }
            Kind::Development(everybody) => development(everybody, headers),
        }
    }
}

fn read_row(row: usize, entry: &TokenEntry) -> Result<(Hash, Caller), IdentityError> {
    let hash = read_hash(&entry.hash).ok_or(IdentityError::Hash { row })?;
    let role: Role = entry.role.parse().map_err(|source| IdentityError::Role { row, source })?;
    let tenant = match entry.tenant.as_deref() {
        None if role.needs_tenant() => return Err(IdentityError::TenantMissing { row }),
        None => None,
        Some(id) => Some(AccountId::parse(id).map_err(|_| IdentityError::Tenant { row })?),
    };
    let label = format!("token:{}", &entry.hash[..LABEL_DIGITS]);
    Ok((hash, Caller { role, tenant, label }))
}

/// 64 hexadecimal digits of either case.
fn read_hash(text: &str) -> Option<Hash> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = Hash::default();
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

/// The token of `authorization: Bearer <token>`; the scheme in any case (RFC 9110).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    (is_bearer && !token.is_empty()).then_some(token)
}

fn development(everybody: &Arc<Caller>, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
    let (role, tenant) = (headers.get(DEVELOPMENT_ROLE), headers.get(DEVELOPMENT_TENANT));
    if role.is_none() && tenant.is_none() {
        return Ok(Arc::clone(everybody));
    }
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let role = match role {
        None => everybody.role,
        Some(word) => text(word)
            .parse()
            .map_err(|error| unauthenticated(&format!("{DEVELOPMENT_ROLE} {error}")))?,
    };
    let tenant = match tenant {
        None => None,
        Some(id) => Some(
            AccountId::parse(&text(id))
                .map_err(|error| unauthenticated(&format!("{DEVELOPMENT_TENANT} {error}")))?,
        ),
    };
    if role.needs_tenant() && tenant.is_none() {
        return Err(unauthenticated(&format!("{role} needs {DEVELOPMENT_TENANT}")));
    }
    Ok(Arc::new(Caller { role, tenant, label: everybody.label.clone() }))
}

fn unauthenticated(message: &str) -> Refusal {
    refuse(Code::Unauthenticated, Reason::Unauthenticated, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s secret | sha256sum`
    const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn entry(hash: &str, role: &str, tenant: Option<&str>) -> TokenEntry {
        TokenEntry {
            hash: hash.to_owned(),
            role: role.to_owned(),
            tenant: tenant.map(str::to_owned),
        }
    }

    fn table(tokens: Vec<TokenEntry>) -> Result<Identity, IdentityError> {
        Identity::from_config(&Auth { mode: AuthMode::Tokens, tokens })
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_known_by_its_hash() {
        let identity = table(vec![entry(HASH, "agency", Some("a"))]).unwrap();
        for (header, known) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer secre", false),
            ("Bearer secret ", false),
            ("Bearer  secret", false),
            ("Bearer ", false),
            ("Basic secret", false),
            ("secret", false),
            (HASH, false),
        ] {
            let answer = identity.identify(&headers(&[("authorization", header)]));
            assert_eq!(answer.is_ok(), known, "{header:?}");
            match answer {
                Ok(caller) => {
                    assert_eq!(caller.role, Role::Agency);
                    assert!(caller.sees(&AccountId::parse("a").unwrap()));
                    assert!(!caller.sees(&AccountId::parse("b").unwrap()));
                }
                Err(refusal) => assert_eq!(refusal.code, Code::Unauthenticated),
            }
        }
        assert!(identity.identify(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_wrong_table_is_refused_at_the_start() {
        assert!(matches!(table(Vec::new()), Err(IdentityError::Nobody)));
        let bad = |entry| table(vec![entry]).unwrap_err();
        assert!(matches!(bad(entry("12", "operator", None)), IdentityError::Hash { row: 0 }));
        assert!(matches!(bad(entry(HASH, "root", None)), IdentityError::Role { row: 0, .. }));
        let no_tenant = bad(entry(HASH, "advertiser", None));
        assert!(matches!(no_tenant, IdentityError::TenantMissing { row: 0 }));
        let name = bad(entry(HASH, "agency", Some("accounts/a")));
        assert!(matches!(name, IdentityError::Tenant { row: 0 }));
        let twice =
            vec![entry(HASH, "operator", None), entry(&HASH.to_uppercase(), "auditor", None)];
        assert!(matches!(table(twice), Err(IdentityError::Twice { row: 1 })));
    }

    #[test]
    fn development_mode_takes_the_role_that_is_asked_for() {
        let identity = Identity::development();
        assert_eq!(identity.identify(&HeaderMap::new()).unwrap().role, Role::Operator);
        let agency = headers(&[("adspend-role", "agency"), ("adspend-tenant", "a")]);
        let caller = identity.identify(&agency).unwrap();
        assert_eq!((caller.role, caller.tenant.clone().unwrap().as_str()), (Role::Agency, "a"));
        for wrong in [
            headers(&[("adspend-role", "root")]),
            headers(&[("adspend-role", "agency")]),
            headers(&[("adspend-tenant", "accounts/a")]),
        ] {
            assert!(identity.identify(&wrong).is_err(), "{wrong:?}");
        }
    }
}
