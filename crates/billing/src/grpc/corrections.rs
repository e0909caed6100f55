//! The calls that correct what was booked, each of the service that its trait belongs to: decode, call,
//! encode.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, parse_path},
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::Violations,
};
use tonic::{Response, Status};

use super::{Change, Shared, transactions::encode_row};
use crate::{
    corrections::{self, Credit, NewCredit, NewReversal, Reversed},
    transactions,
};

/// The longest reason.
pub(super) const MAX_REASON_BYTES: usize = 512;

fn credited(credit: &Credit) -> pb::CreditInvalidClicksResponse {
    pb::CreditInvalidClicksResponse {
        transaction: transactions::name(&credit.account, credit.transaction),
        charged_micros: credit.spend.charged.micros(),
        credited_micros: credit.spend.credited.micros(),
        spend_only_micros: credit.spend_only.micros(),
        currency_code: credit.currency.to_string(),
        replayed: false,
    }
}

pub(super) async fn credit_invalid_clicks(
    shared: &Arc<Shared>,
    caller: Arc<Caller>,
    message: &pb::CreditInvalidClicksRequest,
) -> Result<Response<pb::CreditInvalidClicksResponse>, Status> {
    let mut v = Violations::new();
    let account = v.name("account", &message.account);
    let campaign = v.name("campaign", &message.campaign);
    let amount = v.micros("amount_micros", message.amount_micros);
    let reason = v.text("reason", &message.reason, MAX_REASON_BYTES);
    let request_id = v.request_id(&message.request_id);
    let (account, campaign, amount, reason, id) =
        v.all((account, campaign, amount, reason, request_id))?;
    let new = NewCredit { account, campaign, amount, reason };
    let change = Change { method: "CreditInvalidClicks", caller, id, message };
    shared
        .change(change, credited, |shared, _, call| async move {
            corrections::credit_clicks(&shared.pool, shared.now(), &call, &new).await
        })
        .await
}

fn reversed(reversed: &Reversed) -> pb::ReverseTransactionResponse {
    let Reversed { account, currency, transaction } = reversed;
    pb::ReverseTransactionResponse {
        transaction: Some(encode_row(account, *currency, transaction)),
        replayed: false,
    }
}

/// `accounts/{account}/transactions/{transaction}`: numbers from 1, without leading zeros.
fn decode_transaction(v: &mut Violations, name: &str) -> Option<(AccountId, i64)> {
    if name.is_empty() {
        v.add("name", "is required");
        return None;
    }
    let read = match parse_path(name, ["accounts", "transactions"]) {
        Ok([account, number]) => {
            let known = number.as_str().parse::<i64>().ok();
            known.filter(|known| *known > 0 && known.to_string() == number.as_str()).map_or_else(
                || Err("must end in the number of a transaction".to_owned()),
                |number| Ok((AccountId::from(account), number)),
            )
        }
        Err(error) => Err(error.to_string()),
    };
    read.map_err(|complaint| v.add("name", complaint)).ok()
}

pub(super) async fn reverse_transaction(
    shared: &Arc<Shared>,
    caller: Arc<Caller>,
    message: &pb::ReverseTransactionRequest,
) -> Result<Response<pb::ReverseTransactionResponse>, Status> {
    let mut v = Violations::new();
    let name = decode_transaction(&mut v, &message.name);
    let reason = v.text("reason", &message.reason, MAX_REASON_BYTES);
    let request_id = v.request_id(&message.request_id);
    let ((account, transaction), reason, id) = v.all((name, reason, request_id))?;
    let new = NewReversal { account, transaction, reason };
    let change = Change { method: "ReverseTransaction", caller, id, message };
    shared
        .change(change, reversed, |shared, _, call| async move {
            corrections::reverse(&shared.pool, shared.now(), &call, &new).await
        })
        .await
}
