//! `adspend.billing.v1.PaymentService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId, ResourceId, parse_name, parse_path},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    requisites,
    rpc::{self, PageScope, Refusal, Violations},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Change, Shared,
    corrections::MAX_REASON_BYTES,
    cut, invoices as decode_invoices, position, split,
    statements::{Answers, Imports},
};
use crate::{
    invoices::{self, Method},
    payments::{
        self, Allocation, Listed, NewPayment, Payer, Payment, PaymentState,
        refunds::{self, NewRefund},
    },
};

/// The service.
#[derive(Clone)]
pub(crate) struct Payments(pub(super) Arc<Shared>, pub(super) Imports);

impl Payments {
    pub(crate) fn new(shared: Arc<Shared>) -> Payments {
        let imports = Imports::new(&shared);
        Payments(shared, imports)
    }
}

fn decode_payer(v: &mut Violations, payer: &pb::Payer) -> Option<Payer> {
    let name = v.text("name", &payer.name, 512);
    let inn = requisites::inn(&payer.inn).is_some();
    if !inn {
        v.add("inn", "must be 10 or 12 digits with valid check digits");
    }
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let kpp = payer.kpp.is_empty() || requisites::is_kpp(&payer.kpp.to_ascii_uppercase());
    if !kpp {
        v.add("kpp", "must be 4 digits, 2 digits or Latin letters, and 3 digits, or empty");
    }
    let bank_account = payer.bank_account.len() <= 34 && plain(&payer.bank_account);
    if !bank_account {
        v.add("bank_account", "must be at most 34 digits or Latin letters");
    }
    let bik = payer.bik.is_empty() || requisites::bik(&payer.bik).is_some();
    if !bik {
        v.add("bik", "must be nine digits of a bank in Russia, or empty");
    }
    let known_bank = bik && !payer.bik.is_empty() && !payer.bank_account.is_empty();
    let fits = !known_bank || requisites::account(&payer.bank_account, &payer.bik).is_some();
    if bank_account && !fits {
        v.add("bank_account", "must be 20 digits whose key fits the bank");
    }
    Some(Payer {
        name: name.filter(|_| inn && kpp && bank_account && bik && fits)?,
        inn: payer.inn.clone(),
        kpp: payer.kpp.to_ascii_uppercase(),
        bank_account: payer.bank_account.clone(),
        bik: payer.bik.clone(),
    })
}

fn decode_new(
    request: &pb::RecordPaymentRequest,
) -> Result<(NewPayment, Method, RequestId), Refusal> {
    let mut v = Violations::new();
    let amount = v.kopecks("amount", request.amount.as_ref());
    let payer = v.required("payer", request.payer.as_ref());
    let payer = payer.and_then(|payer| v.within("payer", |v| decode_payer(v, payer)));
    let purpose = v.text("purpose", &request.purpose, 512);
    let number = v.optional_text("document_number", &request.document_number, 64);
    let day = v.optional_day("document_date", request.document_date.as_ref());
    let method = v.optional_enumeration("method", request.method);
    let request_id = v.request_id(&request.request_id);
    let ((amount, currency), payer, purpose, document_number, document_day, method, request_id) =
        v.all((amount, payer, purpose, number, day, method, request_id))?;
    let method = method.and_then(decode_invoices::method).unwrap_or(Method::BankTransfer);
    let new = NewPayment { amount, currency, payer, purpose, document_number, document_day };
    Ok((new, method, request_id))
}

/// An optional invoice must be one of the account.
fn decode_invoice(
    v: &mut Violations,
    name: &str,
    account: Option<&AccountId>,
) -> Option<Option<ResourceId>> {
    if name.is_empty() {
        return Some(None);
    }
    match parse_path(name, ["accounts", "invoices"]) {
        Ok([of, invoice]) if account.is_none_or(|account| account.as_str() == of.as_str()) => {
            Some(Some(invoice))
        }
        Ok(_) => {
            v.add("invoice", "must be an invoice of the account");
            None
        }
        Err(error) => {
            v.add("invoice", error.to_string());
            None
        }
    }
}

/// A payment's name.
fn decode_name(v: &mut Violations, name: &str) -> Option<ResourceId> {
    if name.is_empty() {
        v.add("name", "is required");
        return None;
    }
    parse_name(name, "payments").map_err(|error| v.add("name", error.to_string())).ok()
}

fn decode_allocation(
    request: &pb::AllocatePaymentRequest,
) -> Result<(Allocation, RequestId), Refusal> {
    let mut v = Violations::new();
    let payment = decode_name(&mut v, &request.name);
    let account = v.name("account", &request.account);
    let invoice = decode_invoice(&mut v, &request.invoice, account.as_ref());
    let request_id = v.request_id(&request.request_id);
    let (payment, account, invoice, request_id) = v.all((payment, account, invoice, request_id))?;
    Ok((Allocation { payment, account, invoice }, request_id))
}

