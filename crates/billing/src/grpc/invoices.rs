//! `adspend.billing.v1.InvoiceService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId, ResourceId},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use chrono::{DateTime, Utc};
use tonic::{Request, Response, Status};

use super::{Change, Shared, accounts, cut, position, split};
use crate::{
    documents,
    invoices::{self, Asked, Invoice, Method, NewTerms, Standing, Terms},
    payments,
};

pub(super) const PATH: [&str; 2] = ["accounts", "invoices"];

/// The service.
#[derive(Clone)]
pub(crate) struct Invoices(pub(crate) Arc<Shared>);

fn decode_new(request: &pb::CreateInvoiceRequest) -> Result<(Asked, RequestId), Refusal> {
    let mut v = Violations::new();
    let parent = v.name("parent", &request.parent);
    let amount = v.kopecks("amount", request.amount.as_ref());
    let terms = v.enumeration::<pb::InvoiceTerms>("terms", request.terms);
    let request_id = v.request_id(&request.request_id);
    let (account, amount, terms, request_id) = v.all((parent, amount, terms, request_id))?;
    let terms = match terms {
        // `enumeration` refuses what is not set.
        pb::InvoiceTerms::Unspecified | pb::InvoiceTerms::Prepaid => Terms::Prepaid,
        pb::InvoiceTerms::Deferred => Terms::Deferred,
    };
    Ok((Asked { account, amount, terms }, request_id))
}

fn decode_cancel(
    request: &pb::CancelInvoiceRequest,
) -> Result<(AccountId, ResourceId, RequestId), Refusal> {
    let mut v = Violations::new();
    let name = v.path2("name", &request.name, PATH);
    let request_id = v.request_id(&request.request_id);
    let ([account, invoice], request_id) = v.all((name, request_id))?;
    Ok((account.into(), invoice, request_id))
}

/// The method that a caller names; none where it names none.
pub(super) fn method(named: pb::PaymentMethod) -> Option<Method> {
    match named {
        pb::PaymentMethod::Unspecified => None,
        pb::PaymentMethod::BankTransfer => Some(Method::BankTransfer),
        pb::PaymentMethod::Card => Some(Method::Card),
    }
}

fn decode_update(
    request: &pb::UpdateDeferredInvoiceRequest,
) -> Result<(AccountId, ResourceId, NewTerms, RequestId), Refusal> {
    let mut v = Violations::new();
    let name = v.path2("name", &request.name, PATH);
    let payer = match &request.payer {
        None => Some(None),
        Some(payer) => v.within("payer", |v| accounts::legal_entity(v, payer)).map(Some),
    };
    let named = v.optional_enumeration("method", request.method);
    if request.payer.is_none() && request.method == 0 {
        v.add("payer", "is required where there is no method");
    }
    let request_id = v.request_id(&request.request_id);
    let ([account, invoice], payer, named, request_id) = v.all((name, payer, named, request_id))?;
    let new = NewTerms { payer, method: named.and_then(method) };
    Ok((account.into(), invoice, new, request_id))
}

pub(super) fn encode(invoice: &Invoice, now: DateTime<Utc>) -> pb::Invoice {
    let state = match invoice.standing(now) {
        Standing::Issued => pb::InvoiceState::Issued,
        Standing::Overdue => pb::InvoiceState::Overdue,
        Standing::Paid => pb::InvoiceState::Paid,
        Standing::Cancelled => pb::InvoiceState::Cancelled,
    };
    let terms = match invoice.terms {
        Terms::Prepaid => pb::InvoiceTerms::Prepaid,
        Terms::Deferred => pb::InvoiceTerms::Deferred,
    };
    let method = match invoice.method {
        Method::BankTransfer => pb::PaymentMethod::BankTransfer,
        Method::Card => pb::PaymentMethod::Card,
    };
    pb::Invoice {
        name: invoice.name(),
        number: invoice.number.clone(),
        amount: Some(rpc::money(invoice.amount, invoice.currency)),
        terms: terms.into(),
        state: state.into(),
        payer_name: invoice.payer_name.clone(),
        payer_inn: invoice.payer_inn.clone(),
        pay_by: Some(rpc::date(invoice.pay_by)),
        create_time: Some(rpc::timestamp(invoice.created_at)),
        pay_time: invoice.paid_at.map(rpc::timestamp),
        payment: invoice.payment.map(|id| payments::name(&id)).unwrap_or_default(),
        repaid_from_balance: invoice.repayment.is_some(),
        payer_kpp: invoice.payer_kpp.clone(),
        method: method.into(),
        document: documents::name(&invoice.account, &invoice.document()),
    }
}

