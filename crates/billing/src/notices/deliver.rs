//! Sends what is queued: claimed under a lease, so that two replicas send a notice once in the usual case.
//!
//! A claim counts the attempt and moves the next one behind the lease, in a transaction of its own that is
//! committed before the first byte goes out (G9). Whoever finishes names the attempt that it claimed; one
//! whose lease ran out, because it stood still for long, changes nothing any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use adspend_common::{
    db::{self, Pool},
    telemetry::Telemetry,
    time::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Content, letter,
    mailer::{Mailer, NotSent, SEND_WITHIN},
    rules::Patience,
    store,
};
use crate::{
    accounts::{self, Account, rules::is_email},
    config::Mail,
    ledger::AccountKey,
};

/// Notices that are claimed, and sent side by side.
const AT_ONCE: i64 = 8;
/// Notices that one statement gives up.
const GIVEN_UP_AT_ONCE: i64 = 1_000;
/// How long a claimed notice is left alone, in real time: several times what sending it may take.
const LEASE: Duration = SEND_WITHIN.saturating_mul(5);

/// A notice that this process sends.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) id: Uuid,
    pub(super) to: AccountKey,
    /// None for one of a newer version.
    pub(super) content: Option<Content>,
    /// This attempt's number, from 1.
    pub(super) attempt: i32,
    pub(super) created_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Sent {
        recipient: String,
    },
    Again {
        at: DateTime<Utc>,
        why: String,
    },
    Failed {
        why: String,
    },
    /// Neither the account nor its agency has an address.
    Nobody,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    retried: AtomicU64,
    failed: AtomicU64,
}

/// Sends notices. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pool: Pool,
    clock: Clock,
    mailer: Option<Mailer>,
    patience: Patience,
    counts: Arc<Counts>,
}

impl Delivery {
    /// Declares the metrics.
    pub(crate) fn new(
        pool: &Pool,
        clock: &Clock,
        mail: &Mail,
        mailer: Option<Mailer>,
        telemetry: &Telemetry,
    ) -> Delivery {
        let counts = Arc::<Counts>::default();
        let counter = |name, what, count: fn(&Counts) -> &AtomicU64| {
            let counts = counts.clone();
            let meter = telemetry.meter();
            let counter = meter.u64_observable_counter(name).with_description(what);
            let read = move || count(&counts).load(Ordering::Relaxed);
            counter.with_callback(move |counter| counter.observe(read(), &[])).build();
        };
        counter("billing.notices.sent", "Letters that the relay took", |counts| &counts.sent);
        counter("billing.notices.retried", "Attempts that are repeated later", |c| &c.retried);
        counter("billing.notices.failed", "Notices given up or refused for good", |c| &c.failed);
        let patience = Patience::from(mail);
        Delivery { pool: pool.clone(), clock: clock.clone(), mailer, patience, counts }
    }

    /// Sends what is due, in rounds, and gives up what is too old to be news.
    pub(crate) async fn run(&self) -> Result<(), db::Error> {
        self.give_up().await?;
        let Some(mailer) = &self.mailer else { return Ok(()) };
        loop {
            let claimed = self.claim().await?;
            let round = claimed.len();
            let sending = claimed.into_iter().map(|claimed| self.attempt(mailer, claimed));
            for outcome in futures_util::future::join_all(sending).await {
                outcome?;
            }
            if i64::try_from(round).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(());
            }
        }
    }

    async fn give_up(&self) -> Result<(), db::Error> {
        let now = self.clock.now();
        let Some(before) = now.checked_sub_signed(self.patience.give_up_after) else {
            return Ok(());
        };
        let client = self.pool.get().await?;
        let given_up = store::give_up(&client, before, now, GIVEN_UP_AT_ONCE).await?;
        if given_up > 0 {
            self.counts.failed.fetch_add(given_up, Ordering::Relaxed);
            tracing::warn!(given_up, "notices were not sent in time and are given up");
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Vec<Claimed>, db::Error> {
        let now = self.clock.now();
        let lease = TimeDelta::from_std(self.clock.passes_in(LEASE)).unwrap_or(TimeDelta::MAX);
        let until = now.checked_add_signed(lease).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let claimed = store::claim(&tx, now, until, AT_ONCE).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn attempt(&self, mailer: &Mailer, claimed: Claimed) -> Result<(), db::Error> {
        let outcome = self.send(mailer, &claimed).await?;
        let Claimed { id, attempt, .. } = &claimed;
        let count = match &outcome {
            Outcome::Sent { .. } => Some(&self.counts.sent),
            Outcome::Again { at, why } => {
                tracing::info!(notice = %id, attempt, %at, why, "a letter is tried again later");
                Some(&self.counts.retried)
            }
            Outcome::Failed { why } => {
                tracing::warn!(notice = %id, attempt, why, "a letter is given up");
                Some(&self.counts.failed)
            }
            Outcome::Nobody => None,
        };
        let client = self.pool.get().await?;
        if !store::finish(&client, &claimed, &outcome, self.clock.now()).await? {
            tracing::warn!(notice = %id, attempt, "the lease of a notice ran out while it was sent");
        } else if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn send(&self, mailer: &Mailer, claimed: &Claimed) -> Result<Outcome, db::Error> {
        let Claimed { id, to, content, attempt, created_at } = claimed;
        let again = |why: String| match self.patience.next(*attempt, *created_at, self.clock.now())
        {
            Some(at) => Outcome::Again { at, why },
            None => Outcome::Failed { why },
        };
        let Some((account, address)) = self.recipient(*to).await? else {
            return Ok(Outcome::Nobody);
        };
        let Some(content) = content else {
            return Ok(again("the notice is of a newer version".to_owned()));
        };
        let letter = match letter::write(&account.display_name, content) {
            Ok(letter) => letter,
            Err(unwritable) => return Ok(Outcome::Failed { why: unwritable.to_string() }),
        };
        Ok(match mailer.send(*id, &address, letter, self.clock.now()).await {
            Ok(()) => Outcome::Sent { recipient: address },
            Err(NotSent::Later(why)) => again(why),
            Err(NotSent::Never(why)) => Outcome::Failed { why },
        })
    }

    /// The account and where its letters go: to itself, or to its agency when it has no address.
    async fn recipient(&self, key: AccountKey) -> Result<Option<(Account, String)>, db::Error> {
        let client = self.pool.get().await?;
        // By its number alone: it may live in another tenant by now.
        let found = accounts::store::find_numbers(&client, &[key]).await?;
        let Some(account) = found.into_values().next() else { return Ok(None) };
        let mut address = account.email.clone();
        if address.is_empty() && account.owner != account.id {
            let agency = accounts::store::find(&client, &account.owner).await?;
            address = agency.map(|agency| agency.email).unwrap_or_default();
        }
        Ok(is_email(&address).then_some((account, address)))
    }
}
