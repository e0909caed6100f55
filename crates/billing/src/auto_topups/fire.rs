//! Firing: one transaction looks at clients of one agency, under the locks of all their balance rows.

use std::collections::BTreeMap;

use adspend_common::db::{self, Pool, Tx};
use chrono::{DateTime, Utc};

use super::{
    ACCOUNTS_AT_ONCE, Did, Error, FIRES_AT_ONCE, Off, Run, TopUp,
    rules::{self, Look, Step, Wait},
    run_name, store,
};
use crate::{
    events::{self, AutoTopUpFacts, Event},
    ledger::{
        self, AccountKey, AccountNo, Kind, Leg, Locked, Place, Posting, Refusal, State, TenantNo,
        posting_id,
    },
    notices::{self, Content, Notice},
    promised_payments, requests,
};

/// Accounts that one look for due ones finds.
const DUE_AT_ONCE: i64 = 1_000;

/// Looks at every account that is due, and fires where the rules say so. Answers how many it looked at;
/// an agency that fails does not keep the others waiting, and its error is told at the end.
pub(crate) async fn fire_due(pool: &Pool, now: DateTime<Utc>) -> Result<usize, db::Error> {
    let due = {
        let client = pool.get().await?;
        store::due(&client, now, DUE_AT_ONCE).await?
    };
    let mut tenants: BTreeMap<TenantNo, Vec<AccountNo>> = BTreeMap::new();
    for key in &due {
        tenants.entry(key.tenant).or_default().push(key.account);
    }
    let mut failed = None;
    for (tenant, accounts) in tenants {
        for accounts in accounts.chunks(ACCOUNTS_AT_ONCE) {
            if let Err(error) = fire(pool, now, tenant, accounts).await {
                tracing::warn!(tenant = tenant.0, %error, "auto top-ups of an agency failed");
                failed = Some(error);
            }
        }
    }
    match failed {
        None => Ok(due.len()),
        Some(Error::Db(cause)) => Err(cause),
        Some(error) => Err(db::Error::other(error.to_string())),
    }
}

