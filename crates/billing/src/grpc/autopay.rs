//! `adspend.billing.v1.AutopayService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    config::Secret,
    id::{AccountId, RequestId},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations, holds_card_number},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, after_moment_and_id, cut, moment_and_id, split};
use crate::{
    autopay::{self, Card, CardState, Cause, NewSetting, Of, Run, RunState, Setting},
    payments,
};

const CARD: [&str; 2] = ["accounts", "cards"];

/// The service.
#[derive(Clone)]
pub(crate) struct Autopays(pub(crate) Arc<Shared>);

fn decode_link(request: &pb::LinkCardRequest) -> Result<(AccountId, Secret, RequestId), Refusal> {
    let mut v = Violations::new();
    let parent = v.name("parent", &request.parent);
    let token = decode_token(&mut v, &request.payment_method);
    let id = v.request_id(&request.request_id);
    v.all((parent, token, id))
}

/// What is wrong with a token is told without repeating it.
fn decode_token(v: &mut Violations, text: &str) -> Option<Secret> {
    let wrong = if text.is_empty() {
        "is required"
    } else if holds_card_number(text) {
        "must be the provider's id of a saved payment method; card numbers are not taken"
    } else if !autopay::cards::is_token(text) {
        "must be 1 to 64 Latin letters, digits and hyphens"
    } else {
        return Some(Secret::from(text));
    };
    v.add("payment_method", wrong);
    None
}

fn decode_set(request: &pb::SetAutopayRequest) -> Result<(NewSetting, RequestId), Refusal> {
    let mut v = Violations::new();
    let account: Option<AccountId> = v.name("parent", &request.parent);
    let card = v.path2("card", &request.card, CARD);
    if let (Some(account), Some([of, _])) = (&account, &card)
        && of.as_str() != account.as_str()
    {
        v.add("card", "must be a card of the parent");
    }
    let amount = v.kopecks("amount", request.amount.as_ref());
    let threshold = v.amount_or_zero("threshold", request.threshold.as_ref());
    let id = v.request_id(&request.request_id);
    let (account, [_, card], amount, threshold, id) =
        v.all((account, card, amount, threshold, id))?;
    Ok((NewSetting { account, card, amount, threshold }, id))
}

fn encode_card(account: &AccountId, card: &Card) -> pb::Card {
    let state = match card.state {
        CardState::Active => pb::CardState::Active,
        CardState::Invalid => pb::CardState::Invalid,
        CardState::Unlinked => pb::CardState::Unlinked,
    };
    pb::Card {
        name: autopay::card_name(account, &card.id),
        masked_number: card.face.masked(),
        brand: card.face.brand.clone(),
        expiry_month: card.face.expiry_month.into(),
        expiry_year: card.face.expiry_year.into(),
        state: state.into(),
        create_time: Some(rpc::timestamp(card.linked_at)),
    }
}

fn encode_cause(cause: Cause) -> pb::AutopayDisabledReason {
    match cause {
        Cause::LimitExceeded => pb::AutopayDisabledReason::LimitExceeded,
        Cause::AuthorizationError => pb::AutopayDisabledReason::AuthorizationError,
        Cause::Declined => pb::AutopayDisabledReason::Declined,
        Cause::ByOwner => pb::AutopayDisabledReason::ByOwner,
        Cause::CardUnlinked => pb::AutopayDisabledReason::CardUnlinked,
        Cause::NotEligible => pb::AutopayDisabledReason::NotEligible,
    }
}

fn encode_setting(of: &Of<Option<Setting>>) -> pb::Autopay {
    let Of { account, currency, it: setting } = of;
    let Some(setting) = setting else {
        return pb::Autopay { account: account.name(), ..Default::default() };
    };
    let off = setting.off;
    pb::Autopay {
        account: account.name(),
        enabled: off.is_none(),
        card: autopay::card_name(account, &setting.card),
        amount: Some(rpc::money(setting.amount, *currency)),
        threshold: Some(rpc::money(setting.threshold, *currency)),
        disabled_reason: off.map(|(cause, _)| encode_cause(cause)).unwrap_or_default().into(),
        disable_time: off.map(|(_, at)| rpc::timestamp(at)),
        update_time: Some(rpc::timestamp(setting.updated_at)),
    }
}

fn encode_run(of: &Of<Vec<Run>>, run: &Run) -> pb::AutopayRun {
    let state = match run.state {
        RunState::Pending => pb::AutopayRunState::Pending,
        RunState::Succeeded => pb::AutopayRunState::Succeeded,
        RunState::Failed => pb::AutopayRunState::Failed,
    };
    pb::AutopayRun {
        name: autopay::run_name(&of.account, &run.id),
        card: autopay::card_name(&of.account, &run.card),
        amount: Some(rpc::money(run.amount, of.currency)),
        balance: Some(rpc::balance(run.balance, of.currency)),
        state: state.into(),
        failure_reason: run.failure.map(encode_cause).unwrap_or_default().into(),
        provider_reason: run.provider_reason.clone().unwrap_or_default(),
        provider_payment: run.provider_payment.clone().unwrap_or_default(),
        tries: i32::try_from(run.tries).unwrap_or(i32::MAX),
        payment: run.payment.as_ref().map(payments::name).unwrap_or_default(),
        create_time: Some(rpc::timestamp(run.created_at)),
        finish_time: run.finished_at.map(rpc::timestamp),
    }
}

