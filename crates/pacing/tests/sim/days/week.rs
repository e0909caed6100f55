//! A weekly budget that restarts on Thursday, across midnights.

use adspend_pacing::calendar::changes::{self, BudgetState, Request};
use adspend_pacing::calendar::policy::{Figure, Level, Preset, Unit};

use super::*;

const MONDAY: &str = "2025-06-09";

fn weekly(units: u32) -> Figure {
    Figure::new(Level::Campaign, Unit::Weekly, Money::from_units(units), Preset::YandexWeekly)
}

/// What the calendar makes of a new figure.
pub(super) fn set(before: &BudgetState, now: DateTime<Utc>, figure: Figure) -> BudgetState {
    changes::change(before, now, Request::Set(figure), Money::from_units(300)).unwrap().state
}

/// Writes the budget as a change does.
pub(super) async fn write(days: &Days, campaign_no: i64, mode: i16, state: &BudgetState) {
    let figure = state.in_force.unwrap();
    let client = days.database.pool.get().await.unwrap();
    client
        .execute(
            "INSERT INTO budget AS b (account_no, level, entity_no, mode, in_force_preset, in_force_unit,
                in_force_micros, in_force_day, segment_day, segment_began, marks_day, changes,
                daily_high_micros, weekly_old_micros)
            VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
            ON CONFLICT ON CONSTRAINT budget_pkey DO UPDATE
            SET in_force_micros = EXCLUDED.in_force_micros, in_force_day = EXCLUDED.in_force_day,
                segment_day = EXCLUDED.segment_day, segment_began = EXCLUDED.segment_began,
                marks_day = EXCLUDED.marks_day, changes = EXCLUDED.changes,
                daily_high_micros = EXCLUDED.daily_high_micros,
                weekly_old_micros = EXCLUDED.weekly_old_micros, last_change_no = b.last_change_no + 1",
            &[
                &days.account_no,
                &campaign_no,
                &mode,
                &figure.preset.as_str(),
                &figure.unit.as_str(),
                &figure.amount,
                &state.today.day,
                &state.segment.start,
                &state.segment.began.as_str(),
                &state.today.day,
                &i16::from(state.today.changes),
                &state.today.daily_high_micros,
                &state.today.weekly_old_micros,
            ],
        )
        .await
        .unwrap();
}

/// The limit in the pacer's latest reading of today, in units.
const LIMIT: &str = "SELECT coalesce((SELECT limit_micros FROM pace_reading WHERE account_no = $1
    AND level = $2 AND entity_no = $3 AND day = $4 ORDER BY read_at DESC LIMIT 1), 0)::float8";

/// 7 000 a week, 1 000 spent on each day to Wednesday. On Thursday at half time it becomes 5 000:
/// that day may take 35 % of both weeks, 4 200, and Thursday to Sunday take 5 000 together. Gives
/// what each day from Thursday on was charged.
async fn week(mode: i16) -> Vec<f64> {
    let monday: Day = MONDAY.parse().unwrap();
    let mut days = Days::new(6, None).await;
    days.ad("weekly", None, 6_000, UNIT).await;
    let no = days.ads[0].campaign_no;
    let old = set(&BudgetState::new(monday), monday.start(), weekly(7_000));
    write(&days, no, mode, &old).await;
    for day in 0..3 {
        let client = days.database.pool.get().await.unwrap();
        for (level, entity_no) in [(1i16, no), (2, days.account_no)] {
            client
                .execute(
                    "INSERT INTO headroom (account_no, level, entity_no, day, charged_micros, charges)
                    VALUES ($1, $2, $3, $4, 1000000000, 1000)",
                    &[&days.account_no, &level, &entity_no, &monday.plus_days(day)],
                )
                .await
                .unwrap();
        }
    }
    let opens = |day: i32| monday.plus_days(day).start() + TimeDelta::minutes(OPENS_MINUTE.into());
    days.hand.set(opens(3));
    days.start(2).await;
    days.run_until(opens(3) + TimeDelta::hours(1)).await;
    let before = days.charged(1, no).await;
    assert_eq!(days.figure(LIMIT, 1, no).await, 2_450.0, "35 % of 7 000");
    let new = set(&old, days.clock.now(), weekly(5_000));
    write(&days, no, mode, &new).await;
    for replica in &days.replicas {
        let entity = adspend_pacing::budgets::Entity {
            account_no: adspend_pacing::accounts::AccountNo(days.account_no),
            level: 1,
            entity_no: no,
        };
        replica.leases.budget_changed(entity);
    }
    days.run_until(days.closes()).await;
    assert_eq!(days.figure(LIMIT, 1, no).await, 4_200.0, "35 % of 7 000 and of 5 000");
    let mut course = vec![days.charged(1, no).await];
    println!("mode {mode}: {before} before the change, {} on Thursday", course[0]);
    for day in 4..7 {
        days.hand.set(opens(day));
        days.step().await;
        let left = 5_000.0 - course.iter().sum::<f64>();
        let limit = days.figure(LIMIT, 1, no).await;
        let cap = left.min(1_750.0);
        assert!((limit - cap).abs() <= 1.0, "H of day {day} is {limit} where {left} are left");
        days.run_until(days.closes()).await;
        course.push(days.charged(1, no).await);
    }
    println!("mode {mode}: {course:?}");
    days.stop().await;
    course
}

/// As soon as possible: every limit is reached, to the unit.
#[tokio::test]
async fn r156_a_week_that_restarts_on_thursday_takes_its_limits_past_midnight() {
    assert_eq!(week(3).await, [4_200.0, 800.0, 0.0, 0.0]);
}

/// With the traffic: the pacer plans the restarted week anew, and leaves money for its last day.
#[tokio::test]
async fn r156_a_restarted_week_is_spread_over_its_days() {
    let course = week(2).await;
    let spent: f64 = course.iter().sum();
    assert!((4_850.0..=5_000.0).contains(&spent), "{course:?}");
    assert!(course.iter().all(|day| (800.0..=1_750.0).contains(day)), "{course:?}");
}
