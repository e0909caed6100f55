//! From limits, forecasts and totals to the plan of a day, and what of a rate is worth writing
//! down. Pure.

use adspend_common::time::Day;
use chrono::{DateTime, TimeDelta, Utc};

use crate::admission::rate::Rate;
use crate::budgets::{Limits, Mode};
use crate::calendar::week::{self, WeekSpent};
use crate::controller::curve;
use crate::controller::few;
use crate::controller::plan::{DayRoom, water_fill, water_fill_with_tail};
use crate::controller::projection::WeekRest;

/// Demand of an entity whose level is not known: more than any budget, so that the days share the
/// money as their shapes say.
const PLENTY_MICROS: f64 = 1e24;

/// A rate that differs by less from what is applied is not worth another reading.
const WORTH_A_READING: f64 = 0.01;

/// How often a throttled entity has a reading, whatever its rate does.
const READING_INTERVAL: TimeDelta = TimeDelta::seconds(60);

/// The same where all is let through.
const QUIET_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// A target stays one of few charges up to so many times the bound.
const STILL_FEW: f64 = 1.1;

/// How often the week is planned anew without any change, and while demand is still being learned.
const REPLAN_INTERVAL: TimeDelta = TimeDelta::hours(1);
const FRESH_INTERVAL: TimeDelta = TimeDelta::minutes(10);

/// What a budget allows from today to Sunday, in micro-units.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeekMoney {
    /// H of today.
    pub(crate) today_micros: i64,
    /// The caps of the days after today.
    later: Vec<f64>,
    /// All these days together, today whole.
    all: f64,
    /// The days after today together, if today spends no more.
    tail: f64,
}

/// `None` without a limit. `spent` is the week with what today has spent so far.
pub(crate) fn week_money(limits: &Limits, day: Day, spent: &WeekSpent) -> Option<WeekMoney> {
    let (state, terms) = (&limits.state, limits.terms);
    let (today, _) = week::limit(state, day, spent, terms);
    let today_micros = today?;
    let amount = |limit: Option<i64>| limit.map_or(f64::INFINITY, |limit| limit as f64);
    let outlook = week::remaining_days(&state.roll(day), day, spent, terms);
    let all = outlook.iter().map(|day| amount(day.if_spent_fully_micros)).sum();
    let later = outlook.iter().skip(1).map(|day| amount(day.ceiling.limit_micros)).collect();
    let tail = if outlook.len() > 1 {
        let quiet = week::remaining_days(state, day.next(), spent, terms);
        quiet.iter().map(|day| amount(day.if_spent_fully_micros)).sum()
    } else {
        0.0
    };
    Some(WeekMoney { today_micros, later, all, tail })
}

/// Expected demand from now to Sunday, at rate 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outlook {
    /// The rest of today.
    pub(crate) rest_of_today: f64,
    /// The days after it.
    pub(crate) later: Vec<f64>,
    /// Whether these are micro-units, and not only shares.
    pub(crate) level_known: bool,
}

/// T of today: what the plan of the week gives it, under H.
pub(crate) fn target(money: &WeekMoney, outlook: &Outlook, committed: f64) -> f64 {
    let ceiling = money.today_micros as f64;
    let left = (ceiling - committed).max(0.0);
    let rooms = rooms(money, outlook, left);
    let plan = water_fill_with_tail(&rooms, money.all - committed, money.tail);
    (committed + plan.today(left)).min(ceiling).max(0.0)
}

/// What conversions make of a day's plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Projected {
    /// What today's admissions of conversions are expected to bring, whenever it comes.
    pub(super) today: f64,
    /// Charged today for conversions, of whatever day.
    pub(super) charged: f64,
    /// Expected of open admissions by the end of the week.
    pub(super) due: f64,
    /// What share of the projections of the rest of the week comes in it.
    pub(super) share: f64,
    /// What a conversion costs; 0 when not known.
    pub(super) charge: f64,
    /// The share of conversions in the demand; 1 for a campaign.
    pub(super) part: f64,
}

