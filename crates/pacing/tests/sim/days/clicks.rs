//! Campaigns that are charged per click and ask at the impression: most admissions cost nothing
//! (pacing.md, section 5).

use super::*;

/// Eight hours.
const WINDOW: (i16, i16) = (600, 1_080);
const CLICKS: Clicks = Clicks { chance: 0.02, seconds: 60.0, tail: 0.03 };
const LIMIT: i64 = 300;

/// What the campaign has learned on the days before.
const LEARNED: &str =
    "INSERT INTO pace (account_no, level, entity_no, chance, chance_charges, chance_admitted)
    VALUES ($1, $2, $3, 0.02, 300, 15000)";

/// What is written down of late charges, by the hour.
const LATE: &str = "SELECT coalesce(sum(late_micros), 0)::float8 FROM late_hour
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";

/// A day with three times the traffic that the limit needs. Gives what was charged, in units, half an
/// hour and more after it.
async fn day_of_clicks(payment: i16, chance_ppm: Option<u32>, learned: bool) -> f64 {
    let mut days = Days::within(WINDOW, 9, None).await;
    days.ad("banner", Some(LIMIT), LIMIT * 3 * 50, UNIT).await;
    days.clicks = Some(CLICKS);
    days.ads[0].chance_ppm = chance_ppm;
    let no = days.ads[0].campaign_no;
    if learned {
        days.execute(LEARNED, 1, no).await;
    }
    let sql = match payment {
        1 => {
            "UPDATE campaign SET payment_model = 1 WHERE account_no = $1 AND 1::smallint = $2
            AND campaign_no = $3"
        }
        _ => {
            "UPDATE campaign SET payment_model = 2 WHERE account_no = $1 AND 1::smallint = $2
            AND campaign_no = $3"
        }
    };
    days.execute(sql, 1, no).await;
    days.start(1).await;
    let closes = days.closes();
    days.run_until(closes + TimeDelta::minutes(31)).await;
    let charged = days.charged(1, no).await;
    println!(
        "payment {payment}, chance {chance_ppm:?}, learned {learned}: {charged} of {LIMIT}, {} asked, {} reserved, {:.3} uneven",
        days.next,
        days.reserved(1, no).await,
        days.unevenness(LIMIT as f64),
    );
    if payment == 2 {
        // Clicks of the tail came when their tokens had expired: for the late reserve of days to come.
        let late = days.figure(LATE, 1, no).await;
        assert!((2.0..=20.0).contains(&late), "{late} came late, by the hours of the day");
    }
    let differences =
        charges::audit::audit(&mut days.database.pool.get().await.unwrap()).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
    days.stop().await;
    charged
}

/// Nobody cancels what was not clicked, and a click in thirty-three comes when its token is over: the
/// day is spent all the same, and hardly ever over. Whether the caller says how likely a click is or
/// the campaign has learned it.
#[tokio::test]
async fn impressions_that_are_charged_per_click_spend_the_day_and_no_more() {
    for (chance_ppm, learned) in [(Some(20_000), false), (None, true)] {
        let charged = day_of_clicks(2, chance_ppm, learned).await;
        assert!(charged >= 0.92 * LIMIT as f64, "{charged} of {LIMIT}");
        assert!(charged <= 1.005 * LIMIT as f64, "{charged} of {LIMIT}");
    }
}

/// On its first day nobody knows the chance of a click, so the first admissions count as charges, and
/// all that is offered as fifty times what it is. Each minute some of them are seen to be none. Learned
/// from fifty admissions at the end of ten minutes the chance was known after an hour, the demand that
/// had been counted until then slowed the rest of the day, and 246 to 274 of 300 were spent.
#[tokio::test]
async fn a_first_day_of_clicks_learns_their_chance_and_is_spent() {
    let charged = day_of_clicks(2, None, false).await;
    assert!(charged >= 0.92 * LIMIT as f64, "{charged} of {LIMIT}");
    assert!(charged <= 1.005 * LIMIT as f64, "{charged} of {LIMIT}");
}

