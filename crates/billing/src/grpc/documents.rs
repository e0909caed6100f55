//! `adspend.billing.v1.DocumentService`: decode, call, encode; nothing is decided here.

use std::{pin::Pin, sync::Arc};

use adspend_common::{
    id::{AccountId, RequestId},
    identity::Caller,
    proto::{adspend::billing::v1 as pb, google::r#type::Date},
    rpc::{self, PageScope, Refusal, Violations},
    time::Day,
};
use chrono::Datelike as _;
use futures_util::{Stream, stream};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Change, Shared, cut, number, split};
use crate::{
    documents::{self, Document, File, Kind, Listed, Month, Sources, reconcile},
    payments,
};

const PATH: [&str; 2] = ["accounts", "documents"];

/// Bytes of one message of a download.
const CHUNK_BYTES: usize = 64 * 1024;

/// Months of one reconciliation act, at most: five years.
const MOST_MONTHS: usize = 60;

/// The service.
#[derive(Clone)]
pub(crate) struct Documents(pub(crate) Arc<Shared>);

fn decode_kind(shown: pb::DocumentType) -> Option<Kind> {
    match shown {
        pb::DocumentType::Unspecified => None,
        pb::DocumentType::Invoice => Some(Kind::Invoice),
        pb::DocumentType::Act => Some(Kind::Act),
        pb::DocumentType::VatInvoice => Some(Kind::VatInvoice),
        pb::DocumentType::AdvanceVatInvoice => Some(Kind::AdvanceVatInvoice),
        pb::DocumentType::ReconciliationAct => Some(Kind::Reconciliation),
    }
}

fn encode_kind(kind: Kind) -> pb::DocumentType {
    match kind {
        Kind::Invoice => pb::DocumentType::Invoice,
        Kind::Act => pb::DocumentType::Act,
        Kind::VatInvoice => pb::DocumentType::VatInvoice,
        Kind::AdvanceVatInvoice => pb::DocumentType::AdvanceVatInvoice,
        Kind::Reconciliation => pb::DocumentType::ReconciliationAct,
    }
}

fn decode_kinds(v: &mut Violations, types: &[i32]) -> Option<Vec<Kind>> {
    let mut kinds = Vec::with_capacity(types.len());
    for (at, value) in types.iter().enumerate() {
        let shown = v.item("types", at, |v| v.enumeration::<pb::DocumentType>("", *value));
        kinds.push(shown.and_then(decode_kind)?);
    }
    Some(kinds)
}

/// A month: a date without a day.
fn decode_month(v: &mut Violations, field: &str, value: Option<&Date>) -> Option<Month> {
    if value.is_some_and(|date| date.day != 0) {
        v.add(field, "must be a year and a month, with day zero");
        return None;
    }
    let first = value.map(|date| Date { day: 1, ..*date });
    v.day(field, first.as_ref()).map(Month::of)
}

fn encode_month(month: Month) -> Date {
    Date { day: 0, ..rpc::date(month.first()) }
}

fn encode(document: &Document) -> pb::Document {
    let money = |amount| Some(rpc::money(amount, document.currency()));
    let sums = document.sums();
    pb::Document {
        name: document.name(),
        r#type: encode_kind(document.kind).into(),
        number: document.number().to_owned(),
        date: Some(rpc::date(document.day())),
        title: document.title(),
        first_month: Some(encode_month(document.first_month)),
        last_month: Some(encode_month(document.month)),
        amount: sums.and_then(|(gross, _)| money(gross)),
        vat: sums.and_then(|(_, vat)| money(vat)),
        create_time: Some(rpc::timestamp(document.created_at)),
        mail_by_date: Some(rpc::date(document.mail_by())),
    }
}

fn encode_found(document: &Document, sources: &Sources) -> pb::GetDocumentResponse {
    let currency = document.currency();
    let source = |cited: &documents::Cited| pb::DocumentSource {
        account: cited.account.name(),
        first_entry: cited.first,
        last_entry: cited.last,
        amount: Some(rpc::balance(cited.amount, currency)),
    };
    let has_carried = matches!(document.kind, Kind::Act | Kind::VatInvoice);
    pb::GetDocumentResponse {
        document: Some(encode(document)),
        sources: sources.entries.iter().map(source).collect(),
        carried: has_carried.then(|| rpc::balance(sources.carried, currency)),
        payment: sources.payment.map(|id| payments::name(&id)).unwrap_or_default(),
    }
}

fn created(document: &Document) -> pb::CreateReconciliationActResponse {
    pb::CreateReconciliationActResponse { document: Some(encode(document)), replayed: false }
}

/// `2026-11-30-act-17.pdf`
fn file_name(document: &Document) -> String {
    let sort = match document.kind {
        Kind::Invoice => "invoice",
        Kind::Act => "act",
        Kind::VatInvoice => "vat-invoice",
        Kind::AdvanceVatInvoice => "advance-vat-invoice",
        Kind::Reconciliation => "reconciliation",
    };
    format!("{}-{sort}-{}.pdf", document.day(), document.number())
}

