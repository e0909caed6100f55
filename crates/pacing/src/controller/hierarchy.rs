//! The account over its campaigns: a pass-through ceiling, not a factor (section 4).
//!
//! Each campaign has its own rate p_c. The account finds ρ with
//! Σ min(w_c·ρ, p_c)·D_c = what its own curve leaves for the same horizon, and a campaign admits at
//! min(w_c·ρ, p_c). One coin with the minimum of the rates is near the joint optimum; a product of
//! rates would throttle twice. A campaign that throttles itself below ρ is left alone, and the
//! others get the same rate.
//!
//! Only campaigns that can still spend belong in the sum: one that has used up its limit would
//! hold demand that nobody serves and so throttle the living ones.

/// A campaign that can still spend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Its own rate p_c, 0..=1.
    pub rate: f64,
    /// What its demand over the horizon would cost at rate 1, D̂_c.
    pub demand: f64,
    /// Its weight, > 0; 1 is ordinary. Only ratios count.
    pub weight: f64,
}

impl Share {
    /// The rate at which it admits under ρ: min(w·ρ, p_c).
    pub fn effective(&self, ceiling: f64) -> f64 {
        (self.weight * ceiling).min(self.rate).clamp(0.0, 1.0)
    }

    /// The ρ above which its own rate binds.
    fn breakpoint(&self) -> f64 {
        self.rate / self.weight
    }
}

/// ρ for what the account may spend over the horizon, `budget_ahead`: the largest that keeps
/// within it. Infinite where all campaigns at their own rates do: the account throttles nobody.
///
/// Sorts `campaigns` in place, O(n log n), and allocates nothing.
pub fn ceiling(campaigns: &mut [Share], budget_ahead: f64) -> f64 {
    let own: f64 = campaigns.iter().map(|share| share.rate * share.demand).sum();
    if own <= budget_ahead {
        return f64::INFINITY;
    }
    let budget = budget_ahead.max(0.0);
    campaigns.sort_unstable_by(|a, b| a.breakpoint().total_cmp(&b.breakpoint()));
    let mut settled = 0.0;
    let mut rising: f64 = campaigns.iter().map(|share| share.weight * share.demand).sum();
    for share in campaigns.iter() {
        if settled + share.breakpoint() * rising >= budget {
            break;
        }
        settled += share.rate * share.demand;
        rising -= share.weight * share.demand;
    }
    if rising > 0.0 { ((budget - settled) / rising).max(0.0) } else { 0.0 }
}
