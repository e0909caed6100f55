//! A database of pacing with accounts, campaigns, holds and slices in it, and the charges of one
//! or more replicas over it. Slices are cut by SQL that keeps the books of migration 0002.

use std::time::Duration;

use adspend_common::db::{Client, Pool};
use adspend_common::devpg::TestDatabase;
use adspend_common::id::CampaignId;
use adspend_common::identity::Caller;
use adspend_common::money::Money;
use adspend_common::time::{Clock, Day, ManualClock};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::MIGRATIONS;
use crate::admission::token::Token;
use crate::app::Services;
use crate::charges::{
    Booked, Cancelled, ChargeId, Charges, Error, NewCharge, NewTarget, Refusal, Settings, audit,
    start,
};
use crate::tests_support::TestApp;

/// How long a token lives.
pub(crate) const LIFETIME: TimeDelta = TimeDelta::minutes(10);

pub(crate) struct Fixture {
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) hand: ManualClock,
    pub(crate) charges: Charges,
    /// Dropped with the fixture; none when the database is somebody else's.
    database: Option<TestDatabase>,
}

/// One account with one hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shop {
    pub(crate) account_no: i64,
    pub(crate) hold_no: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) account_no: i64,
    pub(crate) slice_no: i64,
    pub(crate) campaign_no: i64,
    pub(crate) day: Day,
    pub(crate) expires_at: DateTime<Utc>,
}

impl Slice {
    /// The token of an admission from it.
    pub(crate) fn token(&self, admission_no: u32, reserved_micros: i64) -> Token {
        Token {
            account_no: self.account_no,
            campaign_no: self.campaign_no,
            slice_no: self.slice_no,
            admission_no,
            day: self.day,
            reserved_micros,
            expected_micros: reserved_micros,
            expires_at_micros: (self.expires_at + LIFETIME).timestamp_micros(),
        }
    }
}

pub(crate) fn money(micros: i64) -> Money {
    Money::from_micros(micros).unwrap()
}

pub(crate) fn charge(id: &str, token: Token, price: i64) -> NewCharge {
    let id = ChargeId::new(id.to_owned()).unwrap();
    NewCharge { id, target: NewTarget::Admission(token), price: money(price) }
}

pub(crate) fn late_conversion(id: &str, campaign: &str, price: i64) -> NewCharge {
    let id = ChargeId::new(id.to_owned()).unwrap();
    let campaign = CampaignId::parse(campaign).unwrap();
    NewCharge { id, target: NewTarget::Campaign(campaign), price: money(price) }
}

/// The verdict with everything but the two flags that tests ask for left out.
pub(crate) fn flags(result: &Result<Booked, Refusal>) -> Result<(bool, bool), Refusal> {
    result.clone().map(|booked| (booked.late, booked.replayed))
}

pub(crate) const BOOKED: Result<(bool, bool), Refusal> = Ok((false, false));
pub(crate) const LATE: Result<(bool, bool), Refusal> = Ok((true, false));
pub(crate) const REPLAYED: Result<(bool, bool), Refusal> = Ok((false, true));

impl Fixture {
    pub(crate) async fn new() -> Fixture {
        let database = TestDatabase::create(&MIGRATIONS).await;
        let (clock, hand) = Clock::manual("2025-04-02T09:00:00Z".parse().unwrap());
        let pool = database.pool.clone();
        let charges = replica(&pool, &clock);
        Fixture { pool, clock, hand, charges, database: Some(database) }
    }

    /// The same over a whole service.
    pub(crate) fn over(app: &TestApp) -> Fixture {
        let Services { db, clock, charges, .. } = app.services.clone();
        Fixture { pool: db, clock, hand: app.clock.clone(), charges, database: None }
    }

    /// Where its own database is.
    pub(crate) fn database_url(&self) -> String {
        self.database.as_ref().map(|database| database.url().to_owned()).unwrap()
    }

    /// A connection that works: a test may have cut the ones in the pool.
    pub(crate) async fn client(&self) -> Client {
        for _ in 0..100 {
            let client = self.pool.get().await.unwrap();
            if client.query("SELECT 1", &[]).await.is_ok() {
                return client;
            }
        }
        panic!("no connection works");
    }

    /// An account `name` of a tenant, and a hold of a million units.
    pub(crate) async fn shop(&self, name: &str, tenant: &str) -> Shop {
        let client = self.client().await;
        let now = self.clock.now();
        let row = client
            .query_one(
                "INSERT INTO account (name, tenant, currency, kind, state, checked_at)
                VALUES ($1, $2, 'RUB', 3, 1, $3) RETURNING account_no",
                &[&name, &tenant, &now],
            )
            .await
            .unwrap();
        let account_no = row.get(0);
        Shop { account_no, hold_no: self.hold(account_no, 1_000_000_000_000).await }
    }

