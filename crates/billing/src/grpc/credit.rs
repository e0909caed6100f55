//! `adspend.billing.v1.CreditService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId},
    money::{Currency, Money},
    proto::{adspend::billing::v1 as pb, google::r#type as google},
    rpc::{self, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, split};
use crate::credit::{self, Shown, rules::Why};

/// The service.
#[derive(Clone)]
pub(crate) struct Credit(pub(crate) Arc<Shared>);

type Set = (AccountId, (Money, Currency), RequestId);

/// A change to an amount that may be zero, in whole kopecks.
fn decode(
    name: &str,
    (field, amount): (&str, Option<&google::Money>),
    request_id: &str,
) -> Result<Set, Refusal> {
    let mut v = Violations::new();
    let name = v.name("name", name);
    let amount = v.amount_or_zero(field, amount);
    if amount.is_some_and(|(amount, _)| !amount.is_whole_kopecks()) {
        v.add(&format!("{field}.nanos"), "at most two decimals are taken here");
    }
    let request_id = v.request_id(request_id);
    v.all((name, amount, request_id))
}

fn encode(shown: &Shown) -> pb::CreditTerms {
    let money = |amount| Some(rpc::money(amount, shown.currency));
    let names = |why: &[Why]| why.iter().map(|why| why.name().to_owned()).collect();
    pb::CreditTerms {
        account: shown.account.name(),
        granted_amount: money(shown.granted),
        threshold: money(shown.threshold),
        effective_threshold: money(shown.effective),
        deferred_debt: money(shown.debt),
        available_amount: money(shown.room),
        overdue: shown.overdue,
        due_date: shown.due.map(rpc::date),
        threshold_change_time: shown.locked_until.map(rpc::timestamp),
        unfreeze_time: shown.unfreeze_at.map(rpc::timestamp),
        threshold_refusals: names(&shown.threshold_refusals),
        deferral_refusals: names(&shown.deferral_refusals),
    }
}

fn granted(shown: &Shown) -> pb::SetCreditTermsResponse {
    pb::SetCreditTermsResponse { credit_terms: Some(encode(shown)), replayed: false }
}

fn set(shown: &Shown) -> pb::SetOverdraftThresholdResponse {
    pb::SetOverdraftThresholdResponse { credit_terms: Some(encode(shown)), replayed: false }
}

#[tonic::async_trait]
impl pb::credit_service_server::CreditService for Credit {
    async fn get_credit_terms(
        &self,
        request: Request<pb::GetCreditTermsRequest>,
    ) -> Result<Response<pb::GetCreditTermsResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let name = v.name("name", &message.name);
        let (id,) = v.all((name,))?;
        let shown = credit::terms(&self.0.pool, self.0.now(), &caller, &id).await;
        let credit_terms = Some(encode(&shown.map_err(Refusal::from)?));
        Ok(Response::new(pb::GetCreditTermsResponse { credit_terms }))
    }

    async fn set_credit_terms(
        &self,
        request: Request<pb::SetCreditTermsRequest>,
    ) -> Result<Response<pb::SetCreditTermsResponse>, Status> {
        let (caller, message) = split(request);
        let amount = ("granted_amount", message.granted_amount.as_ref());
        let (account, amount, id) = decode(&message.name, amount, &message.request_id)?;
        let change = Change { method: "SetCreditTerms", caller, id, message: &message };
        self.0
            .change(change, granted, |shared, caller, call| async move {
                let of = (&account, amount);
                credit::grant(&shared.pool, shared.now(), &call, &caller, of).await
            })
            .await
    }

    async fn set_overdraft_threshold(
        &self,
        request: Request<pb::SetOverdraftThresholdRequest>,
    ) -> Result<Response<pb::SetOverdraftThresholdResponse>, Status> {
        let (caller, message) = split(request);
        let amount = ("threshold", message.threshold.as_ref());
        let (account, amount, id) = decode(&message.name, amount, &message.request_id)?;
        let change = Change { method: "SetOverdraftThreshold", caller, id, message: &message };
        self.0
            .change(change, set, |shared, caller, call| async move {
                let of = (&account, amount);
                credit::set_threshold(&shared.pool, shared.now(), &call, &caller, of).await
            })
            .await
    }
}
