//! BudgetService.

use adspend_common::id::{Accounts, Campaigns, RequestId};
use adspend_common::identity;
use adspend_common::money::Currency;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::Money as WireMoney;
use adspend_common::rpc::{self, PageScope, Refusal, Violations};
use tonic::{Request, Response, Status};

use super::{Reply, call, position, reply};
use crate::app::Services;
use crate::budgets::{self, Budget, Change, Dated, DayCeiling, Mode, Parent, Warning, Wish};
use crate::calendar::policy::Unit;
use crate::calendar::week::Bound;
use crate::reports::preview::{self, Caution, DayForecast};

pub(super) struct Budgets {
    services: Services,
}

impl Budgets {
    pub(super) fn new(services: Services) -> Budgets {
        Budgets { services }
    }
}

#[tonic::async_trait]
impl pb::budget_service_server::BudgetService for Budgets {
    async fn set_budget(
        &self,
        request: Request<pb::SetBudgetRequest>,
    ) -> Result<Response<pb::SetBudgetResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let (parent, wish, id) = set(&request)?;
        let call = call::<_, pb::SetBudgetResponse>(&caller, "SetBudget", id, &request);
        let answer = budgets::change(&self.services, &caller, &call, &parent, wish).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }

    async fn remove_budget(
        &self,
        request: Request<pb::RemoveBudgetRequest>,
    ) -> Result<Response<pb::RemoveBudgetResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let mut v = Violations::new();
        let (owner, id) = (parent(&mut v, &request.parent), v.request_id(&request.request_id));
        let (owner, id) = v.all((owner, id))?;
        let call = call::<_, pb::RemoveBudgetResponse>(&caller, "RemoveBudget", id, &request);
        let answer = budgets::change(&self.services, &caller, &call, &owner, Wish::Remove).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }

    async fn get_budget(
        &self,
        request: Request<pb::GetBudgetRequest>,
    ) -> Result<Response<pb::GetBudgetResponse>, Status> {
        let mut v = Violations::new();
        let owner = parent(&mut v, &request.get_ref().parent);
        let (owner,) = v.all((owner,))?;
        let found = budgets::get(&self.services, identity::caller(&request), &owner).await;
        let budget = Some(budget(&found.map_err(Refusal::from)?));
        Ok(Response::new(pb::GetBudgetResponse { budget }))
    }

    async fn list_budget_changes(
        &self,
        request: Request<pb::ListBudgetChangesRequest>,
    ) -> Result<Response<pb::ListBudgetChangesResponse>, Status> {
        let (caller, asked) = (identity::caller(&request), request.get_ref());
        let (key, scope) = (&self.services.page_key, PageScope::new("ListBudgetChanges", caller));
        let scope = scope.with(&asked.parent);
        let mut v = Violations::new();
        let (owner, limit) = (parent(&mut v, &asked.parent), v.page_size(asked.page_size));
        let token = v.page_token(key, &scope, &asked.page_token);
        let (owner, limit, token) = v.all((owner, limit, token))?;
        let from = position(token);
        let page = budgets::list_changes(&self.services, caller, &owner, from, limit).await;
        let page = page.map_err(Refusal::from)?;
        let next_page_token = page.next.map(|no| key.seal(&scope, &no.to_be_bytes()));
        let changes = page.changes.iter().map(|line| change(line, page.currency)).collect();
        let next_page_token = next_page_token.unwrap_or_default();
        Ok(Response::new(pb::ListBudgetChangesResponse { changes, next_page_token }))
    }

    async fn preview_budget_change(
        &self,
        request: Request<pb::PreviewBudgetChangeRequest>,
    ) -> Result<Response<pb::PreviewBudgetChangeResponse>, Status> {
        let (owner, wish) = tried(request.get_ref())?;
        let caller = identity::caller(&request);
        let outcome = preview::preview(&self.services, caller, &owner, wish).await;
        let outcome = outcome.map_err(Refusal::from)?;
        let currency = outcome.budget.currency;
        Ok(Response::new(pb::PreviewBudgetChangeResponse {
            forecasts: outcome.days.iter().map(|day| forecast(day, currency)).collect(),
            warnings: warnings(&outcome.budget.warnings, &outcome.cautions),
            budget: Some(budget(&outcome.budget)),
        }))
    }
}

macro_rules! reply {
    ($($response:ident),+) => {
        $(impl Reply<Budget> for pb::$response {
            fn of(outcome: &Budget) -> Self {
                Self { budget: Some(budget(outcome)), replayed: false }
            }

            fn mark_replayed(&mut self) {
                self.replayed = true;
            }
        })+
    };
}

reply!(SetBudgetResponse, RemoveBudgetResponse);

fn set(request: &pb::SetBudgetRequest) -> Result<(Parent, Wish, RequestId), Refusal> {
    let mut v = Violations::new();
    let parent = parent(&mut v, &request.parent);
    let wish = wish(&mut v, request.amount.as_ref(), request.unit, request.mode);
    let id = v.request_id(&request.request_id);
    v.all((parent, wish, id))
}

fn tried(request: &pb::PreviewBudgetChangeRequest) -> Result<(Parent, Wish), Refusal> {
    let mut v = Violations::new();
    let parent = parent(&mut v, &request.parent);
    let wish = match &request.amount {
        Some(amount) => wish(&mut v, Some(amount), request.unit, request.mode),
        None => Some(Wish::Remove),
    };
    v.all((parent, wish))
}

