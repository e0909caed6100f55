//! What is promised of a paced day.

use super::*;

/// A new campaign on its first day: nothing is known of its demand. Whatever the number of
/// replicas and however uneven their traffic, spend follows the day, the limit holds, and next to
/// nothing is left in slices.
#[tokio::test]
async fn replicas_with_skewed_traffic_pace_one_budget_together() {
    let mut alone = None;
    for replicas in [1, 2, 4, 16] {
        let mut days = Days::new(u64::from(replicas), None).await;
        days.ad("spring", Some(1_500), 6_000, UNIT).await;
        days.flat_before().await;
        days.start(replicas).await;
        let closes = days.closes();
        days.run_until(closes).await;
        let no = days.ads[0].campaign_no;
        let (spent, uneven) = (days.charged(1, no).await, days.unevenness(1_500.0));
        let reserved = days.reserved(1, no).await;
        println!("{replicas} replicas: {spent} spent, {uneven:.4} uneven, {reserved} stranded");
        assert!(spent <= 1_500.0, "{spent} passes the limit");
        assert!(spent >= 1_500.0 * 0.98, "{spent} of 1 500");
        // A first day of two hours: the rate rises from that of an unknown level by a step a tick,
        // and a tick is half a minute here.
        assert!(uneven <= 0.04, "{uneven} with {replicas} replicas");
        let alone = *alone.get_or_insert(uneven);
        assert!((uneven - alone).abs() <= 0.02, "{uneven} with {replicas}, {alone} alone");
        assert!(reserved <= 1_500.0 * 0.02, "{reserved} is stranded");
        days.stop().await;
    }
}

/// campaigns of 500 and 3 000 under an account of 1 000.
#[tokio::test]
async fn an_account_holds_its_campaigns_to_its_own_target() {
    for (demand, expected) in [
        ([10_000, 10_000], [500.0, 500.0]),
        ([1_000, 10_000], [90.9, 909.1]),
        ([600, 600], [500.0, 500.0]),
        ([100_000, 2_000], [500.0, 500.0]),
    ] {
        let mut days = Days::new(7, Some(1_000)).await;
        let price = |demand: i64| UNIT / 2 * (demand / 20_000).max(1);
        days.ad("small", Some(500), demand[0], price(demand[0])).await;
        days.ad("large", Some(3_000), demand[1], price(demand[1])).await;
        days.start(1).await;
        let closes = days.closes();
        days.run_until(closes).await;
        let small = days.charged(1, days.ads[0].campaign_no).await;
        let large = days.charged(1, days.ads[1].campaign_no).await;
        println!("demand {demand:?}: {small} + {large}, expected {expected:?}");
        assert!(small <= 500.0, "{small}");
        let whole = small + large;
        assert!((990.0..=1_000.0).contains(&whole), "{demand:?}: {small} + {large} = {whole}");
        days.stop().await;
    }
}

/// R-151, and what is left of a day: the limit of an eager campaign is reached, so it stands still
/// until midnight; minutes and quarter hours are written down; and a replica that starts on the
/// next day knows what to expect.
#[tokio::test]
async fn a_day_leaves_a_suspension_its_minutes_and_what_it_taught() {
    let mut days = Days::new(11, None).await;
    days.ad("eager", Some(300), 6_000, UNIT).await;
    days.ad("calm", Some(600), 6_000, UNIT).await;
    let (eager, calm) = (days.ads[0].campaign_no, days.ads[1].campaign_no);
    days.execute(
        "UPDATE budget SET mode = 3 WHERE account_no = $1 AND level = $2 AND entity_no = $3",
        1,
        eager,
    )
    .await;
    days.start(1).await;
    let closes = days.closes();
    days.run_until(closes).await;
    assert_eq!(days.charged(1, eager).await, 300.0, "as soon as possible, and no more");
    let open = "SELECT count(*)::float8 * 1000000 FROM suspension WHERE account_no = $1 AND level = $2
        AND entity_no = $3 AND day = $4 AND ended_at IS NULL AND reason = 1 AND limit_micros = 300000000
        AND began_at < $4::date::timestamp AT TIME ZONE INTERVAL '3 hours' + INTERVAL '12 hours'";
    assert_eq!((days.figure(open, 1, eager).await, days.figure(open, 1, calm).await), (1.0, 0.0));

    let minutes = "SELECT ('x' || encode(substring(minutes FROM 59 * 44 + 1 FOR 8), 'hex'))::bit(64)::bigint::float8
        FROM pace_hour WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND hour = $4::date::timestamp AT TIME ZONE INTERVAL '3 hours' + INTERVAL '11 hours'";
    let last = days.figure(minutes, 1, calm).await;
    assert!((last - days.charged(1, calm).await).abs() <= 15.0, "{last} after the last minute");
    let seen =
        "SELECT (SELECT sum(micros)::float8 FROM UNNEST(offered_micros) AS micros) FROM demand_day
        WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";
    let offered = days.figure(seen, 1, eager).await;
    assert!((5_950.0..=6_000.0).contains(&offered), "demand is what was offered: {offered}");
    let known =
        "SELECT (SELECT sum(seconds)::float8 FROM UNNEST(known_seconds) AS seconds) * 1000000
        FROM demand_day WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";
    let known = days.figure(known, 1, calm).await;
    assert!((5_400.0..=7_200.0).contains(&known), "{known} seconds of two hours were seen");

    days.hand.set(closes + TimeDelta::hours(22));
    days.replicas.clear();
    days.start(1).await;
    for _ in 0..4 {
        days.step().await;
    }
    let ended =
        "SELECT count(*)::float8 * 1000000 FROM suspension WHERE account_no = $1 AND level = $2
        AND entity_no = $3 AND day = $4::date - 1 AND ended_by = 1
        AND ended_at = $4::date::timestamp AT TIME ZONE INTERVAL '3 hours'";
    assert_eq!(days.figure(ended, 1, eager).await, 1.0, "it ended at midnight");
    let warm =
        "SELECT count(*)::float8 * 1000000 FROM pace_reading WHERE account_no = $1 AND level = $2
        AND entity_no = $3 AND day = $4 AND why = 5";
    assert_eq!(days.figure(warm, 1, calm).await, 0.0, "nothing had to be learned anew");
    let rate = "SELECT rate_parts::float8 * 1000000 / 4294967295 FROM pace WHERE account_no = $1
        AND level = $2 AND entity_no = $3 AND read_at >= $4::date::timestamp AT TIME ZONE INTERVAL '3 hours'";
    let rate = days.figure(rate, 1, calm).await;
    assert!((0.07..=0.14).contains(&rate), "600 of 6 000 are a tenth: {rate}");
    days.stop().await;
}

