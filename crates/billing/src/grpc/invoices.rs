//! `adspend.billing.v1.InvoiceService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId, ResourceId},
    identity::Caller,
    money::{Currency, Money},
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, cut, position, split};
use crate::{
    invoices::{self, Invoice, InvoiceState},
    payments,
};

const PATH: [&str; 2] = ["accounts", "invoices"];

/// The service.
#[derive(Clone)]
pub(crate) struct Invoices(pub(crate) Arc<Shared>);

type New = (AccountId, (Money, Currency), RequestId);

fn decode_new(request: &pb::CreateInvoiceRequest) -> Result<New, Refusal> {
    let mut v = Violations::new();
    let parent = v.name("parent", &request.parent);
    let amount = v.kopecks("amount", request.amount.as_ref());
    let terms = v.enumeration::<pb::InvoiceTerms>("terms", request.terms);
    let request_id = v.request_id(&request.request_id);
    let (parent, amount, _prepaid, request_id) = v.all((parent, amount, terms, request_id))?;
    Ok((parent, amount, request_id))
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

fn encode(invoice: &Invoice) -> pb::Invoice {
    let state = match invoice.state {
        InvoiceState::Issued => pb::InvoiceState::Issued,
        InvoiceState::Paid => pb::InvoiceState::Paid,
        InvoiceState::Cancelled => pb::InvoiceState::Cancelled,
    };
    pb::Invoice {
        name: invoice.name(),
        number: invoice.number.clone(),
        amount: Some(rpc::money(invoice.amount, invoice.currency)),
        terms: pb::InvoiceTerms::Prepaid.into(),
        state: state.into(),
        payer_name: invoice.payer_name.clone(),
        payer_inn: invoice.payer_inn.clone(),
        pay_by: Some(rpc::date(invoice.pay_by)),
        create_time: Some(rpc::timestamp(invoice.created_at)),
        pay_time: invoice.paid_at.map(rpc::timestamp),
        payment: invoice.payment.map(|id| payments::name(&id)).unwrap_or_default(),
    }
}

fn created(invoice: &Invoice) -> pb::CreateInvoiceResponse {
    pb::CreateInvoiceResponse { invoice: Some(encode(invoice)), replayed: false }
}

fn cancelled(invoice: &Invoice) -> pb::CancelInvoiceResponse {
    pb::CancelInvoiceResponse { invoice: Some(encode(invoice)), replayed: false }
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
        let mut rows = invoices::list(&self.0.pool, caller, &parent, page).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.serial.to_be_bytes());
        Ok(pb::ListInvoicesResponse {
            invoices: rows.iter().map(encode).collect(),
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
        let (parent, amount, id) = decode_new(&message)?;
        let change = Change { method: "CreateInvoice", caller, id, message: &message };
        self.0
            .change(change, created, |shared, caller, call| async move {
                let (now, settings, of) =
                    (shared.now(), &shared.config.invoices, (&parent, amount));
                invoices::create(&shared.pool, now, settings, &call, &caller, of).await
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
        let found = invoices::get(&self.0.pool, &caller, (&account.into(), &id)).await;
        let invoice = found.map_err(Refusal::from)?;
        Ok(Response::new(pb::GetInvoiceResponse { invoice: Some(encode(&invoice)) }))
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
}
