//! Every way in which a charge or a cancellation can come twice.

use std::time::Duration;

use adspend_common::identity::Caller;

use super::support::{
    BOOKED, Fixture, REPLAYED, Shop, Slice, charge, flags, late_conversion, money, replica,
};
use crate::charges::{NewCharge, Refusal};

async fn fixture() -> (Fixture, Shop, Slice) {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000_000).await;
    (books, shop, slice)
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_changes_nothing() {
    let (books, _, slice) = fixture().await;
    let first = || charge("c-1", slice.token(0, 100), 30);
    assert_eq!(books.settle_one(first()).await, BOOKED);
    for _ in 0..3 {
        assert_eq!(books.settle_one(first()).await, REPLAYED);
    }
    // The answer is the first one even when a new charge would be late by now.
    books.advance(Duration::from_secs(3_600));
    assert_eq!(books.settle_one(first()).await, REPLAYED);
    assert_eq!(books.number("SELECT charged_micros FROM slice").await, 30);
    books.assert_books().await;
}

#[tokio::test]
async fn an_id_with_another_content_is_refused_and_changes_nothing() {
    let (books, shop, slice) = fixture().await;
    let other = books.slice(shop, books.campaign(shop, "autumn").await, 1_000).await;
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 30)).await, BOOKED);
    for (name, repeat) in [
        ("another price", charge("c-1", slice.token(0, 100), 31)),
        ("another admission", charge("c-1", slice.token(1, 100), 30)),
        ("another slice", charge("c-1", other.token(0, 100), 30)),
        ("a late conversion", late_conversion("c-1", "spring", 30)),
    ] {
        assert_eq!(books.settle_one(repeat).await, Err(Refusal::IdReused), "{name}");
    }
    assert_eq!(books.number("SELECT count(*) FROM charge").await, 1);
    books.assert_books().await;
}

#[tokio::test]
async fn an_admission_is_charged_once() {
    let (books, _, slice) = fixture().await;
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 30)).await, BOOKED);
    let again = books.settle_one(charge("c-2", slice.token(0, 100), 30)).await;
    assert_eq!(again, Err(Refusal::TokenUsed));
    assert_eq!(books.cancel(slice.token(0, 100)).await, Err(Refusal::TokenUsed));
    books.assert_books().await;
}

#[tokio::test]
async fn a_cancelled_admission_is_not_charged_and_is_cancelled_once() {
    let (books, _, slice) = fixture().await;
    let cancelled = books.cancel(slice.token(0, 100)).await.unwrap();
    assert_eq!((cancelled.released, cancelled.replayed), (money(100), false));
    let charged = books.settle_one(charge("c-1", slice.token(0, 100), 30)).await;
    assert_eq!(charged, Err(Refusal::TokenUsed));
    assert_eq!(books.settle_one(charge("c-1", slice.token(1, 100), 30)).await, BOOKED);
    books.advance(Duration::from_secs(3_600));
    let again = books.cancel(slice.token(0, 100)).await.unwrap();
    assert_eq!((again.released, again.replayed), (money(100), true));
    assert_eq!(books.cancel(slice.token(2, 100)).await, Err(Refusal::TokenExpired));
    books.assert_books().await;
}

#[tokio::test]
async fn two_equal_ids_in_one_batch_are_one_call() {
    let (books, _, slice) = fixture().await;
    let answers = books
        .settle(vec![
            charge("c-1", slice.token(0, 100), 30),
            charge("c-1", slice.token(0, 100), 30),
            charge("c-1", slice.token(1, 100), 30),
            charge("c-2", slice.token(0, 100), 30),
            charge("c-2", slice.token(2, 100), 30),
            late_conversion("c-3", "spring", 5),
            late_conversion("c-3", "spring", 5),
        ])
        .await;
    let expected = [
        BOOKED,
        REPLAYED,
        Err(Refusal::IdReused),
        Err(Refusal::TokenUsed),
        BOOKED,
        Ok((true, false)),
        Ok((true, true)),
    ];
    assert_eq!(answers.iter().map(flags).collect::<Vec<_>>(), expected);
    books.assert_books().await;
}

