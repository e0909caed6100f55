//! How an answer about a run becomes what is written: money, an end, or the time of the next question.
//!
//! Everything is decided under the lock of the run's row, and only while the run is pending; so an answer
//! that comes twice, late, or by two ways at once is written once. An answer that is not final is written
//! only by whoever asked last: a later try may be under way, and its outcome is what counts.

use adspend_common::db::{self, Pool, Tx};
use chrono::{DateTime, Utc};

use super::{
    Cause, Error, Run, RunState,
    rules::{Next, Wait},
    run_name, store, whereabouts,
};
use crate::{
    accounts::Account,
    events::{self, AutopayFacts, Event},
    ledger::{self, payload_hash, posting_id},
    notices::{self, AutopayCause, Content, Notice},
    payments::{self, Once, card::CardPayment},
    requests,
};

/// Writes what becomes of a run. `run` is as it was when the provider was asked.
pub(super) async fn settle(
    pool: &Pool,
    now: DateTime<Utc>,
    run: &Run,
    next: &Next,
) -> Result<(), Error> {
    db::retry("autopay.settle", requests::TRIES, || async {
        match next {
            Next::Book { payment } => book(pool, now, run, payment).await,
            Next::Fail { payment, cause, reason, spoils_card } => {
                let (payment, reason) = (payment.as_deref(), reason.as_str());
                fail(pool, now, run, (payment, *cause, reason, *spoils_card)).await
            }
            Next::Wait(wait) => go_on(pool, now, run, wait).await,
        }
    })
    .await
}

/// Card to main, exactly once, into whichever tenant the account is in now; overdue promises are repaid out
/// of it first, as out of every payment from outside.
async fn book(pool: &Pool, now: DateTime<Utc>, run: &Run, paid: &str) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let seen = whereabouts(&tx, run.key).await?.ok_or(Error::Moved)?;
    let mut locked = ledger::lock(&tx, now, &[seen.key]).await?;
    let account = whereabouts(&tx, run.key).await?.ok_or(Error::Moved)?;
    if account.key != seen.key {
        return Err(Error::Moved);
    }
    let Some(Run { state: RunState::Pending, .. }) = store::lock_run(&tx, run.id).await? else {
        return Ok(());
    };
    let id = run.id.to_string();
    let new = CardPayment {
        once: Once {
            posting: posting_id(account.key.tenant, "autopay.book", &id),
            hash: payload_hash(&[id.as_bytes(), &run.amount.micros().to_be_bytes()]),
        },
        amount: run.amount,
        purpose: format!("Autopayment {}", run_name(&account.id, &run.id)),
        document_number: paid.to_owned(),
    };
    let payment = payments::card::credit(&tx, &mut locked, &account, new, now).await;
    let payment = payment.map_err(|error| match error {
        payments::Error::Ledger(cause) => Error::Ledger(cause),
        payments::Error::Db(cause) => Error::Db(cause),
        payments::Error::Moved => Error::Moved,
        payments::Error::Request(cause) => Error::Request(cause),
        payments::Error::NotFound(_) | payments::Error::Refused(_) => {
            Error::Db(db::Error::other("a card payment was refused as no card payment is"))
        }
    })?;
    store::succeed(&tx, run.id, (paid, payment), now).await?;
    let facts = facts(run, &account, None);
    events::record(&tx, now, &account, &Event::AutopayRun(facts)).await?;
    ledger::write(&tx, locked).await?;
    tx.commit().await?;
    tracing::info!(run = %run.id, account = %account.id, payment = paid, "an autopayment is booked");
    Ok(())
}

async fn fail(
    pool: &Pool,
    now: DateTime<Utc>,
    run: &Run,
    (payment, cause, reason, spoils_card): (Option<&str>, Cause, &str, bool),
) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    if !is_current(store::lock_run(&tx, run.id).await?, run) {
        return Ok(());
    }
    let account = whereabouts(&tx, run.key).await?.ok_or(Error::Moved)?;
    store::fail(&tx, run.id, payment, (cause, reason), now).await?;
    let failed = Event::AutopayFailed(facts(run, &account, Some(cause)));
    events::record(&tx, now, &account, &failed).await?;
    let off = goes_off(&tx, now, (run, &account), cause).await?;
    if spoils_card {
        store::spoil(&tx, run.key, run.card, now).await?;
    }
    tx.commit().await?;
    tracing::info!(run = %run.id, ?cause, reason, off, "an autopayment failed");
    Ok(())
}

async fn go_on(pool: &Pool, now: DateTime<Utc>, run: &Run, wait: &Wait) -> Result<(), Error> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    if !is_current(store::lock_run(&tx, run.id).await?, run) {
        return Ok(());
    }
    store::wait(&tx, run.id, wait).await?;
    if wait.gives_up {
        let account = whereabouts(&tx, run.key).await?;
        let account = account.ok_or(Error::Moved)?;
        goes_off(&tx, now, (run, &account), Cause::Declined).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Switches the autopayment with the run's card off, if it is on, and tells its owner of the three causes of
/// R-124, once for each time that it was set.
async fn goes_off(
    tx: &Tx<'_>,
    now: DateTime<Utc>,
    (run, account): (&Run, &Account),
    cause: Cause,
) -> Result<bool, Error> {
    let Some(setting) = store::lock(tx, run.key).await? else { return Ok(false) };
    if setting.off.is_some() || setting.card != run.card {
        return Ok(false);
    }
    store::switch_off(tx, run.key, (cause, Some(run.card)), now).await?;
    let facts = AutopayFacts { amount: setting.amount, ..facts(run, account, Some(cause)) };
    events::record(tx, now, account, &Event::AutopayDisabled(facts)).await?;
    let told = match cause {
        Cause::LimitExceeded => AutopayCause::LimitExceeded,
        Cause::AuthorizationError => AutopayCause::AuthorizationError,
        Cause::Declined => AutopayCause::Declined,
        Cause::ByOwner | Cause::CardUnlinked | Cause::NotEligible => return Ok(true),
    };
    let card = store::card_of(tx, run.key, run.card).await?;
    let content = Content::AutopayOff {
        cause: told,
        amount: setting.amount,
        currency: account.currency,
        card: card.map(|card| card.face.masked()).unwrap_or_default(),
    };
    let subject_key = format!("{}/{}", run.id, setting.updated_at.timestamp_micros());
    notices::queue(tx, now, &Notice { to: account.key, subject_key, content }).await?;
    Ok(true)
}

fn facts(run: &Run, account: &Account, cause: Option<Cause>) -> AutopayFacts {
    AutopayFacts {
        amount: run.amount,
        run: Some(run_name(&account.id, &run.id)),
        reason: cause.map(|cause| cause.name().to_owned()),
    }
}

/// Whether the run is pending, and nobody has asked about it since.
fn is_current(stored: Option<Run>, asked: &Run) -> bool {
    stored.is_some_and(|run| {
        run.state == RunState::Pending && (run.tries, run.looks) == (asked.tries, asked.looks)
    })
}
