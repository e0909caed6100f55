//! What charges and cancellations do to the books, however their slice stands.

use std::time::Duration;

use adspend_common::id::AccountId;
use adspend_common::identity::{Caller, Role};
use adspend_common::time::Day;

use super::support::{BOOKED, Fixture, LATE, charge, flags, late_conversion, money, replica_with};
use crate::admission::token::Token;
use crate::charges::{ChargeId, Error, MAX_BATCH, Refusal, Settings};

const HEADROOM: &str = "SELECT reserved_micros FROM headroom WHERE level = 2";

#[tokio::test]
async fn a_charge_of_an_open_slice_leaves_the_rest_to_its_owner() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 30)).await, BOOKED);
    assert_eq!(books.number(HEADROOM).await, 970);
    books.assert_books().await;
}

#[tokio::test]
async fn a_charge_of_a_final_slice_frees_its_whole_reservation() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    books.finalise(slice, 250).await;
    assert_eq!(books.number(HEADROOM).await, 250);
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 30)).await, BOOKED);
    assert_eq!(books.number(HEADROOM).await, 150);
    assert_eq!(books.cancel(slice.token(1, 150)).await.unwrap().released, money(150));
    assert_eq!(books.number(HEADROOM).await, 0);
    books.assert_books().await;
}

#[tokio::test]
async fn a_charge_after_everything_was_freed_is_booked_all_the_same() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    books.advance(Duration::from_secs(3_600));
    books.resolve(slice).await;
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 100)).await, LATE);
    let late = "SELECT late_micros FROM headroom WHERE level = 1";
    assert_eq!((books.number(HEADROOM).await, books.number(late).await), (0, 100));
    assert_eq!(books.number("SELECT late_micros FROM hold").await, 100);
    books.assert_books().await;
}

/// I-6 and section 5: admissions of an expected slice took 2 of it each, and charges are whole. One
/// that goes beyond its amount is booked, called late, and stands in the late sums.
#[tokio::test]
async fn charges_beyond_an_expected_slice_are_booked_and_late() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    books.client().await.execute("UPDATE slice SET is_expected = true", &[]).await.unwrap();
    let token = |no| Token { expected_micros: 2, ..slice.token(no, 600) };
    assert_eq!(books.settle_one(charge("c-1", token(0), 600)).await, BOOKED);
    assert_eq!(books.cancel(token(1)).await.unwrap().released, money(600));
    assert_eq!(books.number(HEADROOM).await, 400, "a cancellation is the owner's to take back");
    let both = vec![charge("c-2", token(2), 300), charge("c-3", token(3), 300)];
    let answers = books.settle(both).await;
    assert_eq!((flags(&answers[0]), flags(&answers[1])), (BOOKED, LATE), "one is covered");
    let sums = "SELECT charged_micros FROM headroom WHERE level = 1
        AND late_micros = 200 AND overdue_micros = 200 AND reserved_micros = 0";
    assert_eq!(books.number(sums).await, 1_200);
    let hold = "SELECT charged_micros FROM hold WHERE late_micros = 200 AND reserved_micros = 0";
    assert_eq!(books.number(hold).await, 1_200);
    assert_eq!(books.number("SELECT ended_micros FROM slice").await, 8, "four have ended");
    books.assert_books().await;
}

#[tokio::test]
async fn a_charge_is_late_from_the_moment_of_expiry_and_books_on_the_day_of_its_admission() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    let token = slice.token(0, 100);
    books.hand.set(token.expires_at() - chrono::TimeDelta::microseconds(1));
    assert_eq!(books.settle_one(charge("c-1", token, 100)).await, BOOKED);
    books.hand.set(token.expires_at());
    assert_eq!(books.settle_one(charge("c-2", slice.token(1, 100), 100)).await, LATE);
    books.advance(Duration::from_secs(86_400));
    let answers = books.settle(vec![charge("c-3", slice.token(2, 100), 100)]).await;
    let booked = answers[0].clone().unwrap();
    assert!(booked.late && booked.day == slice.day && booked.day < Day::of(books.clock.now()));
    books.assert_books().await;
}

#[tokio::test]
async fn a_charge_whose_slice_row_is_gone_goes_to_billing_by_itself() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    books.resolve(slice).await;
    books.client().await.execute("DELETE FROM slice", &[]).await.unwrap();
    books.advance(Duration::from_secs(3_600));
    assert_eq!(books.settle_one(charge("c-1", slice.token(0, 100), 60)).await, LATE);
    let again = books.settle_one(charge("c-1", slice.token(0, 100), 60)).await;
    assert_eq!(again, Ok((true, true)));
    let other = books.settle_one(charge("c-2", slice.token(0, 100), 60)).await;
    assert_eq!(other, Err(Refusal::TokenUsed));
    assert_eq!(books.cancel(slice.token(1, 100)).await, Err(Refusal::TokenExpired));
    assert_eq!(books.number("SELECT price_micros FROM late_charge").await, 60);
    books.assert_books().await;
}

