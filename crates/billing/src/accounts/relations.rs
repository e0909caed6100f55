//! An account joins an agency, or leaves it: the only operations that touch two tenants.
//!
//! The balance goes along in two postings, one in each tenant, within one transaction: out of the old one
//! into `adjustment`, and from `adjustment` into the new one. The old balance row stays as [`State::Moved`]
//! with its entries; whoever still has the old tenant in memory is told so under the lock.

use adspend_common::{
    db::{self, Pool, Tx},
    id::AccountId,
    identity::Caller,
    money::Money,
};
use chrono::{DateTime, Utc};

use super::{Account, AccountKind, Error, get, rules, store};
use crate::{
    auto_topups, autopay, credit,
    events::{self, AccountFacts, Event},
    holds,
    ledger::{
        self, AccountKey, AccountNo, Counter, Kind, Leg, Locked, Place, Posting, Refusal, State,
        TenantNo,
    },
    requests::{self, Begun, Call, Outcome},
};

/// Makes a direct advertiser the client of an agency. Its money comes along.
pub(crate) async fn attach(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    (id, agency): (&AccountId, &AccountId),
) -> Result<Outcome<Account>, Error> {
    db::retry("accounts.attach", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let agency = get(&tx, caller, agency).await?;
        let seen = get(&tx, caller, id).await?;
        let target = AccountKey { tenant: agency.key.tenant, account: seen.key.account };
        let mut moving = Moving::begin(&tx, now, seen.key, target).await?;
        let has_credit = credit::is_used(&tx, seen.key).await?;
        let row = moving.locked.row(seen.key).ok_or(Error::Moved)?;
        let why = rules::not_attachable(&moving.account, &agency, row, has_credit);
        if !why.is_empty() {
            return Err(Error::NotAttachable { account: id.name(), why });
        }
        moving.post(call)?;
        let before = moving.account.clone();
        let moved = moving.finish(&tx, now, AccountKind::Client, &agency.id).await?;
        let event = Event::ClientAttached(AccountFacts { agency: Some(agency.id) });
        record(&tx, now, [&before, &moved], &event).await?;
        Ok(requests::finish(tx, call, moved).await?)
    })
    .await
}

/// Makes a client a direct advertiser again; what it owes goes along.
pub(crate) async fn detach(
    pool: &Pool,
    now: DateTime<Utc>,
    call: &Call<Account>,
    caller: &Caller,
    id: &AccountId,
) -> Result<Outcome<Account>, Error> {
    db::retry("accounts.detach", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = match requests::begin(&mut client, call, now).await? {
            Begun::New(tx) => tx,
            Begun::Known(answer) => return Ok(Outcome::Replayed(answer)),
        };
        let seen = get(&tx, caller, id).await?;
        let own = AccountKey { tenant: TenantNo(seen.key.account.0), account: seen.key.account };
        if seen.key == own {
            let why = vec!["NOT_A_CLIENT"];
            return Err(Error::NotDetachable { account: id.name(), why });
        }
        let mut moving = Moving::begin(&tx, now, seen.key, own).await?;
        let row = moving.locked.row(seen.key).ok_or(Error::Moved)?;
        let why = rules::not_detachable(&moving.account, row);
        if !why.is_empty() {
            return Err(Error::NotDetachable { account: id.name(), why });
        }
        moving.post(call)?;
        let before = moving.account.clone();
        let moved = moving.finish(&tx, now, AccountKind::Advertiser, id).await?;
        let event = Event::ClientDetached(AccountFacts { agency: before.agency().cloned() });
        record(&tx, now, [&before, &moved], &event).await?;
        Ok(requests::finish(tx, call, moved).await?)
    })
    .await
}

/// Tells both tenants.
async fn record(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    sides: [&Account; 2],
    event: &Event,
) -> Result<(), db::Error> {
    for account in sides {
        events::record(tx, now, account, event).await?;
    }
    Ok(())
}

/// A move in progress, with both balance rows and the account locked.
struct Moving {
    from: AccountKey,
    to: AccountKey,
    account: Account,
    locked: Locked,
    now: DateTime<Utc>,
}

impl Moving {
    async fn begin(
        tx: &Tx<'_>,
        now: DateTime<Utc>,
        from: AccountKey,
        to: AccountKey,
    ) -> Result<Moving, Error> {
        if from != to {
            ledger::open_balance(tx, to, now).await?;
        }
        let locked = ledger::lock(tx, now, &[from, to]).await?;
        let account = store::lock(tx, from).await?.ok_or(Error::Moved)?;
        Ok(Moving { from, to, account, locked, now })
    }

    /// The balance, out of one tenant and into the other.
    fn post(&mut self, call: &Call<Account>) -> Result<(), Error> {
        let main = self.locked.row(self.from).ok_or(Error::Moved)?.main;
        let AccountNo(number) = self.from.account;
        let own = Place::Main(AccountNo(number));
        let adjustment = Place::Counter(Counter::Adjustment);
        let (amount, negative) = match main.as_money() {
            Some(amount) => (amount, false),
            None => (main.negated().or_zero(), true),
        };
        if amount.is_zero() {
            return Ok(());
        }
        for (key, kind, out) in
            [(self.from, Kind::MovedOut, !negative), (self.to, Kind::MovedIn, negative)]
        {
            let (from, to) = if out { (own, adjustment) } else { (adjustment, own) };
            let posting = Posting {
                id: call.posting_id(),
                tenant: key.tenant,
                legs: vec![Leg { kind, from, to, amount, object: None }],
                payload_hash: call.short_hash(),
            };
            self.locked.post(&posting).map_err(refused)?;
        }
        // What may only be spent stays so wherever its account is.
        let spend_only = self.locked.row(self.from).ok_or(Error::Moved)?.spend_only;
        if !spend_only.is_zero() {
            self.locked.set_spend_only(self.to, spend_only);
            self.locked.set_spend_only(self.from, Money::ZERO);
        }
        Ok(())
    }

    async fn finish(
        self,
        tx: &Tx<'_>,
        now: DateTime<Utc>,
        kind: AccountKind,
        owner: &AccountId,
    ) -> Result<Account, Error> {
        autopay::leave(tx, &self.account, self.now).await?;
        ledger::set_state(tx, self.from, State::Moved).await?;
        store::move_to(tx, self.from, self.to.tenant, kind).await?;
        holds::move_to(tx, self.from, self.to.tenant).await?;
        auto_topups::leave(tx, self.from, now).await?;
        ledger::write(tx, self.locked).await?;
        Ok(Account {
            key: self.to,
            kind,
            owner: owner.clone(),
            revision: self.account.revision.saturating_add(1),
            ..self.account
        })
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::Ledger(ledger::Error::Refused(refusal))
}
