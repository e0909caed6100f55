//! More of the back office: auto top-ups, credit, bank statements and documents, as calls of billing.

use adspend_common::proto::{
    adspend::billing::v1::{
        AutoTopUp, AutoTopUpPeriod, AutoTopUpRun, CreateReconciliationActRequest, CreditTerms,
        Document, DownloadDocumentRequest, DownloadDocumentResponse, GetAutoTopUpRequest,
        GetBalanceRequest, GetBalanceResponse, GetCreditTermsRequest, GetDocumentRequest,
        GetDocumentResponse, GetInvoiceRequest, GetPaymentRequest, ImportStatementRequest, Invoice,
        ListAutoTopUpRunsRequest, ListDocumentsRequest, Payment, SetAutoTopUpRequest,
        SetCreditTermsRequest, StatementLine, StatementSummary,
    },
    google::r#type::Date,
};
use futures_util::stream;
use tonic::Streaming;

use super::{
    calls::within,
    fleet::{CALL_LIMIT, request},
    office::{Office, part, patient, roubles},
};
use crate::processes::Failure;

/// Bytes of a statement in one message, so that a file takes several.
const PIECE: usize = 1_024;
/// The largest document that is taken.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;
/// More documents or runs of one account than the demonstration makes.
const PAGE: i32 = 1_000;

/// An auto top-up as an agency sets it, in roubles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopUp {
    pub(crate) amount: i64,
    pub(crate) threshold: i64,
    /// Of a day.
    pub(crate) limit: i64,
}

/// The next message of a stream, but not for ever.
async fn next<T>(what: &str, answers: &mut Streaming<T>) -> Result<Option<T>, Failure> {
    match tokio::time::timeout(CALL_LIMIT, answers.message()).await {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(status)) => Err(format!("{what}: {}", super::calls::describe(&status)).into()),
        Err(_) => Err(format!("{what}: the stream fell silent").into()),
    }
}

impl Office {
    pub(crate) async fn balance(&self, account: &str) -> Result<GetBalanceResponse, Failure> {
        let message = GetBalanceRequest { name: account.to_owned(), as_of: None };
        let call = || {
            let (mut client, message) = (self.accounts.clone(), message.clone());
            async move { client.get_balance(request(message)).await }
        };
        patient("GetBalance", call).await
    }

    pub(crate) async fn get_invoice(&self, name: &str) -> Result<Invoice, Failure> {
        let message = GetInvoiceRequest { name: name.to_owned() };
        let call = || {
            let (mut client, message) = (self.invoices.clone(), message.clone());
            async move { client.get_invoice(request(message)).await }
        };
        part("GetInvoice", patient("GetInvoice", call).await?.invoice)
    }

    pub(crate) async fn get_payment(&self, name: &str) -> Result<Payment, Failure> {
        let message = GetPaymentRequest { name: name.to_owned() };
        let call = || {
            let (mut client, message) = (self.payments.clone(), message.clone());
            async move { client.get_payment(request(message)).await }
        };
        part("GetPayment", patient("GetPayment", call).await?.payment)
    }

