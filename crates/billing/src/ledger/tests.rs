//! The ledger on PostgreSQL, beside a model of it in memory.

use std::collections::HashMap;

use adspend_common::{
    devpg::TestDatabase,
    money::{Balance, Money},
    time::Clock,
};
use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::{
    batch::{Linked, Poster},
    *,
};
use crate::MIGRATIONS;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn nobody() -> Actor {
    Actor {
        caller: std::sync::Arc::new(adspend_common::identity::Caller::operator()),
        method: "Test",
    }
}

fn key(tenant: i64, account: i64) -> AccountKey {
    AccountKey { tenant: TenantNo(tenant), account: AccountNo(account) }
}

async fn with_accounts(accounts: &[AccountKey]) -> TestDatabase {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    for account in accounts {
        open_balance(&tx, *account, start()).await.unwrap();
    }
    tx.commit().await.unwrap();
    database
}

fn leg(kind: Kind, from: Place, to: Place, micros: i64) -> Leg {
    Leg { kind, from, to, amount: Money::from_micros(micros).unwrap(), object: None }
}

fn posting(id: &str, tenant: i64, legs: Vec<Leg>) -> Posting {
    let hash = payload_hash(&[format!("{legs:?}").as_bytes()]);
    Posting {
        id: posting_id(TenantNo(tenant), "test", id),
        tenant: TenantNo(tenant),
        legs,
        payload_hash: hash,
    }
}

fn deposit(id: &str, account: AccountKey, micros: i64) -> Posting {
    let to = Place::Main(account.account);
    posting(
        id,
        account.tenant.0,
        vec![leg(Kind::Deposit, Place::Counter(Counter::Bank), to, micros)],
    )
}

fn transfer(id: &str, from: AccountKey, to: AccountKey, micros: i64) -> Posting {
    let (source, destination) = (Place::Main(from.account), Place::Main(to.account));
    posting(id, from.tenant.0, vec![leg(Kind::Transfer, source, destination, micros)])
}

async fn main_of(database: &TestDatabase, key: AccountKey) -> i64 {
    let client = database.pool.get().await.unwrap();
    as_of(&client, key, start() + TimeDelta::days(9_999)).await.unwrap().main.micros()
}

async fn assert_audit(database: &TestDatabase) {
    let report = audit::verify(&database.pool, None, start(), None).await.unwrap();
    assert!(report.is_ok(), "{:#?}", report.differences);
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_moves_nothing() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let asked = transfer("t", agency, client, 300);
    let first = poster.post(nobody(), asked.clone()).await.unwrap();
    let again = poster.post(nobody(), asked).await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!((again.legs, again.at), (first.legs.clone(), first.at));
    assert_eq!(first.legs[0].from_balance, Balance::from_micros(700));
    assert_eq!(first.legs[0].to_balance, Balance::from_micros(300));
    assert_eq!(main_of(&database, client).await, 300);
    assert_audit(&database).await;
}

/// Found by the service's tests: the repeat was refused, because the money had gone with the first call.
#[tokio::test]
async fn a_repeat_gets_the_first_answer_when_the_money_is_gone() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let all = transfer("t", agency, client, 1_000);
    assert!(!poster.post(nobody(), all.clone()).await.unwrap().replayed);
    assert!(poster.post(nobody(), all).await.unwrap().replayed);
    let more = transfer("t", agency, client, 1_001);
    let error = poster.post(nobody(), more).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::RequestIdReused)), "{error:?}");
    assert_audit(&database).await;
}

#[tokio::test]
async fn an_id_with_another_payload_is_refused_and_changes_nothing() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    poster.post(nobody(), transfer("t", agency, client, 300)).await.unwrap();
    let error = poster.post(nobody(), transfer("t", agency, client, 301)).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::RequestIdReused)), "{error:?}");
    assert_eq!(main_of(&database, client).await, 300);
    assert_audit(&database).await;
}