/// The control arm: by whole prices, as a campaign that pays per impression is held to, the same day
/// is hardly spent. So the test above can fail.
#[tokio::test]
async fn by_whole_prices_the_same_impressions_cannot_spend_the_day() {
    let charged = day_of_clicks(1, Some(20_000), false).await;
    assert!(charged <= 0.7 * LIMIT as f64, "{charged} of {LIMIT}");
}

/// A click in five comes when its token is over.
const OFTEN_LATE: Clicks = Clicks { chance: 0.3, seconds: 60.0, tail: 0.2 };
/// Its luck is small beside what comes late.
const LARGE: i64 = 900;

/// As soon as possible: the limit is near while much is still to come late.
const ASAP: &str =
    "UPDATE budget SET mode = 3 WHERE account_no = $1 AND level = $2 AND entity_no = $3";

/// What came late two days ago from noon on, when little came on the first day.
const BEFORE: &str = "INSERT INTO late_hour (account_no, level, entity_no, hour, day, late_micros)
    SELECT $1, $2, $3, hour, '2025-06-10', 3000000 FROM generate_series(12, 13) AS hour";
const FORGET: &str =
    "DELETE FROM late_hour WHERE account_no = $1 AND (level = $2 AND entity_no = $3 OR level = 2)";

/// A day from 10 to 14 o'clock and the day after it, with the same luck. Gives what each was charged
/// when all of it had come, in units. What came late before the second is remembered or not.
async fn two_days(remembers: bool) -> [f64; 2] {
    const SEED: u64 = 21;
    let mut days = Days::within((600, 840), SEED, None).await;
    days.ad("banner", Some(LARGE), LARGE * 4 * 10 / 3, UNIT).await;
    days.clicks = Some(OFTEN_LATE);
    days.ads[0].chance_ppm = Some(300_000);
    let no = days.ads[0].campaign_no;
    days.execute(ASAP, 1, no).await;
    days.start(1).await;
    let closes = days.closes();
    days.run_until(closes + TimeDelta::minutes(61)).await;
    let first = days.charged(1, no).await;
    days.execute(if remembers { BEFORE } else { FORGET }, 1, no).await;

    let today = Day::of(closes).next();
    days.hand.set(today.start() + TimeDelta::minutes(days.window.0.into()));
    days.rng = StdRng::seed_from_u64(SEED);
    // After noon there was less to keep back for.
    let (noon, closes) = (today.start() + TimeDelta::hours(12), days.closes());
    let mut waited = false;
    while days.clock.now() < closes + TimeDelta::minutes(61) {
        days.step().await;
        let (charged, reserved) = (days.charged(1, no).await, days.reserved(1, no).await);
        let is_near = charged > 0.9 * LARGE as f64 && reserved == 0.0;
        if days.clock.now() < noon {
            waited |= is_near && charged < LARGE as f64;
        }
    }
    let second = days.charged(1, no).await;
    println!("remembers: {remembers}, {first} and {second} of {LARGE}, waited {waited}");
    assert!(!remembers || waited, "with nothing open it waits for what may still come late");
    days.stop().await;
    [first, second]
}

/// Section 5 of pacing.md, the late reserve: from nine tenths of the limit on as much is kept back as
/// came late in the same hour before, and the rest is admitted. So the late charges of a second day
/// find room, where the first day, and the same second day without the memory, are charged more than
/// the limit.
#[tokio::test]
async fn a_second_day_keeps_room_for_what_came_late_on_the_first() {
    let limit = LARGE as f64;
    let [first, second] = two_days(true).await;
    let [same_first, without] = two_days(false).await;
    assert!(first > limit && same_first > limit, "late charges pass: {first}, {same_first}");
    assert!(without > limit, "{without} of {LARGE} without the memory");
    assert!((0.97 * limit..=limit).contains(&second), "{second} of {LARGE}");
}
