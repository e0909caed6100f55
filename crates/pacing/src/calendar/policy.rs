//! What a figure means: presets (R-130..R-133, R-150, R-155, rules section 14), minimums.
//!
//! A preset is a row of data, so a new product policy is a new row and, only if its arithmetic is
//! new, a new arm in `week`. The figure carries its preset: a change of configuration does not
//! reinterpret what is already in force.

use adspend_common::money::{Currency, MICROS_PER_KOPECK, Money};

/// Days of a calendar week, Monday to Sunday.
pub const DAYS_IN_WEEK: u8 = 7;

/// At most this many changes of one figure in a Moscow day.
pub const MAX_CHANGES_PER_DAY: u8 = 3;

/// Figures are multiples of this: 0.01 of the currency.
pub const BUDGET_STEP_MICROS: i64 = MICROS_PER_KOPECK;

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The account: the limit of all its campaigns together.
    Account,
    /// One campaign.
    Campaign,
}

/// What the amount of a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The average day of a calendar week, B.
    AverageDaily,
    /// The calendar week, W.
    Weekly,
}

impl Unit {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AverageDaily => "AVERAGE_DAILY",
            Self::Weekly => "WEEKLY",
        }
    }

    /// The unit of a stored name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::AverageDaily, Self::Weekly].into_iter().find(|unit| unit.as_str() == text)
    }
}

/// How a campaign pays (R-156 asks).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentModel {
    /// Per thousand impressions; the week treats it as click-paid.
    PerImpression,
    /// Per click.
    PerClick,
    /// Per conversion: charges come late.
    PerConversion,
}

/// What the limits need to know about a campaign beyond its figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Days of the week with any serving hour; 0 when there is no schedule.
    pub scheduled_days: u8,
    /// How the campaign pays.
    pub payment: PaymentModel,
}

impl Terms {
    /// An account, or a campaign that serves always.
    pub const UNSCHEDULED: Self = Self { scheduled_days: 0, payment: PaymentModel::PerImpression };

    /// The percentage of a weekly figure that one day may take.
    pub const fn day_share_percent(self) -> i64 {
        match self.scheduled_days {
            1 => 100,
            2 => 50,
            _ => 35,
        }
    }

    /// The percentage of the old and of the new figure on the day of a restart.
    ///
    /// The source names 35 % for click-paid campaigns, which is the ordinary share; where one or
    /// two scheduled days make that share larger, the larger one holds here too (INFERRED).
    pub const fn restart_share_percent(self) -> i64 {
        match self.payment {
            PaymentModel::PerImpression | PaymentModel::PerClick => self.day_share_percent(),
            PaymentModel::PerConversion => 100,
        }
    }
}

/// A named policy (rules section 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// 1.3 × B a day, 7 × B a week in segments; the default for daily figures and accounts.
    YandexAvgDaily,
    /// A share of W a day, W a week, restarted by a change; weekly figures of campaigns.
    YandexWeekly,
    /// B a day, no week.
    Strict,
}

/// The rows of the policy table that this engine reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How much of the figure one day may take.
    pub day: DayRule,
    /// How days are bound together.
    pub period: PeriodRule,
    /// When a decrease takes effect; a set, a removal and an increase always do at once.
    pub decrease: Takes,
}

/// How much of a figure one day may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayRule {
    /// This percentage of the highest daily figure of the day.
    PercentOfHighest(i64),
    /// This percentage of the daily figure in force.
    PercentOfInForce(i64),
    /// The share of the weekly figure that the schedule gives ([`Terms::day_share_percent`]).
    ShareOfWeek,
}

/// How days are bound together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeriodRule {
    /// Segments to Sunday, each with the average day for each of its days.
    WeekSegments,
    /// The whole weekly figure from Monday, or from the restart.
    WeekRestart,
    /// Days are independent.
    None,
}

/// When a decrease takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// From the moment of the change.
    AtOnce,
    /// From the next Moscow day.
    NextDay,
}