#[tokio::test]
async fn a_refused_request_does_not_burn_its_id() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    let asked = transfer("t", agency, client, 300);
    let error = poster.post(nobody(), asked.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::Insufficient { .. })), "{error:?}");
    poster.post(nobody(), deposit("d", agency, 300)).await.unwrap();
    assert!(!poster.post(nobody(), asked).await.unwrap().replayed);
    assert_audit(&database).await;
}

#[tokio::test]
async fn equal_ids_in_one_batch_are_one_call() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let asked = transfer("t", agency, client, 300);
    let other = transfer("t", agency, client, 299);
    let verdicts =
        poster.post_all(nobody(), vec![asked.clone(), asked, other], Linked::No).await.unwrap();
    assert!(!verdicts[0].as_ref().unwrap().replayed);
    assert!(verdicts[1].as_ref().unwrap().replayed);
    assert_eq!(verdicts[2], Err(Refusal::RequestIdReused));
    assert_eq!(main_of(&database, client).await, 300);
    assert_audit(&database).await;
}

#[tokio::test]
async fn concurrent_repeats_have_one_effect() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    // Two posters stand for two replicas.
    let posters: Vec<Poster> =
        (0..2).map(|_| Poster::start(&database.pool, &Clock::system(), 1)).collect();
    posters[0].post(nobody(), deposit("d", agency, 1_000_000)).await.unwrap();
    for round in 0..20 {
        let asked = transfer(&format!("t{round}"), agency, client, 100);
        let calls = (0..8).map(|n| posters[n % 2].post(nobody(), asked.clone()));
        let answers = futures_util::future::join_all(calls).await;
        let fresh = answers.iter().filter(|answer| !answer.as_ref().unwrap().replayed).count();
        assert_eq!(fresh, 1);
    }
    assert_eq!(main_of(&database, client).await, 2_000);
    assert_audit(&database).await;
}

#[tokio::test]
async fn a_linked_group_stands_or_falls_together_and_others_are_independent() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let fits = |id: &str| transfer(id, agency, client, 600);
    let verdicts =
        poster.post_all(nobody(), vec![fits("a"), fits("b")], Linked::Yes).await.unwrap();
    assert_eq!(verdicts[0], Err(Refusal::GroupAborted));
    assert!(matches!(verdicts[1], Err(Refusal::Insufficient { .. })));
    assert_eq!(main_of(&database, client).await, 0);
    let verdicts = poster.post_all(nobody(), vec![fits("a"), fits("b")], Linked::No).await.unwrap();
    assert!(verdicts[0].is_ok() && verdicts[1].is_err());
    assert_audit(&database).await;
}

#[tokio::test]
async fn only_what_happened_is_booked_on_a_blocked_account() {
    let (agency, client) = (key(1, 1), key(1, 2));
    let database = with_accounts(&[agency, client]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let mut connection = database.pool.get().await.unwrap();
    let tx = connection.transaction().await.unwrap();
    set_state(&tx, client, State::Blocked).await.unwrap();
    tx.commit().await.unwrap();
    let error = poster.post(nobody(), transfer("t", agency, client, 1)).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Refusal::Blocked(AccountNo(2)))), "{error:?}");
    let revenue = Place::Counter(Counter::Revenue);
    let late = leg(Kind::LateCharge, Place::Main(client.account), revenue, 50);
    poster.post(nobody(), posting("late", 1, vec![late])).await.unwrap();
    assert_eq!(main_of(&database, client).await, -50);
    assert_audit(&database).await;
}