#[tokio::test]
async fn a_late_conversion_books_today_even_as_the_first_of_its_day() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    books.campaign(shop, "spring").await;
    let answers = books.settle(vec![late_conversion("c-1", "spring", 500)]).await;
    let booked = answers[0].clone().unwrap();
    assert_eq!((booked.late, booked.day), (true, Day::of(books.clock.now())));
    assert_eq!(booked.currency.as_str(), "RUB");
    let again = books.settle(vec![late_conversion("c-1", "spring", 500)]).await;
    assert_eq!(flags(&again[0]), Ok((true, true)));
    assert_eq!(books.number("SELECT count(*) FROM late_charge").await, 1);
    books.assert_books().await;
}

#[tokio::test]
async fn a_price_above_the_reservation_and_an_unknown_campaign_are_refused() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    let answers = books
        .settle(vec![
            charge("c-1", slice.token(0, 100), 101),
            late_conversion("c-2", "autumn", 5),
            charge("c-3", slice.token(0, 100), 100),
        ])
        .await;
    let (price, reserved) = (money(101), money(100));
    assert_eq!(flags(&answers[0]), Err(Refusal::PriceAboveReserved { price, reserved }));
    assert!(matches!(answers[1], Err(Refusal::CampaignUnknown(_))));
    assert_eq!(flags(&answers[2]), BOOKED);
    assert_eq!(books.number("SELECT count(*) FROM charge").await, 1);
    books.assert_books().await;
}

#[tokio::test]
async fn a_foreign_tenants_campaign_and_token_are_unknown() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    let tenant = |name: &str| Caller {
        role: Role::Advertiser,
        tenant: Some(AccountId::parse(name).unwrap()),
        label: name.to_owned(),
    };
    let batch = || vec![late_conversion("c-1", "spring", 5), charge("c-2", slice.token(0, 10), 5)];
    let foreign = books.charges.settle(&tenant("other"), batch()).await.unwrap();
    assert!(matches!(foreign[0], Err(Refusal::CampaignUnknown(_))));
    assert_eq!(flags(&foreign[1]), Err(Refusal::TokenInvalid));
    let cancelled = books.charges.cancel(&tenant("other"), slice.token(0, 10)).await.unwrap();
    assert_eq!(cancelled, Err(Refusal::TokenInvalid));
    let own = books.charges.settle(&tenant("shop"), batch()).await.unwrap();
    assert_eq!((flags(&own[0]), flags(&own[1])), (LATE, BOOKED));
    books.assert_books().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 10_000_000).await;
    let settings = Settings { queued_charges: MAX_BATCH, writers: 1, ..Settings::default() };
    let small = replica_with(&books.pool, &books.clock, &settings);
    let batch = |at: u32| {
        let ids = at * 1_000..(at + 1) * 1_000;
        ids.map(|n| charge(&format!("c-{n}"), slice.token(n, 10), 1)).collect::<Vec<_>>()
    };
    let caller = Caller::operator();
    // The account is known from here on, so both of the next calls go straight to the queue.
    small.settle(&caller, vec![charge("first", slice.token(9_999, 10), 1)]).await.unwrap();
    let (first, second) =
        tokio::join!(small.settle(&caller, batch(0)), small.settle(&caller, batch(1)));
    assert!(first.unwrap().iter().all(Result::is_ok));
    assert!(matches!(second, Err(Error::Overloaded)));
    assert!(small.settle(&caller, batch(1)).await.unwrap().iter().all(Result::is_ok));
    small.close();
    assert!(matches!(small.settle(&caller, batch(2)).await, Err(Error::Closed)));
    books.assert_books().await;
}

#[tokio::test]
async fn one_accounts_broken_books_fail_only_its_own_callers() {
    let books = Fixture::new().await;
    let (good, bad) = (books.shop("good", "good").await, books.shop("bad", "bad").await);
    let good_slice = books.slice(good, books.campaign(good, "one").await, 1_000).await;
    let bad_slice = books.slice(bad, books.campaign(bad, "two").await, 1_000).await;
    // Less is reserved than the slice keeps: taking the price off would go below zero.
    let broken = "UPDATE hold SET reserved_micros = 0 WHERE hold_no = $1";
    books.client().await.execute(broken, &[&bad.hold_no]).await.unwrap();
    let settings = Settings { writers: 1, ..Settings::default() };
    let charges = replica_with(&books.pool, &books.clock, &settings);
    let caller = Caller::operator();
    for round in 0..5 {
        let id = |name: &str| format!("{name}-{round}");
        let (of_good, of_bad) = tokio::join!(
            charges.settle(&caller, vec![charge(&id("good"), good_slice.token(round, 9), 9)]),
            charges.settle(&caller, vec![charge(&id("bad"), bad_slice.token(round, 9), 9)]),
        );
        assert_eq!(flags(&of_good.unwrap()[0]), BOOKED);
        assert!(matches!(of_bad, Err(Error::Db(_))));
    }
    let booked = "SELECT count(*) FROM charge";
    assert_eq!(books.number(booked).await, 5);
}

#[test]
fn charge_ids_are_1_to_64_printable_characters() {
    for (text, fits) in [
        ("c", true),
        ("0193e9a0-0000-8000-8000-000000000000/#~", true),
        ("", false),
        ("two words", false),
        ("tab\t", false),
        ("ключ", false),
    ] {
        assert_eq!(ChargeId::new(text.to_owned()).is_some(), fits, "{text:?}");
    }
    assert!(ChargeId::new("x".repeat(64)).is_some() && ChargeId::new("x".repeat(65)).is_none());
}
