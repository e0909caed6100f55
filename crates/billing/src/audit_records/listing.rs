//! The trail as operators read it: one record for each call, newest first.
//!
//! A row of the ledger's transactions is unfolded into its calls. A page is bounded by rows and by postings
//! that it looks at, so one with a rare filter may come back short with a token to go on. Its position is a
//! moment, a row and a call within it: what is written meanwhile comes before it and moves nothing.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Pool},
    id::AccountId,
    money::Currency,
};
use chrono::{DateTime, Utc};

use super::{
    chain::{Content, Head, Record},
    store,
};
use crate::{
    accounts,
    ledger::{AccountNo, Place, Posted, journal},
};

/// Rows of the trail that one page looks at.
const MOST_ROWS: i64 = 1_000;
/// Postings that one page looks at.
const MOST_POSTINGS: usize = 20_000;

/// Where a page begins: everything older than this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at: DateTime<Utc>,
    pub(crate) record: i64,
    /// Calls of the row before this one are still to come; none are when it is zero.
    pub(crate) calls: u32,
}

/// Which records are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) account: Option<AccountId>,
    pub(crate) tenant: Option<AccountId>,
    pub(crate) principal: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) start: Option<DateTime<Utc>>,
    pub(crate) end: Option<DateTime<Utc>>,
    pub(crate) after: Option<Position>,
    pub(crate) limit: usize,
}

/// Who called which method, as a row of the trail has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) method: String,
    pub(crate) principal: String,
    pub(crate) role: String,
    /// None sees all.
    pub(crate) tenant: Option<String>,
}

impl Who {
    fn read(text: &str) -> Option<Who> {
        let mut parts = text.split(' ').map(str::to_owned);
        let (method, principal, role) = (parts.next()?, parts.next()?, parts.next()?);
        let tenant = parts.next()?;
        Some(Who { method, principal, role, tenant: Some(tenant).filter(|tenant| tenant != "-") })
    }

    fn wanted(&self, listed: &Listed) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let tenant = listed.tenant.as_ref();
        is(&listed.method, &self.method)
            && is(&listed.principal, &self.principal)
            && tenant.is_none_or(|tenant| self.tenant.as_deref() == Some(tenant.as_str()))
    }
}

/// One call that changed something.
#[derive(Debug, Clone)]
pub(crate) struct Audited {
    /// The row, and which call of it when it holds several.
    pub(crate) id: (i64, Option<usize>),
    pub(crate) who: Who,
    pub(crate) at: DateTime<Utc>,
    pub(crate) asked: What,
    /// The row's place in the chain.
    pub(crate) link: Option<Head>,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Request {
        request_id: String,
        hash: Vec<u8>,
        request: Vec<u8>,
        omitted: Vec<i32>,
        accounts: Vec<String>,
    },
    /// With the names and currencies of the accounts.
    Postings(Vec<Posted>),
}

/// Accounts by number.
pub(crate) type Names = HashMap<AccountNo, (AccountId, Currency)>;

/// A page of the trail.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) records: Vec<Audited>,
    /// Every account whose money the postings move.
    pub(crate) names: Names,
    /// Where the next page begins; none at the end.
    pub(crate) next: Option<Position>,
}

/// Why the trail is not listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such account.
    #[error("{0} was not found")]
    NotFound(String),
    /// The store failed.
    #[error("audit storage failed")]
    Db(#[from] db::Error),
}

/// One page.
pub(crate) async fn list(pool: &Pool, listed: &Listed) -> Result<Page, Error> {
    let mut client = pool.get().await?;
    let account = match &listed.account {
        None => None,
        Some(id) => match accounts::store::find(&client, id).await? {
            Some(account) => Some(account.key.account),
            None => return Err(Error::NotFound(id.name())),
        },
    };
    let tx = client.snapshot().await?;
    let rows = store::page(&tx, listed, MOST_ROWS).await?;
    let looked_at_all = rows.len() < usize::try_from(MOST_ROWS).unwrap_or(usize::MAX);
    let mut page = Page { records: Vec::new(), names: Names::new(), next: None };
    let mut postings = 0;
    let mut last = None;
    for (record, link) in rows {
        if page.records.len() >= listed.limit || postings >= MOST_POSTINGS {
            page.next = last;
            break;
        }
        let begin = listed.after.filter(|after| after.record == record.id && after.calls > 0);
        last = Some(Position { at: record.made_at, record: record.id, calls: 0 });
        let whole = Unfolded { record, link, before: begin.map(|begin| begin.calls as usize) };
        let (looked_at, rest) = whole.into_page(&tx, listed, account, &mut page).await?;
        postings += looked_at;
        if rest.is_some() {
            page.next = rest;
            break;
        }
    }
    if page.next.is_none() && !looked_at_all {
        page.next = last;
    }
    name_accounts(&tx, &mut page).await?;
    tx.rollback().await?;
    Ok(page)
}

