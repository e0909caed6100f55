//! Pay per conversion: the charge comes hours or days after the click (section 6, R-149).
//!
//! The pace counts expected value: at the click π·c is projected and counts as charged for the
//! controller ([`super::rate::Totals::charged`]), while the charge itself books on the day it
//! arrives. Admission goes on while S + due ≤ H, where `due` is what the open clicks are expected
//! to bring before midnight by the learned delay curve; w = due / open is its share. No hard
//! guarantee is possible; [`overshoot_probability`] says how likely the day exceeds its limit, and
//! the caller publishes it and counts all of it against the week's pot.
//!
//! How much is to be projected in the rest of a week says [`super::projection`].
//!
//! Delays are learned as they come, so those of a campaign's first days are short ones only, and the
//! curve runs ahead until the longest have had their time; the prior holds against it.
//!
//! Clicks are kept by the hour ([`OpenClicks`]): a delay of days does not need their minutes.

const HOUR_SECONDS: f64 = 3_600.0;
/// Hours of delay that are told apart: 14 days. Later conversions count in the last.
pub const DELAY_HOURS: usize = 336;
/// Before anything is known: delays are exponential with this mean, worth so many conversions.
const PRIOR_MEAN_HOURS: f64 = 24.0;
const PRIOR_CONVERSIONS: f64 = 20.0;
/// What yesterday's conversions weigh today: a half-life of about 23 days.
const DAY_DISCOUNT: f64 = 0.97;
/// How many conversions as estimated κ begins with.
const PRIOR_RATIO: f64 = 10.0;
/// A chance is learned from so many conversions, or from admissions that so many could have come of:
/// few, because until it is known every admission counts as a conversion.
const CHANCE_CONVERSIONS: f64 = 20.0;
const CHANCE_ADMISSIONS: f64 = 50.0;
/// Above so many expected conversions the Poisson sum is taken as normal.
const NORMAL_FROM: f64 = 400.0;

/// How long conversions take, learned from those that came.
#[derive(Debug, Clone, PartialEq)]
pub struct DelayCurve {
    /// Cumulative share by whole hours: `[0]` is 0.
    cdf: Vec<f64>,
    counts: Vec<f64>,
}

impl Default for DelayCurve {
    fn default() -> Self {
        Self::of(vec![0.0; DELAY_HOURS])
    }
}

impl DelayCurve {
    /// The curve of discounted counts per hour of delay, shrunk to an exponential.
    pub fn of(mut counts: Vec<f64>) -> Self {
        counts.resize(DELAY_HOURS, 0.0);
        let total: f64 = counts.iter().sum::<f64>() + PRIOR_CONVERSIONS;
        let prior = |hour: usize| -(-(hour as f64) / PRIOR_MEAN_HOURS).exp_m1();
        let (mut cdf, mut seen) = (Vec::with_capacity(DELAY_HOURS + 1), 0.0);
        cdf.push(0.0);
        for (hour, count) in counts.iter().enumerate() {
            seen += count;
            cdf.push((seen + PRIOR_CONVERSIONS * prior(hour + 1)) / total);
        }
        Self { cdf, counts }
    }

    /// The discounted counts, to be stored.
    pub fn counts(&self) -> &[f64] {
        &self.counts
    }

    /// A day has closed: older conversions weigh less, and these delays (seconds) are added.
    pub fn learn(&mut self, delays: &[f64]) {
        let hour = |delay: &f64| (delay / HOUR_SECONDS).max(0.0) as usize;
        let counts: Vec<(usize, f64)> = delays.iter().map(|delay| (hour(delay), 1.0)).collect();
        self.learn_hours(&counts);
    }

    /// The same of conversions that are counted by whole hours of delay.
    pub fn learn_hours(&mut self, came: &[(usize, f64)]) {
        let mut counts: Vec<f64> = self.counts.iter().map(|count| count * DAY_DISCOUNT).collect();
        for (hour, more) in came {
            if let Some(count) = counts.get_mut((*hour).min(DELAY_HOURS - 1)) {
                *count += more;
            }
        }
        *self = Self::of(counts);
    }

    /// The share of conversions that have come after so many seconds.
    pub fn share_by(&self, seconds: f64) -> f64 {
        let hours = (seconds / HOUR_SECONDS).clamp(0.0, DELAY_HOURS as f64);
        let at = |hour: usize| self.cdf.get(hour).copied().unwrap_or(1.0);
        let whole = hours as usize;
        at(whole) + (at(whole + 1) - at(whole)) * hours.fract()
    }
}

impl DelayCurve {
    /// The same of clicks that are spread evenly over the last so many seconds, on average.
    pub fn mean_share(&self, seconds: f64) -> f64 {
        let hours = (seconds / HOUR_SECONDS).max(0.0);
        if hours <= 0.0 {
            return 0.0;
        }
        let (mut sum, mut from) = (0.0, 0.0);
        while from < hours {
            let to = (from + 1.0).min(hours);
            let both = self.share_by(from * HOUR_SECONDS) + self.share_by(to * HOUR_SECONDS);
            sum += both / 2.0 * (to - from);
            from += 1.0;
        }
        sum / hours
    }
}

