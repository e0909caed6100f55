//! Charges of campaigns that pay per conversion, after their tokens are over.

use std::time::Duration;

use adspend_common::time::Day;

use super::support::{BOOKED, Fixture, LATE, Shop, Slice, charge, flags, late_conversion};
use crate::admission::token::Token;
use crate::charges::Refusal;

const UNIT: i64 = 1_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// `campaigns/sale` of `shop`, which pays so (2 per click, 3 per conversion), and a slice of today.
async fn sale(books: &Fixture, payment: i16) -> (Shop, i64, Slice) {
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "sale").await;
    let client = books.client().await;
    client.execute("UPDATE campaign SET payment_model = $1", &[&payment]).await.unwrap();
    (shop, campaign, books.slice(shop, campaign, 1_000).await)
}

/// A strict limit of every day.
async fn limit(books: &Fixture, (account_no, level, entity_no): (i64, i16, i64), micros: i64) {
    let today = Day::of(books.clock.now());
    books
        .client()
        .await
        .execute(
            "INSERT INTO budget (account_no, level, entity_no, mode, in_force_preset, in_force_unit,
                in_force_micros, in_force_day, segment_day, segment_began, marks_day, changes,
                daily_high_micros, weekly_old_micros)
            VALUES ($1, $2, $3, 2, 'strict', 'AVERAGE_DAILY', $4, $5, $6, 'MONDAY', $5, 0, 0, 0)",
            &[&account_no, &level, &entity_no, &micros, &today, &today.week_start()],
        )
        .await
        .unwrap();
}

