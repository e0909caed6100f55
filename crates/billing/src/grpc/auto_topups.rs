//! `adspend.billing.v1.AutoTopUpService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId},
    identity::Caller,
    money::{Currency, Money},
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, cut, position, split};
use crate::{
    accounts::Account,
    auto_topups::{self, Did, Off, Period, Run, Settings, TopUp, Wait, rules},
};

/// The service.
#[derive(Clone)]
pub(crate) struct AutoTopUps(pub(crate) Arc<Shared>);

fn decode_period(v: &mut Violations, period: i32) -> Option<Period> {
    match v.enumeration("period", period)? {
        pb::AutoTopUpPeriod::Unspecified => None,
        pb::AutoTopUpPeriod::Day => Some(Period::Day),
        pb::AutoTopUpPeriod::Week => Some(Period::Week),
        pb::AutoTopUpPeriod::Month => Some(Period::Month),
    }
}

fn decode_threshold(
    v: &mut Violations,
    request: &pb::SetAutoTopUpRequest,
) -> Option<(Money, Currency)> {
    let (threshold, currency) = v.amount_or_zero("threshold", request.threshold.as_ref())?;
    if !threshold.is_whole_kopecks() {
        v.add("threshold.nanos", "at most two decimals are taken here");
        return None;
    }
    Some((threshold, currency))
}

fn decode_set(
    request: &pb::SetAutoTopUpRequest,
) -> Result<(AccountId, Settings, Currency, RequestId), Refusal> {
    let mut v = Violations::new();
    let parent = v.name("parent", &request.parent);
    let amount = v.kopecks("amount", request.amount.as_ref());
    let threshold = decode_threshold(&mut v, request);
    let limit = v.kopecks("limit", request.limit.as_ref());
    let period = decode_period(&mut v, request.period);
    let id = v.request_id(&request.request_id);
    for (field, other) in [("threshold", threshold), ("limit", limit)] {
        if amount.zip(other).is_some_and(|(amount, other)| amount.1 != other.1) {
            v.add(&format!("{field}.currency_code"), "must be that of the amount (R-117)");
        }
    }
    if let (Some(amount), Some(threshold), Some(limit), Some(period)) =
        (amount, threshold, limit, period)
    {
        let settings =
            Settings { amount: amount.0, threshold: threshold.0, limit: limit.0, period };
        if let Some((field, what)) = rules::wrong(&settings) {
            v.add(field, what);
        }
    }
    let (parent, (amount, currency), (threshold, _), (limit, _), period, id) =
        v.all((parent, amount, threshold, limit, period, id))?;
    Ok((parent, Settings { amount, threshold, limit, period }, currency, id))
}

const fn encode_wait(wait: Wait) -> pb::AutoTopUpReason {
    match wait {
        Wait::LimitUsedUp => pb::AutoTopUpReason::LimitUsedUp,
        Wait::PromiseOverdue => pb::AutoTopUpReason::PromiseOverdue,
        Wait::AccountBlocked => pb::AutoTopUpReason::AccountBlocked,
    }
}

fn encode(top_up: &TopUp) -> pb::AutoTopUp {
    let Settings { amount, threshold, limit, period } = top_up.settings;
    let money = |amount| Some(rpc::money(amount, top_up.currency));
    let period = match period {
        Period::Day => pb::AutoTopUpPeriod::Day,
        Period::Week => pb::AutoTopUpPeriod::Week,
        Period::Month => pb::AutoTopUpPeriod::Month,
    };
    let (state, reason) = match top_up.off {
        None => (pb::AutoTopUpState::Enabled, pb::AutoTopUpDisabledReason::Unspecified),
        Some((off, _)) => (
            pb::AutoTopUpState::Disabled,
            match off {
                Off::Requested => pb::AutoTopUpDisabledReason::Requested,
                Off::InsufficientFunds => pb::AutoTopUpDisabledReason::InsufficientFunds,
                Off::Detached => pb::AutoTopUpDisabledReason::Detached,
            },
        ),
    };
    let waits_for = top_up.waits_for.map_or(pb::AutoTopUpReason::Unspecified, encode_wait);
    pb::AutoTopUp {
        name: auto_topups::name(&top_up.account),
        amount: money(amount),
        threshold: money(threshold),
        limit: money(limit),
        period: period.into(),
        state: state.into(),
        disabled_reason: reason.into(),
        disable_time: top_up.off.map(|(_, at)| rpc::timestamp(at)),
        waits_for: waits_for.into(),
        used: money(top_up.counter.used),
        period_start_date: Some(rpc::date(top_up.counter.start)),
        update_time: Some(rpc::timestamp(top_up.changed_at)),
    }
}

