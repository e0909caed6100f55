//! The chain on PostgreSQL: what is written is linked, and what is changed behind our back shows.

use adspend_common::{devpg::TestDatabase, identity::Caller, money::Money, time::Clock};
use chrono::{DateTime, Utc};

use super::{chain::Chain, *};
use crate::{
    MIGRATIONS,
    ledger::{
        self, AccountKey, AccountNo, Counter, Kind, Leg, Place, Posting, TenantNo, audit,
        batch::{Linked, Poster},
    },
};

const AGENCY: AccountKey = AccountKey { tenant: TenantNo(1), account: AccountNo(1) };

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap()
}

fn actor(method: &'static str) -> Actor {
    Actor { caller: Arc::new(Caller::operator()), method }
}

fn deposit(id: &str, account: AccountKey) -> Posting {
    Posting {
        id: ledger::posting_id(account.tenant, "test", id),
        tenant: account.tenant,
        legs: vec![Leg {
            kind: Kind::Deposit,
            from: Place::Counter(Counter::Bank),
            to: Place::Main(account.account),
            amount: Money::from_units(5),
            object: Some("payments/1".into()),
        }],
        payload_hash: 7,
    }
}

async fn call(database: &TestDatabase, id: &str) {
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let request = b"\x0a\x0eaccounts/north".to_vec();
    let hash = *blake3::hash(&request).as_bytes();
    let actor = actor("CreateInvoice");
    let asked = Asked { actor, request_id: id.to_owned(), hash, request };
    store::insert(&tx, at(), &asked).await.unwrap();
    tx.commit().await.unwrap();
}

/// A trail of three calls, two of them in the ledger's batches.
async fn trail() -> TestDatabase {
    let database = TestDatabase::create(&MIGRATIONS).await;
    let other = AccountKey { tenant: TenantNo(9), account: AccountNo(9) };
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    for account in [AGENCY, other] {
        ledger::open_balance(&tx, account, at()).await.unwrap();
    }
    tx.commit().await.unwrap();
    let poster = Poster::start(&database.pool, &Clock::system(), 1);
    let both = vec![deposit("a", AGENCY), deposit("b", other)];
    let verdicts = poster.post_all(actor("BatchCreateTransfers"), both, Linked::No).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok));
    call(&database, "r-1").await;
    poster.post(actor("CreateTransfer"), deposit("c", AGENCY)).await.unwrap();
    database
}

#[tokio::test]
async fn every_record_is_linked_once_and_in_order() {
    let database = trail().await;
    let report = audit::verify(&database.pool, None, at(), None).await.unwrap();
    assert!(report.is_ok(), "{:#?}", report.differences);
    assert_eq!((report.trail.linked, report.trail.unlinked, report.trail.head), (0, 3, None));

    let chain = Chain::default();
    assert_eq!(chain.extend(&database.pool).await.unwrap(), 3);
    let first = audit::verify(&database.pool, None, at(), None).await.unwrap();
    assert!(first.is_ok(), "{:#?}", first.differences);
    assert_eq!((first.trail.linked, first.trail.unlinked), (3, 0));
    for round in 0..5 {
        assert_eq!(chain.extend(&database.pool).await.unwrap(), 0, "round {round}");
        call(&database, &format!("r-2-{round}")).await;
        assert_eq!(chain.extend(&database.pool).await.unwrap(), 1, "round {round}");
    }
    // Another replica goes on where the first one was, and an older head is still in the chain.
    call(&database, "r-3").await;
    assert_eq!(Chain::default().extend(&database.pool).await.unwrap(), 1);
    let later = audit::verify(&database.pool, None, at(), first.trail.head).await.unwrap();
    assert!(later.is_ok(), "{:#?}", later.differences);
    assert_eq!(later.trail.head.unwrap().number, 9);
}

/// A record whose transaction ends after later ones are linked is linked when it is there.
#[tokio::test]
async fn a_late_transaction_is_linked_late() {
    let database = trail().await;
    let mut client = database.pool.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    // Anything that takes a transaction number before the record's id, as every call of ours does.
    ledger::open_balance(&tx, AccountKey { account: AccountNo(5), ..AGENCY }, at()).await.unwrap();
    let request_id = "late".to_owned();
    let asked = Asked { actor: actor("X"), request_id, hash: [0; 32], request: Vec::new() };
    store::insert(&tx, at(), &asked).await.unwrap();
    let chain = Chain::default();
    for round in 0..4 {
        call(&database, &format!("r-{round}")).await;
        let linked = chain.extend(&database.pool).await.unwrap();
        assert_eq!(linked, if round == 0 { 4 } else { 1 }, "round {round}");
    }
    tx.commit().await.unwrap();
    assert_eq!(chain.extend(&database.pool).await.unwrap(), 1);
    let report = audit::verify(&database.pool, None, at(), None).await.unwrap();
    assert!(report.is_ok(), "{:#?}", report.differences);
    assert_eq!(report.trail.unlinked, 0);
}

