//! `adspend.billing.v1.TransactionService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use chrono::TimeDelta;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Shared, number, split};
use crate::transactions::{self, Asked, DEFAULT_DAYS, Page, Range, Transaction, TransactionType};

/// The longest window of one list.
const MOST_DAYS: i64 = 400;

/// The service.
#[derive(Clone)]
pub(crate) struct Transactions(pub(crate) Arc<Shared>);

fn decode_type(shown: pb::TransactionType) -> Option<TransactionType> {
    match shown {
        pb::TransactionType::Unspecified => None,
        pb::TransactionType::Deposit => Some(TransactionType::Deposit),
        pb::TransactionType::Charge => Some(TransactionType::Charge),
        pb::TransactionType::DepositCredit => Some(TransactionType::DepositCredit),
        pb::TransactionType::ChargeCredit => Some(TransactionType::ChargeCredit),
        pb::TransactionType::TransferIn => Some(TransactionType::TransferIn),
        pb::TransactionType::TransferOut => Some(TransactionType::TransferOut),
        pb::TransactionType::Adjustment => Some(TransactionType::Adjustment),
    }
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

/// What is left of a range: its two ends.
fn decode_rest(bytes: &[u8]) -> Option<Range> {
    let (low, high) = bytes.split_at_checked(8)?;
    Some(Range { low: number(low)?, high: number(high)? })
}

impl Transactions {
    fn decode(
        &self,
        request: &pb::ListTransactionsRequest,
        scope: &PageScope,
    ) -> Result<Asked, Refusal> {
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let types = decode_types(&mut v, &request.types);
        let start = v.optional_timestamp("start_time", request.start_time.as_ref());
        let end = v.optional_timestamp("end_time", request.end_time.as_ref());
        if let (Some(start), Some(end)) = (start, end) {
            let until = end.unwrap_or(self.0.now());
            let from = start.unwrap_or(until - TimeDelta::days(DEFAULT_DAYS));
            if end.is_some_and(|end| end <= from) {
                v.add("end_time", "must be after start_time");
            }
            if until - from > TimeDelta::days(MOST_DAYS) {
                v.add("start_time", format!("must be at most {MOST_DAYS} days before end_time"));
            }
        }
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, scope, &request.page_token);
        let (account, types, start, end, limit, token) =
            v.all((parent, types, start, end, size, token))?;
        let until = end.unwrap_or(self.0.now());
        let start = start.unwrap_or(until - TimeDelta::days(DEFAULT_DAYS));
        let rest = token.as_deref().and_then(decode_rest);
        Ok(Asked { account, types, start, end, rest, limit })
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
        Ok(pb::ListTransactionsResponse {
            transactions: page.rows.iter().map(|row| encode(&page, row)).collect(),
            next_page_token: token.unwrap_or_default(),
        })
    }
}

fn encode(page: &Page, row: &Transaction) -> pb::Transaction {
    pb::Transaction {
        name: format!("{}/transactions/{}", page.account.name(), row.number),
        r#type: encode_type(row.shown).into(),
        amount: Some(rpc::balance(row.amount, page.currency)),
        balance: Some(rpc::balance(row.balance, page.currency)),
        create_time: Some(rpc::timestamp(row.at)),
        object: row.object.clone().unwrap_or_default(),
        counterparty: row.counterparty.as_ref().map(|other| other.name()).unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl pb::transaction_service_server::TransactionService for Transactions {
    async fn list_transactions(
        &self,
        request: Request<pb::ListTransactionsRequest>,
    ) -> Result<Response<pb::ListTransactionsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }
}