fn linked(of: &Of<Card>) -> pb::LinkCardResponse {
    pb::LinkCardResponse { card: Some(encode_card(&of.account, &of.it)), replayed: false }
}

fn unlinked(of: &Of<Card>) -> pb::UnlinkCardResponse {
    pb::UnlinkCardResponse { card: Some(encode_card(&of.account, &of.it)), replayed: false }
}

fn known(of: &Of<Setting>) -> pb::Autopay {
    let Of { account, currency, it } = of.clone();
    encode_setting(&Of { account, currency, it: Some(it) })
}

fn set(of: &Of<Setting>) -> pb::SetAutopayResponse {
    pb::SetAutopayResponse { autopay: Some(known(of)), replayed: false }
}

fn disabled(of: &Of<Setting>) -> pb::DisableAutopayResponse {
    pb::DisableAutopayResponse { autopay: Some(known(of)), replayed: false }
}

impl Autopays {
    async fn list_runs(
        &self,
        caller: &Caller,
        request: &pb::ListAutopayRunsRequest,
    ) -> Result<pb::ListAutopayRunsResponse, Refusal> {
        let scope = PageScope::new("ListAutopayRuns", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, token) = v.all((parent, size, token))?;
        let page = (token.as_deref().and_then(moment_and_id), size.saturating_add(1));
        let mut of = autopay::runs::list(&self.0.pool, caller, &parent, page).await?;
        let more = cut(&mut of.it, size);
        let last =
            of.it.last().filter(|_| more).map(|last| after_moment_and_id(last.created_at, last.id));
        Ok(pb::ListAutopayRunsResponse {
            runs: of.it.iter().map(|run| encode_run(&of, run)).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::autopay_service_server::AutopayService for Autopays {
    async fn link_card(
        &self,
        request: Request<pb::LinkCardRequest>,
    ) -> Result<Response<pb::LinkCardResponse>, Status> {
        let (caller, message) = split(request);
        let (parent, token, id) = decode_link(&message)?;
        let change = Change { method: "LinkCard", caller, id, message: &message };
        self.0
            .change(change, linked, |shared, caller, call| async move {
                let (now, of) = (shared.now(), (&parent, &token));
                autopay::cards::link(&shared.autopay, &shared.pool, now, &call, &caller, of).await
            })
            .await
    }

    async fn list_cards(
        &self,
        request: Request<pb::ListCardsRequest>,
    ) -> Result<Response<pb::ListCardsResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let (parent,) = v.all((parent,))?;
        let of = autopay::cards::list(&self.0.pool, &caller, &parent).await;
        let of = of.map_err(Refusal::from)?;
        let cards = of.it.iter().map(|card| encode_card(&of.account, card)).collect();
        Ok(Response::new(pb::ListCardsResponse { cards }))
    }

    async fn unlink_card(
        &self,
        request: Request<pb::UnlinkCardRequest>,
    ) -> Result<Response<pb::UnlinkCardResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let name = v.path2("name", &message.name, CARD);
        let id = v.request_id(&message.request_id);
        let ([account, card], id) = v.all((name, id))?;
        let account = AccountId::from(account);
        let change = Change { method: "UnlinkCard", caller, id, message: &message };
        self.0
            .change(change, unlinked, |shared, caller, call| async move {
                let (now, of) = (shared.now(), (&account, &card));
                autopay::cards::unlink(&shared.pool, now, &call, &caller, of).await
            })
            .await
    }

    async fn set_autopay(
        &self,
        request: Request<pb::SetAutopayRequest>,
    ) -> Result<Response<pb::SetAutopayResponse>, Status> {
        let (caller, message) = split(request);
        let (new, id) = decode_set(&message)?;
        let change = Change { method: "SetAutopay", caller, id, message: &message };
        self.0
            .change(change, set, |shared, caller, call| async move {
                let now = shared.now();
                autopay::set(&shared.autopay, &shared.pool, now, &call, &caller, &new).await
            })
            .await
    }

    async fn get_autopay(
        &self,
        request: Request<pb::GetAutopayRequest>,
    ) -> Result<Response<pb::GetAutopayResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let (parent,) = v.all((parent,))?;
        let of = autopay::get(&self.0.pool, &caller, &parent).await.map_err(Refusal::from)?;
        Ok(Response::new(pb::GetAutopayResponse { autopay: Some(encode_setting(&of)) }))
    }

    async fn disable_autopay(
        &self,
        request: Request<pb::DisableAutopayRequest>,
    ) -> Result<Response<pb::DisableAutopayResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let id = v.request_id(&message.request_id);
        let (parent, id) = v.all((parent, id))?;
        let change = Change { method: "DisableAutopay", caller, id, message: &message };
        self.0
            .change(change, disabled, |shared, caller, call| async move {
                autopay::disable(&shared.pool, shared.now(), &call, &caller, &parent).await
            })
            .await
    }

    async fn list_autopay_runs(
        &self,
        request: Request<pb::ListAutopayRunsRequest>,
    ) -> Result<Response<pb::ListAutopayRunsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list_runs(&caller, &message).await?))
    }
}
