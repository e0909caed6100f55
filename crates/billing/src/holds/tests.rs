//! Holds on PostgreSQL, with the clock in hand.

use adspend_common::{
    db::Pool,
    devpg::TestDatabase,
    money::Money,
    time::{Clock, ManualClock},
};
use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::{
    MIGRATIONS,
    ledger::{AccountNo, Actor, Counter, Row, TenantNo, audit, batch::Poster},
};

const KEY: AccountKey = AccountKey { tenant: TenantNo(1), account: AccountNo(2) };

struct Fixture {
    database: TestDatabase,
    clock: Clock,
    hand: ManualClock,
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn money(micros: i64) -> Money {
    Money::from_micros(micros).unwrap()
}

async fn with_money(micros: i64) -> Fixture {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let (clock, hand) = Clock::manual(start());
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    ledger::open_balance(&tx, KEY, start()).await.unwrap();
    let mut locked = ledger::lock(&tx, start(), &[KEY]).await.unwrap();
    locked
        .post(&Posting {
            id: ledger::posting_id(KEY.tenant, "test", "deposit"),
            tenant: KEY.tenant,
            legs: vec![leg(
                Kind::Deposit,
                Place::Counter(Counter::Bank),
                Place::Main(KEY.account),
                money(micros),
                "",
            )],
            payload_hash: 0,
        })
        .unwrap();
    ledger::write(&tx, locked).await.unwrap();
    tx.commit().await.unwrap();
    drop(client);
    Fixture { database, clock, hand }
}

fn nobody() -> Actor {
    Actor {
        caller: std::sync::Arc::new(adspend_common::identity::Caller::operator()),
        method: "Test",
    }
}

fn asked() -> Asked {
    Asked { actor: nobody(), request_id: String::new(), hash: [0; 32], request: Vec::new() }
}

impl Fixture {
    fn pool(&self) -> &Pool {
        &self.database.pool
    }

    fn wait(&self, seconds: i64) {
        self.hand.set(self.hand.now() + TimeDelta::seconds(seconds));
    }

    async fn open(&self, id: &str, amount: i64, least: i64) -> Verdict {
        let item = Open {
            account: KEY,
            amount: money(amount),
            least: money(least),
            ttl: TimeDelta::seconds(60),
            request_id: id.to_owned(),
        };
        open(self.pool(), &self.clock, &asked(), &[item]).await.unwrap().remove(0)
    }

    async fn opened(&self, id: &str, amount: i64) -> HoldRef {
        let hold = self.open(id, amount, amount).await.unwrap().hold;
        HoldRef { account: KEY, id: hold.id }
    }

    async fn settle(&self, hold: HoldRef, sequence: i64, spends: &[(&str, i64)]) -> Verdict {
        let spends = spends.iter().map(|(name, spent)| ((*name).to_owned(), money(*spent)));
        let item = Settle { hold, sequence, spends: spends.collect() };
        settle(self.pool(), &self.clock, &asked(), &[item]).await.unwrap().remove(0)
    }

    async fn release(&self, hold: HoldRef) -> Verdict {
        release(self.pool(), &self.clock, &asked(), &[hold]).await.unwrap().remove(0)
    }

    async fn extend(&self, hold: HoldRef, seconds: i64) -> Verdict {
        let item = (hold, TimeDelta::seconds(seconds));
        extend(self.pool(), &self.clock, &asked(), &[item]).await.unwrap().remove(0)
    }

    /// The row under the lock, which gives back what has expired; nothing is written.
    async fn row(&self) -> Row {
        let mut client = self.pool().get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let locked = ledger::lock(&tx, self.clock.now(), &[KEY]).await.unwrap();
        let row = locked.row(KEY).unwrap().clone();
        tx.rollback().await.unwrap();
        row
    }

    async fn figures(&self) -> (i64, i64) {
        let row = self.row().await;
        (row.main.micros(), row.held.micros())
    }