#[tokio::test]
async fn the_database_refuses_to_change_or_delete_what_is_booked() {
    let agency = key(1, 1);
    let database = with_accounts(&[agency]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let client = database.pool.get().await.unwrap();
    for statement in [
        "UPDATE ledger_entry SET amount_micros = 5",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
        "UPDATE ledger_leg SET amount_micros = 5",
        "DELETE FROM ledger_leg",
        "UPDATE ledger_balance SET main_micros = -1",
    ] {
        assert!(client.batch_execute(statement).await.is_err(), "{statement}");
    }
    assert_audit(&database).await;
}

#[tokio::test]
async fn the_audit_sees_a_balance_that_differs() {
    let agency = key(1, 1);
    let database = with_accounts(&[agency]).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    poster.post(nobody(), deposit("d", agency, 1_000)).await.unwrap();
    let client = database.pool.get().await.unwrap();
    client.batch_execute("UPDATE ledger_balance SET main_micros = 1001").await.unwrap();
    let report = audit::verify(&database.pool, None, start(), None).await.unwrap();
    let checks: Vec<_> = report.differences.iter().map(|difference| difference.check).collect();
    assert_eq!(checks, ["balance_equals_entries"]);
}

/// The ledger in memory: what the rules say, written without any of the ledger's code.
#[derive(Default)]
struct Model {
    main: HashMap<AccountKey, i64>,
    done: HashMap<(TenantNo, Uuid), i64>,
}

impl Model {
    /// Whether the posting is new and allowed.
    fn post(&mut self, posting: &Posting) -> &'static str {
        if let Some(hash) = self.done.get(&(posting.tenant, posting.id)) {
            return if *hash == posting.payload_hash { "replayed" } else { "reused" };
        }
        let Leg { kind, from, to, amount, .. } = &posting.legs[0];
        let of = |place: &Place| match place {
            Place::Main(account) => Some(AccountKey { tenant: posting.tenant, account: *account }),
            Place::Held(_) | Place::Frozen(_) | Place::Counter(_) => None,
        };
        if let Some(source) = of(from) {
            let balance = self.main.entry(source).or_default();
            if *kind == Kind::Transfer && *balance < amount.micros() {
                return "insufficient";
            }
            *balance -= amount.micros();
        }
        if let Some(destination) = of(to) {
            *self.main.entry(destination).or_default() += amount.micros();
        }
        self.done.insert((posting.tenant, posting.id), posting.payload_hash);
        "done"
    }
}

fn said(verdict: &Result<Posted, Refusal>) -> &'static str {
    match verdict {
        Ok(posted) if posted.replayed => "replayed",
        Ok(_) => "done",
        Err(Refusal::RequestIdReused) => "reused",
        Err(Refusal::Insufficient { .. }) => "insufficient",
        Err(other) => panic!("{other:?}"),
    }
}

fn random(rng: &mut StdRng, accounts: &[AccountKey]) -> Posting {
    let source = accounts[rng.random_range(0..accounts.len())];
    let others: Vec<_> =
        accounts.iter().filter(|key| key.tenant == source.tenant && **key != source).collect();
    let destination = *others[rng.random_range(0..others.len())];
    // Few ids, so that repeats and reuse come often.
    let id = format!("{}", rng.random_range(0..400));
    match rng.random_range(0..10) {
        0 | 1 => deposit(&id, source, rng.random_range(1..2_000)),
        2 => {
            let revenue = Place::Counter(Counter::Revenue);
            let late = leg(Kind::LateCharge, Place::Main(source.account), revenue, 7);
            posting(&id, source.tenant.0, vec![late])
        }
        _ => transfer(&id, source, destination, rng.random_range(1..500)),
    }
}

#[tokio::test]
async fn random_batches_agree_with_the_model() {
    let accounts: Vec<_> = (0..12).map(|n| key(1 + n / 6 * 10, n + 1)).collect();
    let database = with_accounts(&accounts).await;
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        // What earlier seeds booked is part of the model: it is built anew from their verdicts.
        let mut model = Model::default();
        for account in &accounts {
            model.main.insert(*account, main_of(&database, *account).await);
        }
        for round in 0..12 {
            let batch: Vec<Posting> = (0..rng.random_range(1..120))
                .map(|_| random(&mut rng, &accounts))
                .map(|posting| Posting {
                    id: posting_id(
                        posting.tenant,
                        &format!("seed {seed}"),
                        &posting.id.to_string(),
                    ),
                    ..posting
                })
                .collect();
            let expected: Vec<_> = batch.iter().map(|posting| model.post(posting)).collect();
            let verdicts = poster.post_all(nobody(), batch, Linked::No).await.unwrap();
            let got: Vec<_> = verdicts.iter().map(said).collect();
            assert_eq!(got, expected, "seed {seed} round {round}");
        }
        for account in &accounts {
            assert_eq!(main_of(&database, *account).await, model.main[account], "seed {seed}");
        }
    }
    assert_audit(&database).await;
}