    pub(crate) async fn set_top_up(
        &self,
        account: &str,
        top_up: TopUp,
        request_id: &str,
    ) -> Result<AutoTopUp, Failure> {
        let message = SetAutoTopUpRequest {
            parent: account.to_owned(),
            amount: roubles(top_up.amount),
            threshold: roubles(top_up.threshold),
            limit: roubles(top_up.limit),
            period: AutoTopUpPeriod::Day.into(),
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.top_ups.clone(), message.clone());
            async move { client.set_auto_top_up(request(message)).await }
        };
        part("SetAutoTopUp", patient("SetAutoTopUp", call).await?.auto_top_up)
    }

    pub(crate) async fn top_up(&self, account: &str) -> Result<AutoTopUp, Failure> {
        let message = GetAutoTopUpRequest { parent: account.to_owned() };
        let call = || {
            let (mut client, message) = (self.top_ups.clone(), message.clone());
            async move { client.get_auto_top_up(request(message)).await }
        };
        part("GetAutoTopUp", patient("GetAutoTopUp", call).await?.auto_top_up)
    }

    /// What came of an auto top-up, newest first.
    pub(crate) async fn top_up_runs(&self, account: &str) -> Result<Vec<AutoTopUpRun>, Failure> {
        let message = ListAutoTopUpRunsRequest {
            parent: account.to_owned(),
            page_size: PAGE,
            ..ListAutoTopUpRunsRequest::default()
        };
        let call = || {
            let (mut client, message) = (self.top_ups.clone(), message.clone());
            async move { client.list_auto_top_up_runs(request(message)).await }
        };
        Ok(patient("ListAutoTopUpRuns", call).await?.auto_top_up_runs)
    }

    pub(crate) async fn grant(
        &self,
        account: &str,
        units: i64,
        request_id: &str,
    ) -> Result<CreditTerms, Failure> {
        let message = SetCreditTermsRequest {
            name: account.to_owned(),
            granted_amount: roubles(units),
            // The story knows its advertiser; the record of R-92 is not there yet.
            waive_record: true,
            request_id: request_id.to_owned(),
        };
        let call = || {
            let (mut client, message) = (self.credit.clone(), message.clone());
            async move { client.set_credit_terms(request(message)).await }
        };
        part("SetCreditTerms", patient("SetCreditTerms", call).await?.credit_terms)
    }

    pub(crate) async fn credit_terms(&self, account: &str) -> Result<CreditTerms, Failure> {
        let message = GetCreditTermsRequest { name: account.to_owned() };
        let call = || {
            let (mut client, message) = (self.credit.clone(), message.clone());
            async move { client.get_credit_terms(request(message)).await }
        };
        part("GetCreditTerms", patient("GetCreditTerms", call).await?.credit_terms)
    }

    /// Imports a bank's file, and gives what became of its lines.
    pub(crate) async fn import(
        &self,
        file: &[u8],
        request_id: &str,
    ) -> Result<(Vec<StatementLine>, StatementSummary), Failure> {
        let piece = |content: &[u8]| ImportStatementRequest {
            request_id: request_id.to_owned(),
            content: content.to_vec(),
        };
        let pieces: Vec<_> = file.chunks(PIECE).map(piece).collect();
        let call = || {
            let (mut client, pieces) = (self.payments.clone(), pieces.clone());
            async move { client.import_statement(request(stream::iter(pieces))).await }
        };
        let mut answers = patient("ImportStatement", call).await?;
        let mut lines = Vec::new();
        while let Some(answer) = next("ImportStatement", &mut answers).await? {
            lines.extend(answer.lines);
            if let Some(summary) = answer.summary {
                return Ok((lines, summary));
            }
        }
        Err("ImportStatement: no summary came".to_owned().into())
    }

    /// The documents of an owner, newest first.
    pub(crate) async fn list_documents(&self, account: &str) -> Result<Vec<Document>, Failure> {
        let message = ListDocumentsRequest {
            parent: account.to_owned(),
            page_size: PAGE,
            ..ListDocumentsRequest::default()
        };
        let call = || {
            let (mut client, message) = (self.documents.clone(), message.clone());
            async move { client.list_documents(request(message)).await }
        };
        Ok(patient("ListDocuments", call).await?.documents)
    }

    pub(crate) async fn document(&self, name: &str) -> Result<GetDocumentResponse, Failure> {
        let message = GetDocumentRequest { name: name.to_owned() };
        let call = || {
            let (mut client, message) = (self.documents.clone(), message.clone());
            async move { client.get_document(request(message)).await }
        };
        patient("GetDocument", call).await
    }

    pub(crate) async fn reconcile(
        &self,
        account: &str,
        month: Date,
        request_id: &str,
    ) -> Result<Document, Failure> {
        let message = CreateReconciliationActRequest {
            parent: account.to_owned(),
            first_month: Some(month),
            last_month: Some(month),
            request_id: request_id.to_owned(),
        };
        let what = "CreateReconciliationAct";
        let call = || {
            let (mut client, message) = (self.documents.clone(), message.clone());
            async move { client.create_reconciliation_act(request(message)).await }
        };
        part(what, patient(what, call).await?.document)
    }

    /// Downloads a document: what its first message says of it, and all of its bytes.
    pub(crate) async fn download(
        &self,
        name: &str,
    ) -> Result<(DownloadDocumentResponse, Vec<u8>), Failure> {
        let what = format!("DownloadDocument {name}");
        let message = DownloadDocumentRequest { name: name.to_owned() };
        let mut client = self.documents.clone();
        let answers = within(client.download_document(request(message))).await;
        let mut answers =
            answers.map_err(|status| format!("{what}: {}", super::calls::describe(&status)))?;
        let first = part(&what, next(&what, &mut answers).await?)?;
        let mut bytes = first.chunk.clone();
        while let Some(more) = next(&what, &mut answers).await? {
            if bytes.len() + more.chunk.len() > MAX_DOCUMENT_BYTES {
                return Err(format!("{what}: more than {MAX_DOCUMENT_BYTES} bytes").into());
            }
            bytes.extend_from_slice(&more.chunk);
        }
        Ok((first, bytes))
    }
}
