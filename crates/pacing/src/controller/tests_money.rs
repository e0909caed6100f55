//! The account's ceiling, the margin of live holds, conversions.

use proptest::prelude::*;

use super::conversion::{self, DelayCurve, Due, OpenClicks};
use super::hierarchy::{self, Share};
use super::inflight::{self, LateReserve, Live};

fn shares(rates_and_demands: &[(f64, f64)]) -> Vec<Share> {
    let share = |(rate, demand): &(f64, f64)| Share { rate: *rate, demand: *demand, weight: 1.0 };
    rates_and_demands.iter().map(share).collect()
}

/// limits 500 and 3 000 under an account of 1 000; demand decides who gets what.
#[test]
fn the_accounts_example_for_every_mix_of_demand() {
    for (first, second, expected) in [
        (10_000.0, 10_000.0, (500.0, 500.0)),
        (1_000.0, 10_000.0, (1_000.0 / 11.0, 10_000.0 / 11.0)),
        (600.0, 600.0, (500.0, 500.0)),
        (1e6, 2_000.0, (500.0, 500.0)),
    ] {
        let own = |limit: f64, demand: f64| (limit / demand).min(1.0);
        let campaigns = shares(&[(own(500.0, first), first), (own(3_000.0, second), second)]);
        let ceiling = hierarchy::ceiling(&mut campaigns.clone(), 1_000.0);
        let spends: Vec<f64> =
            campaigns.iter().map(|share| share.effective(ceiling) * share.demand).collect();
        assert!((spends[0] - expected.0).abs() < 0.05, "{first} + {second}: {spends:?}");
        assert!((spends[1] - expected.1).abs() < 0.05, "{first} + {second}: {spends:?}");
    }
}

#[test]
fn the_second_worked_example_of_r_138() {
    // 2 000 and 7 000 under 5 000: 2 000 + 3 000; under 15 000 each its own.
    let campaigns = shares(&[(0.02, 100_000.0), (0.7, 10_000.0)]);
    let ceiling = hierarchy::ceiling(&mut campaigns.clone(), 5_000.0);
    assert!((campaigns[0].effective(ceiling) * 100_000.0 - 2_000.0).abs() < 1e-6);
    assert!((campaigns[1].effective(ceiling) * 10_000.0 - 3_000.0).abs() < 1e-6);
    assert_eq!(hierarchy::ceiling(&mut campaigns.clone(), 15_000.0), f64::INFINITY);
}

#[test]
fn weights_divide_what_is_scarce() {
    let weighted = |weight| Share { rate: 1.0, demand: 1_000.0, weight };
    let campaigns = [weighted(1.0), weighted(3.0)];
    let ceiling = hierarchy::ceiling(&mut campaigns.clone(), 400.0);
    assert!((campaigns[0].effective(ceiling) - 0.1).abs() < 1e-12);
    assert!((campaigns[1].effective(ceiling) - 0.3).abs() < 1e-12);
}

fn any_share() -> impl Strategy<Value = Share> {
    (0.0..=1.0f64, 0.0..10_000.0f64, prop_oneof![Just(1.0), 0.1..10.0f64])
        .prop_map(|(rate, demand, weight)| Share { rate, demand, weight })
}

proptest! {
    /// The sum is the budget, or everyone's own rate; who throttles himself is left alone, and
    /// those who do not get the same rate for their weight.
    #[test]
    fn the_ceiling_spends_the_budget(campaigns in prop::collection::vec(any_share(), 1..40), budget in 0.0..50_000.0f64) {
        let ceiling = hierarchy::ceiling(&mut campaigns.clone(), budget);
        let spend: f64 = campaigns.iter().map(|c| c.effective(ceiling) * c.demand).sum();
        let own: f64 = campaigns.iter().map(|c| c.rate * c.demand).sum();
        prop_assert!((spend - budget.min(own)).abs() < 1e-6 * (1.0 + own), "{spend} of {budget}, {own}");
        for c in &campaigns {
            prop_assert!(c.effective(ceiling) <= c.rate);
        }
    }
}

fn live(chances: &[(f64, f64)]) -> Live {
    let mut live = Live::default();
    for (probability, price) in chances {
        live.expected += probability * price;
        live.variance += probability * (1.0 - probability) * price * price;
        live.largest = live.largest.max(*price);
        live.chances += probability;
        live.reserved += price;
    }
    live
}

#[test]
fn a_certain_charge_needs_no_margin() {
    assert_eq!(inflight::margin(&live(&[(1.0, 10.0), (1.0, 20.0)])), 0.0);
    assert_eq!(inflight::margin(&Live::default()), 0.0);
}

#[test]
fn one_open_hold_keeps_back_its_own_price() {
    let margin = inflight::margin(&live(&[(0.25, 10.0)]));
    assert!((margin - 7.5).abs() < 1e-9, "{margin}");
}