    pub(crate) async fn hold(&self, account_no: i64, opened: i64) -> i64 {
        let id = Uuid::now_v7().to_string();
        let name = format!("accounts/shop/holds/{id}");
        let now = self.clock.now();
        let row = self
            .client()
            .await
            .query_one(
                "INSERT INTO hold (account_no, request_id, billing_name, state, asked_micros,
                    least_micros, ttl_seconds, opened_micros, asked_at, expires_at, used_at)
                VALUES ($1, $2, $3, 2, $4, 1, 3600, $4, $5, $6, $5) RETURNING hold_no",
                &[&account_no, &id, &name, &opened, &now, &(now + TimeDelta::hours(1))],
            )
            .await
            .unwrap();
        row.get(0)
    }

    pub(crate) async fn campaign(&self, shop: Shop, name: &str) -> i64 {
        let row = self
            .client()
            .await
            .query_one(
                "INSERT INTO campaign
                    (account_no, name, time_zone, payment_model, created_at, changed_at)
                VALUES ($1, $2, 'Europe/Moscow', 2, $3, $3) RETURNING campaign_no",
                &[&shop.account_no, &name, &self.clock.now()],
            )
            .await
            .unwrap();
        row.get(0)
    }

    /// Cuts a slice of today from headroom and hold.
    pub(crate) async fn slice(&self, shop: Shop, campaign_no: i64, amount: i64) -> Slice {
        let now = self.clock.now();
        let (day, expires_at) = (Day::of(now), now + TimeDelta::seconds(10));
        let mut client = self.client().await;
        let tx = client.transaction().await.unwrap();
        for (level, entity_no) in [(1i16, campaign_no), (2, shop.account_no)] {
            tx.execute(
                "INSERT INTO headroom AS h (account_no, level, entity_no, day, reserved_micros)
                VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (account_no, level, entity_no, day) DO UPDATE
                SET reserved_micros = h.reserved_micros + EXCLUDED.reserved_micros",
                &[&shop.account_no, &level, &entity_no, &day, &amount],
            )
            .await
            .unwrap();
        }
        tx.execute(
            "UPDATE hold SET reserved_micros = reserved_micros + $3
            WHERE account_no = $1 AND hold_no = $2",
            &[&shop.account_no, &shop.hold_no, &amount],
        )
        .await
        .unwrap();
        let row = tx
            .query_one(
                "INSERT INTO slice (account_no, campaign_no, day, hold_no, replica, amount_micros,
                    granted_at, expires_at, resolves_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING slice_no",
                &[
                    &shop.account_no,
                    &campaign_no,
                    &day,
                    &shop.hold_no,
                    &Uuid::nil(),
                    &amount,
                    &now,
                    &expires_at,
                    &(expires_at + LIFETIME + TimeDelta::seconds(30)),
                ],
            )
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let (account_no, slice_no) = (shop.account_no, row.get(0));
        Slice { account_no, slice_no, campaign_no, day, expires_at }
    }

    /// The owner's last report: so much was ever taken from the slice.
    pub(crate) async fn finalise(&self, slice: Slice, taken: i64) {
        self.free(slice, 2, Some(taken)).await;
    }

    /// No token of it counts any more.
    pub(crate) async fn resolve(&self, slice: Slice) {
        self.free(slice, 3, None).await;
    }

    /// Moves a slice to a later state and takes off what it does not keep reserved any more.
    async fn free(&self, slice: Slice, state: i16, taken: Option<i64>) {
        let Slice { account_no, slice_no, campaign_no, day, .. } = slice;
        let mut client = self.client().await;
        let tx = client.transaction().await.unwrap();
        let row = tx
            .query_one(
                "SELECT hold_no, amount_micros - charged_micros, taken_micros - closed_micros,
                    closed_micros
                FROM slice WHERE account_no = $1 AND slice_no = $2",
                &[&account_no, &slice_no],
            )
            .await
            .unwrap();
        let (hold_no, open, last): (i64, i64, Option<i64>) = (row.get(0), row.get(1), row.get(2));
        let kept = taken.map_or(0, |taken| taken - row.get::<_, i64>(3));
        let freed = last.unwrap_or(open) - kept;
        tx.execute(
            "UPDATE headroom SET reserved_micros = reserved_micros - $4
            WHERE account_no = $1 AND day = $3 AND (level, entity_no) IN ((1, $2), (2, $1))",
            &[&account_no, &campaign_no, &day, &freed],
        )
        .await
        .unwrap();
        tx.execute(
            "UPDATE hold SET reserved_micros = reserved_micros - $3
            WHERE account_no = $1 AND hold_no = $2",
            &[&account_no, &hold_no, &freed],
        )
        .await
        .unwrap();
        tx.execute(
            "UPDATE slice SET state = $3, taken_micros = COALESCE($4, taken_micros)
            WHERE account_no = $1 AND slice_no = $2",
            &[&account_no, &slice_no, &state, &taken],
        )
        .await
        .unwrap();
        tx.commit().await.unwrap();
    }

    pub(crate) async fn settle(&self, charges: Vec<NewCharge>) -> Vec<Result<Booked, Refusal>> {
        self.charges.settle(&Caller::operator(), charges).await.unwrap()
    }

    /// One charge, and its two flags.
    pub(crate) async fn settle_one(&self, charge: NewCharge) -> Result<(bool, bool), Refusal> {
        flags(&self.settle(vec![charge]).await[0])
    }

    pub(crate) async fn cancel(&self, token: Token) -> Result<Cancelled, Refusal> {
        self.charges.cancel(&Caller::operator(), token).await.unwrap()
    }

    /// The books agree with themselves.
    pub(crate) async fn assert_books(&self) {
        let differences = audit::audit(&mut self.client().await).await.unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.client().await.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) fn advance(&self, duration: Duration) {
        self.hand.advance(duration);
    }
}

/// The charges of one more replica.
pub(crate) fn replica(db: &Pool, clock: &Clock) -> Charges {
    replica_with(db, clock, &Settings::default())
}

pub(crate) fn replica_with(db: &Pool, clock: &Clock, settings: &Settings) -> Charges {
    let (charges, writers) = start(db, clock, settings);
    for writer in writers {
        tokio::spawn(writer);
    }
    charges
}

/// Asks again as long as a caller would: the outcome was not known, or others were in the way.
pub(crate) async fn until_answered<T, F>(mut ask: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for _ in 0..2_000 {
        match ask().await {
            Err(Error::Db(_) | Error::Overloaded) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
    ask().await
}
