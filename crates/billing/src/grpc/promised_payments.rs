//! `adspend.billing.v1.PromisedPaymentService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId, ResourceId},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, after_moment_and_id, cut, moment_and_id, split};
use crate::promised_payments::{self, Offer, PromiseState, Shown};

const PATH: [&str; 2] = ["accounts", "promisedPayments"];

/// The service.
#[derive(Clone)]
pub(crate) struct PromisedPayments(pub(crate) Arc<Shared>);

fn decode_repay(
    request: &pb::RepayPromisedPaymentRequest,
) -> Result<(AccountId, ResourceId, RequestId), Refusal> {
    let mut v = Violations::new();
    let name = v.path2("name", &request.name, PATH);
    let request_id = v.request_id(&request.request_id);
    let ([account, promise], request_id) = v.all((name, request_id))?;
    Ok((account.into(), promise, request_id))
}

fn encode(shown: &Shown) -> pb::PromisedPayment {
    let state = match shown.state {
        PromiseState::Active => pb::PromisedPaymentState::Active,
        PromiseState::Overdue => pb::PromisedPaymentState::Overdue,
        PromiseState::Repaid => pb::PromisedPaymentState::Repaid,
    };
    let promise = &shown.promise;
    pb::PromisedPayment {
        name: promised_payments::name(&shown.account, &promise.id),
        amount: Some(rpc::money(promise.amount, shown.currency)),
        outstanding: Some(rpc::money(promise.outstanding, shown.currency)),
        state: state.into(),
        due_date: Some(rpc::date(promise.due)),
        create_time: Some(rpc::timestamp(promise.created_at)),
        repay_time: promise.repaid_at.map(rpc::timestamp),
    }
}

fn taken(shown: &Shown) -> pb::TakePromisedPaymentResponse {
    pb::TakePromisedPaymentResponse { promised_payment: Some(encode(shown)), replayed: false }
}

fn repaid(shown: &Shown) -> pb::RepayPromisedPaymentResponse {
    pb::RepayPromisedPaymentResponse { promised_payment: Some(encode(shown)), replayed: false }
}

fn encode_offer(offer: &Offer) -> pb::GetPromisedPaymentTermsResponse {
    let money = |amount| Some(rpc::money(amount, offer.currency));
    pb::GetPromisedPaymentTermsResponse {
        min_amount: money(offer.min),
        max_amount: money(offer.max),
        available: money(offer.available),
        due_date: Some(rpc::date(offer.due)),
        allowed: offer.refusals.is_empty(),
        refusals: offer.refusals.iter().map(|why| why.name().to_owned()).collect(),
        outstanding: money(offer.outstanding),
    }
}

impl PromisedPayments {
    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListPromisedPaymentsRequest,
    ) -> Result<pb::ListPromisedPaymentsResponse, Refusal> {
        let scope = PageScope::new("ListPromisedPayments", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, token) = v.all((parent, size, token))?;
        let page = (token.as_deref().and_then(moment_and_id), size.saturating_add(1));
        let (pool, now) = (&self.0.pool, self.0.now());
        let mut rows = promised_payments::list(pool, now, caller, &parent, page).await?;
        let more = cut(&mut rows, size);
        let last = rows
            .last()
            .filter(|_| more)
            .map(|last| after_moment_and_id(last.promise.created_at, last.promise.id));
        Ok(pb::ListPromisedPaymentsResponse {
            promised_payments: rows.iter().map(encode).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::promised_payment_service_server::PromisedPaymentService for PromisedPayments {
    async fn get_promised_payment_terms(
        &self,
        request: Request<pb::GetPromisedPaymentTermsRequest>,
    ) -> Result<Response<pb::GetPromisedPaymentTermsResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let (parent,) = v.all((parent,))?;
        let (pool, now, settings) = (&self.0.pool, self.0.now(), &self.0.config.promised_payments);
        let offer = promised_payments::terms(pool, now, settings, &caller, &parent).await;
        Ok(Response::new(encode_offer(&offer.map_err(Refusal::from)?)))
    }

    async fn take_promised_payment(
        &self,
        request: Request<pb::TakePromisedPaymentRequest>,
    ) -> Result<Response<pb::TakePromisedPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let parent = v.name("parent", &message.parent);
        let amount = v.kopecks("amount", message.amount.as_ref());
        let id = v.request_id(&message.request_id);
        let (parent, amount, id) = v.all((parent, amount, id))?;
        let change = Change { method: "TakePromisedPayment", caller, id, message: &message };
        self.0
            .change(change, taken, |shared, caller, call| async move {
                let (now, settings) = (shared.now(), &shared.config.promised_payments);
                let of = (&parent, amount);
                promised_payments::take(&shared.pool, now, settings, &call, &caller, of).await
            })
            .await
    }

    async fn repay_promised_payment(
        &self,
        request: Request<pb::RepayPromisedPaymentRequest>,
    ) -> Result<Response<pb::RepayPromisedPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let (account, promise, id) = decode_repay(&message)?;
        let change = Change { method: "RepayPromisedPayment", caller, id, message: &message };
        self.0
            .change(change, repaid, |shared, caller, call| async move {
                let of = (&account, &promise);
                promised_payments::repay(&shared.pool, shared.now(), &call, &caller, of).await
            })
            .await
    }

    async fn get_promised_payment(
        &self,
        request: Request<pb::GetPromisedPaymentRequest>,
    ) -> Result<Response<pb::GetPromisedPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let name = v.path2("name", &message.name, PATH);
        let ([account, id],) = v.all((name,))?;
        let of = (&account.into(), &id);
        let found = promised_payments::get(&self.0.pool, self.0.now(), &caller, of).await;
        let promised_payment = Some(encode(&found.map_err(Refusal::from)?));
        Ok(Response::new(pb::GetPromisedPaymentResponse { promised_payment }))
    }

    async fn list_promised_payments(
        &self,
        request: Request<pb::ListPromisedPaymentsRequest>,
    ) -> Result<Response<pb::ListPromisedPaymentsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }
}
