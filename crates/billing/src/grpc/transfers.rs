//! `adspend.billing.v1.TransferService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::{AccountId, RequestId},
    identity::{Caller, caller},
    money::{Currency, Money},
    proto::adspend::{billing::v1 as pb, r#type::v1::ItemError},
    rpc::{self, PageScope, Refusal, Violations, not_found},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Shared;
use crate::{
    ledger::{self, Actor, batch::Linked},
    transfers::{self, MAX_BATCH, NewTransfer, Transfer},
};

/// The service.
#[derive(Clone)]
pub(crate) struct Transfers(pub(crate) Arc<Shared>);

/// A request whose fields are well formed.
struct Asked {
    source: AccountId,
    destination: AccountId,
    amount: Money,
    currency: Currency,
    request_id: RequestId,
}

fn decode(request: &pb::CreateTransferRequest) -> Result<Asked, Refusal> {
    let mut v = Violations::new();
    let source = v.name("source", &request.source);
    let destination = v.name("destination", &request.destination);
    let amount = v.kopecks("amount", request.amount.as_ref());
    let request_id = v.request_id(&request.request_id);
    let (source, destination, (amount, currency), request_id) =
        v.all((source, destination, amount, request_id))?;
    Ok(Asked { source, destination, amount, currency, request_id })
}

impl Transfers {
    async fn new_transfer(&self, caller: &Caller, asked: Asked) -> Result<NewTransfer, Refusal> {
        let Asked { source, destination, amount, currency, request_id } = asked;
        let source = self.0.visible(caller, &source).await?;
        let destination = self.0.visible(caller, &destination).await?;
        Ok(NewTransfer { source, destination, amount, currency, request_id })
    }

    async fn create(
        &self,
        caller: &Arc<Caller>,
        request: &pb::CreateTransferRequest,
    ) -> Result<Transfer, Refusal> {
        let new = self.new_transfer(caller, decode(request)?).await?;
        let actor = Actor { caller: Arc::clone(caller), method: "CreateTransfer" };
        let done = transfers::create(&self.0.poster, actor.clone(), &new).await;
        if !is_moved(&done) {
            return done.map_err(Refusal::from);
        }
        // An account has moved to another tenant since it was cached: look again, once.
        self.forget(&new);
        let new = self.new_transfer(caller, decode(request)?).await?;
        Ok(transfers::create(&self.0.poster, actor, &new).await?)
    }

    fn forget(&self, new: &NewTransfer) {
        self.0.directory.invalidate(&new.source.id);
        self.0.directory.invalidate(&new.destination.id);
    }

    async fn create_all(
        &self,
        caller: &Arc<Caller>,
        request: &pb::BatchCreateTransfersRequest,
    ) -> Result<Vec<pb::BatchCreateTransfersResult>, Refusal> {
        rpc::batch_limit("requests", request.requests.len(), MAX_BATCH)?;
        let mut refused: Vec<Option<ItemError>> = Vec::with_capacity(request.requests.len());
        let mut items = Vec::with_capacity(request.requests.len());
        for item in &request.requests {
            let new = match decode(item) {
                Ok(asked) => self.new_transfer(caller, asked).await,
                Err(refusal) => Err(refusal),
            };
            match new {
                Ok(new) => {
                    refused.push(None);
                    items.push(Ok(new));
                }
                Err(refusal) => refused.push(Some(refusal.item())),
            }
        }
        let linked = if request.atomic { Linked::Yes } else { Linked::No };
        if linked == Linked::Yes && refused.iter().any(Option::is_some) {
            let aborted = Refusal::from(ledger::Refusal::GroupAborted).item();
            let errors = refused.into_iter().map(|error| error.unwrap_or_else(|| aborted.clone()));
            return Ok(errors.map(|error| result(Err(error))).collect());
        }
        let actor = Actor { caller: Arc::clone(caller), method: "BatchCreateTransfers" };
        let done = transfers::create_all(&self.0.poster, actor, items, linked).await;
        let mut done = done.into_iter();
        Ok(refused
            .into_iter()
            .map(|refused| match refused {
                Some(error) => result(Err(error)),
                None => {
                    let verdict = done.next().unwrap_or(Err(transfers::Error::Stopping));
                    result(verdict.map_err(|error| Refusal::from(error).item()))
                }
            })
            .collect())
    }

    async fn get(&self, caller: &Caller, name: &str) -> Result<Transfer, Refusal> {
        let mut v = Violations::new();
        let path = v.path2("name", name, ["accounts", "transfers"]);
        let ([account, id],) = v.all((path,))?;
        let owner = self.0.visible_as(caller, &AccountId::from(account), name).await?;
        let id = Uuid::parse_str(id.as_str()).map_err(|_| not_found(name))?;
        let client = self.0.pool.get().await?;
        let transfer = transfers::find(&client, owner.key.tenant, id).await?;
        transfer.filter(|transfer| transfer.agency == owner.id).ok_or_else(|| not_found(name))
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListTransfersRequest,
    ) -> Result<pb::ListTransfersResponse, Refusal> {
        let scope = PageScope::new("ListTransfers", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let position = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, position) = v.all((parent, size, position))?;
        let account = self.0.visible(caller, &parent).await?;
        let before = position.as_deref().and_then(super::number).unwrap_or(i64::MAX);
        let client = self.0.pool.get().await?;
        let mut rows =
            transfers::list(&client, account.key, before, i64::from(size).saturating_add(1))
                .await?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        let last = rows.last().filter(|_| more);
        let next_page_token = last.map_or_else(String::new, |(version, _)| {
            self.0.pages.seal(&scope, &version.to_be_bytes())
        });
        let transfers = rows.iter().map(|(_, transfer)| encode(transfer)).collect();
        Ok(pb::ListTransfersResponse { transfers, next_page_token })
    }
}

fn is_moved(done: &Result<Transfer, transfers::Error>) -> bool {
    matches!(done, Err(transfers::Error::Refused(ledger::Refusal::UnknownAccount(_))))
}

fn encode(transfer: &Transfer) -> pb::Transfer {
    pb::Transfer {
        name: format!("{}/transfers/{}", transfer.agency.name(), transfer.id),
        source: transfer.source.name(),
        destination: transfer.destination.name(),
        amount: Some(rpc::money(transfer.amount, transfer.currency)),
        create_time: Some(rpc::timestamp(transfer.at)),
        source_balance: Some(rpc::balance(transfer.source_balance, transfer.currency)),
        destination_balance: Some(rpc::balance(transfer.destination_balance, transfer.currency)),
    }
}

fn created(transfer: &Transfer) -> pb::CreateTransferResponse {
    pb::CreateTransferResponse { transfer: Some(encode(transfer)), replayed: transfer.replayed }
}

fn result(verdict: Result<Transfer, ItemError>) -> pb::BatchCreateTransfersResult {
    use pb::batch_create_transfers_result::Outcome;
    let outcome = match verdict {
        Ok(transfer) => Outcome::Done(created(&transfer)),
        Err(error) => Outcome::Error(error),
    };
    pb::BatchCreateTransfersResult { outcome: Some(outcome) }
}

#[tonic::async_trait]
impl pb::transfer_service_server::TransferService for Transfers {
    async fn create_transfer(
        &self,
        request: Request<pb::CreateTransferRequest>,
    ) -> Result<Response<pb::CreateTransferResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let transfer = self.create(&caller, request.get_ref()).await?;
        Ok(Response::new(created(&transfer)))
    }

    async fn batch_create_transfers(
        &self,
        request: Request<pb::BatchCreateTransfersRequest>,
    ) -> Result<Response<pb::BatchCreateTransfersResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let results = self.create_all(&caller, request.get_ref()).await?;
        Ok(Response::new(pb::BatchCreateTransfersResponse { results }))
    }

    async fn get_transfer(
        &self,
        request: Request<pb::GetTransferRequest>,
    ) -> Result<Response<pb::GetTransferResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let transfer = self.get(&caller, &request.get_ref().name).await?;
        Ok(Response::new(pb::GetTransferResponse { transfer: Some(encode(&transfer)) }))
    }

    async fn list_transfers(
        &self,
        request: Request<pb::ListTransfersRequest>,
    ) -> Result<Response<pb::ListTransfersResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        Ok(Response::new(self.list(&caller, request.get_ref()).await?))
    }
}