fn encode(payment: &Payment) -> pb::Payment {
    let state = match payment.state {
        PaymentState::Credited => pb::PaymentState::Credited,
        PaymentState::Unallocated => pb::PaymentState::Unallocated,
        PaymentState::Allocated => pb::PaymentState::Allocated,
        PaymentState::Refunded => pb::PaymentState::Refunded,
    };
    let NewPayment { amount, currency, payer, purpose, document_number, document_day } =
        &payment.sent;
    let account = payment.account.as_ref();
    let invoice = account.zip(payment.invoice).map(|(of, id)| invoices::name(of, &id));
    // What had to be allocated says why, for ever.
    let allocated = payment.credited_at.filter(|_| payment.reason.is_some());
    pb::Payment {
        name: payments::name(&payment.id),
        amount: Some(rpc::money(*amount, *currency)),
        payer: Some(pb::Payer {
            name: payer.name.clone(),
            inn: payer.inn.clone(),
            kpp: payer.kpp.clone(),
            bank_account: payer.bank_account.clone(),
            bik: payer.bik.clone(),
        }),
        purpose: purpose.clone(),
        document_number: document_number.clone(),
        document_date: document_day.map(rpc::date),
        state: state.into(),
        unallocated_reason: payment.reason.map(|why| why.name().to_owned()).unwrap_or_default(),
        account: account.map(AccountId::name).unwrap_or_default(),
        invoice: invoice.unwrap_or_default(),
        collected: Some(rpc::money(payment.collected, *currency)),
        create_time: Some(rpc::timestamp(payment.created_at)),
        allocate_time: allocated.map(rpc::timestamp),
        refunded: Some(rpc::money(payment.refunded, *currency)),
    }
}

fn recorded(payment: &Payment) -> pb::RecordPaymentResponse {
    pb::RecordPaymentResponse { payment: Some(encode(payment)), replayed: false }
}

fn refunded(payment: &Payment) -> pb::RefundPaymentResponse {
    pb::RefundPaymentResponse { payment: Some(encode(payment)), replayed: false }
}

fn decode_refund(request: &pb::RefundPaymentRequest) -> Result<(NewRefund, RequestId), Refusal> {
    let mut v = Violations::new();
    let payment = decode_name(&mut v, &request.name);
    let amount = v.kopecks("amount", request.amount.as_ref());
    let reason = v.text("reason", &request.reason, MAX_REASON_BYTES);
    let request_id = v.request_id(&request.request_id);
    let (payment, (amount, currency), reason, request_id) =
        v.all((payment, amount, reason, request_id))?;
    Ok((NewRefund { payment, amount, currency, reason }, request_id))
}

fn allocated(payment: &Payment) -> pb::AllocatePaymentResponse {
    pb::AllocatePaymentResponse { payment: Some(encode(payment)), replayed: false }
}

fn decode_state(state: pb::PaymentState) -> Option<PaymentState> {
    match state {
        pb::PaymentState::Unspecified => None,
        pb::PaymentState::Credited => Some(PaymentState::Credited),
        pb::PaymentState::Unallocated => Some(PaymentState::Unallocated),
        pb::PaymentState::Allocated => Some(PaymentState::Allocated),
        pb::PaymentState::Refunded => Some(PaymentState::Refunded),
    }
}

impl Payments {
    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListPaymentsRequest,
    ) -> Result<pb::ListPaymentsResponse, Refusal> {
        let scope = PageScope::new("ListPayments", caller)
            .with(&request.account)
            .with(request.state.to_be_bytes());
        let mut v = Violations::new();
        let account = v.optional_name("account", &request.account);
        let state = v.optional_enumeration("state", request.state);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (account, state, size, token) = v.all((account, state, size, token))?;
        let listed = Listed {
            tenant: self.0.tenant(caller).await?,
            account,
            state: state.and_then(decode_state),
            before: position(token, i64::MAX),
            limit: size.saturating_add(1),
        };
        let mut rows = payments::list(&self.0.pool, caller, &listed).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.serial.to_be_bytes());
        Ok(pb::ListPaymentsResponse {
            payments: rows.iter().map(encode).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::payment_service_server::PaymentService for Payments {
    async fn record_payment(
        &self,
        request: Request<pb::RecordPaymentRequest>,
    ) -> Result<Response<pb::RecordPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let (new, method, id) = decode_new(&message)?;
        let change = Change { method: "RecordPayment", caller, id, message: &message };
        self.0
            .change(change, recorded, |shared, _, call| async move {
                let new = (&new, method);
                payments::record(&shared.pool, shared.now(), &call, new).await
            })
            .await
    }

    type ImportStatementStream = Answers;

    async fn import_statement(
        &self,
        request: Request<Streaming<pb::ImportStatementRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (caller, pieces) = split(request);
        Ok(Response::new(self.1.import(&self.0, caller, pieces).await?))
    }

    async fn get_payment(
        &self,
        request: Request<pb::GetPaymentRequest>,
    ) -> Result<Response<pb::GetPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let id = decode_name(&mut v, &message.name);
        let (id,) = v.all((id,))?;
        let tenant = self.0.tenant(&caller).await?;
        let payment = payments::get(&self.0.pool, tenant, &id).await.map_err(Refusal::from)?;
        Ok(Response::new(pb::GetPaymentResponse { payment: Some(encode(&payment)) }))
    }

    async fn list_payments(
        &self,
        request: Request<pb::ListPaymentsRequest>,
    ) -> Result<Response<pb::ListPaymentsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }

    async fn allocate_payment(
        &self,
        request: Request<pb::AllocatePaymentRequest>,
    ) -> Result<Response<pb::AllocatePaymentResponse>, Status> {
        let (caller, message) = split(request);
        let (asked, id) = decode_allocation(&message)?;
        let change = Change { method: "AllocatePayment", caller, id, message: &message };
        self.0
            .change(change, allocated, |shared, caller, call| async move {
                payments::allocate(&shared.pool, shared.now(), &call, &caller, &asked).await
            })
            .await
    }

    async fn refund_payment(
        &self,
        request: Request<pb::RefundPaymentRequest>,
    ) -> Result<Response<pb::RefundPaymentResponse>, Status> {
        let (caller, message) = split(request);
        let (new, id) = decode_refund(&message)?;
        let change = Change { method: "RefundPayment", caller, id, message: &message };
        self.0
            .change(change, refunded, |shared, _, call| async move {
                refunds::refund(&shared.pool, shared.now(), &call, &new).await
            })
            .await
    }
}
