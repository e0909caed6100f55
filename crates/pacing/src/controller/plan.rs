//! The week plan: one common rate for the days that are left (section 2).
//!
//! Of the rates p the largest with Σ min(cap_j, p·D_j) ≤ R is taken; targets are min(cap_j, p·D_j).
//! One rate for the whole week is the best a planner can do when opportunities are alike: it takes
//! the cheap day as often as the dear one and leaves money for the weekend. Exact: the sum is
//! piecewise linear in p, so the breakpoints cap_j / D_j are sorted and one piece is solved.
//!
//! Re-solve at midnight, at a change of a budget and hourly with today's demand scaled by its
//! factor ([`super::demand::day_factor`]). `days` begins with today and counts what is left of it:
//! R is what the segment has left, cap and demand of today are those after now, and today's target
//! is then what the day has spent plus the first target.
//!
//! Not here: the caps themselves; they come from `calendar` and stay the only hard limits.

/// A day that is left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DayRoom {
    /// At most this much may be spent on it; infinite is no cap.
    pub cap: f64,
    /// Expected spend at rate 1.
    pub demand: f64,
}

/// What the plan says.
#[derive(Debug, Clone, PartialEq)]
pub struct WeekPlan {
    /// The rate of the first day, 0..=1. It is the rate of all days unless a tail binds.
    pub rate: f64,
    /// A target for each day, today first.
    pub targets: Vec<f64>,
}

impl WeekPlan {
    /// Today's target under the day's ceiling. Where the money is enough for all demand, and on
    /// the last day of the money's window, it is the ceiling itself: nothing is saved for.
    pub fn today(&self, ceiling: f64) -> f64 {
        let planned = self.targets.first().copied().unwrap_or(0.0);
        if self.rate >= 1.0 || self.targets.len() <= 1 { ceiling } else { planned.min(ceiling) }
    }
}

/// The plan for one pot of money. Negative and undefined inputs count as 0.
pub fn water_fill(days: &[DayRoom], money: f64) -> WeekPlan {
    let rate = common_rate(days, money);
    WeekPlan { rate, targets: days.iter().map(|day| at_rate(day, rate)).collect() }
}

/// The plan where, besides, the days after today share `tail` (R-143, the second reading: after a
/// set or an increase the days that follow average the figure among themselves).
pub fn water_fill_with_tail(days: &[DayRoom], money: f64, tail: f64) -> WeekPlan {
    let plan = water_fill(days, money);
    let Some((today, later)) = days.split_first() else { return plan };
    if plan.targets.iter().skip(1).sum::<f64>() <= tail {
        return plan;
    }
    let later = water_fill(later, tail);
    let first = water_fill(&[*today], money - later.targets.iter().sum::<f64>());
    WeekPlan { rate: first.rate, targets: [first.targets, later.targets].concat() }
}

fn at_rate(day: &DayRoom, rate: f64) -> f64 {
    (rate * not_negative(day.demand)).min(not_negative(day.cap))
}

fn not_negative(value: f64) -> f64 {
    value.max(0.0)
}

fn common_rate(days: &[DayRoom], money: f64) -> f64 {
    let money = not_negative(money);
    let mut live: Vec<DayRoom> = days.iter().copied().filter(|day| day.demand > 0.0).collect();
    if live.iter().map(|day| at_rate(day, 1.0)).sum::<f64>() <= money {
        return 1.0;
    }
    live.sort_unstable_by(|a, b| (a.cap / a.demand).total_cmp(&(b.cap / b.demand)));
    // Below every breakpoint the sum is rate × all demand; each breakpoint passed turns a demand
    // into its cap.
    let mut capped = 0.0;
    let mut rising: f64 = live.iter().map(|day| day.demand).sum();
    for day in &live {
        let breakpoint = not_negative(day.cap) / day.demand;
        if capped + breakpoint * rising >= money {
            break;
        }
        capped += not_negative(day.cap);
        rising -= day.demand;
    }
    if rising > 0.0 { ((money - capped) / rising).clamp(0.0, 1.0) } else { 1.0 }
}
