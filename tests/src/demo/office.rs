//! The back office: what an agency, an operator and a bank do at billing, and what a marketer does at
//! pacing, each as one call that is retried while the service is away and checked when it answers. `clerk` has the
//! rest of the back office.

use std::time::Duration;

use adspend_common::proto::{
    adspend::billing::v1::{
        Account, AccountKind, AllocatePaymentRequest, BlockAccountRequest, CreateAccountRequest,
        CreateInvoiceRequest, CreateTransferRequest, GetPromisedPaymentTermsRequest, Invoice,
        InvoiceTerms, LegalEntity, Payer, Payment, RecordPaymentRequest,
        RepayPromisedPaymentRequest, TakePromisedPaymentRequest, UnblockAccountRequest,
        account_service_client::AccountServiceClient, audit_service_client::AuditServiceClient,
        auto_top_up_service_client::AutoTopUpServiceClient,
        credit_service_client::CreditServiceClient, document_service_client::DocumentServiceClient,
        hold_service_client::HoldServiceClient, invoice_service_client::InvoiceServiceClient,
        payment_service_client::PaymentServiceClient,
        promised_payment_service_client::PromisedPaymentServiceClient,
        transaction_service_client::TransactionServiceClient,
        transfer_service_client::TransferServiceClient,
    },
    google::r#type::Money,
};
use tonic::{Response, Status, transport::Channel};

use super::{
    calls::{describe, is_temporary, within},
    fleet::request,
};
use crate::processes::Failure;

/// A payer: the INN and the account that a bank would give, and where its mail goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Company {
    pub(crate) name: &'static str,
    pub(crate) inn: &'static str,
    pub(crate) kpp: &'static str,
    pub(crate) bank_account: &'static str,
    pub(crate) email: &'static str,
}

/// How often a call of the back office is tried, and how long apart.
const ATTEMPTS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(150);

