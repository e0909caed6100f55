//! The payments: what makes one, and how it is brought to its end.
//!
//! A run that nobody works on is one whose lease has passed: whichever replica sees it goes on from what is
//! written, so a crash at any point costs time only. The provider is asked outside of every transaction, and
//! what was asked is written before.

use std::{sync::Arc, time::Duration};

use adspend_common::{
    config::Secret,
    db::{self, Pool},
    id::AccountId,
    identity::Caller,
    money::Currency,
    server::Stop,
    time::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    Autopay, CardState, Error, Of, Provider, Run, RunState, booking, parent,
    rules::{self, Answer, Ask},
    store, whereabouts,
    yookassa::Order,
};
use crate::{
    ledger::{self, AccountKey, AccountNo, TenantNo},
    requests,
};

/// Autopayments on one page of a look for low accounts.
const PAGE: i64 = 500;
/// Payments that one process works on at once.
const AT_ONCE: usize = 32;
/// The shortest wait between two looks, however fast a simulated clock runs.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait after looks that fail.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// How long payments under way may take to end when the service stops; later ones go on elsewhere.
const END_WITHIN: Duration = Duration::from_secs(5);
/// The shortest lease: an answer also has to be written.
const SHORTEST_LEASE: Duration = Duration::from_secs(60);
/// How far the provider's clock may be from ours.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(10);

/// Makes payments and brings them to their end.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    autopay: Autopay,
    provider: Arc<Provider>,
    pool: Pool,
    clock: Clock,
}

/// A run that this process goes on with, and what it asks.
#[derive(Debug)]
struct Claimed {
    run: Run,
    ask: Ask,
    card: CardState,
    was_in_doubt: bool,
    token: Option<Secret>,
    account: AccountId,
    currency: Currency,
}

/// What a notification was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is about no payment of ours, or about one that has ended, or nothing final.
    Nothing,
    /// The provider says so too, and it is written.
    Settled,
    /// The provider did not answer; it should be sent again.
    Away,
}

impl Machine {
    /// None when no provider is configured.
    pub(crate) fn new(autopay: &Autopay, pool: &Pool, clock: &Clock) -> Option<Machine> {
        let provider = Arc::clone(autopay.provider.as_ref()?);
        Some(Machine {
            autopay: autopay.clone(),
            provider,
            pool: pool.clone(),
            clock: clock.clone(),
        })
    }

