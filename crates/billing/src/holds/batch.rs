//! One transaction per batch: lock the accounts, read the holds, decide per item, write, commit.

use std::collections::HashMap;

use adspend_common::{
    db::{self, Pool, Tx},
    money::Money,
    time::Clock,
};
use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    Done, Error, Hold, HoldRef, HoldState, Open, Settle, Verdict, about, leg, rules, store, write,
};
use crate::{
    audit_records::{self, Asked},
    ledger::{self, AccountKey, Counter, Kind, Locked, Place, Posting, Refusal},
};

/// Legs of one posting of a report: two per campaign, below the ledger's limit.
const CAMPAIGNS_PER_POSTING: usize = 30;

pub(super) async fn open(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[Open],
) -> Result<Vec<Verdict>, db::Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let now = clock.now();
    let accounts: Vec<AccountKey> = items.iter().map(|item| item.account).collect();
    let mut locked = ledger::lock(&tx, now, &accounts).await?;
    let ids: Vec<_> = items.iter().map(|item| (item.account.tenant, item.id())).collect();
    let mut known = store::opened_before(&tx, &ids).await?;
    let mut fresh = Vec::new();
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        let (id, hash) = (item.id(), item.hash());
        if let Some((before, hold)) = known.get(&id) {
            verdicts.push(if *before == hash {
                Ok(Done { hold: rules::at(hold, now), replayed: true })
            } else {
                Err(Error::Reused)
            });
            continue;
        }
        let verdict = open_one(&mut locked, item, id, now);
        if let Ok(hold) = &verdict {
            known.insert(id, (hash, hold.clone()));
            fresh.push((hold.clone(), hash));
        }
        verdicts.push(verdict.map(|hold| Done { hold, replayed: false }));
    }
    store::insert(&tx, &fresh).await?;
    finish(&tx, now, record, &verdicts, locked).await?;
    tx.commit().await?;
    Ok(verdicts)
}

/// Writes what was booked, and who asked for it when any item took effect now: both statements on their way
/// at once.
async fn finish(
    tx: &Tx<'_>,
    now: chrono::DateTime<chrono::Utc>,
    record: &Asked,
    verdicts: &[Verdict],
    locked: Locked,
) -> Result<(), db::Error> {
    let changed = verdicts.iter().any(|verdict| verdict.as_ref().is_ok_and(|done| !done.replayed));
    let record = async {
        if changed { audit_records::store::insert(tx, now, record).await } else { Ok(()) }
    };
    futures_util::try_join!(write(tx, locked), record)?;
    Ok(())
}

fn open_one(
    locked: &mut Locked,
    item: &Open,
    id: Uuid,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Hold, Error> {
    let key = item.account;
    let unknown = Error::Refused(Refusal::UnknownAccount(key.account));
    let available = locked.row(key).ok_or(unknown)?.available();
    // A refusal for want of money names what was needed at the least.
    let opened = rules::grant(item.amount, item.least, available).unwrap_or(item.least);
    let posting = Posting {
        id,
        tenant: key.tenant,
        legs: vec![leg(
            Kind::HoldOpened,
            Place::Main(key.account),
            Place::Held(key.account),
            opened,
            "",
        )],
        payload_hash: item.hash(),
    };
    locked.post(&posting).map_err(Error::Refused)?;
    let expires_at =
        now.checked_add_signed(item.ttl).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    keep_expiry(locked, key, expires_at);
    Ok(Hold {
        key,
        id,
        opened,
        settled: Money::ZERO,
        released: Money::ZERO,
        late: Money::ZERO,
        sequence: 0,
        state: HoldState::Open,
        opened_at: now,
        expires_at,
    })
}

/// The account is looked at again when its first hold expires.
fn keep_expiry(locked: &mut Locked, key: AccountKey, expires_at: chrono::DateTime<chrono::Utc>) {
    let first = locked.row(key).and_then(|row| row.hold_expires_at);
    locked.set_hold_expiry(key, Some(first.map_or(expires_at, |first| first.min(expires_at))));
}

/// Runs one verdict per item over locked accounts and their holds, then writes what changed.
async fn on_holds<'a, T>(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &'a [T],
    hold_of: impl Fn(&T) -> HoldRef,
    mut each: impl FnMut(
        &mut Locked,
        &mut Hold,
        &'a T,
        chrono::DateTime<chrono::Utc>,
    ) -> Result<bool, Error>,
) -> Result<Vec<Verdict>, db::Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let now = clock.now();
    let refs: Vec<HoldRef> = items.iter().map(&hold_of).collect();
    let accounts: Vec<AccountKey> = refs.iter().map(|hold| hold.account).collect();
    let mut locked = ledger::lock(&tx, now, &accounts).await?;
    let mut holds = store::load(&tx, &refs).await?;
    let before = holds.clone();
    let mut verdicts = Vec::with_capacity(items.len());
    for (item, hold) in items.iter().zip(&refs) {
        verdicts.push(match holds.get_mut(hold) {
            None => Err(Error::NotFound),
            Some(hold) => each(&mut locked, hold, item, now)
                .map(|replayed| Done { hold: hold.clone(), replayed }),
        });
    }
    let changed: Vec<&Hold> = holds
        .iter()
        .filter(|(id, hold)| before.get(id) != Some(*hold))
        .map(|(_, hold)| hold)
        .collect();
    store::update(&tx, &changed).await?;
    finish(&tx, now, record, &verdicts, locked).await?;
    tx.commit().await?;
    Ok(verdicts)
}

