//! `adspend.billing.v1.AccountService`: call and encode; `accounts/decode.rs` reads the requests.

mod decode;

use std::sync::Arc;

use adspend_common::{
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::{Change, Shared, cut, position, split};
use crate::accounts::{self, Account, AccountKind, AccountState, Figures, Listed};
pub(super) use decode::legal_entity;

/// The service.
#[derive(Clone)]
pub(crate) struct Accounts(pub(crate) Arc<Shared>);

fn encode(account: &Account) -> pb::Account {
    let kind = match account.kind {
        AccountKind::Agency => pb::AccountKind::Agency,
        AccountKind::Client => pb::AccountKind::Client,
        AccountKind::Advertiser => pb::AccountKind::Advertiser,
    };
    let state = match account.state {
        AccountState::Active => pb::AccountState::Active,
        AccountState::Blocked => pb::AccountState::Blocked,
        AccountState::Closed => pb::AccountState::Closed,
    };
    pb::Account {
        name: account.id.name(),
        kind: kind.into(),
        agency: account.agency().map(|agency| agency.name()).unwrap_or_default(),
        display_name: account.display_name.clone(),
        currency_code: account.currency.to_string(),
        legal_entity: account.legal_entity.as_ref().map(|entity| pb::LegalEntity {
            country_code: entity.country.clone(),
            name: entity.name.clone(),
            inn: entity.inn.clone(),
            kpp: entity.kpp.clone(),
            ogrn: entity.ogrn.clone(),
            address: entity.address.clone(),
        }),
        notification_email: account.email.clone(),
        state: state.into(),
        create_time: Some(rpc::timestamp(account.created_at)),
        etag: account.etag(),
    }
}

macro_rules! answers {
    ($($function:ident: $response:ident),* $(,)?) => {
        $(fn $function(account: &Account) -> pb::$response {
            pb::$response { account: Some(encode(account)), replayed: false }
        })*
    };
}

answers!(
    created: CreateAccountResponse,
    updated: UpdateAccountResponse,
    attached: AttachClientResponse,
    detached: DetachClientResponse,
    blocked: BlockAccountResponse,
    unblocked: UnblockAccountResponse,
);

fn encode_figures(figures: &Figures) -> pb::GetBalanceResponse {
    let currency = figures.currency;
    let money = |amount| Some(rpc::money(amount, currency));
    pb::GetBalanceResponse {
        posted: Some(rpc::balance(figures.posted(), currency)),
        held: money(figures.held),
        frozen: money(figures.frozen),
        overdraft_threshold: money(figures.overdraft),
        available: Some(rpc::balance(figures.available(), currency)),
        promised_debt: money(figures.promised_debt),
        deferred_debt: money(figures.deferred_debt),
        spend_only: money(figures.spend_only),
        as_of: Some(rpc::timestamp(figures.at)),
    }
}

impl Accounts {
    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListAccountsRequest,
    ) -> Result<pb::ListAccountsResponse, Refusal> {
        let scope = PageScope::new("ListAccounts", caller).with(&request.agency);
        let mut v = Violations::new();
        let agency = v.optional_name("agency", &request.agency);
        let size = v.page_size(request.page_size);
        let token = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (agency, size, token) = v.all((agency, size, token))?;
        let own = self.0.tenant(caller).await?;
        let client = self.0.pool.get().await?;
        let tenant = match &agency {
            Some(agency) => Some(accounts::get(&client, caller, agency).await?.key.tenant),
            None => own,
        };
        let (after, limit) = (position(token, 0), size.saturating_add(1));
        let listed = Listed { tenant, clients_only: agency.is_some(), after, limit };
        let mut rows = accounts::store::list(&client, listed).await?;
        let more = cut(&mut rows, size);
        let last = rows.last().filter(|_| more).map(|last| last.key.account.0.to_be_bytes());
        Ok(pb::ListAccountsResponse {
            accounts: rows.iter().map(encode).collect(),
            next_page_token: last.map(|at| self.0.pages.seal(&scope, &at)).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl pb::account_service_server::AccountService for Accounts {
    async fn create_account(
        &self,
        request: Request<pb::CreateAccountRequest>,
    ) -> Result<Response<pb::CreateAccountResponse>, Status> {
        let (caller, message) = split(request);
        let (new, id) = decode::new(&message, &caller, self.0.now())?;
        let change = Change { method: "CreateAccount", caller, id, message: &message };
        self.0
            .change(change, created, |shared, caller, call| async move {
                accounts::create(&shared.pool, shared.now(), &call, &caller, &new).await
            })
            .await
    }

    async fn get_account(
        &self,
        request: Request<pb::GetAccountRequest>,
    ) -> Result<Response<pb::GetAccountResponse>, Status> {
        let (caller, message) = split(request);
        let mut v = Violations::new();
        let id = v.name("name", &message.name);
        let (id,) = v.all((id,))?;
        let client = self.0.pool.get().await.map_err(Refusal::from)?;
        let account = accounts::get(&client, &caller, &id).await.map_err(Refusal::from)?;
        Ok(Response::new(pb::GetAccountResponse { account: Some(encode(&account)) }))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let (caller, message) = split(request);
        Ok(Response::new(self.list(&caller, &message).await?))
    }

    async fn update_account(
        &self,
        request: Request<pb::UpdateAccountRequest>,
    ) -> Result<Response<pb::UpdateAccountResponse>, Status> {
        let (caller, message) = split(request);
        let decode::Update { account, etag, changes, id } = decode::update(&message)?;
        let change = Change { method: "UpdateAccount", caller, id, message: &message };
        self.0
            .change(change, updated, |shared, caller, call| async move {
                let what = (&account, etag.as_str(), &changes);
                accounts::update(&shared.pool, shared.now(), &call, &caller, what).await
            })
            .await
    }

    async fn attach_client(
        &self,
        request: Request<pb::AttachClientRequest>,
    ) -> Result<Response<pb::AttachClientResponse>, Status> {
        let (caller, message) = split(request);
        let (account, agency, id) = decode::attach(&message)?;
        let change = Change { method: "AttachClient", caller, id, message: &message };
        self.0
            .change(change, attached, |shared, caller, call| async move {
                let (now, of) = (shared.now(), (&account, &agency));
                let moved = accounts::attach(&shared.pool, now, &call, &caller, of).await;
                shared.directory.invalidate(&account);
                moved
            })
            .await
    }

    async fn detach_client(
        &self,
        request: Request<pb::DetachClientRequest>,
    ) -> Result<Response<pb::DetachClientResponse>, Status> {
        let (caller, message) = split(request);
        let (account, id) = decode::named(&message.name, &message.request_id)?;
        let change = Change { method: "DetachClient", caller, id, message: &message };
        self.0
            .change(change, detached, |shared, caller, call| async move {
                let now = shared.now();
                let moved = accounts::detach(&shared.pool, now, &call, &caller, &account).await;
                shared.directory.invalidate(&account);
                moved
            })
            .await
    }

    async fn block_account(
        &self,
        request: Request<pb::BlockAccountRequest>,
    ) -> Result<Response<pb::BlockAccountResponse>, Status> {
        let (caller, message) = split(request);
        let (account, id) = decode::named(&message.name, &message.request_id)?;
        let change = Change { method: "BlockAccount", caller, id, message: &message };
        self.0
            .change(change, blocked, |shared, caller, call| async move {
                let to = (&account, AccountState::Blocked);
                accounts::set_state(&shared.pool, shared.now(), &call, &caller, to).await
            })
            .await
    }

    async fn unblock_account(
        &self,
        request: Request<pb::UnblockAccountRequest>,
    ) -> Result<Response<pb::UnblockAccountResponse>, Status> {
        let (caller, message) = split(request);
        let (account, id) = decode::named(&message.name, &message.request_id)?;
        let change = Change { method: "UnblockAccount", caller, id, message: &message };
        self.0
            .change(change, unblocked, |shared, caller, call| async move {
                let to = (&account, AccountState::Active);
                accounts::set_state(&shared.pool, shared.now(), &call, &caller, to).await
            })
            .await
    }

    async fn get_balance(
        &self,
        request: Request<pb::GetBalanceRequest>,
    ) -> Result<Response<pb::GetBalanceResponse>, Status> {
        let (caller, message) = split(request);
        let now = self.0.now();
        let (id, as_of) = decode::balance(&message, now)?;
        let of = (&id, as_of);
        let figures = accounts::balance(&self.0.pool, now, &caller, of).await;
        Ok(Response::new(encode_figures(&figures.map_err(Refusal::from)?)))
    }
}