    async fn audit(&self) {
        let report = audit::verify(self.pool(), None, self.clock.now(), None).await.unwrap();
        assert!(report.is_ok(), "{:#?}", report.differences);
    }
}

#[tokio::test]
async fn a_retried_open_does_not_hold_twice() {
    let fixture = with_money(1_000).await;
    let first = fixture.open("h", 400, 1).await.unwrap();
    let again = fixture.open("h", 400, 1).await.unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.hold, again.hold);
    assert_eq!(fixture.figures().await, (600, 400));
    assert_eq!(fixture.open("h", 401, 1).await, Err(Error::Reused));
    fixture.audit().await;
}

#[tokio::test]
async fn a_hold_takes_what_is_there_and_refuses_below_its_minimum() {
    let fixture = with_money(1_000).await;
    assert_eq!(fixture.open("h1", 5_000, 1).await.unwrap().hold.opened, money(1_000));
    let refused = fixture.open("h2", 5_000, 1).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::Insufficient { .. })), "{refused:?}");
    fixture.audit().await;
}

#[tokio::test]
async fn an_expired_hold_gives_its_money_back_with_no_job_running() {
    let fixture = with_money(1_000).await;
    let hold = fixture.opened("h", 400).await;
    fixture.settle(hold, 1, &[("campaigns/a", 150)]).await.unwrap();
    fixture.wait(59);
    assert_eq!(fixture.figures().await, (600, 250));
    fixture.wait(1);
    assert_eq!(fixture.figures().await, (850, 0));
    // The money can be held again, by the request that finds it expired.
    assert_eq!(fixture.open("next", 850, 850).await.unwrap().hold.opened, money(850));
    assert_eq!(fixture.extend(hold, 60).await, Err(Error::Expired));
    fixture.audit().await;
}

#[tokio::test]
async fn a_job_only_makes_the_books_catch_up() {
    let fixture = with_money(1_000).await;
    fixture.opened("h1", 100).await;
    fixture.opened("h2", 200).await;
    assert_eq!(expire_due(fixture.pool(), &fixture.clock, 10).await.unwrap(), 0);
    fixture.wait(61);
    assert_eq!(expire_due(fixture.pool(), &fixture.clock, 10).await.unwrap(), 1);
    assert_eq!(expire_due(fixture.pool(), &fixture.clock, 10).await.unwrap(), 0);
    assert_eq!(fixture.figures().await, (1_000, 0));
    fixture.audit().await;
}

#[tokio::test]
async fn spend_settled_after_expiry_is_booked_late_and_may_go_below_zero() {
    let fixture = with_money(1_000).await;
    let hold = fixture.opened("h", 1_000).await;
    fixture.settle(hold, 1, &[("campaigns/a", 300)]).await.unwrap();
    fixture.wait(60);
    let other = fixture.opened("other", 700).await;
    let done = fixture.settle(hold, 2, &[("campaigns/a", 450)]).await.unwrap();
    assert_eq!((done.hold.settled, done.hold.late), (money(300), money(150)));
    assert_eq!(fixture.figures().await, (-150, 700));
    fixture.release(other).await.unwrap();
    assert_eq!(fixture.figures().await, (550, 0));
    fixture.audit().await;
}

#[tokio::test]
async fn reports_repeated_and_out_of_order_book_once() {
    let fixture = with_money(1_000).await;
    let hold = fixture.opened("h", 1_000).await;
    fixture.settle(hold, 2, &[("campaigns/a", 300), ("campaigns/b", 50)]).await.unwrap();
    for _ in 0..2 {
        let again =
            fixture.settle(hold, 2, &[("campaigns/a", 300), ("campaigns/b", 50)]).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.hold.settled, money(350));
    }
    let old = fixture.settle(hold, 1, &[("campaigns/a", 100)]).await.unwrap();
    assert!(old.replayed);
    let new = fixture.settle(hold, 3, &[("campaigns/a", 310)]).await.unwrap();
    assert_eq!(new.hold.settled, money(360));
    fixture.audit().await;
}