impl Preset {
    const ALL: [Self; 3] = [Self::YandexAvgDaily, Self::YandexWeekly, Self::Strict];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::YandexAvgDaily => "yandex_avg_daily",
            Self::YandexWeekly => "yandex_weekly",
            Self::Strict => "strict",
        }
    }

    /// The preset of a stored or configured name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text)
    }

    /// The preset of a new figure; `daily` is the configured one for daily figures and accounts.
    ///
    /// An account's weekly figure is a daily one times seven, so only a campaign's weekly
    /// figure has the weekly preset.
    pub const fn of(level: Level, unit: Unit, daily: Self) -> Self {
        match (level, unit) {
            (Level::Campaign, Unit::Weekly) => Self::YandexWeekly,
            (Level::Account, Unit::AverageDaily | Unit::Weekly)
            | (Level::Campaign, Unit::AverageDaily) => daily,
        }
    }

    /// Its row of the policy table.
    pub const fn policy(self) -> Policy {
        match self {
            Self::YandexAvgDaily => Policy {
                day: DayRule::PercentOfHighest(130),
                period: PeriodRule::WeekSegments,
                decrease: Takes::NextDay,
            },
            Self::YandexWeekly => Policy {
                day: DayRule::ShareOfWeek,
                period: PeriodRule::WeekRestart,
                decrease: Takes::AtOnce,
            },
            Self::Strict => Policy {
                day: DayRule::PercentOfInForce(100),
                period: PeriodRule::None,
                decrease: Takes::AtOnce,
            },
        }
    }
}

/// A sum somebody asked for, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure {
    /// The policy it was set under.
    pub preset: Preset,
    /// What the amount counts.
    pub unit: Unit,
    /// The amount as it was asked for.
    pub amount: Money,
}

impl Figure {
    /// A figure of this level; `daily` is the configured preset for daily figures and accounts.
    pub const fn new(level: Level, unit: Unit, amount: Money, daily: Preset) -> Self {
        Self { preset: Preset::of(level, unit, daily), unit, amount }
    }

    /// The average day: the amount, or a seventh of the week rounded down to 0.01.
    pub const fn daily_micros(&self) -> i64 {
        match self.unit {
            Unit::AverageDaily => self.amount.micros(),
            Unit::Weekly => {
                let seventh = self.amount.micros() / DAYS_IN_WEEK as i64;
                seventh - seventh % BUDGET_STEP_MICROS
            }
        }
    }

    /// The week: the amount of a campaign's weekly figure, else seven average days.
    pub const fn weekly_micros(&self) -> i64 {
        match (self.preset.policy().period, self.unit) {
            (PeriodRule::WeekRestart, Unit::Weekly) => self.amount.micros(),
            (PeriodRule::WeekRestart, Unit::AverageDaily)
            | (PeriodRule::WeekSegments | PeriodRule::None, Unit::AverageDaily | Unit::Weekly) => {
                self.daily_micros().saturating_mul(DAYS_IN_WEEK as i64)
            }
        }
    }

    /// The sum that the limits are computed from, in the terms of its own preset.
    pub(super) const fn basis_micros(&self) -> i64 {
        match self.preset.policy().period {
            PeriodRule::WeekRestart => self.weekly_micros(),
            PeriodRule::WeekSegments | PeriodRule::None => self.daily_micros(),
        }
    }

    /// Whether both give the same limits on every day.
    pub(super) fn limits_like(&self, other: &Self) -> bool {
        self.preset == other.preset && self.basis_micros() == other.basis_micros()
    }

    /// A daily figure with pay per conversion overruns or underspends: to be said in the answer
    ///
    pub fn warns_for(&self, payment: PaymentModel) -> bool {
        payment == PaymentModel::PerConversion
            && self.preset.policy().period != PeriodRule::WeekRestart
    }
}

/// The least figure that may be set.
///
/// The sources name a campaign's minimum in roubles and dollars only; other currencies take the
/// account's, which is never smaller (INFERRED). A currency without a row has one step.
pub fn minimum(level: Level, unit: Unit, currency: Currency) -> Money {
    let account: u32 = match currency {
        Currency::RUB => 1_000,
        Currency::KZT => 5_000,
        Currency::BYN => 30,
        Currency::USD | Currency::EUR | Currency::CHF => 15,
        Currency::TRY => 50,
        _ => return Money::from_micros(BUDGET_STEP_MICROS).unwrap_or(Money::ZERO),
    };
    let units = match (level, unit) {
        (Level::Account, Unit::AverageDaily) => account,
        (Level::Account, Unit::Weekly) => account * u32::from(DAYS_IN_WEEK),
        // The same sum for the day and for the week: R-155 says 300 a week.
        (Level::Campaign, Unit::AverageDaily | Unit::Weekly) => match currency {
            Currency::RUB => 300,
            Currency::USD => 10,
            _ => account,
        },
    };
    Money::from_units(units)
}