#[tokio::test]
async fn a_refused_charge_does_not_burn_its_id() {
    let (books, _, slice) = fixture().await;
    books.cancel(slice.token(0, 100)).await.unwrap();
    for wrong in [
        charge("c-1", slice.token(0, 100), 30),
        charge("c-1", slice.token(1, 100), 101),
        late_conversion("c-1", "nowhere", 30),
    ] {
        assert!(books.settle_one(wrong).await.is_err());
    }
    assert_eq!(books.settle_one(charge("c-1", slice.token(1, 100), 30)).await, BOOKED);
    books.assert_books().await;
}

#[tokio::test]
async fn ids_of_two_accounts_are_two_ids() {
    let (books, _, slice) = fixture().await;
    let other = books.shop("other", "other").await;
    let foreign = books.slice(other, books.campaign(other, "winter").await, 1_000).await;
    let answers = books
        .settle(vec![charge("c-1", slice.token(0, 9), 9), charge("c-1", foreign.token(0, 8), 8)])
        .await;
    assert_eq!(answers.iter().map(flags).collect::<Vec<_>>(), [BOOKED, BOOKED]);
    books.assert_books().await;
}

/// What many callers at many replicas get when all of them send the same charge at once.
async fn race(books: &Fixture, charges: Vec<NewCharge>) -> Vec<Result<(bool, bool), Refusal>> {
    let replicas = [
        books.charges.clone(),
        replica(&books.pool, &books.clock),
        replica(&books.pool, &books.clock),
    ];
    let calls = charges.into_iter().enumerate().map(|(n, charge)| {
        let charges = replicas[n % replicas.len()].clone();
        tokio::spawn(async move {
            let answers = charges.settle(&Caller::operator(), vec![charge]).await.unwrap();
            flags(&answers[0])
        })
    });
    let mut answers = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_repeats_one_is_booked() {
    let (books, _, slice) = fixture().await;
    for round in 0..10u32 {
        let same = charge(&format!("c-{round}"), slice.token(round, 100), 30);
        let answers = race(&books, vec![same; 12]).await;
        assert_eq!(answers.iter().filter(|answer| **answer == BOOKED).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == REPLAYED).count(), 11);
    }
    books.assert_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_charges_of_one_admission_one_is_booked() {
    let (books, _, slice) = fixture().await;
    for round in 0..10u32 {
        let charges =
            (0..12).map(|n| charge(&format!("c-{round}-{n}"), slice.token(round, 100), 30));
        let answers = race(&books, charges.collect()).await;
        assert_eq!(answers.iter().filter(|answer| **answer == BOOKED).count(), 1, "{answers:?}");
        let used = answers.iter().filter(|answer| **answer == Err(Refusal::TokenUsed)).count();
        assert_eq!(used, 11);
    }
    books.assert_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_id_with_concurrent_contents_one_is_booked() {
    let (books, shop, slice) = fixture().await;
    let other = books.slice(shop, books.campaign(shop, "autumn").await, 1_000_000).await;
    for round in 0..10u32 {
        let id = format!("c-{round}");
        let charges = (0..12).map(|n| {
            let slice = if n % 2 == 0 { slice } else { other };
            charge(&id, slice.token(round * 100 + n, 100), 30)
        });
        let answers = race(&books, charges.collect()).await;
        assert_eq!(answers.iter().filter(|answer| **answer == BOOKED).count(), 1, "{answers:?}");
        let reused = answers.iter().filter(|answer| **answer == Err(Refusal::IdReused)).count();
        assert_eq!(reused, 11);
    }
    books.assert_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_charge_and_cancellation_end_an_admission_once() {
    let (books, _, slice) = fixture().await;
    let second = replica(&books.pool, &books.clock);
    for round in 0..30u32 {
        let token = slice.token(round, 100);
        let charging = books.settle_one(charge(&format!("c-{round}"), token, 30));
        let operator = Caller::operator();
        let (charged, cancelled) = tokio::join!(charging, second.cancel(&operator, token));
        let cancelled = cancelled.unwrap();
        match charged {
            Ok(_) => assert_eq!(cancelled, Err(Refusal::TokenUsed)),
            Err(why) => {
                assert_eq!(why, Refusal::TokenUsed);
                assert!(!cancelled.unwrap().replayed);
            }
        }
    }
    books.assert_books().await;
}