/// Calls until it is answered: a repeat with the same request id is harmless.
pub(crate) async fn patient<T, F: Future<Output = Result<Response<T>, Status>>>(
    what: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut attempt = 1;
    loop {
        match within(call()).await {
            Ok(answer) => return Ok(answer),
            Err(status) if is_temporary(status.code()) && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(format!("{what}: {}", describe(&status)).into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What an answer has to hold.
pub(crate) fn part<T>(what: &str, part: Option<T>) -> Result<T, Failure> {
    part.ok_or_else(|| format!("{what}: the answer lacks its object").into())
}

pub(crate) fn roubles(units: i64) -> Option<Money> {
    Some(Money { currency_code: "RUB".to_owned(), units, nanos: 0 })
}

/// billing's clients; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Office {
    pub(crate) accounts: AccountServiceClient<Channel>,
    pub(crate) invoices: InvoiceServiceClient<Channel>,
    pub(crate) payments: PaymentServiceClient<Channel>,
    promises: PromisedPaymentServiceClient<Channel>,
    transfers: TransferServiceClient<Channel>,
    pub(crate) transactions: TransactionServiceClient<Channel>,
    pub(crate) holds: HoldServiceClient<Channel>,
    pub(crate) audit: AuditServiceClient<Channel>,
    pub(crate) top_ups: AutoTopUpServiceClient<Channel>,
    pub(crate) credit: CreditServiceClient<Channel>,
    pub(crate) documents: DocumentServiceClient<Channel>,
}

impl Office {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            accounts: AccountServiceClient::new(channel.clone()),
            invoices: InvoiceServiceClient::new(channel.clone()),
            payments: PaymentServiceClient::new(channel.clone()),
            promises: PromisedPaymentServiceClient::new(channel.clone()),
            transfers: TransferServiceClient::new(channel.clone()),
            transactions: TransactionServiceClient::new(channel.clone()),
            holds: HoldServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            top_ups: AutoTopUpServiceClient::new(channel.clone()),
            credit: CreditServiceClient::new(channel.clone()),
            documents: DocumentServiceClient::new(channel),
        }
    }

    pub(crate) async fn open_account(
        &self,
        id: &str,
        title: &str,
        kind: AccountKind,
        agency: &str,
        company: Option<Company>,
    ) -> Result<(), Failure> {
        let message = CreateAccountRequest {
            account_id: id.to_owned(),
            account: Some(Account {
                kind: kind.into(),
                agency: agency.to_owned(),
                display_name: title.to_owned(),
                currency_code: "RUB".to_owned(),
                legal_entity: company.map(|company| LegalEntity {
                    country_code: "RU".to_owned(),
                    name: company.name.to_owned(),
                    inn: company.inn.to_owned(),
                    kpp: company.kpp.to_owned(),
                    ..LegalEntity::default()
                }),
                notification_email: company.map_or("", |company| company.email).to_owned(),
                ..Account::default()
            }),
            request_id: format!("create-{id}"),
        };
        let what = format!("CreateAccount {id}");
        let call = || {
            let (mut client, message) = (self.accounts.clone(), message.clone());
            async move { client.create_account(request(message)).await }
        };
        part(&what, patient(&what, call).await?.account).map(drop)
    }

    pub(crate) async fn invoice(
        &self,
        account: &str,
        units: i64,
        request_id: &str,
    ) -> Result<Invoice, Failure> {
        self.issue(account, units, InvoiceTerms::Prepaid, request_id).await
    }

    pub(crate) async fn issue(
        &self,
        account: &str,
        units: i64,
        terms: InvoiceTerms,
        request_id: &str,
    ) -> Result<Invoice, Failure> {
        let message = CreateInvoiceRequest {
            parent: account.to_owned(),
            amount: roubles(units),
            terms: terms.into(),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.invoices.clone(), message.clone());
            async move { client.create_invoice(request(message)).await }
        };
        part("CreateInvoice", patient("CreateInvoice", call).await?.invoice)
    }

    /// The bank tells of a payment.
    pub(crate) async fn pay(
        &self,
        invoice: &Invoice,
        payer: Company,
        request_id: &str,
    ) -> Result<Payment, Failure> {
        let message = RecordPaymentRequest {
            amount: invoice.amount.clone(),
            payer: Some(Payer {
                name: payer.name.to_owned(),
                inn: payer.inn.to_owned(),
                kpp: payer.kpp.to_owned(),
                bank_account: String::new(),
                bik: String::new(),
            }),
            purpose: format!("Payment of invoice {}, VAT included", invoice.number),
            document_number: String::new(),
            document_date: None,
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let call = || {
            let (mut client, message) = (self.payments.clone(), message.clone());
            async move { client.record_payment(request(message)).await }
        };
        part("RecordPayment", patient("RecordPayment", call).await?.payment)
    }

    pub(crate) async fn allocate(
        &self,
        payment: &Payment,
        account: &str,
        invoice: &str,
        request_id: &str,
    ) -> Result<Payment, Failure> {
        let message = AllocatePaymentRequest {
            name: payment.name.clone(),
            account: account.to_owned(),
            invoice: invoice.to_owned(),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.payments.clone(), message.clone());
            async move { client.allocate_payment(request(message)).await }
        };
        part("AllocatePayment", patient("AllocatePayment", call).await?.payment)
    }

    /// Takes a promised payment that the terms allow, and gives its name.
    pub(crate) async fn promise(
        &self,
        account: &str,
        units: i64,
        request_id: &str,
    ) -> Result<String, Failure> {
        let ask = GetPromisedPaymentTermsRequest { parent: account.to_owned() };
        let call = || {
            let (mut client, message) = (self.promises.clone(), ask.clone());
            async move { client.get_promised_payment_terms(request(message)).await }
        };
        let terms = patient("GetPromisedPaymentTerms", call).await?;
        if !terms.allowed {
            return Err(format!("no promised payment: {:?}", terms.refusals).into());
        }
        let message = TakePromisedPaymentRequest {
            parent: account.to_owned(),
            amount: roubles(units),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.promises.clone(), message.clone());
            async move { client.take_promised_payment(request(message)).await }
        };
        let taken = patient("TakePromisedPayment", call).await?.promised_payment;
        part("TakePromisedPayment", taken).map(|promise| promise.name)
    }

    pub(crate) async fn repay(&self, promise: &str, request_id: &str) -> Result<(), Failure> {
        let message = RepayPromisedPaymentRequest {
            name: promise.to_owned(),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.promises.clone(), message.clone());
            async move { client.repay_promised_payment(request(message)).await }
        };
        patient("RepayPromisedPayment", call).await.map(drop)
    }

    pub(crate) async fn transfer(
        &self,
        source: &str,
        destination: &str,
        units: i64,
        request_id: &str,
    ) -> Result<(), Failure> {
        let message = CreateTransferRequest {
            source: source.to_owned(),
            destination: destination.to_owned(),
            amount: roubles(units),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.transfers.clone(), message.clone());
            async move { client.create_transfer(request(message)).await }
        };
        let what = format!("CreateTransfer {source} to {destination}");
        patient(&what, call).await.map(drop)
    }

    pub(crate) async fn block(&self, account: &str, request_id: &str) -> Result<(), Failure> {
        let message =
            BlockAccountRequest { name: account.to_owned(), request_id: request_id.to_owned() };
        let call = || {
            let (mut client, message) = (self.accounts.clone(), message.clone());
            async move { client.block_account(request(message)).await }
        };
        patient("BlockAccount", call).await.map(drop)
    }

    pub(crate) async fn unblock(&self, account: &str, request_id: &str) -> Result<(), Failure> {
        let message =
            UnblockAccountRequest { name: account.to_owned(), request_id: request_id.to_owned() };
        let call = || {
            let (mut client, message) = (self.accounts.clone(), message.clone());
            async move { client.unblock_account(request(message)).await }
        };
        patient("UnblockAccount", call).await.map(drop)
    }
}