#[tokio::test]
async fn what_the_hold_does_not_cover_is_a_late_charge() {
    let fixture = with_money(100).await;
    let hold = fixture.opened("h", 100).await;
    let done = fixture.settle(hold, 1, &[("campaigns/a", 130)]).await.unwrap();
    assert_eq!((done.hold.settled, done.hold.late), (money(100), money(30)));
    assert_eq!(fixture.figures().await, (-30, 0));
    fixture.audit().await;
}

#[tokio::test]
async fn a_release_gives_the_rest_back_once() {
    let fixture = with_money(1_000).await;
    let hold = fixture.opened("h", 400).await;
    fixture.settle(hold, 1, &[("campaigns/a", 150)]).await.unwrap();
    let done = fixture.release(hold).await.unwrap();
    assert_eq!((done.hold.state, done.hold.released), (HoldState::Released, money(250)));
    assert!(fixture.release(hold).await.unwrap().replayed);
    assert_eq!(fixture.figures().await, (850, 0));
    assert_eq!(fixture.extend(hold, 60).await, Err(Error::Closed));
    let late = fixture.settle(hold, 2, &[("campaigns/a", 160)]).await.unwrap();
    assert_eq!(late.hold.late, money(10));
    fixture.audit().await;
}

#[tokio::test]
async fn an_extended_hold_outlives_its_first_expiry_and_never_shrinks() {
    let fixture = with_money(1_000).await;
    let hold = fixture.opened("h", 400).await;
    fixture.wait(30);
    let later = fixture.extend(hold, 60).await.unwrap().hold.expires_at;
    assert_eq!(later, start() + TimeDelta::seconds(90));
    assert_eq!(fixture.extend(hold, 1).await.unwrap().hold.expires_at, later);
    fixture.wait(40);
    assert_eq!(fixture.figures().await, (600, 400));
    fixture.wait(20);
    assert_eq!(fixture.figures().await, (1_000, 0));
    fixture.audit().await;
}

#[tokio::test]
async fn items_of_a_batch_are_independent_and_unknown_holds_are_not_found() {
    let fixture = with_money(1_000).await;
    let known = fixture.opened("h", 400).await;
    let unknown = HoldRef { account: KEY, id: uuid::Uuid::nil() };
    let foreign = HoldRef {
        account: AccountKey { tenant: TenantNo(9), account: AccountNo(9) },
        id: known.id,
    };
    let verdicts = release(fixture.pool(), &fixture.clock, &asked(), &[unknown, known, foreign])
        .await
        .unwrap();
    assert_eq!(verdicts[0], Err(Error::NotFound));
    assert!(verdicts[1].is_ok());
    assert_eq!(verdicts[2], Err(Error::NotFound));
    fixture.audit().await;
}

#[tokio::test]
async fn concurrent_holds_never_take_more_than_there_is() {
    let fixture = with_money(1_000).await;
    let asks = (0..20).map(|n| {
        let fixture = &fixture;
        async move { fixture.open(&format!("h{n}"), 90, 90).await }
    });
    let verdicts = futures_util::future::join_all(asks).await;
    assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 11);
    assert_eq!(fixture.figures().await, (10, 990));
    fixture.audit().await;
}

#[tokio::test]
async fn a_charge_without_a_hold_is_booked_once_even_below_zero() {
    let fixture = with_money(10).await;
    let poster = Poster::start(fixture.pool(), &fixture.clock, 1);
    let charge = late_charge(KEY, "campaigns/a", money(25), "2026-11-21", "c1");
    assert!(!poster.post(nobody(), charge.clone()).await.unwrap().replayed);
    assert!(poster.post(nobody(), charge).await.unwrap().replayed);
    assert_eq!(fixture.figures().await, (-15, 0));
    fixture.audit().await;
}