async fn fire(
    pool: &Pool,
    now: DateTime<Utc>,
    tenant: TenantNo,
    accounts: &[AccountNo],
) -> Result<(), Error> {
    db::retry("auto_topups.fire", requests::TRIES, || async {
        let mut client = pool.get().await?;
        let tx = client.transaction().await?;
        let mut round = Round::begin(&tx, now, tenant, accounts).await?;
        for top_up in store::load(&tx, tenant, accounts).await? {
            // Another replica may have been here since it was found due.
            if top_up.due_at.is_some_and(|due| due <= now) {
                round.evaluate(top_up)?;
            }
        }
        round.end().await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Clients of one agency, looked at under the locks of their balance rows and the agency's.
pub(super) struct Round<'a> {
    tx: &'a Tx<'a>,
    now: DateTime<Utc>,
    agency: AccountKey,
    overdue: bool,
    locked: Locked,
    seen: Vec<TopUp>,
    runs: Vec<(TopUp, Run)>,
}

impl<'a> Round<'a> {
    /// Locks; what is loaded afterwards holds until the end.
    pub(super) async fn begin(
        tx: &'a Tx<'a>,
        now: DateTime<Utc>,
        tenant: TenantNo,
        accounts: &[AccountNo],
    ) -> Result<Round<'a>, Error> {
        let agency = AccountKey { tenant, account: AccountNo(tenant.0) };
        let clients = accounts.iter().map(|&account| AccountKey { tenant, account });
        let keys: Vec<AccountKey> = clients.chain([agency]).collect();
        let locked = ledger::lock(tx, now, &keys).await?;
        let overdue = promised_payments::any_overdue(tx, agency, now).await?;
        Ok(Round { tx, now, agency, overdue, locked, seen: Vec::new(), runs: Vec::new() })
    }

    /// Takes steps until there is none to take.
    pub(super) fn evaluate(&mut self, mut top_up: TopUp) -> Result<(), Error> {
        top_up.counter = top_up.counter.at(top_up.settings.period, self.now);
        (top_up.due_at, top_up.waits_for) = (None, None);
        for _ in 0..FIRES_AT_ONCE {
            let look = self.look(top_up.key)?;
            match rules::step(&top_up.settings, top_up.counter.used, look) {
                Step::Fire { used } => {
                    let did = self.transfer(&mut top_up)?;
                    top_up.counter.used = used;
                    self.tell(&mut top_up, did)?;
                    continue;
                }
                Step::Rest => {}
                Step::Skip(wait) => {
                    top_up.waits_for = Some(wait);
                    top_up.due_at = match wait {
                        Wait::LimitUsedUp => Some(top_up.settings.period.end(top_up.counter.start)),
                        Wait::PromiseOverdue | Wait::AccountBlocked => None,
                    };
                    self.tell(&mut top_up, Did::Skipped(wait))?;
                }
                Step::SwitchOff => {
                    top_up.switch_off(Off::InsufficientFunds, self.now);
                    self.tell(&mut top_up, Did::SwitchedOff)?;
                }
            }
            self.seen.push(top_up);
            return Ok(());
        }
        top_up.due_at = Some(self.now);
        self.seen.push(top_up);
        Ok(())
    }

    fn look(&self, client: AccountKey) -> Result<Look, Error> {
        let row = |key| self.locked.row(key).filter(|row| row.state != State::Moved);
        let (client, agency) = row(client).zip(row(self.agency)).ok_or(Error::Moved)?;
        Ok(Look {
            client: client.main,
            agency: agency.transferable(),
            blocked: client.state != State::Active || agency.state != State::Active,
            overdue: self.overdue,
        })
    }

    fn transfer(&mut self, top_up: &mut TopUp) -> Result<Did, Error> {
        let sequence = top_up.counter.sequence.saturating_add(1);
        let AccountKey { tenant, account } = top_up.key;
        let start = top_up.counter.start;
        let period = top_up.settings.period;
        let posting = Posting {
            // Made of the key of R-118, so the ledger too refuses a second one.
            id: posting_id(
                tenant,
                "auto_topups.fire",
                &format!("{}/{period:?}/{start}/{sequence}", account.0),
            ),
            tenant,
            legs: vec![Leg {
                kind: Kind::AutoTopUp,
                from: Place::Main(self.agency.account),
                to: Place::Main(account),
                amount: top_up.settings.amount,
                object: Some(super::name(&top_up.account).into()),
            }],
            payload_hash: 0,
        };
        self.locked.post(&posting).map_err(refused)?;
        top_up.counter.sequence = sequence;
        Ok(Did::Transferred { posting: posting.id, sequence })
    }

    fn tell(&mut self, top_up: &mut TopUp, did: Did) -> Result<(), Error> {
        let Look { client, agency, .. } = self.look(top_up.key)?;
        top_up.runs = top_up.runs.saturating_add(1);
        let run = Run {
            id: adspend_common::id::new_uuid(self.now),
            number: top_up.runs,
            at: self.now,
            did,
            settings: top_up.settings,
            period_start: top_up.counter.start,
            used: top_up.counter.used,
            client,
            agency,
            reversed_at: None,
        };
        self.runs.push((top_up.clone(), run));
        Ok(())
    }

    /// Writes all of it. The settings last: the write of the money marks as due what is still low.
    pub(super) async fn end(self) -> Result<Vec<TopUp>, Error> {
        let Round { tx, now, agency, locked, seen, runs, .. } = self;
        ledger::write(tx, locked).await?;
        let mut told = Vec::new();
        for (top_up, run) in &runs {
            store::insert_run(tx, top_up.key, run).await?;
            let name = Some(run_name(&top_up.account, &run.id));
            match run.did {
                Did::Transferred { .. } => {
                    let amount = run.settings.amount;
                    let facts = AutoTopUpFacts { amount, run: name, reason: None };
                    told.push((top_up.subject(), Event::AutoTopUpRun(facts)));
                }
                Did::SwitchedOff => {
                    told.push((top_up.subject(), top_up.disabled(Off::InsufficientFunds, name)));
                    notices::queue(tx, now, &switched_off(agency, top_up, run)).await?;
                }
                // It stays on, and nobody has anything to do.
                Did::Skipped(_) => {}
            }
        }
        events::record_all(tx, now, &told).await?;
        for top_up in &seen {
            store::update(tx, top_up).await?;
        }
        Ok(seen)
    }
}

/// The one e-mail to the agency: the run that switched off is told once.
fn switched_off(agency: AccountKey, top_up: &TopUp, run: &Run) -> Notice {
    Notice {
        to: agency,
        subject_key: run.id.to_string(),
        content: Content::AutoTopUpOff {
            client: top_up.account.clone(),
            client_name: top_up.client_name.clone(),
            amount: run.settings.amount,
            currency: top_up.currency,
        },
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::Ledger(ledger::Error::Refused(refusal))
}