fn chunks(document: &Document, file: File) -> Vec<pb::DownloadDocumentResponse> {
    let File { bytes, sha256 } = file;
    let piece = |chunk: &[u8]| pb::DownloadDocumentResponse {
        chunk: chunk.to_vec(),
        ..pb::DownloadDocumentResponse::default()
    };
    let mut chunks: Vec<_> = bytes.chunks(CHUNK_BYTES).map(piece).collect();
    if let Some(first) = chunks.first_mut() {
        first.file_name = file_name(document);
        first.size_bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        first.sha256 = sha256;
    }
    chunks
}

type Reconcile = (AccountId, (Month, Month), RequestId);

fn decode_reconcile(request: &pb::CreateReconciliationActRequest) -> Result<Reconcile, Refusal> {
    let mut v = Violations::new();
    let parent = v.name("parent", &request.parent);
    let first = decode_month(&mut v, "first_month", request.first_month.as_ref());
    let last = decode_month(&mut v, "last_month", request.last_month.as_ref());
    if let (Some(first), Some(last)) = (first, last) {
        if last < first {
            v.add("last_month", "must not be before first_month");
        } else if months(first.first(), last.first()) > MOST_MONTHS {
            v.add("last_month", format!("at most {MOST_MONTHS} months are reconciled at once"));
        }
    }
    let request_id = v.request_id(&request.request_id);
    let (parent, first, last, request_id) = v.all((parent, first, last, request_id))?;
    Ok((parent, (first, last), request_id))
}

/// How many months lie from one to another, both counted.
fn months(first: Day, last: Day) -> usize {
    let number = |day: Day| i64::from(day.date().year()) * 12 + i64::from(day.date().month0());
    usize::try_from(number(last) - number(first) + 1).unwrap_or_default()
}

impl Documents {
    async fn find(&self, caller: &Caller, name: &str) -> Result<Document, Refusal> {
        let mut v = Violations::new();
        let name = v.path2("name", name, PATH);
        let ([account, id],) = v.all((name,))?;
        let Shared { pool, config, .. } = &*self.0;
        let (now, executor) = (self.0.now(), config.documents.executor.as_ref());
        let of = (&account.into(), &id);
        Ok(documents::get(pool, now, executor, caller, of).await?)
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListDocumentsRequest,
    ) -> Result<pb::ListDocumentsResponse, Refusal> {
        let bare =
            pb::ListDocumentsRequest { page_size: 0, page_token: String::new(), ..request.clone() };
        let scope = PageScope::new("ListDocuments", caller).with(bare.encode_to_vec());
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let kinds = decode_kinds(&mut v, &request.types);
        let month = match &request.month {
            None => Some(None),
            month => decode_month(&mut v, "month", month.as_ref()).map(Some),
        };
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (account, kinds, month, size, token) = v.all((parent, kinds, month, size, token))?;
        let before = token.as_deref().and_then(number);
        let listed = Listed { account, kinds, month, before, limit: size.saturating_add(1) };
        let Shared { pool, config, .. } = &*self.0;
        let executor = config.documents.executor.as_ref();
        let mut rows = documents::list(pool, self.0.now(), executor, caller, &listed).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.serial.to_be_bytes());
        Ok(pb::ListDocumentsResponse {
            documents: rows.iter().map(encode).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<pb::DownloadDocumentResponse, Status>> + Send>>;

#[tonic::async_trait]
impl pb::document_service_server::DocumentService for Documents {
    type DownloadDocumentStream = Chunks;

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }

    async fn get_document(
        &self,
        request: Request<pb::GetDocumentRequest>,
    ) -> Result<Response<pb::GetDocumentResponse>, Status> {
        let (caller, message) = split(request);
        let document = self.find(&caller, &message.name).await?;
        let sources = documents::sources(&self.0.pool, &document).await;
        let sources = sources.map_err(Refusal::from)?;
        Ok(Response::new(encode_found(&document, &sources)))
    }

    async fn download_document(
        &self,
        request: Request<pb::DownloadDocumentRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let (caller, message) = split(request);
        let document = self.find(&caller, &message.name).await?;
        let file = documents::file(&self.0.pool, self.0.now(), &document).await;
        let file = file.map_err(Refusal::from)?;
        let chunks = chunks(&document, file).into_iter().map(Ok);
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn create_reconciliation_act(
        &self,
        request: Request<pb::CreateReconciliationActRequest>,
    ) -> Result<Response<pb::CreateReconciliationActResponse>, Status> {
        let (caller, message) = split(request);
        let (parent, months, id) = decode_reconcile(&message)?;
        let change = Change { method: "CreateReconciliationAct", caller, id, message: &message };
        self.0
            .change(change, created, |shared, caller, call| async move {
                let executor = shared.config.documents.executor.as_ref();
                let (now, of) = (shared.now(), (&parent, months));
                reconcile::create(&shared.pool, now, executor, &call, &caller, of).await
            })
            .await
    }
}
