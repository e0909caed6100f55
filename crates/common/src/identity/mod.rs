//! Who calls, and which methods they may call.
//!
//! The one place where a caller's identity becomes a [`Caller`]: the edge ([`crate::server`]) asks
//! an [`Identity`] once per call, before anything else is looked at, compares the role with the
//! service's [`MethodTable`], and puts the `Caller` into the request.
//!
//! - A method without a row is denied; a service with such a method does not start
//!   ([`Methods::checked`]).
//! - A token is never stored: the configuration holds SHA-256 of it, and the table is searched by
//!   that hash, so the time of a search tells nothing about a token.
//! - Development mode makes everybody an operator. It must be asked for by name and says so in
//!   the log.
//!
//! Deliberately not here: which objects a caller sees. A feature asks [`Caller::sees`] and answers
//! `NOT_FOUND` for the rest.

mod methods;
mod tokens;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub(crate) use methods::{Access, MethodInfo, Methods};
pub use methods::{MethodTable, TableError};
pub use tokens::{Identity, IdentityError};
use tonic::Request;

use crate::id::AccountId;
use crate::rpc::Context;

/// What kind of caller it is. A method table speaks of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Our own people: everything, of every tenant.
    Operator,
    /// An agency: itself and its clients.
    Agency,
    /// A direct advertiser: itself.
    Advertiser,
    /// An ad server: admission and charges, of every tenant.
    AdServer,
    /// The pacing service, to billing: holds, of every tenant.
    Pacing,
    /// Reads everything, of every tenant, and changes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 6] = [
        Role::Operator,
        Role::Agency,
        Role::Advertiser,
        Role::AdServer,
        Role::Pacing,
        Role::Auditor,
    ];

    /// How the configuration calls it.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Agency => "agency",
            Role::Advertiser => "advertiser",
            Role::AdServer => "ad_server",
            Role::Pacing => "pacing",
            Role::Auditor => "auditor",
        }
    }

    /// Whether such a caller belongs to one tenant: without it, it would see all.
    pub const fn needs_tenant(self) -> bool {
        match self {
            Role::Agency | Role::Advertiser => true,
            Role::Operator | Role::AdServer | Role::Pacing | Role::Auditor => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// No role is called so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of operator, agency, advertiser, ad_server, pacing, auditor")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(word: &str) -> Result<Role, UnknownRole> {
        Role::ALL.into_iter().find(|role| role.word() == word).ok_or(UnknownRole)
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What kind of caller it is.
    pub role: Role,
    /// The one tenant it sees; all when there is none. The id of the agency or of the direct
    /// advertiser.
    pub tenant: Option<AccountId>,
    /// What the audit trail calls it: never a secret.
    pub label: String,
}

impl Caller {
    /// An operator who sees all: for tests and for jobs.
    pub fn operator() -> Caller {
        Caller { role: Role::Operator, tenant: None, label: "operator".to_owned() }
    }

    /// Whether this caller may know that something of `tenant` exists.
    pub fn sees(&self, tenant: &AccountId) -> bool {
        self.tenant.as_ref().is_none_or(|own| own == tenant)
    }
}

/// The caller of this request.
///
/// # Panics
///
/// When the request did not come through the edge: there is no caller to fall back to.
pub fn caller<T>(request: &Request<T>) -> &Arc<Caller> {
    let context = request.extensions().get::<Context>();
    &context.expect("the edge puts a caller into every request").caller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_sees_itself_and_nobody_else() {
        let a = AccountId::parse("a").unwrap();
        let b = AccountId::parse("b").unwrap();
        let agency = Caller { role: Role::Agency, tenant: Some(a.clone()), label: "a".to_owned() };
        assert!(agency.sees(&a) && !agency.sees(&b));
        assert!(Caller::operator().sees(&a) && Caller::operator().sees(&b));
    }

    #[test]
    fn roles_read_back() {
        for role in Role::ALL {
            assert_eq!(role.word().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }
}