/// A row on its way into a page.
struct Unfolded {
    record: Record,
    link: Option<Head>,
    /// Only the calls before this one.
    before: Option<usize>,
}

impl Unfolded {
    /// Adds what is wanted of the row; answers how many postings it looked at, and where to go on when the page
    /// was full before its end.
    async fn into_page(
        self,
        tx: &db::Tx<'_>,
        listed: &Listed,
        account: Option<AccountNo>,
        page: &mut Page,
    ) -> Result<(usize, Option<Position>), Error> {
        let Unfolded { record, link, before } = self;
        let Record { id, made_at: at, who, content } = record;
        let who: Vec<Option<Who>> = who.iter().map(|text| Who::read(text)).collect();
        let calls = match content {
            Content::Call { request_id, hash, request, omitted, accounts } => {
                // The accounts are the statement's to filter, who it is as well.
                let asked = What::Request { request_id, hash, request, omitted, accounts };
                if let Some(who) = who.into_iter().next().flatten() {
                    page.records.push(Audited { id: (id, None), who, at, asked, link });
                }
                return Ok((0, None));
            }
            Content::Postings { calls, .. } => journal::decode(&calls).unwrap_or_default(),
        };
        let wanted: Vec<(usize, &Who, &journal::Booked)> = calls
            .iter()
            .enumerate()
            .take(before.unwrap_or(calls.len()))
            .filter_map(|(at, call)| {
                let who = who.get(call.who?)?.as_ref()?;
                who.wanted(listed).then_some((at, who, call))
            })
            .collect();
        let keys: Vec<_> = wanted.iter().flat_map(|(_, _, call)| call.postings.clone()).collect();
        let mut found = crate::ledger::journaled(tx, &keys).await?;
        // The newest call of the row comes first.
        for (call_at, who, call) in wanted.into_iter().rev() {
            let mut postings = Vec::new();
            for key in &call.postings {
                postings.extend(found.remove(key).into_iter().flatten().map(|(_, posted)| posted));
            }
            if account.is_some_and(|account| !postings.iter().any(|posted| moves(posted, account)))
            {
                continue;
            }
            if page.records.len() >= listed.limit {
                let calls = u32::try_from(call_at + 1).unwrap_or(u32::MAX);
                return Ok((keys.len(), Some(Position { at, record: id, calls })));
            }
            let (who, asked) = (who.clone(), What::Postings(postings));
            page.records.push(Audited { id: (id, Some(call_at)), who, at, asked, link });
        }
        Ok((keys.len(), None))
    }
}

fn owners(posted: &Posted) -> impl Iterator<Item = AccountNo> {
    let places = posted.legs.iter().flat_map(|posted| [posted.leg.from, posted.leg.to]);
    places.filter_map(|place| match place {
        Place::Main(account) | Place::Held(account) | Place::Frozen(account) => Some(account),
        Place::Counter(_) => None,
    })
}

fn moves(posted: &Posted, account: AccountNo) -> bool {
    owners(posted).any(|owner| owner == account)
}

async fn name_accounts(tx: &db::Tx<'_>, page: &mut Page) -> Result<(), db::Error> {
    let mut numbers: Vec<AccountNo> = Vec::new();
    for record in &page.records {
        if let What::Postings(postings) = &record.asked {
            numbers.extend(postings.iter().flat_map(owners));
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    if !numbers.is_empty() {
        page.names = store::names(tx, &numbers).await?;
    }
    Ok(())
}