fn created(invoice: &Invoice) -> pb::CreateInvoiceResponse {
    pb::CreateInvoiceResponse {
        invoice: Some(encode(invoice, invoice.created_at)),
        replayed: false,
    }
}

fn cancelled(invoice: &Invoice) -> pb::CancelInvoiceResponse {
    pb::CancelInvoiceResponse {
        invoice: Some(encode(invoice, invoice.created_at)),
        replayed: false,
    }
}

fn updated((invoice, at): &(Invoice, DateTime<Utc>)) -> pb::UpdateDeferredInvoiceResponse {
    pb::UpdateDeferredInvoiceResponse { invoice: Some(encode(invoice, *at)), replayed: false }
}

impl Invoices {
    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListInvoicesRequest,
    ) -> Result<pb::ListInvoicesResponse, Refusal> {
        let scope = PageScope::new("ListInvoices", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, token) = v.all((parent, size, token))?;
        let page = (position(token, i64::MAX), size.saturating_add(1));
        let now = self.0.now();
        let mut rows = invoices::list(&self.0.pool, now, caller, &parent, page).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.serial.to_be_bytes());
        Ok(pb::ListInvoicesResponse {
            invoices: rows.iter().map(|invoice| encode(invoice, now)).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::invoice_service_server::InvoiceService for Invoices {
    async fn create_invoice(
        &self,
        request: Request<pb::CreateInvoiceRequest>,
    ) -> Result<Response<pb::CreateInvoiceResponse>, Status> {
        let (caller, message) = split(request);
        let (asked, id) = decode_new(&message)?;
        let change = Change { method: "CreateInvoice", caller, id, message: &message };
        self.0
            .change(change, created, |shared, caller, call| async move {
                let (now, settings) = (shared.now(), &shared.config.invoices);
                invoices::create(&shared.pool, now, settings, &call, &caller, &asked).await
            })
            .await
    }

    async fn get_invoice(
        &self,
        request: Request<pb::GetInvoiceRequest>,
    ) -> Result<Response<pb::GetInvoiceResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let name = v.path2("name", &message.name, PATH);
        let ([account, id],) = v.all((name,))?;
        let (now, of) = (self.0.now(), (&account.into(), &id));
        let found = invoices::get(&self.0.pool, now, &caller, of).await;
        let invoice = Some(encode(&found.map_err(Refusal::from)?, now));
        Ok(Response::new(pb::GetInvoiceResponse { invoice }))
    }

    async fn list_invoices(
        &self,
        request: Request<pb::ListInvoicesRequest>,
    ) -> Result<Response<pb::ListInvoicesResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }

    async fn cancel_invoice(
        &self,
        request: Request<pb::CancelInvoiceRequest>,
    ) -> Result<Response<pb::CancelInvoiceResponse>, Status> {
        let (caller, message) = split(request);
        let (account, invoice, id) = decode_cancel(&message)?;
        let change = Change { method: "CancelInvoice", caller, id, message: &message };
        self.0
            .change(change, cancelled, |shared, caller, call| async move {
                let of = (&account, &invoice);
                invoices::cancel(&shared.pool, shared.now(), &call, &caller, of).await
            })
            .await
    }
    async fn update_deferred_invoice(
        &self,
        request: Request<pb::UpdateDeferredInvoiceRequest>,
    ) -> Result<Response<pb::UpdateDeferredInvoiceResponse>, Status> {
        let (caller, message) = split(request);
        let (account, invoice, new, id) = decode_update(&message)?;
        let change = Change { method: "UpdateDeferredInvoice", caller, id, message: &message };
        self.0
            .change(change, updated, |shared, caller, call| async move {
                let what = (&account, &invoice, &new);
                invoices::change(&shared.pool, shared.now(), &call, &caller, what).await
            })
            .await
    }
}