/// An increase in mid-day: the curve begins anew where the day stands, for every replica, so there
/// is no burst to catch up; a budget that is removed lets everything through without a coin.
#[tokio::test]
async fn a_change_of_the_budget_begins_the_curve_anew() {
    let mut days = Days::new(5, None).await;
    days.ad("spring", Some(300), 3_000, UNIT).await;
    let no = days.ads[0].campaign_no;
    days.start(2).await;
    let (opens, closes) = (days.clock.now(), days.closes());
    days.run_until(opens + (closes - opens) / 2).await;
    let half = days.charged(1, no).await;
    assert!((120.0..=180.0).contains(&half), "{half} of 300 at half time");
    days.execute(
        "UPDATE budget SET in_force_micros = 900000000, last_change_no = last_change_no + 1
        WHERE account_no = $1 AND level = $2 AND entity_no = $3",
        1,
        no,
    )
    .await;
    days.step().await;
    let based = "SELECT base_micros::float8 FROM pace WHERE account_no = $1 AND level = $2
        AND entity_no = $3 AND base_at >= $4::date::timestamp";
    assert!((days.figure(based, 1, no).await - days.charged(1, no).await).abs() < 10.0);
    let quarter = opens + (closes - opens) / 4 * 3;
    days.run_until(quarter).await;
    let expected = half + (900.0 - half) / 2.0;
    let spent = days.charged(1, no).await;
    assert!((spent - expected).abs() <= 60.0, "{spent} where {expected} was due");
    let rates: Vec<u32> = days.rates(no);
    assert_eq!(rates.first(), rates.last(), "both replicas apply the same rate");
    days.run_until(closes - TimeDelta::minutes(5)).await;
    days.execute(
        "UPDATE budget SET in_force_preset = NULL, in_force_unit = NULL, in_force_micros = NULL,
            in_force_day = NULL, last_change_no = last_change_no + 1
        WHERE account_no = $1 AND level = $2 AND entity_no = $3",
        1,
        no,
    )
    .await;
    days.step().await;
    assert_eq!(days.rates(no), [u32::MAX; 2], "without a limit the rate is exactly 1");
    days.stop().await;
}

/// a day that has room for thirty charges. A coin would be off by five of them.
#[tokio::test]
async fn a_small_budget_is_spent_evenly_and_whole() {
    let mut days = Days::new(3, None).await;
    days.ad("dear", Some(1_500), 150_000, 50 * UNIT).await;
    days.flat_before().await;
    days.start(2).await;
    let closes = days.closes();
    days.run_until(closes).await;
    let spent = days.charged(1, days.ads[0].campaign_no).await;
    let uneven = days.unevenness(1_500.0);
    println!("thirty charges: {spent} spent, {uneven:.4} uneven");
    assert!((1_450.0..=1_500.0).contains(&spent), "{spent}");
    assert!(uneven <= 0.05, "{uneven}");
    days.stop().await;
}