#[tokio::test]
async fn sixteen_writers_on_few_accounts_neither_deadlock_nor_lose_money() {
    let accounts: Vec<_> = (1..=8).map(|n| key(1, n)).collect();
    let database = with_accounts(&accounts).await;
    let funds = Poster::start(&database.pool, &Clock::system(), 1);
    for account in &accounts {
        let id = format!("d{}", account.account.0);
        funds.post(nobody(), deposit(&id, *account, 10_000)).await.unwrap();
    }
    // Every writer has a poster of its own, so transactions really run beside each other.
    let writers = (0..16_u64).map(|writer| {
        let poster = Poster::start(&database.pool, &Clock::system(), 1);
        let accounts = accounts.clone();
        tokio::spawn(async move {
            let mut rng = StdRng::seed_from_u64(writer);
            for round in 0..15 {
                let batch = (0..20)
                    .map(|item| {
                        let from = rng.random_range(0..3_usize);
                        let to = rng.random_range(3..8_usize);
                        let (from, to) = if rng.random() { (from, to) } else { (to, from) };
                        let id = format!("{writer}/{round}/{item}");
                        transfer(&id, accounts[from], accounts[to], rng.random_range(1..50))
                    })
                    .collect();
                poster.post_all(nobody(), batch, Linked::No).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut total = 0;
    for account in &accounts {
        total += main_of(&database, *account).await;
    }
    assert_eq!(total, 80_000);
    assert_audit(&database).await;
}

#[tokio::test]
async fn a_past_balance_is_the_last_entry_at_or_before_the_moment() {
    let agency = key(1, 1);
    let database = with_accounts(&[agency]).await;
    let (clock, hand) = Clock::manual(start());
    let poster = Poster::start(&database.pool, &clock, 1);
    for hour in 1..=9 {
        hand.set(start() + TimeDelta::hours(hour));
        poster.post(nobody(), deposit(&format!("d{hour}"), agency, 10)).await.unwrap();
    }
    let client = database.pool.get().await.unwrap();
    for (minutes, expected) in
        [(0, 0), (59, 0), (60, 10), (61, 10), (539, 80), (540, 90), (9_999, 90)]
    {
        let at = start() + TimeDelta::minutes(minutes);
        let figures = as_of(&client, agency, at).await.unwrap();
        assert_eq!(figures.main.micros(), expected, "{minutes} minutes");
    }
}

/// R-103: a deferred invoice is repaid with free money that is there, not with the overdraft; that an invoice is
/// overdue does not keep its own repayment out, while it stops everything else (I-3).
#[test]
fn a_debt_is_not_repaid_with_credit() {
    let owner = key(1, 1);
    let main = Place::Main(owner.account);
    let deferred = Place::Counter(Counter::Deferred);
    for (balance, overdraft, overdue, repays, holds) in [
        (100, 0, false, true, true),
        (99, 50, false, false, true),
        (-1, 500, false, false, true),
        (100, 0, true, true, false),
        (99, 500, true, false, false),
    ] {
        let row = Row {
            main: Balance::from_micros(balance).unwrap(),
            overdraft: Money::from_micros(overdraft).unwrap(),
            overdue,
            ..Row::new(owner, start())
        };
        let booked = |kind, to| {
            let mut fold = rules::Fold::new(start(), vec![row.clone()]);
            fold.post(&posting("r", 1, vec![leg(kind, main, to, 100)])).is_ok()
        };
        let got = (
            booked(Kind::DeferredRepaid, deferred),
            booked(Kind::HoldOpened, Place::Held(owner.account)),
        );
        assert_eq!(got, (repays, holds), "{balance} {overdraft} {overdue}");
    }
}
