//! The edge: decode, call once, encode. Nothing is decided here.
//!
//! One file for each service of `proto/adspend/billing/v1`, with its decoders and encoders; `methods.rs` says
//! who may call what; `status.rs` and its part for the ledger alone name gRPC codes. A changing call goes
//! through [`Shared::change`]: it finds the caller's scope of request ids, hashes what was asked, and marks
//! an answer that is a repeat.

use std::sync::Arc;

use adspend_common::{
    db::Pool,
    id::{AccountId, RequestId},
    identity::{self, Caller},
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageKey, Refusal},
    server::{MAX_MESSAGE_BYTES, Server, Stop},
    time::Clock,
};
use chrono::{DateTime, Utc};
use prost::Message;
use sha2::{Digest as _, Sha256};
use tonic::{Request, Response, Status, codec::CompressionEncoding::Gzip};
use uuid::Uuid;

use crate::{
    accounts::{AccountFacts, Directory},
    audit_records::Asked,
    autopay::Autopay,
    config::Config,
    events::Feed,
    ledger::{Actor, TenantNo, batch::Poster},
    requests::{Call, Outcome},
};

mod accounts;
mod audit;
mod auto_topups;
mod autopay;
mod corrections;
mod credit;
mod documents;
mod events;
mod holds;
mod invoices;
mod ledger_status;
mod methods;
mod payments;
mod promised_payments;
mod statements;
mod status;
mod transactions;
mod transfers;

pub(crate) use methods::METHODS;

pub(crate) use crate::requests::detached;

/// What every handler works with.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) poster: Poster,
    pub(crate) events: Feed,
    pub(crate) pages: PageKey,
    pub(crate) autopay: Autopay,
    /// Says when the process stops.
    pub(crate) stop: Stop,
    pub(crate) config: Config,
}

/// Adds every service, each with the limits of the edge.
pub(crate) fn register(mut server: Server, shared: &Arc<Shared>) -> Server {
    macro_rules! serve {
        ($module:ident :: $make:ident ( $handler:expr )) => {
            server = server.service(
                pb::$module::$make::new($handler)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .accept_compressed(Gzip)
                    .send_compressed(Gzip),
            );
        };
    }
    let shared = || Arc::clone(shared);
    serve!(account_service_server::AccountServiceServer(accounts::Accounts(shared())));
    serve!(transfer_service_server::TransferServiceServer(transfers::Transfers(shared())));
    serve!(invoice_service_server::InvoiceServiceServer(invoices::Invoices(shared())));
    serve!(credit_service_server::CreditServiceServer(credit::Credit(shared())));
    serve!(payment_service_server::PaymentServiceServer(payments::Payments::new(shared())));
    serve!(promised_payment_service_server::PromisedPaymentServiceServer(
        promised_payments::PromisedPayments(shared())
    ));
    serve!(auto_top_up_service_server::AutoTopUpServiceServer(auto_topups::AutoTopUps(shared())));
    serve!(autopay_service_server::AutopayServiceServer(autopay::Autopays(shared())));
    serve!(transaction_service_server::TransactionServiceServer(transactions::Transactions(
        shared()
    )));
    serve!(document_service_server::DocumentServiceServer(documents::Documents(shared())));
    serve!(hold_service_server::HoldServiceServer(holds::Holds(shared())));
    serve!(event_service_server::EventServiceServer(events::Events(shared())));
    serve!(audit_service_server::AuditServiceServer(audit::Audit(shared())));
    server
}

/// Who calls, and what for.
fn split<M>(request: Request<M>) -> (Arc<Caller>, M) {
    let caller = identity::caller(&request).clone();
    (caller, request.into_inner())
}

/// A changing call as it came in.
struct Change<'a, M> {
    method: &'static str,
    caller: Arc<Caller>,
    id: RequestId,
    message: &'a M,
}

/// A call of holds, as its record shows it: its items have ids of their own.
fn asked<M: Message>(caller: &Arc<Caller>, method: &'static str, message: &M) -> Asked {
    let request = message.encode_to_vec();
    let actor = Actor { caller: Arc::clone(caller), method };
    Asked { actor, request_id: String::new(), hash: Sha256::digest(&request).into(), request }
}

/// An answer that can say that it was given before.
trait Replayable: Message + Default {
    fn mark(&mut self);
}

macro_rules! replayable {
    ($($message:ident),* $(,)?) => {
        $(impl Replayable for pb::$message {
            fn mark(&mut self) {
                self.replayed = true;
            }
        })*
    };
}

