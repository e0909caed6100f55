//! A campaign that pays per conversion: hours and days after its admissions (R-149, pacing.md section
//! 6). Weeks of it over real tables, in steps of ten minutes.

use adspend_pacing::calendar::changes::BudgetState;
use adspend_pacing::calendar::policy::{Figure, Level, Preset, Unit};

use super::week::{set, write};
use super::*;

const MONDAY: &str = "2025-06-16";
const STEP_SECONDS: u32 = 600;
/// A day's figure: twenty conversions of this price.
const FIGURE: f64 = 400.0;
const PRICE: i64 = 20 * UNIT;
/// What the caller says of the chance of a conversion, and the truth.
const SAID_PPM: u32 = 50_000;
const TRUTH: Clicks = Clicks { chance: 0.06, seconds: 20.0 * 3_600.0, tail: 0.0 };
const WEEKS: i32 = 2;

const PER_CONVERSION: &str = "UPDATE campaign SET payment_model = 3
    WHERE account_no = $1 AND 1::smallint = $2 AND campaign_no = $3";

/// Charges of the day that passed its limit, and all of the campaign so far.
const LATE: &str = "SELECT coalesce(sum(late_micros), 0)::float8 FROM headroom
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";
const BOOKED: &str = "SELECT coalesce(sum(price_micros), 0)::float8 FROM charge
    WHERE account_no = $1 AND 1::smallint = $2 AND campaign_no = $3 AND day <= $4";

/// The clock is a stranger to the day of admission: conversions book on the day on which they come,
/// none is refused, the week holds its figure, and a day is off by no more than luck makes it.
#[tokio::test]
async fn r149_weeks_of_conversions_hold_their_figure_and_refuse_none() {
    let monday: Day = MONDAY.parse().unwrap();
    let mut days = Days::within((0, 1_440), 21, None).await;
    days.pace = STEP_SECONDS;
    days.ticks = 2;
    days.ad("sale", None, (FIGURE / 0.06 * 2.5) as i64, PRICE).await;
    days.ads[0].chance_ppm = Some(SAID_PPM);
    days.clicks = Some(TRUTH);
    let no = days.ads[0].campaign_no;
    days.execute(PER_CONVERSION, 1, no).await;
    let units = Money::from_units(FIGURE as u32);
    let figure = Figure::new(Level::Campaign, Unit::AverageDaily, units, Preset::YandexAvgDaily);
    let state = set(&BudgetState::new(monday), monday.start(), figure);
    write(&days, no, 2, &state).await;
    days.hand.set(monday.start());
    days.start(1).await;
    let (mut course, mut late) = (Vec::new(), Vec::new());
    for day in 0..WEEKS * 7 {
        let midnight = monday.plus_days(day).end();
        days.run_until(midnight - TimeDelta::seconds(STEP_SECONDS.into())).await;
        days.step().await;
        let day = monday.plus_days(day);
        course.push(days.figure_of(CHARGED, no, day).await);
        late.push(days.figure_of(LATE, no, day).await);
    }
    let weeks: Vec<f64> = course.chunks(7).map(|week| week.iter().sum()).collect();
    // Before the third day too little is open.
    let settled = course.get(2..).unwrap();
    let error = settled.iter().map(|spent| (spent - FIGURE).abs() / FIGURE).sum::<f64>()
        / settled.len() as f64;
    println!("{course:?}, late {late:?}");
    println!("weeks {weeks:?}, a day off by {error:.3}, {} open", days.clicked.len());
    // How often weeks stay within the figure, and by how much a day is off, is shown over a hundred
    // weeks by the controller's own tests; the luck of two may be a little worse.
    assert!(error <= 0.35, "{error}");
    for week in &weeks {
        assert!((0.75 * 7.0 * FIGURE..=1.05 * 7.0 * FIGURE).contains(week), "{weeks:?}");
    }
    for (spent, late) in course.iter().zip(&late) {
        // Days of twenty conversions pass 1.3 figures now and then; what passes it is said to be late.
        assert!(*spent <= 2.0 * FIGURE, "{course:?}");
        assert!((*late > 0.0) == (*spent > 1.3 * FIGURE) || *late == 0.0, "{course:?} {late:?}");
        assert!(*late > 0.0 || *spent <= 1.3 * FIGURE, "{course:?} {late:?}");
    }
    let last = monday.plus_days(WEEKS * 7);
    let booked = days.figure_of(BOOKED, no, last).await;
    assert_eq!(
        booked,
        course.iter().sum::<f64>() + days.charged(1, no).await,
        "all are booked, once"
    );
    let learned = days.figure_of(LEARNED, no, last).await;
    assert!(
        (0.9..=1.7).contains(&learned),
        "1.2 conversions for each that callers expect: {learned}"
    );
    let differences =
        charges::audit::audit(&mut days.database.pool.get().await.unwrap()).await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
    days.stop().await;
}

/// κ of the campaign.
const LEARNED: &str = "SELECT kappa * 1000000 FROM pace
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND $4::date IS NOT NULL";
const CHARGED: &str = "SELECT coalesce(sum(charged_micros), 0)::float8 FROM headroom
    WHERE account_no = $1 AND level = $2 AND entity_no = $3 AND day = $4";

impl Days {
    async fn figure_of(&self, sql: &'static str, campaign_no: i64, day: Day) -> f64 {
        let client = self.database.pool.get().await.unwrap();
        let row = client.query_one(sql, &[&self.account_no, &1i16, &campaign_no, &day]).await;
        row.unwrap().get::<_, f64>(0) / UNIT as f64
    }
}
