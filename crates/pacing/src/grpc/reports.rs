//! ReportService.

use std::time::Duration;

use adspend_common::id::Campaigns;
use adspend_common::identity;
use adspend_common::money::Currency;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{self, PageScope, Refusal, Violations};
use chrono::{DateTime, Utc};
use tonic::{Request, Response, Status};

use super::admission::{MAX_OPPORTUNITY_BYTES, reason};
use super::budgets::{mode, parent, warnings, wish};
use super::position;
use crate::admission::{Level, Reason};
use crate::app::Services;
use crate::budgets::{Mode, Parent, Wish};
use crate::controller::rate::Why;
use crate::pacer::Cause;
use crate::reports::conversions::OpenConversions;
use crate::reports::curve::{self, Curve, Grid, Span};
use crate::reports::explain::{self, Explanation, Question, Unknown, Verdict};
use crate::reports::reading::{self, Bound, Reading, WHOLE_PPM};
use crate::reports::simulate::{self, RUNS, SimulatedDay, Simulation, Simulations, Spread};
use crate::reports::state::{self, PacingState};
use crate::reports::suspensions::{self, End, Suspension};

/// The days of a simulation.
const WEEK_DAYS: i32 = 7;

/// A minute.
const MINUTE: Duration = Duration::from_secs(60);

/// A day.
const DAY: Duration = Duration::from_secs(86_400);

pub(super) struct Reports {
    services: Services,
    simulations: Simulations,
}

impl Reports {
    pub(super) fn new(services: Services) -> Reports {
        Reports { services, simulations: Simulations::default() }
    }
}

#[tonic::async_trait]
impl pb::report_service_server::ReportService for Reports {
    async fn get_pacing_state(
        &self,
        request: Request<pb::GetPacingStateRequest>,
    ) -> Result<Response<pb::GetPacingStateResponse>, Status> {
        let asked = request.get_ref();
        let mut v = Violations::new();
        let (owner, day) =
            (parent(&mut v, &asked.parent), v.optional_day("day", asked.day.as_ref()));
        let (owner, day) = v.all((owner, day))?;
        let caller = identity::caller(&request);
        let found = state::pacing_state(&self.services, caller, &owner, day).await;
        Ok(Response::new(state_response(&found.map_err(Refusal::from)?)))
    }

    async fn get_spend_curve(
        &self,
        request: Request<pb::GetSpendCurveRequest>,
    ) -> Result<Response<pb::GetSpendCurveResponse>, Status> {
        let (owner, grid) = span(request.get_ref(), self.services.clock.now())?;
        let caller = identity::caller(&request);
        let found = curve::spend_curve(&self.services, caller, &owner, grid).await;
        Ok(Response::new(curve_response(found.map_err(Refusal::from)?)))
    }

    async fn list_suspensions(
        &self,
        request: Request<pb::ListSuspensionsRequest>,
    ) -> Result<Response<pb::ListSuspensionsResponse>, Status> {
        let (caller, asked) = (identity::caller(&request), request.get_ref());
        let (key, scope) = (&self.services.page_key, PageScope::new("ListSuspensions", caller));
        let scope = scope.with(&asked.parent).with([u8::from(asked.with_campaigns)]);
        let mut v = Violations::new();
        let (owner, limit) = (parent(&mut v, &asked.parent), v.page_size(asked.page_size));
        let token = v.page_token(key, &scope, &asked.page_token);
        let (owner, limit, token) = v.all((owner, limit, token))?;
        let (from, all) = (position(token), asked.with_campaigns);
        let page = suspensions::list(&self.services, caller, &owner, all, from, limit).await;
        let page = page.map_err(Refusal::from)?;
        let next_page_token = page.next.map(|no| key.seal(&scope, &no.to_be_bytes()));
        Ok(Response::new(pb::ListSuspensionsResponse {
            suspensions: page.suspensions.iter().map(|it| suspension(it, page.read_at)).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
            currency_code: page.currency.to_string(),
        }))
    }