/// What a usual day of the budget may spend: a seventh of the next week. `None` without a limit.
pub(super) fn usual_day(limits: &Limits, day: Day) -> Option<f64> {
    let monday = day.week_end();
    let money = week_money(&limits.roll(monday), monday, &WeekSpent::default())?;
    Some(money.all / 7.0)
}

/// T of today where it is kept by what was projected: `committed` is that and, of an account, what
/// its other campaigns have charged and have in flight; `spent` is what today was charged and has in
/// flight.
pub(super) fn projected_target(
    money: &WeekMoney,
    outlook: &Outlook,
    (committed, spent): (f64, f64),
    projected: &Projected,
    (usual_day, days): (f64, f64),
) -> f64 {
    let rest = WeekRest {
        money: money.all - spent,
        due: projected.due,
        days,
        share: projected.share,
        usual_day,
        charge: projected.charge,
        part: projected.part,
    };
    let to_project = rest.to_project();
    let ceiling = money.today_micros as f64;
    let left = (ceiling - committed).max(0.0);
    let plan = water_fill(&rooms(money, outlook, left), to_project);
    let planned = plan.targets.first().copied().unwrap_or(0.0);
    // Where there is enough for all demand nothing is throttled, and yet no more is projected than
    // the week bears: unlike charges, projections do not stop at a limit by themselves.
    let today = if plan.rate >= 1.0 { to_project } else { planned };
    (committed + today.min(left)).max(0.0)
}

fn rooms(money: &WeekMoney, outlook: &Outlook, left: f64) -> Vec<DayRoom> {
    let scale = if outlook.level_known { 1.0 } else { PLENTY_MICROS };
    let mut rooms = vec![DayRoom { cap: left, demand: outlook.rest_of_today * scale }];
    let later = outlook.later.iter().chain(std::iter::repeat(&0.0)).zip(&money.later);
    rooms.extend(later.map(|(demand, cap)| DayRoom { cap: *cap, demand: demand * scale }));
    rooms
}

/// The controller's mode of a budget's.
pub(crate) fn mode(mode: Mode) -> curve::Mode {
    match mode {
        Mode::Even => curve::Mode::Even,
        Mode::Traffic => curve::Mode::Traffic,
        Mode::Asap => curve::Mode::Asap,
    }
}

/// Whether the week is to be planned anew.
pub(super) fn is_plan_old(planned_at: DateTime<Utc>, now: DateTime<Utc>, fresh: bool) -> bool {
    let interval = if fresh { FRESH_INTERVAL } else { REPLAN_INTERVAL };
    Day::of(planned_at) != Day::of(now) || now - planned_at >= interval
}

/// A rate in parts of 2^32.
pub(super) fn parts(rate: f64) -> u32 {
    if rate >= 1.0 { Rate::ALL } else { (rate.max(0.0) * f64::from(Rate::ALL)) as u32 }
}

/// A rate in parts of a million.
pub(super) fn ppm(rate: f64) -> i32 {
    (rate.clamp(0.0, 1.0) * 1e6).round() as i32
}

/// What is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Throttle {
    /// The rate, in parts of 2^32.
    pub(super) parts: u32,
    /// Rates are added up and no coin is tossed.
    pub(super) is_few: bool,
}

impl Throttle {
    /// Nothing is held back.
    pub(super) const NONE: Throttle = Throttle { parts: Rate::ALL, is_few: false };
}

/// A reading that some replica wrote down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Applied {
    /// The rate, in parts of 2^32.
    pub(super) parts: u32,
    /// Whether rates are added up; `None` where an older version wrote it.
    pub(super) is_few: Option<bool>,
    /// When.
    pub(super) read_at: DateTime<Utc>,
}