/// A figure that is wanted.
pub(super) fn wish(
    v: &mut Violations,
    amount: Option<&WireMoney>,
    unit: i32,
    mode: i32,
) -> Option<Wish> {
    let amount = v.kopecks("amount", amount);
    let unit = v.enumeration::<pb::BudgetUnit>("unit", unit);
    let mode = v.optional_enumeration::<pb::BudgetMode>("mode", mode);
    let (amount, currency) = amount?;
    let unit = match unit? {
        pb::BudgetUnit::Unspecified => return None,
        pb::BudgetUnit::AverageDaily => Unit::AverageDaily,
        pb::BudgetUnit::Weekly => Unit::Weekly,
    };
    let mode = match mode? {
        None | Some(pb::BudgetMode::Unspecified) => None,
        Some(pb::BudgetMode::Even) => Some(Mode::Even),
        Some(pb::BudgetMode::Traffic) => Some(Mode::Traffic),
        Some(pb::BudgetMode::Asap) => Some(Mode::Asap),
    };
    Some(Wish::Set { amount, currency, unit, mode })
}

/// An account's name, or a campaign's.
pub(super) fn parent(v: &mut Violations, name: &str) -> Option<Parent> {
    if name.starts_with("campaigns/") {
        return v.name::<Campaigns>("parent", name).map(Parent::Campaign);
    }
    if name.is_empty() || name.starts_with("accounts/") {
        return v.name::<Accounts>("parent", name).map(Parent::Account);
    }
    v.add("parent", "must be accounts/{account} or campaigns/{campaign}");
    None
}

/// A budget as its owner sees it.
fn budget(budget: &Budget) -> pb::Budget {
    let currency = budget.currency;
    let figure = |dated: &Dated| figure(dated, currency);
    pb::Budget {
        name: format!("{}/budget", budget.parent.name()),
        in_force: budget.in_force.as_ref().map(figure),
        pending: budget.pending.as_ref().map(figure),
        mode: mode(budget.mode).into(),
        ceilings: budget.ceilings.iter().map(|ceiling| day_ceiling(ceiling, currency)).collect(),
        changes_today: budget.changes_today.into(),
        changes_left: budget.changes_left.into(),
        warnings: budget.warnings.iter().map(|warning| text(*warning).to_owned()).collect(),
    }
}

/// A mode on the wire.
pub(super) fn mode(mode: Mode) -> pb::BudgetMode {
    match mode {
        Mode::Even => pb::BudgetMode::Even,
        Mode::Traffic => pb::BudgetMode::Traffic,
        Mode::Asap => pb::BudgetMode::Asap,
    }
}

fn forecast(day: &DayForecast, currency: Currency) -> pb::DayForecast {
    pb::DayForecast {
        date: Some(rpc::date(day.day)),
        demand: Some(rpc::money(day.demand, currency)),
        target: day.target.map(|target| rpc::money(target, currency)),
        expected_spend: Some(rpc::money(day.expected, currency)),
        admitted_ppm: day.admitted_ppm,
    }
}

/// What an owner should know of a budget, and of what to expect of it.
pub(super) fn warnings(warnings: &[Warning], cautions: &[Caution]) -> Vec<String> {
    let cautions = cautions.iter().map(|caution| match caution {
        Caution::DemandUnknown => {
            "nothing was offered yet that a forecast could be made of"
        }
        Caution::DemandFresh => {
            "less than a week of demand was seen: the forecast is made of that, and of what others see"
        }
        Caution::DemandShort => {
            "the demand that is expected is not enough to spend this budget"
        }
    });
    warnings.iter().map(|warning| text(*warning)).chain(cautions).map(str::to_owned).collect()
}

fn figure(dated: &Dated, currency: Currency) -> pb::BudgetFigure {
    let unit = match dated.figure.unit {
        Unit::AverageDaily => pb::BudgetUnit::AverageDaily,
        Unit::Weekly => pb::BudgetUnit::Weekly,
    };
    pb::BudgetFigure {
        amount: Some(rpc::money(dated.figure.amount, currency)),
        unit: unit.into(),
        effective_date: Some(rpc::date(dated.from_day)),
    }
}

fn day_ceiling(ceiling: &DayCeiling, currency: Currency) -> pb::DayCeiling {
    let bound = match ceiling.bound {
        Bound::NoLimit => pb::CeilingBound::None,
        Bound::DayCap => pb::CeilingBound::Day,
        Bound::WeekPot | Bound::SegmentTail => pb::CeilingBound::Week,
    };
    pb::DayCeiling {
        date: Some(rpc::date(ceiling.day)),
        limit: ceiling.limit.map(|limit| rpc::money(limit, currency)),
        bound: bound.into(),
        used: Some(rpc::money(ceiling.used, currency)),
    }
}

const fn text(warning: Warning) -> &'static str {
    match warning {
        Warning::DailyFigureWithConversions => {
            "campaigns that pay per conversion pass an average daily budget, or do not reach it, \
             because conversions come days later: give them a weekly budget of their own (R-149)"
        }
    }
}

fn change(change: &Change, currency: Currency) -> pb::BudgetChange {
    pb::BudgetChange {
        create_time: Some(rpc::timestamp(change.at)),
        figure: change.figure.as_ref().map(|dated| figure(dated, currency)),
        previous: change.previous.as_ref().map(|dated| figure(dated, currency)),
        actor: change.actor.clone(),
    }
}