    async fn explain_decision(
        &self,
        request: Request<pb::ExplainDecisionRequest>,
    ) -> Result<Response<pb::ExplainDecisionResponse>, Status> {
        let question = question(request.get_ref(), self.services.clock.now())?;
        let caller = identity::caller(&request);
        let found = explain::explain(&self.services, caller, &question).await;
        Ok(Response::new(explanation(&found.map_err(Refusal::from)?)))
    }

    async fn simulate_budget(
        &self,
        request: Request<pb::SimulateBudgetRequest>,
    ) -> Result<Response<pb::SimulateBudgetResponse>, Status> {
        let (owner, wish, days) = trial(request.get_ref())?;
        let (caller, places) = (identity::caller(&request), &self.simulations);
        let done = simulate::simulate(&self.services, places, caller, &owner, wish, days).await;
        Ok(Response::new(simulation(&done.map_err(Refusal::from)?)))
    }
}

fn span(asked: &pb::GetSpendCurveRequest, now: DateTime<Utc>) -> Result<(Parent, Grid), Refusal> {
    let mut v = Violations::new();
    let owner = parent(&mut v, &asked.parent);
    let start = v.optional_timestamp("start_time", asked.start_time.as_ref());
    let end = v.optional_timestamp("end_time", asked.end_time.as_ref());
    let step = v.optional_duration("step", asked.step.as_ref(), MINUTE..=DAY);
    let minutes = step.and_then(|step| {
        let step = step.unwrap_or(MINUTE);
        let minutes = u32::try_from(step.as_secs() / MINUTE.as_secs()).ok()?;
        let whole = step == MINUTE * minutes && curve::divides_a_day(minutes);
        if !whole {
            v.add("step", "must be whole minutes that divide a day");
        }
        whole.then_some(minutes)
    });
    let grid = start.zip(end).and_then(|(start, end)| {
        // A step that is wrong is told already; it does not hide what is wrong with the times.
        let span = Span { start, end, step_minutes: minutes.unwrap_or(1) };
        span.grid(now).inspect_err(|bad| v.add("end_time", bad.to_string())).ok()
    });
    let (owner, _, grid) = v.all((owner, minutes, grid))?;
    Ok((owner, grid))
}

fn question(asked: &pb::ExplainDecisionRequest, now: DateTime<Utc>) -> Result<Question, Refusal> {
    let mut v = Violations::new();
    let opportunity = v.text("opportunity_id", &asked.opportunity_id, MAX_OPPORTUNITY_BYTES);
    let campaign = v.name::<Campaigns>("campaign", &asked.campaign);
    let at = v.timestamp("decision_time", asked.decision_time.as_ref());
    if at.is_some_and(|at| at > now) {
        v.add("decision_time", "must not be in the future");
    }
    let price = match asked.max_price_micros {
        None => Some(None),
        Some(micros) => v.micros("max_price_micros", micros).map(Some),
    };
    let (opportunity, campaign, at, price) = v.all((opportunity, campaign, at, price))?;
    let price_micros = price.map(|price| price.micros());
    Ok(Question { opportunity, campaign, at, price_micros, token: asked.token.to_vec() })
}

fn trial(asked: &pb::SimulateBudgetRequest) -> Result<(Parent, Wish, u32), Refusal> {
    let mut v = Violations::new();
    let owner = parent(&mut v, &asked.parent);
    let wish = wish(&mut v, asked.amount.as_ref(), asked.unit, asked.mode);
    let days = match asked.days {
        0 => Some(WEEK_DAYS),
        days if (1..=WEEK_DAYS).contains(&days) => Some(days),
        _ => {
            v.add("days", "must be 1 to 7");
            None
        }
    };
    let (owner, wish, days) = v.all((owner, wish, days))?;
    Ok((owner, wish, days.unsigned_abs()))
}

fn open_conversions(open: &OpenConversions) -> pb::OpenConversions {
    pb::OpenConversions {
        open_micros: open.open.micros(),
        due_micros: open.due.micros(),
        overshoot_ppm: open.overshoot_ppm,
        charge_micros: open.charge.map(|charge| charge.micros()),
    }
}