/// Whether what stands written is to be applied rather than our own: then all replicas apply the
/// same, and what was decided can be told from the readings.
pub(super) fn stands(applied: &Applied, own: Throttle, now: DateTime<Utc>) -> bool {
    let age = now - applied.read_at;
    let near = match (own.parts, applied.parts) {
        // All or nothing is let through either way.
        (0 | Rate::ALL, stored) => stored == own.parts,
        (_, 0 | Rate::ALL) => false,
        (parts, stored) => {
            f64::from(parts.abs_diff(stored)) <= WORTH_A_READING * f64::from(stored)
                && applied.is_few == Some(own.is_few)
        }
    };
    let interval = if own.parts == Rate::ALL { QUIET_INTERVAL } else { READING_INTERVAL };
    near && age < interval && Day::of(applied.read_at) == Day::of(now)
}

/// Whether a day's target has room for so few charges that rates are added up. What is in
/// force stays until it is clearly wrong, or every turn of the mean charge were a reading.
pub(super) fn is_few(applied: Option<&Applied>, target: f64, charge: f64) -> bool {
    let in_force = applied.and_then(|applied| applied.is_few).unwrap_or(false);
    if charge <= 0.0 {
        return in_force;
    }
    few::is_few(target, if in_force { charge * STILL_FEW } else { charge })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::changes::{BudgetState, Request, change};
    use crate::calendar::policy::{Figure, Level, Preset, Terms, Unit};
    use adspend_common::money::Money;

    fn monday() -> Day {
        "2025-06-09".parse().unwrap()
    }

    fn limits(level: Level, unit: Unit, units: u32, terms: Terms) -> Limits {
        let figure = Figure::new(level, unit, Money::from_units(units), Preset::YandexAvgDaily);
        let set = change(
            &BudgetState::new(monday()),
            monday().start(),
            Request::Set(figure),
            Money::from_units(300),
        );
        Limits { state: set.unwrap().state, ..Limits::none(monday(), terms) }
    }

    const UNIT: f64 = 1e6;

    fn even(day: Day, units: f64) -> Outlook {
        let left = usize::from(6 - day.weekday0());
        let rest_of_today = units * UNIT;
        Outlook { rest_of_today, later: vec![rest_of_today; left], level_known: true }
    }

    #[test]
    fn a_week_of_equal_days_gives_each_its_average() {
        let limits = limits(Level::Account, Unit::AverageDaily, 1_000, Terms::UNSCHEDULED);
        let money = week_money(&limits, monday(), &[0; 7]).unwrap();
        assert_eq!(money.today_micros, 1_300_000_000);
        assert_eq!(money.all, 7_000.0 * UNIT);
        let target = target(&money, &even(monday(), 5_000.0), 0.0);
        assert!((target - 1_000.0 * UNIT).abs() < 1.0, "{target}");
    }

    /// R-134, worked: five days at the cap leave 500 for the weekend.
    #[test]
    fn money_that_is_spent_is_not_planned_again() {
        let limits = limits(Level::Account, Unit::AverageDaily, 1_000, Terms::UNSCHEDULED);
        let saturday = monday().plus_days(5);
        let spent = [1_300_000_000; 5].into_iter().chain([0, 0]).collect::<Vec<i64>>();
        let spent: WeekSpent = spent.try_into().unwrap();
        let money = week_money(&limits, saturday, &spent).unwrap();
        assert_eq!((money.today_micros, money.all), (500_000_000, 500.0 * UNIT));
        let planned = target(&money, &even(saturday, 5_000.0), 0.0);
        assert!((planned - 250.0 * UNIT).abs() < 1.0, "half of it is Sunday's: {planned}");
        let sunday = saturday.next();
        let money = week_money(&limits, sunday, &spent).unwrap();
        assert_eq!(target(&money, &even(sunday, 5_000.0), 0.0), 500.0 * UNIT, "the last day");
    }

    /// 35 % of the week is the most a day may have; one scheduled day has all of it.
    #[test]
    fn a_weekly_budget_is_laid_over_the_days_that_serve() {
        let limits = limits(Level::Campaign, Unit::Weekly, 7_000, Terms::UNSCHEDULED);
        let money = week_money(&limits, monday(), &[0; 7]).unwrap();
        assert_eq!((money.today_micros, money.all), (2_450_000_000, 7_000.0 * UNIT));
        let one = Terms { scheduled_days: 1, ..Terms::UNSCHEDULED };
        let limits = Limits { terms: one, ..limits };
        let money = week_money(&limits, monday(), &[0; 7]).unwrap();
        assert_eq!(money.today_micros, 7_000_000_000);
        let outlook = Outlook { later: vec![0.0; 6], ..even(monday(), 50_000.0) };
        assert!((target(&money, &outlook, 0.0) - 7_000.0 * UNIT).abs() < 1.0);
    }

    /// An unknown level shares the money as the shape says, and never passes the cap.
    #[test]
    fn an_unknown_level_shares_the_week_by_its_shape() {
        let limits = limits(Level::Account, Unit::AverageDaily, 1_000, Terms::UNSCHEDULED);
        let money = week_money(&limits, monday(), &[0; 7]).unwrap();
        let outlook =
            Outlook { rest_of_today: 1.0 / 7.0, later: vec![1.0 / 7.0; 6], level_known: false };
        assert!((target(&money, &outlook, 0.0) - 1_000.0 * UNIT).abs() < 1e3);
        let front = Outlook { rest_of_today: 0.9, later: vec![0.1 / 6.0; 6], level_known: false };
        assert_eq!(target(&money, &front, 0.0), 1_300.0 * UNIT);
    }

    #[test]
    fn a_reading_is_worth_writing_when_it_says_something_new() {
        let now = monday().start() + TimeDelta::hours(12);
        let applied = |parts, seconds| Applied {
            parts,
            is_few: Some(false),
            read_at: now - TimeDelta::seconds(seconds),
        };
        for (name, stored, own, expected) in [
            ("the same", applied(1_000_000, 5), 1_000_000, true),
            ("nearly", applied(1_000_000, 5), 1_009_999, true),
            ("another", applied(1_000_000, 5), 1_020_000, false),
            ("a minute old", applied(1_000_000, 60), 1_000_000, false),
            ("all, a minute old", applied(Rate::ALL, 60), Rate::ALL, true),
            ("nearly all is not all", applied(Rate::ALL, 5), Rate::ALL - 5, false),
            ("all is not nearly all", applied(Rate::ALL - 5, 5), Rate::ALL, false),
            ("a stop is a stop", applied(5, 5), 0, false),
            ("yesterday's", applied(Rate::ALL, 43_201), Rate::ALL, false),
        ] {
            let own = Throttle { parts: own, is_few: false };
            assert_eq!(stands(&stored, own, now), expected, "{name}");
        }
        let stored = applied(1_000_000, 5);
        let added_up = |parts| Throttle { parts, is_few: true };
        assert!(!stands(&stored, added_up(1_000_000), now), "the rate is added up from now on");
        let of_old = Applied { is_few: None, ..stored };
        assert!(!stands(&of_old, Throttle { parts: 1_000_000, is_few: false }, now), "not said");
        for parts in [0, Rate::ALL] {
            let stored = applied(parts, 5);
            assert!(stands(&stored, added_up(parts), now), "{parts} is the same either way");
        }
    }

    #[test]
    fn few_charges_stay_few_while_the_mean_charge_wanders() {
        let now = monday().start();
        let applied = |is_few| Some(Applied { parts: 5, is_few, read_at: now });
        for (name, applied, target, charge, expected) in [
            ("R-137: below a hundred", None, 99.0, 1.0, true),
            ("a hundred", None, 100.0, 1.0, false),
            ("still few", applied(Some(true)), 109.0, 1.0, true),
            ("few no more", applied(Some(true)), 110.5, 1.0, false),
            ("many until below", applied(Some(false)), 100.0, 1.0, false),
            ("many no more", applied(Some(false)), 99.0, 1.0, true),
            ("nobody said yet", applied(None), 105.0, 1.0, false),
            ("what a charge is, is not known", applied(Some(true)), 1e9, 0.0, true),
            ("nothing is known", None, 1.0, 0.0, false),
        ] {
            assert_eq!(is_few(applied.as_ref(), target, charge), expected, "{name}");
        }
    }
}