replayable!(
    CreateAccountResponse,
    UpdateAccountResponse,
    AttachClientResponse,
    DetachClientResponse,
    BlockAccountResponse,
    UnblockAccountResponse,
    CreateInvoiceResponse,
    CancelInvoiceResponse,
    UpdateDeferredInvoiceResponse,
    SetCreditTermsResponse,
    SetOverdraftThresholdResponse,
    RepayDeferredInvoiceResponse,
    RecordPaymentResponse,
    ImportStatementResponse,
    AllocatePaymentResponse,
    RefundPaymentResponse,
    CreditInvalidClicksResponse,
    ReverseTransactionResponse,
    TakePromisedPaymentResponse,
    RepayPromisedPaymentResponse,
    SetAutoTopUpResponse,
    DisableAutoTopUpResponse,
    CreateReconciliationActResponse,
    LinkCardResponse,
    UnlinkCardResponse,
    SetAutopayResponse,
    DisableAutopayResponse,
);

impl Shared {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The facts of an account that the caller may see; absent and foreign are one answer.
    async fn visible(
        &self,
        caller: &Caller,
        account: &AccountId,
    ) -> Result<Arc<AccountFacts>, Refusal> {
        self.visible_as(caller, account, &account.name()).await
    }

    /// The same for a resource of the account: `name` is what the caller sent.
    async fn visible_as(
        &self,
        caller: &Caller,
        account: &AccountId,
        name: &str,
    ) -> Result<Arc<AccountFacts>, Refusal> {
        match self.directory.find(account).await? {
            Some(facts) if caller.sees(facts.owner()) => Ok(facts),
            Some(_) | None => Err(rpc::not_found(name)),
        }
    }

    /// Whose request ids the caller uses; what is not there at all is not found under its own name.
    async fn scope(&self, caller: &Caller) -> Result<TenantNo, Refusal> {
        let tenant = caller.tenant.as_ref();
        let scope = self.directory.scope(tenant).await?;
        scope.ok_or_else(|| rpc::not_found(&tenant.map(AccountId::name).unwrap_or_default()))
    }

    /// The one tenant whose rows the caller sees; none when it sees all.
    async fn tenant(&self, caller: &Caller) -> Result<Option<TenantNo>, Refusal> {
        match caller.tenant {
            None => Ok(None),
            Some(_) => self.scope(caller).await.map(Some),
        }
    }

    /// Runs a changing operation to its end, whether or not the caller waits, and encodes what came of it.
    async fn change<M, T, R, E, F>(
        self: &Arc<Shared>,
        change: Change<'_, M>,
        encode: fn(&T) -> R,
        work: impl FnOnce(Arc<Shared>, Arc<Caller>, Call<T>) -> F,
    ) -> Result<Response<R>, Status>
    where
        M: Message,
        T: Send + 'static,
        R: Replayable + 'static,
        E: Into<Refusal> + Send + 'static,
        F: Future<Output = Result<Outcome<T>, E>> + Send + 'static,
    {
        let Change { method, caller, id, message } = change;
        let scope = self.scope(&caller).await?;
        let request = message.encode_to_vec();
        let hash = Sha256::digest(&request).into();
        let bytes = move |answer: &T| encode(answer).encode_to_vec();
        let encode_answer = Box::new(bytes);
        let asked_by = Arc::clone(&caller);
        let call =
            Call { caller: asked_by, scope, method, id, request, hash, encode: encode_answer };
        let outcome = detached(work(self.clone(), caller, call)).await.map_err(Into::into)?;
        let answer = match outcome {
            Outcome::Fresh(answer) => encode(&answer),
            Outcome::Replayed(bytes) => {
                let mut answer = R::decode(bytes.as_slice()).map_err(|e| rpc::fault(&e))?;
                answer.mark();
                answer
            }
        };
        Ok(Response::new(answer))
    }
}

/// A page's position that is one number; a token was sealed by us, so a position of another length is of
/// another version of us.
fn number(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

/// Where a page of a numbered list starts.
fn position(token: Option<Vec<u8>>, first: i64) -> i64 {
    token.as_deref().and_then(number).unwrap_or(first)
}

/// A page's position that is the moment and the id of its last row.
fn moment_and_id(position: &[u8]) -> Option<(DateTime<Utc>, Uuid)> {
    let (micros, id) = position.split_at_checked(8)?;
    let at = DateTime::from_timestamp_micros(number(micros)?)?;
    Some((at, Uuid::from_slice(id).ok()?))
}

/// The bytes that [`moment_and_id`] reads.
fn after_moment_and_id(at: DateTime<Utc>, id: Uuid) -> Vec<u8> {
    [at.timestamp_micros().to_be_bytes().as_slice(), id.as_bytes()].concat()
}

/// One row more than the page holds says that there is a next page.
fn cut<T>(rows: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}