/// (charged, reserved, late, overdue) of the campaign on a day.
async fn headroom(books: &Fixture, day: Day) -> (i64, i64, i64, i64) {
    let client = books.client().await;
    let row = client
        .query_one(
            "SELECT coalesce(sum(charged_micros), 0)::bigint, coalesce(sum(reserved_micros), 0)::bigint,
                coalesce(sum(late_micros), 0)::bigint, coalesce(sum(overdue_micros), 0)::bigint
            FROM headroom WHERE level = 1 AND day = $1",
            &[&day],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

#[tokio::test]
async fn r149_a_conversion_is_booked_on_the_day_on_which_it_comes() {
    let books = Fixture::new().await;
    let (_, _, slice) = sale(&books, 3).await;
    books.resolve(slice).await;
    books.advance(HOUR * 30 + Duration::from_secs(60));
    let today = Day::of(books.clock.now());
    assert!(today > slice.day);
    let conversion = || charge("c-1", slice.token(0, 100), 60);
    let booked = books.settle(vec![conversion()]).await[0].clone().unwrap();
    assert_eq!((booked.day, booked.late, booked.replayed), (today, false, false));
    assert_eq!(headroom(&books, today).await, (60, 0, 0, 0), "no limit was passed");
    assert_eq!(headroom(&books, slice.day).await, (0, 0, 0, 0), "nothing on the day of the click");
    books.advance(HOUR * 30);
    let again = books.settle(vec![conversion()]).await[0].clone().unwrap();
    assert_eq!((again.day, again.replayed), (today, true), "a repeat gets the first answer");
    let delays = "SELECT charges * 1000 + hours FROM conversion_delay";
    assert_eq!(books.number(delays).await, 1_030, "one, after thirty hours");
    books.assert_books().await;
}

/// What the click's slice still kept is free on the click's day; the charge is today's. Several in
/// one group, of a slice that admits by expectation too.
#[tokio::test]
async fn r149_a_conversion_frees_on_the_day_of_its_click() {
    for is_expected in [false, true] {
        let books = Fixture::new().await;
        let (_, _, slice) = sale(&books, 3).await;
        if is_expected {
            books.client().await.execute("UPDATE slice SET is_expected = true", &[]).await.unwrap();
        }
        books.advance(HOUR * 24);
        let today = Day::of(books.clock.now());
        let charges =
            (0..3).map(|no| charge(&format!("c-{no}"), slice.token(no, 100), 60)).collect();
        for result in books.settle(charges).await {
            assert_eq!(flags(&result), BOOKED);
        }
        assert_eq!(headroom(&books, today).await, (180, 0, 0, 0));
        assert_eq!(headroom(&books, slice.day).await, (0, 820, 0, 0));
        books.assert_books().await;
    }
}

/// never refused, and late only by what a limit of the day does not cover.
#[tokio::test]
async fn r149_conversions_past_a_limit_are_booked_and_late() {
    let books = Fixture::new().await;
    let (shop, campaign, slice) = sale(&books, 3).await;
    books.resolve(slice).await;
    books.advance(HOUR * 24);
    limit(&books, (shop.account_no, 1, campaign), 100 * UNIT).await;
    limit(&books, (shop.account_no, 2, shop.account_no), 1_000 * UNIT).await;
    let today = Day::of(books.clock.now());
    let token = |no: u32| slice.token(no, 100 * UNIT);
    let conversion = |no: u32| charge(&format!("c-{no}"), token(no), 60 * UNIT);
    let together = books.settle(vec![conversion(0), conversion(1)]).await;
    assert_eq!([flags(&together[0]), flags(&together[1])], [BOOKED, LATE]);
    assert_eq!(books.settle_one(conversion(2)).await, LATE);
    let beyond = (180 * UNIT, 0, 80 * UNIT, 0);
    assert_eq!(headroom(&books, today).await, beyond, "80 beyond the limit of 100");
    let of_account = "SELECT late_micros FROM headroom WHERE level = 2 AND charged_micros > 0";
    assert_eq!(books.number(of_account).await, 0, "the account's limit covers all of it");
    let again = charge("c-9", token(2), 60 * UNIT);
    assert_eq!(books.settle_one(again).await, Err(Refusal::TokenUsed));
    books.assert_books().await;
}

#[tokio::test]
async fn r149_only_conversions_change_their_day() {
    let books = Fixture::new().await;
    let (_, _, slice) = sale(&books, 2).await;
    books.resolve(slice).await;
    books.advance(HOUR * 24);
    let click = books.settle(vec![charge("c-1", slice.token(0, 100), 60)]).await[0].clone();
    let click = click.unwrap();
    assert_eq!((click.day, click.late), (slice.day, true), "a late click belongs to its day");
    assert_eq!(books.number("SELECT count(*) FROM conversion_delay").await, 0);
    books.assert_books().await;

    let books = Fixture::new().await;
    let (_, _, slice) = sale(&books, 3).await;
    let token = slice.token(0, 100);
    books.hand.set(token.expires_at() - chrono::TimeDelta::microseconds(1));
    assert_eq!(books.settle_one(charge("c-1", token, 60)).await, BOOKED);
    assert_eq!(headroom(&books, slice.day).await, (60, 940, 0, 0), "its token lives: as ever");
    assert_eq!(books.number("SELECT hours::bigint FROM conversion_delay").await, 0);
    books.assert_books().await;
}

/// A slice of conversions keeps no margin, so one that comes at once is beyond it: no reason to call
/// it late while the day has room.
#[tokio::test]
async fn r149_a_conversion_that_comes_at_once_is_no_overrun() {
    let books = Fixture::new().await;
    let (shop, campaign, slice) = sale(&books, 3).await;
    books.client().await.execute("UPDATE slice SET is_expected = true", &[]).await.unwrap();
    limit(&books, (shop.account_no, 1, campaign), 2 * UNIT).await;
    let token = |no| Token { expected_micros: 20, ..slice.token(no, UNIT + 500) };
    assert_eq!(books.settle_one(charge("c-1", token(0), UNIT)).await, BOOKED);
    assert_eq!(headroom(&books, slice.day).await, (UNIT, 0, 0, 0));
    assert_eq!(books.number("SELECT ended_micros FROM slice").await, 20, "it tells its slice");
    assert_eq!(books.settle_one(charge("c-2", token(1), UNIT + 500)).await, LATE);
    assert_eq!(headroom(&books, slice.day).await, (2 * UNIT + 500, 0, 500, 0));
    books.assert_books().await;
}

/// Without an admission nothing is learned of the delay, and it is no reason for a late reserve.
#[tokio::test]
async fn r149_a_conversion_that_names_its_campaign_counts_today() {
    let books = Fixture::new().await;
    let (_, _, slice) = sale(&books, 3).await;
    books.resolve(slice).await;
    let today = Day::of(books.clock.now());
    assert_eq!(books.settle_one(late_conversion("c-1", "sale", 500)).await, LATE);
    assert_eq!(headroom(&books, today).await, (500, 0, 0, 0));
    assert_eq!(books.number("SELECT hours::bigint FROM conversion_delay").await, -1);
    books.assert_books().await;
}
