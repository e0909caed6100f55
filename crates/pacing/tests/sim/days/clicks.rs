//! Campaigns that are charged per click and ask at the impression: most admissions cost nothing
//! (pacing.md, section 5).

use super::*;

/// Eight hours.
const WINDOW: (i16, i16) = (600, 1_080);
const CLICKS: Clicks = Clicks { chance: 0.02, seconds: 60.0, tail: 0.03 };
const LIMIT: i64 = 300;

/// What the campaign has learned on the days before.
const LEARNED: &str =
    "INSERT INTO pace (account_no, level, entity_no, chance) VALUES ($1, $2, $3, 0.02)";

/// What is written down of late charges, by the hour.
const LATE: &str = "SELECT coalesce(sum(late_micros), 0)::float8 FROM late_hour
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";

/// A day with three times the traffic that the limit needs. Gives what was charged, in units, half an
/// hour and more after it.
async fn day_of_clicks(payment: i16, chance_ppm: Option<u32>) -> f64 {
    let mut days = Days::within(WINDOW, 9, None).await;
    days.ad("banner", Some(LIMIT), LIMIT * 3 * 50, UNIT).await;
    days.clicks = Some(CLICKS);
    days.ads[0].chance_ppm = chance_ppm;
    let no = days.ads[0].campaign_no;
    if chance_ppm.is_none() {
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
        "payment {payment}, chance {chance_ppm:?}: {charged} of {LIMIT}, {} asked, {} reserved, {:.3} uneven",
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
    for chance_ppm in [Some(20_000), None] {
        let charged = day_of_clicks(2, chance_ppm).await;
        assert!(charged >= 0.92 * LIMIT as f64, "{charged} of {LIMIT}");
        assert!(charged <= 1.005 * LIMIT as f64, "{charged} of {LIMIT}");
    }
}

/// The control arm: by whole prices, as a campaign that pays per impression is held to, the same day
/// is hardly spent. So the test above can fail.
#[tokio::test]
async fn by_whole_prices_the_same_impressions_cannot_spend_the_day() {
    let charged = day_of_clicks(1, Some(20_000)).await;
    assert!(charged <= 0.7 * LIMIT as f64, "{charged} of {LIMIT}");
}
