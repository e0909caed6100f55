//! `adspend.billing.v1.CreditService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId},
    money::{Currency, Money},
    proto::{adspend::billing::v1 as pb, google::r#type as google},
    rpc::{self, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, invoices, split};
use crate::{
    credit::{
        self, NewGrant, NewRepayment, Repaid, Shown,
        eligibility::{self, Eligibility},
        rules::Why,
    },
    transactions,
};

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

fn names(why: &[Why]) -> Vec<String> {
    why.iter().map(|why| why.name().to_owned()).collect()
}

fn encode(shown: &Shown) -> pb::CreditTerms {
    let money = |amount| Some(rpc::money(amount, shown.currency));
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

fn encode_eligibility(of: &Eligibility) -> pb::CreditEligibility {
    let Eligibility { currency, excluded, short, placement, spend } = of;
    let mut refusals = names(excluded);
    refusals.extend(names(short));
    pb::CreditEligibility {
        eligible: refusals.is_empty(),
        refusals,
        placement_start_date: placement.map(|(first, _)| rpc::date(first)),
        required_placement_date: placement.map(|(_, enough)| rpc::date(enough)),
        spend_start_date: spend.map(|spend| rpc::date(spend.first_day)),
        spend_end_date: spend.map(|spend| rpc::date(spend.last_day)),
        spend: spend.map(|spend| rpc::balance(spend.amount, *currency)),
        required_spend: spend.map(|spend| rpc::money(spend.least, *currency)),
    }
}

fn granted(shown: &Shown) -> pb::SetCreditTermsResponse {
    pb::SetCreditTermsResponse { credit_terms: Some(encode(shown)), replayed: false }
}

fn set(shown: &Shown) -> pb::SetOverdraftThresholdResponse {
    pb::SetOverdraftThresholdResponse { credit_terms: Some(encode(shown)), replayed: false }
}

fn repaid(repaid: &Repaid) -> pb::RepayDeferredInvoiceResponse {
    let Repaid { invoice, transactions } = repaid;
    let name = |number: &i64| transactions::name(&invoice.account, *number);
    pb::RepayDeferredInvoiceResponse {
        invoice: invoice.paid_at.map(|at| invoices::encode(invoice, at)),
        transactions: transactions.iter().map(name).collect(),
        replayed: false,
    }
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
        let (pool, now, policy) = (&self.0.pool, self.0.now(), self.0.config.credit.eligibility);
        let shown = credit::terms(pool, now, &caller, &id).await.map_err(Refusal::from)?;
        let of = eligibility::of(pool, now, policy, &caller, &id).await.map_err(Refusal::from)?;
        Ok(Response::new(pb::GetCreditTermsResponse {
            credit_terms: Some(encode(&shown)),
            eligibility: Some(encode_eligibility(&of)),
        }))
    }

    async fn set_credit_terms(
        &self,
        request: Request<pb::SetCreditTermsRequest>,
    ) -> Result<Response<pb::SetCreditTermsResponse>, Status> {
        let (caller, message) = split(request);
        let amount = ("granted_amount", message.granted_amount.as_ref());
        let (account, amount, id) = decode(&message.name, amount, &message.request_id)?;
        let record = (!message.waive_record).then_some(self.0.config.credit.eligibility);
        let new = NewGrant { account, amount, record };
        let change = Change { method: "SetCreditTerms", caller, id, message: &message };
        self.0
            .change(change, granted, |shared, caller, call| async move {
                credit::grant(&shared.pool, shared.now(), &call, &caller, &new).await
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

    async fn repay_deferred_invoice(
        &self,
        request: Request<pb::RepayDeferredInvoiceRequest>,
    ) -> Result<Response<pb::RepayDeferredInvoiceResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let name = v.path2("name", &message.name, invoices::PATH);
        let amount = v.kopecks("amount", message.amount.as_ref());
        let request_id = v.request_id(&message.request_id);
        let ([account, invoice], amount, id) = v.all((name, amount, request_id))?;
        let new = NewRepayment { account: account.into(), invoice, amount };
        let change = Change { method: "RepayDeferredInvoice", caller, id, message: &message };
        self.0
            .change(change, repaid, |shared, _, call| async move {
                credit::repay(&shared.pool, shared.now(), &call, &new).await
            })
            .await
    }
}
