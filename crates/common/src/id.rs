//! Identifiers: what resources are called, and what a retry is recognised by.
//!
//! A resource id is chosen by the caller or made here as a UUIDv7; both match
//! `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, so an id needs no escaping in a name, a log or a file.
//! A resource name is `collection/id` pairs joined by slashes: `accounts/x`.
//!
//! Invariant: a value of these types has been checked; there is no way to make one that was not.
//! Ids of different collections are different types ([`Id`]), so they cannot be exchanged.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// The longest resource id in bytes: a DNS label, which fits every store and every log line.
pub const MAX_ID_BYTES: usize = 63;

/// The longest request id in bytes (api.md, Conventions).
pub const MAX_REQUEST_ID_BYTES: usize = 64;

/// The text is not a resource id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must match [a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?")]
pub struct InvalidId;

/// The text is not the name of a resource of the collection asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {expected}, each id matching [a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?")]
pub struct InvalidName {
    /// The form that was expected, such as `accounts/{account}`.
    pub expected: String,
}

/// The text is not a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 64 printable ASCII characters without spaces")]
pub struct InvalidRequestId;

/// A UUIDv7 of this moment: sorts by time to the millisecond and is random below it.
///
/// The moment comes from the caller's clock, so that a simulated service makes simulated ids.
pub fn new_uuid(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

/// The last part of a resource name, in any collection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(Box<str>);

impl ResourceId {
    /// Checks a text that somebody gave us.
    pub fn parse(text: &str) -> Result<ResourceId, InvalidId> {
        if is_id(text.as_bytes()) { Ok(ResourceId(text.into())) } else { Err(InvalidId) }
    }

    /// A new id, a UUIDv7.
    pub fn new_v7(now: DateTime<Utc>) -> ResourceId {
        ResourceId(new_uuid(now).to_string().into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?` by hand: no regular expression on the hot path.
fn is_id(bytes: &[u8]) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match bytes {
        [] => false,
        [only] => alphanumeric(only),
        [first, middle @ .., last] => {
            bytes.len() <= MAX_ID_BYTES
                && alphanumeric(first)
                && alphanumeric(last)
                && middle.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
        }
    }
}

/// The id in a name of the form `collection/id`.
pub fn parse_name(text: &str, collection: &str) -> Result<ResourceId, InvalidName> {
    parse_path(text, [collection]).map(|[id]| id)
}

/// The ids in a name of the form `first/id/second/id…`, one for each collection given.
pub fn parse_path<const N: usize>(
    text: &str,
    collections: [&str; N],
) -> Result<[ResourceId; N], InvalidName> {
    read_path(text, &collections)
        .and_then(|ids| ids.try_into().ok())
        .ok_or_else(|| InvalidName { expected: name_form(&collections) })
}

fn read_path(text: &str, collections: &[&str]) -> Option<Vec<ResourceId>> {
    let mut ids = Vec::with_capacity(collections.len());
    let mut parts = text.split('/');
    for collection in collections {
        if parts.next()? != *collection {
            return None;
        }
        ids.push(ResourceId::parse(parts.next()?).ok()?);
    }
    if parts.next().is_some() { None } else { Some(ids) }
}

/// `accounts/{account}` for `accounts`: our collections are regular plurals.
fn name_form(collections: &[&str]) -> String {
    let pairs: Vec<String> = collections
        .iter()
        .map(|name| format!("{name}/{{{}}}", name.strip_suffix('s').unwrap_or(name)))
        .collect();
    pairs.join("/")
}

/// A collection of resources: the first part of their names. Markers implement it.
pub trait Collection {
    /// The plural noun in the name, such as `accounts`.
    const NAME: &'static str;
}

/// The collection of accounts, in billing.
pub enum Accounts {}

impl Collection for Accounts {
    const NAME: &'static str = "accounts";
}

/// The collection of campaigns, in pacing.
pub enum Campaigns {}

impl Collection for Campaigns {
    const NAME: &'static str = "campaigns";
}

/// The id of an account.
pub type AccountId = Id<Accounts>;

/// The id of a campaign.
pub type CampaignId = Id<Campaigns>;

/// The id of a resource of the collection `C`. A map keyed by it can be asked with a `&str`.
pub struct Id<C> {
    id: ResourceId,
    collection: PhantomData<fn() -> C>,
}

impl<C: Collection> Id<C> {
    /// Checks a bare id: `x`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        ResourceId::parse(text).map(Self::from)
    }

    /// Checks a name: `accounts/x`.
    pub fn from_name(name: &str) -> Result<Self, InvalidName> {
        parse_name(name, C::NAME).map(Self::from)
    }

    /// A new id, a UUIDv7.
    pub fn new_v7(now: DateTime<Utc>) -> Self {
        Self::from(ResourceId::new_v7(now))
    }

    /// The name of the resource: `accounts/x`.
    pub fn name(&self) -> String {
        format!("{}/{}", C::NAME, self.id.as_str())
    }
}

impl<C> Id<C> {
    /// The bare id: `x`.
    pub fn as_str(&self) -> &str {
        self.id.as_str()
    }
}

impl<C> From<ResourceId> for Id<C> {
    fn from(id: ResourceId) -> Self {
        Id { id, collection: PhantomData }
    }
}

impl<C> From<Id<C>> for ResourceId {
    fn from(id: Id<C>) -> Self {
        id.id
    }
}

// Written out, because derives would ask the marker `C` for the same traits.
impl<C> Clone for Id<C> {
    fn clone(&self) -> Self {
        Self::from(self.id.clone())
    }
}

impl<C> PartialEq for Id<C> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<C> Eq for Id<C> {}

impl<C> PartialOrd for Id<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> Ord for Id<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl<C> Hash for Id<C> {
    /// The same as of the text, which `Borrow<str>` promises.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<C> Borrow<str> for Id<C> {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl<C> AsRef<str> for Id<C> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl<C> fmt::Display for Id<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl<C: Collection> fmt::Debug for Id<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// What a caller marks a changing call with, so that its repeat takes no second effect (I-4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// Checks a text that somebody gave us.
    pub fn parse(text: &str) -> Result<RequestId, InvalidRequestId> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if printable && !text.is_empty() && text.len() <= MAX_REQUEST_ID_BYTES {
            Ok(RequestId(text.into()))
        } else {
            Err(InvalidRequestId)
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn id_table() {
        let longest = "a".repeat(MAX_ID_BYTES);
        for text in ["a", "0", "a-b", "a--b", "0198c3f2-7b7e-7000-8000-000000000000", &longest] {
            assert_eq!(ResourceId::parse(text).unwrap().as_str(), text);
        }
        let too_long = "a".repeat(MAX_ID_BYTES + 1);
        for text in
            ["", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "a b", "ä", "a\0", "a\n", &too_long]
        {
            assert_eq!(ResourceId::parse(text), Err(InvalidId), "{text:?}");
        }
    }

    #[test]
    fn names_are_read_by_collection() {
        assert_eq!(AccountId::from_name("accounts/x").unwrap().name(), "accounts/x");
        let expected = "accounts/{account}".to_owned();
        for text in [
            "",
            "x",
            "accounts",
            "accounts/",
            "accounts/X",
            "campaigns/x",
            "accounts/x/",
            "/accounts/x",
        ] {
            let expected = expected.clone();
            assert_eq!(AccountId::from_name(text), Err(InvalidName { expected }), "{text:?}");
        }
    }

    #[test]
    fn nested_names_give_every_id_or_none() {
        let collections = ["accounts", "transfers"];
        let [account, transfer] = parse_path("accounts/a/transfers/t", collections).unwrap();
        assert_eq!((account.as_str(), transfer.as_str()), ("a", "t"));
        for text in [
            "accounts/a",
            "accounts/a/transfers",
            "accounts/a/holds/t",
            "accounts/a/transfers/t/x/y",
        ] {
            let error = parse_path(text, collections).unwrap_err();
            assert_eq!(error.expected, "accounts/{account}/transfers/{transfer}", "{text:?}");
        }
    }

    #[test]
    fn new_ids_are_valid_and_sort_by_time() {
        let moment = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        let earlier = AccountId::new_v7(moment(1_800_000_000_000));
        let later = AccountId::new_v7(moment(1_800_000_000_001));
        assert!(earlier < later);
        assert_eq!(AccountId::parse(later.as_str()), Ok(later));
        assert_ne!(new_uuid(moment(0)), new_uuid(moment(0)));
        assert_eq!(new_uuid(moment(-1)).get_version_num(), 7, "before 1970 counts as 1970");
    }

    #[test]
    fn a_map_of_ids_is_asked_with_a_text() {
        let map = HashMap::from([(CampaignId::parse("c").unwrap(), 1)]);
        assert_eq!(map.get("c"), Some(&1));
    }

    #[test]
    fn request_id_table() {
        for text in ["a", "A/b:c~!", &"x".repeat(64)] {
            assert_eq!(RequestId::parse(text).unwrap().as_str(), text);
        }
        for text in ["", " ", "a b", "a\n", "\u{7f}", "é", &"x".repeat(65)] {
            assert_eq!(RequestId::parse(text), Err(InvalidRequestId), "{text:?}");
        }
    }

    proptest! {
        /// The matcher accepts exactly what the published expression generates.
        #[test]
        fn what_the_expression_generates_is_an_id(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert!(ResourceId::parse(&text).is_ok());
        }

        /// Nothing that is accepted needs escaping, and nothing panics.
        #[test]
        fn an_accepted_id_is_plain(text in "[a-zA-Z0-9./_ -]{0,70}") {
            if let Ok(id) = ResourceId::parse(&text) {
                let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
                prop_assert!(id.as_str().bytes().all(plain) && id.as_str().len() <= MAX_ID_BYTES);
                prop_assert!(!id.as_str().starts_with('-') && !id.as_str().ends_with('-'));
            }
        }
    }
}