/// Two replicas at once make one chain.
#[tokio::test]
async fn replicas_do_not_fork_the_chain() {
    let database = trail().await;
    let chains = [Chain::default(), Chain::default(), Chain::default()];
    for round in 0..5 {
        call(&database, &format!("r-{round}")).await;
        let extended = chains.iter().map(|chain| chain.extend(&database.pool));
        for linked in futures_util::future::join_all(extended).await {
            linked.unwrap();
        }
    }
    chains[0].extend(&database.pool).await.unwrap();
    let report = audit::verify(&database.pool, None, at(), None).await.unwrap();
    assert!(report.is_ok(), "{:#?}", report.differences);
    assert_eq!((report.trail.linked, report.trail.unlinked), (8, 0));
}

/// Whoever can pass the triggers cannot pass the chain.
#[tokio::test]
async fn tampering_shows() {
    let database = trail().await;
    Chain::default().extend(&database.pool).await.unwrap();
    call(&database, "tail").await;
    let kept = audit::verify(&database.pool, None, at(), None).await.unwrap().trail.head;
    let mut client = database.pool.get().await.unwrap();
    for (what, sql, check) in [
        (
            "who did it",
            "UPDATE audit_record SET who = '{X operator operator -}' WHERE record_id = 2",
            "audit_chain",
        ),
        ("when", "UPDATE audit_record SET made_at = made_at - interval '1 day'", "audit_chain"),
        ("the request", "UPDATE audit_record SET request = '' WHERE record_id = 2", "audit_chain"),
        ("a record taken out", "DELETE FROM audit_record WHERE record_id = 2", "audit_chain"),
        ("a link taken out", "DELETE FROM audit_link WHERE number = 2", "audit_chain"),
        (
            "a record with its link taken out",
            "WITH l AS (DELETE FROM audit_link WHERE number = 2)
             DELETE FROM audit_record WHERE record_id = 2",
            "audit_chain",
        ),
        (
            "a record put in between",
            "WITH r AS (INSERT INTO audit_record
                 (record_id, made_at, who, request_id, payload_hash, request, accounts)
                 SELECT 99, made_at, who, 'forged', '', '', '{}' FROM audit_record WHERE record_id = 2)
             UPDATE audit_link SET record_id = 99 WHERE number = 2",
            "audit_chain",
        ),
        (
            "two records exchanged",
            "UPDATE audit_link SET record_id = 100 + record_id;
             UPDATE audit_link SET record_id = 104 - record_id",
            "audit_chain",
        ),
        (
            "the amount of a booked leg",
            "UPDATE ledger_leg SET amount_micros = amount_micros + 1 WHERE tenant_id = 9",
            "audit_digest",
        ),
        ("a leg taken out", "DELETE FROM ledger_leg WHERE tenant_id = 9", "audit_digest"),
        (
            "what a leg belongs to",
            "UPDATE ledger_leg SET object = 'payments/2' WHERE tenant_id = 9",
            "audit_digest",
        ),
        (
            "the digest of a changed leg too",
            "WITH l AS (UPDATE ledger_leg SET object = 'payments/2' WHERE tenant_id = 9)
             UPDATE audit_record SET digest = '' WHERE record_id = 1",
            "audit_chain",
        ),
        (
            "the tail cut off",
            "WITH l AS (DELETE FROM audit_link WHERE number = 3)
             DELETE FROM audit_record WHERE record_id = 3",
            "audit_chain_head",
        ),
        (
            "everything cut off",
            "WITH l AS (DELETE FROM audit_link) DELETE FROM audit_record",
            "audit_chain_head",
        ),
    ] {
        let tx = client.transaction().await.unwrap();
        assert!(proved(&tx, kept).await.is_empty(), "before {what}");
        // As a superuser who switches the triggers off.
        tx.batch_execute("SET LOCAL session_replication_role = replica").await.unwrap();
        tx.batch_execute(sql).await.unwrap();
        let found = proved(&tx, kept).await;
        assert!(found.iter().any(|difference| difference.check == check), "{what}: {found:?}");
        tx.rollback().await.unwrap();
    }
}

async fn proved(
    tx: &adspend_common::db::Tx<'_>,
    kept: Option<chain::Head>,
) -> Vec<audit::Difference> {
    let mut found = Vec::new();
    chain::prove(tx, kept, |difference| found.push(difference)).await.unwrap();
    found
}

#[tokio::test]
async fn nobody_changes_a_record_by_ordinary_means() {
    let database = trail().await;
    Chain::default().extend(&database.pool).await.unwrap();
    let client = database.pool.get().await.unwrap();
    for sql in [
        "UPDATE audit_record SET who = '{}'",
        "DELETE FROM audit_record",
        "TRUNCATE audit_record",
        "UPDATE audit_link SET hash = hash",
        "DELETE FROM audit_link",
        "TRUNCATE audit_link",
    ] {
        let error = format!("{:?}", client.batch_execute(sql).await.unwrap_err());
        assert!(error.contains("append-only"), "{sql}: {error}");
    }
}