pub(super) async fn release(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[HoldRef],
) -> Result<Vec<Verdict>, db::Error> {
    on_holds(
        pool,
        clock,
        record,
        items,
        |item| *item,
        |locked, hold, _, _| {
            if hold.state != HoldState::Open {
                return Ok(true);
            }
            let (rest, account) = (hold.left(), hold.key.account);
            if !rest.is_zero() {
                let posting = Posting {
                    id: about(hold.key.tenant, "holds.release", hold.id, ""),
                    tenant: hold.key.tenant,
                    legs: vec![leg(
                        Kind::HoldReleased,
                        Place::Held(account),
                        Place::Main(account),
                        rest,
                        "",
                    )],
                    payload_hash: 0,
                };
                locked.post(&posting).map_err(Error::Refused)?;
            }
            hold.released = hold.opened.saturating_sub(hold.settled);
            hold.state = HoldState::Released;
            Ok(false)
        },
    )
    .await
}

pub(super) async fn extend(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[(HoldRef, TimeDelta)],
) -> Result<Vec<Verdict>, db::Error> {
    on_holds(
        pool,
        clock,
        record,
        items,
        |item| item.0,
        |_, hold, (_, ttl), now| {
            match hold.state {
                HoldState::Open => {}
                HoldState::Expired => return Err(Error::Expired),
                HoldState::Released => return Err(Error::Closed),
            }
            let until = now.checked_add_signed(*ttl).unwrap_or(hold.expires_at);
            hold.expires_at = rules::extended(hold, until);
            Ok(false)
        },
    )
    .await
}

pub(super) async fn settle(
    pool: &Pool,
    clock: &Clock,
    record: &Asked,
    items: &[Settle],
) -> Result<Vec<Verdict>, db::Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let now = clock.now();
    let refs: Vec<HoldRef> = items.iter().map(|item| item.hold).collect();
    let accounts: Vec<AccountKey> = refs.iter().map(|hold| hold.account).collect();
    let mut locked = ledger::lock(&tx, now, &accounts).await?;
    let mut holds = store::load(&tx, &refs).await?;
    let mut spends = store::spends(&tx, &refs).await?;
    let mut verdicts = Vec::with_capacity(items.len());
    for item in items {
        let Some(hold) = holds.get_mut(&item.hold) else {
            verdicts.push(Err(Error::NotFound));
            continue;
        };
        if item.sequence <= hold.sequence {
            verdicts.push(Ok(Done { hold: hold.clone(), replayed: true }));
            continue;
        }
        let settled = settle_one(&mut locked, hold, &mut spends, item);
        verdicts.push(settled.map(|()| Done { hold: hold.clone(), replayed: false }));
    }
    let changed: Vec<&Hold> = holds.values().collect();
    store::update(&tx, &changed).await?;
    store::write_spends(&tx, &spends).await?;
    finish(&tx, now, record, &verdicts, locked).await?;
    tx.commit().await?;
    Ok(verdicts)
}

/// Spend so far, per hold and campaign.
pub(super) type Spends = HashMap<(AccountKey, Uuid, String), Money>;

fn settle_one(
    locked: &mut Locked,
    hold: &mut Hold,
    spends: &mut Spends,
    item: &Settle,
) -> Result<(), Error> {
    let overflow = || Error::Refused(Refusal::Overflow(hold.key.account));
    let spend_key = |campaign: &String| (hold.key, hold.id, campaign.clone());
    let known: Vec<Money> = item
        .spends
        .iter()
        .map(|(campaign, _)| spends.get(&spend_key(campaign)).copied().unwrap_or(Money::ZERO))
        .collect();
    let reported: Vec<Money> = item.spends.iter().map(|(_, spent)| *spent).collect();
    let shares = rules::split(hold, &known, &reported).ok_or_else(overflow)?;
    let account = hold.key.account;
    let revenue = Place::Counter(Counter::Revenue);
    let mut legs = Vec::new();
    for ((campaign, _), share) in item.spends.iter().zip(&shares) {
        if !share.covered.is_zero() {
            let held = Place::Held(account);
            legs.push(leg(Kind::HoldSettled, held, revenue, share.covered, campaign));
        }
        if !share.late.is_zero() {
            legs.push(leg(Kind::LateCharge, Place::Main(account), revenue, share.late, campaign));
        }
    }
    let postings: Vec<Posting> = legs
        .chunks(CAMPAIGNS_PER_POSTING * 2)
        .enumerate()
        .map(|(part, legs)| Posting {
            id: about(
                hold.key.tenant,
                "holds.settle",
                hold.id,
                &format!("{}/{part}", item.sequence),
            ),
            tenant: hold.key.tenant,
            legs: legs.to_vec(),
            payload_hash: 0,
        })
        .collect();
    for verdict in locked.post_group(&postings.iter().collect::<Vec<_>>()) {
        verdict.map_err(Error::Refused)?;
    }
    for share in &shares {
        hold.settled = hold.settled.checked_add(share.covered).ok_or_else(overflow)?;
        hold.late = hold.late.checked_add(share.late).ok_or_else(overflow)?;
    }
    hold.sequence = item.sequence;
    for ((campaign, spent), known) in item.spends.iter().zip(known) {
        spends.insert((hold.key, hold.id, campaign.clone()), known.max(*spent));
    }
    Ok(())
}