    /// Looks for low accounts and for runs that are due, until the service stops.
    pub(crate) async fn keep(self, stop: Stop) {
        let mut tasks = JoinSet::new();
        let mut failures: u32 = 0;
        loop {
            let wait = self.clock.real_duration(self.autopay.terms.every.get()).max(SHORTEST_WAIT);
            let backoff = wait.saturating_mul(1 << failures.min(6)).min(LONGEST_BACKOFF.max(wait));
            tokio::select! {
                () = stop.stopping().cancelled() => break,
                () = tokio::time::sleep(backoff) => {}
            }
            match self.look(&mut tasks).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(failures, %error, "looking after autopayments failed; it is tried again");
                }
            }
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(END_WITHIN, ended).await.is_err() {
            tracing::warn!("payments are under way; another replica goes on with them");
        }
    }

    async fn look(&self, tasks: &mut JoinSet<()>) -> Result<(), Error> {
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "work on an autopayment broke off; its lease ends");
            }
        }
        self.fire_low().await?;
        while tasks.len() < AT_ONCE {
            let Some(claimed) = self.claim().await? else { break };
            let machine = self.clone();
            tasks.spawn(async move { machine.advance(claimed).await });
        }
        Ok(())
    }

    /// Starts a run for every account whose free money has reached its value.
    async fn fire_low(&self) -> Result<u32, Error> {
        let first = AccountKey { tenant: TenantNo::PLATFORM, account: AccountNo(0) };
        let (mut after, mut fired) = (Some(first), 0_u32);
        while let Some(position) = after {
            let (low, next) = {
                let client = self.pool.get().await?;
                store::low(&client, position, PAGE).await?
            };
            for key in low {
                let started = db::retry("autopay.fire", requests::TRIES, || self.fire(key)).await?;
                fired = fired.saturating_add(u32::from(started));
            }
            after = next;
        }
        Ok(fired)
    }

    /// Writes the intent, when everything that is looked at under the locks says so; the first try is due at
    /// once.
    async fn fire(&self, key: AccountKey) -> Result<bool, Error> {
        let now = self.clock.now();
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let locked = ledger::lock(&tx, now, &[key]).await?;
        let Some(free) = locked.row(key).map(|row| row.main) else { return Ok(false) };
        let Some(account) = whereabouts(&tx, key).await? else {
            return Ok(false);
        };
        let terms = &self.autopay.terms;
        if account.key != key || !rules::ineligible(terms, &account).is_empty() {
            return Ok(false);
        }
        let Some(setting) = store::lock(&tx, key).await? else { return Ok(false) };
        let card = store::card_of(&tx, key, setting.card).await?;
        let usable = card.is_some_and(|card| card.state == CardState::Active);
        let today = store::payments_since(&tx, key, rules::day_begins(now)).await?;
        let low = rules::fires(terms, (free, setting.threshold), today);
        if setting.off.is_some() || !usable || !low || setting.amount > terms.max_amount.0 {
            return Ok(false);
        }
        let run = Run {
            key,
            id: adspend_common::id::new_uuid(now),
            card: setting.card,
            amount: setting.amount,
            balance: free,
            state: RunState::Pending,
            failure: None,
            tries: 0,
            looks: 0,
            first_tried_at: None,
            last_tried_at: None,
            in_doubt: false,
            provider_payment: None,
            provider_reason: None,
            payment: None,
            created_at: now,
            finished_at: None,
        };
        if !store::insert_run(&tx, &run).await? {
            return Ok(false);
        }
        // What the lock gave back of expired holds is booked with it.
        ledger::write(&tx, locked).await?;
        tx.commit().await?;
        tracing::info!(run = %run.id, account = %account.id, "an autopayment fires");
        Ok(true)
    }

    /// Takes a run that is due, and writes down what is asked about it now.
    async fn claim(&self) -> Result<Option<Claimed>, Error> {
        let now = self.clock.now();
        let mut client = self.pool.get().await?;
        let tx = client.transaction().await?;
        let Some(mut run) = store::claim(&tx, now).await? else { return Ok(None) };
        let account = whereabouts(&tx, run.key).await?;
        let account = account.ok_or(Error::Moved)?;
        let card = store::card_of(&tx, run.key, run.card).await?;
        let mut card = card.map_or(CardState::Unlinked, |card| card.state);
        let token = match store::token(&tx, run.key, run.card).await? {
            None => None,
            Some(sealed) => self.provider.seal.open(run.card, &sealed),
        };
        if token.is_none() && card == CardState::Active {
            tracing::error!(run = %run.id, "the token of a card does not open with autopay.provider.token_key");
            card = CardState::Invalid;
        }
        let setting = store::setting(&tx, run.key).await?;
        let consents = setting.is_some_and(|s| s.off.is_none() && s.card == run.card);
        let was_in_doubt = run.in_doubt;
        let ask = rules::ask(&self.autopay.terms, &run, (card, consents), now);
        let lease = self.provider.api.longest_call().saturating_mul(2).max(SHORTEST_LEASE);
        let until = now + TimeDelta::from_std(lease).unwrap_or(CLOCKS_DIFFER);
        store::lease(&tx, &mut run, &ask, (now, until)).await?;
        tx.commit().await?;
        let (account, currency) = (account.id, account.currency);
        Ok(Some(Claimed { run, ask, card, was_in_doubt, token, account, currency }))
    }

    /// Asks the provider, and writes what it says. What fails here is done again when the lease ends.
    async fn advance(&self, claimed: Claimed) {
        let answer = self.ask(&claimed).await;
        let Claimed { run, ask, card, was_in_doubt, .. } = &claimed;
        let now = self.clock.now();
        if let Answer::Unknown { why } = &answer {
            tracing::warn!(run = %run.id, tries = run.tries, looks = run.looks, why,
                "the payment provider says nothing about an autopayment");
        }
        let next = match ask {
            Ask::Abandon => rules::abandoned(run, *card),
            Ask::Pay | Ask::Look(_) | Ask::Search => {
                rules::next(&self.autopay.terms, run, (ask, answer), *was_in_doubt, now)
            }
        };
        if let Err(error) = booking::settle(&self.pool, now, run, &next).await {
            tracing::warn!(run = %run.id, %error, "an autopayment's answer was not written; it is asked for again");
        }
    }

    async fn ask(&self, claimed: &Claimed) -> Answer {
        let Claimed { run, ask, token, account, currency, .. } = claimed;
        let (api, amount) = (&self.provider.api, (run.amount, *currency));
        match (ask, token) {
            (Ask::Pay, Some(token)) => {
                let description = format!("Autopayment of {}", account.name());
                let (amount, currency) = amount;
                let order =
                    Order { run: run.id, amount, currency, token, description: &description };
                api.pay(&order).await
            }
            (Ask::Look(payment), _) => match api.payment(payment).await {
                Some(seen) => seen.of(run.id, amount),
                None => Answer::Unknown { why: "no answer" },
            },
            (Ask::Search, _) => {
                let first = run.first_tried_at.unwrap_or(run.created_at);
                let last = run.last_tried_at.unwrap_or(first);
                let until = last + CLOCKS_DIFFER + api.longest_call();
                api.search((run.id, amount), (first - CLOCKS_DIFFER, until)).await
            }
            (Ask::Pay, None) | (Ask::Abandon, _) => Answer::Unknown { why: "nothing was asked" },
        }
    }

    /// Hears a notification about a payment: believes nothing of it, asks the provider, writes what is final.
    pub(super) async fn hear(&self, payment: &str, hint: Option<Uuid>) -> Result<Heard, Error> {
        let (run, currency) = {
            let client = self.pool.get().await?;
            let known = store::by_provider_payment(&client, payment).await?;
            let Some(id) = known.or(hint) else { return Ok(Heard::Nothing) };
            match store::run(&client, id).await? {
                Some(run) if run.state == RunState::Pending => {
                    let account = whereabouts(&client, run.key).await?;
                    (run, account.ok_or(Error::Moved)?.currency)
                }
                Some(_) | None => return Ok(Heard::Nothing),
            }
        };
        let Some(seen) = self.provider.api.payment(payment).await else { return Ok(Heard::Away) };
        let answer = seen.of(run.id, (run.amount, currency));
        let is_final = match &answer {
            Answer::Succeeded { .. } => true,
            // One that may be tried again is the machine's to judge: a later try may be under way.
            Answer::Canceled { reason, .. } => !rules::is_passing(reason),
            Answer::Pending { .. }
            | Answer::Refused { .. }
            | Answer::Unknown { .. }
            | Answer::Absent => false,
        };
        if !is_final {
            return Ok(Heard::Nothing);
        }
        let now = self.clock.now();
        let asked = Ask::Look(payment.to_owned());
        let next = rules::next(&self.autopay.terms, &run, (&asked, answer), run.in_doubt, now);
        booking::settle(&self.pool, now, &run, &next).await?;
        Ok(Heard::Settled)
    }
}

/// The runs of an account, newest first, after the position of a page.
pub(crate) async fn list(
    pool: &Pool,
    caller: &Caller,
    id: &AccountId,
    (before, limit): (Option<(DateTime<Utc>, Uuid)>, u32),
) -> Result<Of<Vec<Run>>, Error> {
    let client = pool.get().await?;
    let account = parent(&client, caller, id, || id.name()).await?;
    let runs = store::list(&client, account.key, before, limit).await?;
    Ok(Of::new(&account, runs))
}
