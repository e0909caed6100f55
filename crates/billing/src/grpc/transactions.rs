//! `adspend.billing.v1.TransactionService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::AccountId,
    identity::Caller,
    money::{Currency, Money},
    proto::{adspend::billing::v1 as pb, google::r#type as google},
    rpc::{self, PageScope, Refusal, Violations},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Shared, corrections, number, split};
use crate::transactions::{
    self, Asked, DEFAULT_DAYS, Filter, Order, Range, Transaction, TransactionType, csv,
};

/// The longest window of one list.
const MOST_DAYS: i64 = 400;
/// The longest name of an object that is looked for.
const MAX_OBJECT_BYTES: usize = 256;
/// Rows of one chunk of an export: about 64 KiB.
const EXPORT_ROWS: u32 = 400;

/// The service.
#[derive(Clone)]
pub(crate) struct Transactions(pub(crate) Arc<Shared>);

fn decode_type(shown: pb::TransactionType) -> Option<TransactionType> {
    TransactionType::ALL.into_iter().find(|known| encode_type(*known) == shown)
}

fn encode_type(shown: TransactionType) -> pb::TransactionType {
    match shown {
        TransactionType::Deposit => pb::TransactionType::Deposit,
        TransactionType::Charge => pb::TransactionType::Charge,
        TransactionType::DepositCredit => pb::TransactionType::DepositCredit,
        TransactionType::ChargeCredit => pb::TransactionType::ChargeCredit,
        TransactionType::TransferIn => pb::TransactionType::TransferIn,
        TransactionType::TransferOut => pb::TransactionType::TransferOut,
        TransactionType::Adjustment => pb::TransactionType::Adjustment,
        TransactionType::Refund => pb::TransactionType::Refund,
        TransactionType::ChargeRefund => pb::TransactionType::ChargeRefund,
        TransactionType::Correction => pb::TransactionType::Correction,
    }
}

fn decode_types(v: &mut Violations, types: &[i32]) -> Option<Vec<TransactionType>> {
    let mut decoded = Vec::with_capacity(types.len());
    for (at, value) in types.iter().enumerate() {
        let shown = v.item("types", at, |v| v.enumeration::<pb::TransactionType>("", *value));
        decoded.push(shown.and_then(decode_type)?);
    }
    Some(decoded)
}

fn decode_order(v: &mut Violations, order: i32) -> Option<Order> {
    let order = v.optional_enumeration::<pb::TransactionOrder>("order", order)?;
    Some(match order {
        Some(pb::TransactionOrder::OldestFirst) => Order::OldestFirst,
        Some(pb::TransactionOrder::NewestFirst | pb::TransactionOrder::Unspecified) | None => {
            Order::NewestFirst
        }
    })
}

/// An amount that may be left out.
fn decode_bound(
    v: &mut Violations,
    field: &str,
    amount: Option<&google::Money>,
) -> Option<Option<(Money, Currency)>> {
    match amount {
        None => Some(None),
        Some(amount) => v.amount_or_zero(field, Some(amount)).map(Some),
    }
}

/// What is left of a range: its two ends.
fn decode_rest(bytes: &[u8]) -> Option<Range> {
    let (low, high) = bytes.split_at_checked(8)?;
    Some(Range { low: number(low)?, high: number(high)? })
}

/// The fields that both calls have: which rows of which account.
fn decode_asked(
    v: &mut Violations,
    now: DateTime<Utc>,
    request: &pb::ExportTransactionsRequest,
) -> Option<Asked> {
    let parent = v.name("parent", &request.parent);
    let types = decode_types(v, &request.types);
    let object = v.optional_text("object", &request.object, MAX_OBJECT_BYTES);
    let counterparty = v.optional_name("counterparty", &request.counterparty);
    let least = decode_bound(v, "min_amount", request.min_amount.as_ref());
    let most = decode_bound(v, "max_amount", request.max_amount.as_ref());
    if let (Some(Some((least, of))), Some(Some((most, other)))) = (least, most) {
        if of != other {
            v.add("max_amount.currency_code", "must be that of min_amount");
        } else if most < least {
            v.add("max_amount", "must not be below min_amount");
        }
    }
    let order = decode_order(v, request.order);
    let start = v.optional_timestamp("start_time", request.start_time.as_ref());
    let end = v.optional_timestamp("end_time", request.end_time.as_ref());
    let until = end.flatten().unwrap_or(now);
    let from = start.flatten().unwrap_or(until - TimeDelta::days(DEFAULT_DAYS));
    if start.is_some() && end.flatten().is_some_and(|end| end <= from) {
        v.add("end_time", "must be after start_time");
    }
    if until - from > TimeDelta::days(MOST_DAYS) {
        v.add("start_time", format!("must be at most {MOST_DAYS} days before end_time"));
    }
    let (least, most) = (least?, most?);
    let filter = Filter {
        types: types?,
        object: object.map(|object| Some(object).filter(|object| !object.is_empty()))?,
        counterparty: counterparty?,
        least: least.map_or(Money::ZERO, |(least, _)| least),
        most: most.map_or(Money::MAX, |(most, _)| most),
        currency: least.or(most).map(|(_, currency)| currency),
    };
    start?;
    let (account, order, end) = (parent?, order?, end?);
    Some(Asked { account, filter, order, start: from, end, rest: None, limit: EXPORT_ROWS })
}

