//! The edge: requests become values of the features, their answers become messages. Nothing is decided
//! here. One file per service of `proto/adspend/billing/v1`; [`status`] and its part for the ledger
//! alone name codes.

use std::sync::Arc;

use adspend_common::{
    db::Pool,
    id::AccountId,
    identity::Caller,
    proto::adspend::billing::v1 as pb,
    rpc::{PageKey, Refusal, not_found},
    server::{MAX_MESSAGE_BYTES, Server},
    time::Clock,
};
use tonic::codec::CompressionEncoding::Gzip;

use crate::{
    accounts::{AccountFacts, Directory},
    config::Config,
    ledger::batch::Poster,
};

mod audit;
mod holds;
mod ledger_status;
mod methods;
mod transfers;

pub(crate) use methods::METHODS;

pub(crate) use crate::requests::detached;

/// What every handler needs.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) poster: Poster,
    pub(crate) pages: PageKey,
    pub(crate) config: Config,
}

impl Shared {
    /// The account, when the caller may see it; foreign and absent answer alike.
    pub(crate) async fn visible(
        &self,
        caller: &Caller,
        account: &AccountId,
    ) -> Result<Arc<AccountFacts>, Refusal> {
        let facts = self.directory.find(account).await?;
        facts
            .filter(|facts| caller.sees(facts.owner()))
            .ok_or_else(|| not_found(&account.name()))
    }

    /// The account of another resource, when the caller may see it; `name` is what the caller sent.
    pub(crate) async fn visible_as(
        &self,
        caller: &Caller,
        account: &AccountId,
        name: &str,
    ) -> Result<Arc<AccountFacts>, Refusal> {
        let facts = self.directory.find(account).await?;
        facts.filter(|facts| caller.sees(facts.owner())).ok_or_else(|| not_found(name))
    }
}

/// Eight bytes of a page position.
fn number(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.try_into().ok()?))
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
    serve!(transfer_service_server::TransferServiceServer(transfers::Transfers(shared())));
    serve!(hold_service_server::HoldServiceServer(holds::Holds(shared())));
    serve!(audit_service_server::AuditServiceServer(audit::Audit(shared())));
    server
}