/// What came and what was expected to come: κ of conversions, and what one costs. Older days weigh
/// less. κ of the day (section 1) would take the hours of delay for a loss.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Came {
    /// Charged.
    pub micros: f64,
    /// Conversions.
    pub charges: f64,
    /// Expected by the estimates at admission and the delays.
    pub expected_micros: f64,
    /// The admissions that this is expected of.
    pub expected_count: f64,
}

impl Came {
    /// A day has closed.
    #[must_use]
    pub fn learn(&self, day: &Came) -> Came {
        let add = |old: f64, new: f64| old * DAY_DISCOUNT + new;
        Came {
            micros: add(self.micros, day.micros),
            charges: add(self.charges, day.charges),
            expected_micros: add(self.expected_micros, day.expected_micros),
            expected_count: add(self.expected_count, day.expected_count),
        }
    }

    /// What a conversion costs; what an estimate says, where none has come. 0 when nothing is known.
    pub fn charge(&self, chance: Option<f64>) -> f64 {
        if self.charges > 0.0 {
            self.micros / self.charges
        } else if self.expected_count > 0.0 {
            self.expected_micros / self.expected_count / chance.unwrap_or(1.0)
        } else {
            0.0
        }
    }

    /// κ: charges for each estimated one, as if [`PRIOR_RATIO`] had come as estimated. Not bounded:
    /// estimates of a campaign without a chance are whole prices.
    pub fn ratio(&self, chance: Option<f64>) -> f64 {
        let charge = self.charge(chance);
        if charge <= 0.0 {
            return 1.0;
        }
        let prior = PRIOR_RATIO * charge;
        (self.micros + prior) / (self.expected_micros + prior)
    }

    /// The chance that an admission converts, once enough is known; otherwise `None`.
    pub fn chance(&self) -> Option<f64> {
        let enough = self.charges >= CHANCE_CONVERSIONS || self.expected_count >= CHANCE_ADMISSIONS;
        enough.then(|| ((self.charges + 1.0) / (self.expected_count + 1.0)).clamp(1e-6, 1.0))
    }
}

/// Expected charges of the clicks whose conversions may still come, by the hour of the click.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OpenClicks {
    /// (moment of the middle of the hour, Σ π·c), seconds on any one scale.
    cohorts: Vec<(f64, f64)>,
}

impl OpenClicks {
    /// A click at `moment` (seconds) with its expected charge π·c.
    pub fn click(&mut self, moment: f64, expected: f64) {
        let middle = (moment / HOUR_SECONDS).floor() * HOUR_SECONDS + HOUR_SECONDS / 2.0;
        match self.cohorts.last_mut() {
            Some((last, sum)) if *last >= middle => *sum += expected,
            Some(_) | None => self.cohorts.push((middle, expected)),
        }
    }

    /// Forgets clicks too old to convert.
    pub fn forget(&mut self, now: f64) {
        self.cohorts.retain(|(moment, _)| now - moment < DELAY_HOURS as f64 * HOUR_SECONDS);
    }

    /// Expected to come in all, and of that by `until`.
    pub fn due(&self, curve: &DelayCurve, now: f64, until: f64) -> Due {
        let mut due = Due { open: 0.0, by_midnight: 0.0 };
        for (moment, expected) in &self.cohorts {
            let gone = curve.share_by(now - moment);
            due.open += expected * (1.0 - gone);
            due.by_midnight += expected * (curve.share_by(until - moment) - gone).max(0.0);
        }
        due
    }
}

/// What open clicks are expected to bring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    /// In all, μ_open.
    pub open: f64,
    /// Before the day ends, μ_open·w.
    pub by_midnight: f64,
}

impl Due {
    /// w: the share of the open expectation that is due today.
    pub fn share(&self) -> f64 {
        if self.open > 0.0 { self.by_midnight / self.open } else { 0.0 }
    }
}

/// What may still be projected for today: H − S − μ_open·w, never below 0.
pub fn room(limit: f64, spent: f64, due: &Due) -> f64 {
    (limit - spent - due.by_midnight).max(0.0)
}

/// How likely the day's charges exceed the limit: conversions of one price each, `due` of them in
/// money expected, as a Poisson count. 0 when nothing is due, 1 when the limit is passed already.
pub fn overshoot_probability(limit: f64, spent: f64, due: f64, charge: f64) -> f64 {
    if spent > limit {
        return 1.0;
    }
    if due <= 0.0 || charge <= 0.0 {
        return 0.0;
    }
    let (mean, most) = (due / charge, ((limit - spent) / charge).floor());
    if mean > NORMAL_FROM {
        return normal_tail((most + 0.5 - mean) / mean.sqrt());
    }
    // P(N ≤ most) term by term; from mean ≤ 400 on the first term does not vanish in an f64.
    let (mut term, mut below, mut count) = ((-mean).exp(), 0.0, 0.0);
    while count <= most {
        below += term;
        count += 1.0;
        term *= mean / count;
        if term < f64::MIN_POSITIVE && count > mean {
            break;
        }
    }
    (1.0 - below).clamp(0.0, 1.0)
}

/// P(Z > z), Abramowitz and Stegun 26.2.17: off by at most 7.5·10⁻⁸.
fn normal_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = poly.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z >= 0.0 { tail } else { 1.0 - tail }
}