impl Transactions {
    fn decode(
        &self,
        request: &pb::ListTransactionsRequest,
        scope: &PageScope,
    ) -> Result<Asked, Refusal> {
        let mut v = Violations::new();
        let rows = pb::ExportTransactionsRequest {
            parent: request.parent.clone(),
            types: request.types.clone(),
            start_time: request.start_time,
            end_time: request.end_time,
            object: request.object.clone(),
            counterparty: request.counterparty.clone(),
            min_amount: request.min_amount.clone(),
            max_amount: request.max_amount.clone(),
            order: request.order,
            byte_order_mark: false,
        };
        let asked = decode_asked(&mut v, self.0.now(), &rows);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, scope, &request.page_token);
        let (asked, limit, token) = v.all((asked, size, token))?;
        Ok(Asked { limit, rest: token.as_deref().and_then(decode_rest), ..asked })
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListTransactionsRequest,
    ) -> Result<pb::ListTransactionsResponse, Refusal> {
        let bare = pb::ListTransactionsRequest {
            page_size: 0,
            page_token: String::new(),
            ..request.clone()
        };
        let scope = PageScope::new("ListTransactions", caller).with(bare.encode_to_vec());
        let asked = self.decode(request, &scope)?;
        let page = transactions::list(&self.0.pool, caller, &asked).await?;
        let rest = page.rest.map(|Range { low, high }| [low.to_be_bytes(), high.to_be_bytes()]);
        let token = rest.map(|rest| self.0.pages.seal(&scope, rest.as_flattened()));
        let encode = |row: &Transaction| encode_row(&page.account, page.currency, row);
        Ok(pb::ListTransactionsResponse {
            transactions: page.rows.iter().map(encode).collect(),
            next_page_token: token.unwrap_or_default(),
        })
    }

    /// The file page by page; the first is read before the call is answered, so that what is refused is
    /// refused at once.
    async fn export(
        &self,
        caller: Arc<Caller>,
        request: &pb::ExportTransactionsRequest,
    ) -> Result<BoxStream<'static, Result<pb::ExportTransactionsResponse, Status>>, Refusal> {
        let mut v = Violations::new();
        let asked = decode_asked(&mut v, self.0.now(), request);
        let (asked,) = v.all((asked,))?;
        let first = transactions::list(&self.0.pool, &caller, &asked).await?;
        let mark = if request.byte_order_mark { csv::MARK } else { "" };
        let begin = format!("{mark}{}{}", csv::HEADER, csv::lines(&first));
        let shared = Arc::clone(&self.0);
        let rest = stream::try_unfold(first.rest, move |rest| {
            let (shared, caller) = (Arc::clone(&shared), Arc::clone(&caller));
            let asked = rest.map(|rest| Asked { rest: Some(rest), ..asked.clone() });
            async move {
                let Some(asked) = asked else { return Ok(None) };
                let page = transactions::list(&shared.pool, &caller, &asked).await;
                let page = page.map_err(|error| Status::from(Refusal::from(error)))?;
                Ok(Some((csv::lines(&page), page.rest)))
            }
        });
        let chunks = stream::once(async { Ok(begin) }).chain(rest);
        let chunks = chunks.filter(|chunk| {
            let empty = chunk.as_ref().is_ok_and(String::is_empty);
            async move { !empty }
        });
        let answer = |chunk: String| pb::ExportTransactionsResponse { content: chunk.into() };
        Ok(chunks.map(move |chunk| chunk.map(answer)).boxed())
    }
}

pub(super) fn encode_row(
    account: &AccountId,
    currency: Currency,
    row: &Transaction,
) -> pb::Transaction {
    pb::Transaction {
        name: transactions::name(account, row.number),
        r#type: encode_type(row.shown).into(),
        amount: Some(rpc::balance(row.amount, currency)),
        balance: Some(rpc::balance(row.balance, currency)),
        create_time: Some(rpc::timestamp(row.at)),
        object: row.object.clone().unwrap_or_default(),
        counterparty: row.counterparty.as_ref().map(|other| other.name()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl pb::transaction_service_server::TransactionService for Transactions {
    type ExportTransactionsStream =
        BoxStream<'static, Result<pb::ExportTransactionsResponse, Status>>;

    async fn list_transactions(
        &self,
        request: Request<pb::ListTransactionsRequest>,
    ) -> Result<Response<pb::ListTransactionsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }

    async fn export_transactions(
        &self,
        request: Request<pb::ExportTransactionsRequest>,
    ) -> Result<Response<Self::ExportTransactionsStream>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.export(caller, &message).await?))
    }

    async fn reverse_transaction(
        &self,
        request: Request<pb::ReverseTransactionRequest>,
    ) -> Result<Response<pb::ReverseTransactionResponse>, Status> {
        let (caller, message) = split(request);
        corrections::reverse_transaction(&self.0, caller, &message).await
    }
}