fn state_response(state: &PacingState) -> pb::GetPacingStateResponse {
    pb::GetPacingStateResponse {
        day: Some(rpc::date(state.day)),
        limit_micros: state.limit.map(|limit| limit.micros()),
        charged_micros: state.charged.micros(),
        late_micros: state.late.micros(),
        reserved_micros: state.reserved.micros(),
        charges: state.charges,
        admission_rate_ppm: state.reading.as_ref().map_or(WHOLE_PPM, Reading::rate_ppm),
        free_hold_micros: state.free_hold.micros(),
        unsettled_micros: state.unsettled.micros(),
        currency_code: state.currency.to_string(),
        replicas: i32::try_from(state.replicas).unwrap_or(i32::MAX),
        read_time: Some(rpc::timestamp(state.read_at)),
        reading: state.reading.as_ref().map(pace_reading),
        account_reading: state.account_reading.as_ref().map(pace_reading),
        suspension: state.suspension.as_ref().map(|it| suspension(it, state.read_at)),
        open_conversions: state.open_conversions.as_ref().map(open_conversions),
    }
}

fn pace_reading(reading: &Reading) -> pb::PaceReading {
    pb::PaceReading {
        read_time: Some(rpc::timestamp(reading.read_at)),
        rate_ppm: reading.rate_ppm(),
        own_rate_ppm: reading.own_rate_ppm,
        account_ceiling_ppm: reading.account_rate_ppm,
        bound: bound(reading.bound()).into(),
        mode: budget_mode(reading.mode).into(),
        limit_micros: reading.limit_micros,
        target_micros: reading.target_micros,
        due_micros: reading.due_micros,
        due_ahead_micros: reading.due_ahead_micros,
        charged_micros: reading.charged_micros,
        in_flight_micros: reading.in_flight_micros,
        offered_micros: reading.offered_micros,
        offered_count: reading.offered_count,
        demand_ahead_micros: reading.demand_ahead_micros,
        day_factor: reading.day_factor,
        charge_ratio: reading.kappa,
        latched: reading.latched,
        few_charges: reading.is_few,
    }
}

fn budget_mode(of: Option<Mode>) -> pb::BudgetMode {
    of.map_or(pb::BudgetMode::Unspecified, mode)
}

fn bound(bound: Bound) -> pb::RateBound {
    match bound {
        Bound::Own(Cause::Why(why)) => match why {
            Why::AllTraffic => pb::RateBound::AllTraffic,
            Why::Curve => pb::RateBound::Curve,
            Why::Floor => pb::RateBound::Floor,
            Why::Slew => pb::RateBound::Slew,
            Why::WarmStart => pb::RateBound::WarmStart,
            Why::HardStop => pb::RateBound::HardStop,
            Why::Waits => pb::RateBound::LastCharge,
            Why::Asap => pb::RateBound::Asap,
            Why::Closed => pb::RateBound::Closed,
        },
        Bound::Own(Cause::NoBudget) => pb::RateBound::NoBudget,
        Bound::AccountCeiling => pb::RateBound::AccountCeiling,
    }
}

fn curve_response(curve: Curve) -> pb::GetSpendCurveResponse {
    let Curve { grid, columns, currency } = curve;
    pb::GetSpendCurveResponse {
        start_time: Some(rpc::timestamp(grid.start)),
        step: Some(rpc::duration(MINUTE * grid.step_minutes)),
        currency_code: currency.to_string(),
        charged_micros: columns.charged,
        offered_micros: columns.offered,
        offered_count: columns.offered_count,
        admitted_count: columns.admitted_count,
        due_micros: columns.due,
        rate_ppm: columns.rate_ppm,
    }
}

fn level(level: Level) -> pb::Level {
    match level {
        Level::Campaign => pb::Level::Campaign,
        Level::Account => pb::Level::Account,
    }
}

fn suspension(suspension: &Suspension, now: DateTime<Utc>) -> pb::Suspension {
    let end = suspension.ended_by(now);
    let ended_by = match end {
        None => pb::SuspensionEnd::Unspecified,
        Some((_, End::Midnight)) => pb::SuspensionEnd::Midnight,
        Some((_, End::BudgetChange)) => pb::SuspensionEnd::BudgetChange,
    };
    pb::Suspension {
        parent: suspension.parent.name(),
        reason: reason(suspension.reason()).into(),
        level: level(suspension.level).into(),
        day: Some(rpc::date(suspension.day)),
        limit_micros: suspension.limit_micros,
        used_micros: suspension.used_micros,
        begin_time: Some(rpc::timestamp(suspension.began_at)),
        end_time: end.map(|(at, _)| rpc::timestamp(at)),
        ended_by: ended_by.into(),
    }
}