#[test]
fn the_margin_is_never_above_bernsteins() {
    for count in [1usize, 3, 10, 100, 1_000, 100_000] {
        let live = live(&vec![(0.01, 5.0); count]);
        let (margin, formula) = (inflight::margin(&live), inflight::bernstein(live.variance, 5.0));
        assert!(margin <= formula + 1e-9 && margin > 0.0, "{count}: {margin} above {formula}");
    }
}

#[test]
fn charges_exceed_the_margin_less_than_once_in_a_thousand() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let mut random = StdRng::seed_from_u64(5);
    for (count, probability) in [(4usize, 0.05), (60, 0.02), (400, 0.05)] {
        let holds: Vec<(f64, f64)> =
            (0..count).map(|n| (probability, 1.0 + (n % 3) as f64)).collect();
        let live = live(&holds);
        let most = live.expected + inflight::margin(&live);
        const TRIES: usize = 20_000;
        let mut over = 0;
        for _ in 0..TRIES {
            let charged: f64 =
                holds.iter().filter(|(p, _)| random.random::<f64>() < *p).map(|h| h.1).sum();
            over += usize::from(charged > most + 1e-9);
        }
        assert!(over <= TRIES / 1_000, "{over} of {TRIES} over with {count} holds");
    }
}

#[test]
fn the_late_reserve_waits_for_nine_tenths_of_the_limit() {
    let mut reserve = LateReserve::default();
    let kept_back = |reserve: &LateReserve, hour: usize, charged: f64| {
        inflight::kept_back(charged, 100.0, reserve.quantile(hour))
    };
    assert_eq!(kept_back(&reserve, 22, 99.0), 0.0);
    for day in 0..40 {
        let mut late = [0.0; 24];
        late[22] = f64::from(day);
        reserve.push(late);
    }
    assert_eq!(kept_back(&reserve, 22, 90.0), 0.0);
    assert_eq!(kept_back(&reserve, 22, 91.0), 39.0);
    assert_eq!(kept_back(&reserve, 21, 91.0), 0.0);
    for _ in 0..28 {
        reserve.push([0.0; 24]);
    }
    assert_eq!(reserve.quantile(22), 0.0, "four weeks are remembered");
}

const HOUR: f64 = 3_600.0;

#[test]
fn a_delay_curve_is_learned_from_what_came() {
    let mut curve = DelayCurve::default();
    assert!((curve.share_by(24.0 * HOUR) - (1.0 - (-1.0f64).exp())).abs() < 1e-9, "the prior");
    for _ in 0..60 {
        curve.learn(&[1.5 * HOUR; 50]);
    }
    assert!(curve.share_by(2.0 * HOUR) > 0.95, "{}", curve.share_by(2.0 * HOUR));
    assert!(curve.share_by(HOUR) < 0.05);
    let again = DelayCurve::of(curve.counts().to_vec());
    assert_eq!(again, curve, "what is stored is enough");
}

#[test]
fn r_149_open_clicks_take_room_by_what_is_due_today() {
    let curve = DelayCurve::default();
    let mut open = OpenClicks::default();
    open.click(10.0 * HOUR, 300.0);
    open.click(10.5 * HOUR, 100.0);
    let due = open.due(&curve, 12.0 * HOUR, 24.0 * HOUR);
    assert!(due.open > due.by_midnight && due.by_midnight > 0.0 && due.open < 400.0);
    assert!((0.0..1.0).contains(&due.share()));
    assert!((conversion::room(1_000.0, 200.0, &due) - (800.0 - due.by_midnight)).abs() < 1e-9);
    assert_eq!(conversion::room(100.0, 200.0, &Due { open: 5.0, by_midnight: 5.0 }), 0.0);
    open.forget(10.0 * HOUR + 15.0 * 24.0 * HOUR);
    assert_eq!(open.due(&curve, 12.0 * HOUR, 24.0 * HOUR).open, 0.0);
}

#[test]
fn the_probability_of_overshoot_is_poissons() {
    let p = |limit, spent, due| conversion::overshoot_probability(limit, spent, due, 10.0);
    // Room for 2 and 1 expected: P(N ≥ 3) = 1 − e⁻¹·(1 + 1 + ½).
    assert!((p(100.0, 80.0, 10.0) - (1.0 - (-1.0f64).exp() * 2.5)).abs() < 1e-12);
    assert_eq!(p(100.0, 101.0, 10.0), 1.0);
    assert_eq!(p(100.0, 50.0, 0.0), 0.0);
    // The sum and the normal tail meet.
    let (below, above) = (p(4_000.0, 0.0, 3_999.0), p(4_000.0, 0.0, 4_001.0));
    assert!((below - above).abs() < 0.01 && (0.4..0.6).contains(&below), "{below} {above}");
}

proptest! {
    #[test]
    fn overshoot_grows_with_what_is_due(limit in 0.0..9_000.0f64, due in 0.0..9_000.0f64, more in 0.0..500.0f64) {
        let p = |due| conversion::overshoot_probability(limit, 0.0, due, 10.0);
        prop_assert!((0.0..=1.0).contains(&p(due)));
        prop_assert!(p(due + more) >= p(due) - 0.01, "0.01 for the change to the normal tail");
    }
}