fn set(top_up: &TopUp) -> pb::SetAutoTopUpResponse {
    pb::SetAutoTopUpResponse { auto_top_up: Some(encode(top_up)), replayed: false }
}

fn disabled(top_up: &TopUp) -> pb::DisableAutoTopUpResponse {
    pb::DisableAutoTopUpResponse { auto_top_up: Some(encode(top_up)), replayed: false }
}

fn encode_run(account: &Account, run: &Run) -> pb::AutoTopUpRun {
    let (outcome, reason, sequence) = match run.did {
        Did::Transferred { sequence, .. } => {
            (pb::AutoTopUpOutcome::Transferred, pb::AutoTopUpReason::Unspecified, sequence)
        }
        Did::Skipped(wait) => (pb::AutoTopUpOutcome::Skipped, encode_wait(wait), 0),
        Did::SwitchedOff => {
            (pb::AutoTopUpOutcome::SwitchedOff, pb::AutoTopUpReason::InsufficientFunds, 0)
        }
    };
    let money = |amount| Some(rpc::money(amount, account.currency));
    let balance = |balance| Some(rpc::balance(balance, account.currency));
    pb::AutoTopUpRun {
        name: auto_topups::run_name(&account.id, &run.id),
        outcome: outcome.into(),
        reason: reason.into(),
        amount: money(run.settings.amount),
        limit: money(run.settings.limit),
        used: money(run.used),
        sequence,
        period_start_date: Some(rpc::date(run.period_start)),
        client_balance: balance(run.client),
        agency_balance: balance(run.agency),
        create_time: Some(rpc::timestamp(run.at)),
        reverse_time: run.reversed_at.map(rpc::timestamp),
    }
}

impl AutoTopUps {
    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListAutoTopUpRunsRequest,
    ) -> Result<pb::ListAutoTopUpRunsResponse, Refusal> {
        let scope = PageScope::new("ListAutoTopUpRuns", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, token) = v.all((parent, size, token))?;
        let page = (position(token, i64::MAX), size.saturating_add(1));
        let (account, mut rows) = auto_topups::runs(&self.0.pool, caller, &parent, page).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.number.to_be_bytes());
        Ok(pb::ListAutoTopUpRunsResponse {
            auto_top_up_runs: rows.iter().map(|run| encode_run(&account, run)).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::auto_top_up_service_server::AutoTopUpService for AutoTopUps {
    async fn set_auto_top_up(
        &self,
        request: Request<pb::SetAutoTopUpRequest>,
    ) -> Result<Response<pb::SetAutoTopUpResponse>, Status> {
        let (caller, message) = split(request);
        let (parent, settings, currency, id) = decode_set(&message)?;
        let change = Change { method: "SetAutoTopUp", caller, id, message: &message };
        self.0
            .change(change, set, |shared, caller, call| async move {
                let what = (&parent, settings, currency);
                auto_topups::set(&shared.pool, shared.now(), &call, &caller, what).await
            })
            .await
    }

    async fn get_auto_top_up(
        &self,
        request: Request<pb::GetAutoTopUpRequest>,
    ) -> Result<Response<pb::GetAutoTopUpResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let (parent,) = v.all((parent,))?;
        let found = auto_topups::get(&self.0.pool, self.0.now(), &caller, &parent).await;
        let auto_top_up = Some(encode(&found.map_err(Refusal::from)?));
        Ok(Response::new(pb::GetAutoTopUpResponse { auto_top_up }))
    }

    async fn disable_auto_top_up(
        &self,
        request: Request<pb::DisableAutoTopUpRequest>,
    ) -> Result<Response<pb::DisableAutoTopUpResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let id = v.request_id(&message.request_id);
        let (parent, id) = v.all((parent, id))?;
        let change = Change { method: "DisableAutoTopUp", caller, id, message: &message };
        self.0
            .change(change, disabled, |shared, caller, call| async move {
                auto_topups::disable(&shared.pool, shared.now(), &call, &caller, &parent).await
            })
            .await
    }

    async fn list_auto_top_up_runs(
        &self,
        request: Request<pb::ListAutoTopUpRunsRequest>,
    ) -> Result<Response<pb::ListAutoTopUpRunsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }
}