fn explanation(found: &Explanation) -> pb::ExplainDecisionResponse {
    let (verdict, because) = match found.verdict {
        Verdict::Admitted => (pb::DecisionVerdict::Admitted, None),
        Verdict::Denied(Reason::Throttled) => {
            (pb::DecisionVerdict::Throttled, Some(Reason::Throttled))
        }
        Verdict::Denied(because) => (pb::DecisionVerdict::Denied, Some(because)),
        Verdict::CannotBeKnown => (pb::DecisionVerdict::CannotBeKnown, None),
    };
    let rate = found.rate.unwrap_or_default();
    pb::ExplainDecisionResponse {
        verdict: verdict.into(),
        reason: because.map_or(pb::DenialReason::Unspecified, reason).into(),
        level: found.level.map_or(pb::Level::Unspecified, level).into(),
        unknowns: found.unknowns.iter().map(|it| unknown(*it).into()).collect(),
        day: Some(rpc::date(found.day)),
        coin_ppm: reading::ppm(found.coin),
        rate_ppm: reading::ppm(rate),
        coin_parts: found.coin.into(),
        rate_parts: rate.into(),
        reading: found.reading.as_ref().map(pace_reading),
        account_reading: found.account_reading.as_ref().map(pace_reading),
        suspension: found.suspension.as_ref().map(|it| suspension(it, found.read_at)),
        currency_code: found.currency.to_string(),
    }
}

fn unknown(unknown: Unknown) -> pb::DecisionUnknown {
    match unknown {
        Unknown::FewCharges => pb::DecisionUnknown::FewCharges,
        Unknown::NoReading => pb::DecisionUnknown::NoReading,
        Unknown::RateChanging => pb::DecisionUnknown::RateChanging,
        Unknown::Funds => pb::DecisionUnknown::Funds,
        Unknown::CampaignChanged => pb::DecisionUnknown::CampaignChanged,
        Unknown::AccountBlocked => pb::DecisionUnknown::AccountBlocked,
        Unknown::LimitChanging => pb::DecisionUnknown::LimitChanging,
    }
}

fn simulation(done: &Simulation) -> pb::SimulateBudgetResponse {
    let currency = done.currency;
    let is_known = !done.days.is_empty();
    pb::SimulateBudgetResponse {
        days: done.days.iter().map(|day| simulated_day(day, currency)).collect(),
        spend: done.spend.as_ref().map(|spend| spread(spend, currency)),
        demand: done.demand.map(|demand| rpc::money(demand, currency)),
        runs: if is_known { i32::try_from(RUNS).unwrap_or(i32::MAX) } else { 0 },
        warnings: warnings(&done.warnings, &done.cautions),
        demand_known: is_known,
    }
}

fn simulated_day(day: &SimulatedDay, currency: Currency) -> pb::SimulatedDay {
    let stop = day.earliest_stop_second.map(|second| Duration::from_secs(second as u64));
    pb::SimulatedDay {
        date: Some(rpc::date(day.day)),
        ceiling: Some(rpc::money(day.ceiling, currency)),
        target: Some(rpc::money(day.target, currency)),
        demand: Some(rpc::money(day.demand, currency)),
        spend: Some(spread(&day.spend, currency)),
        admitted_ppm: day.admitted_ppm,
        early_stops: i32::try_from(day.early_stops).unwrap_or(i32::MAX),
        earliest_stop: stop.map(rpc::duration),
    }
}

fn spread(spread: &Spread, currency: Currency) -> pb::Spread {
    pb::Spread {
        least: Some(rpc::money(spread.least, currency)),
        mean: Some(rpc::money(spread.mean, currency)),
        most: Some(rpc::money(spread.most, currency)),
    }
}
