//! `adspend.billing.v1.AuditService`: decode, call, encode; nothing is decided here.

use std::sync::Arc;

use adspend_common::{
    id::AccountId,
    identity::{Caller, caller},
    proto::adspend::billing::v1 as pb,
    rpc::{self, Refusal, Violations},
};
use tonic::{Request, Response, Status};

use super::Shared;
use crate::ledger::audit::{self, Report};

/// The service.
#[derive(Clone)]
pub(crate) struct Audit(pub(crate) Arc<Shared>);

impl Audit {
    async fn verify(&self, caller: &Caller, account: &str) -> Result<Report, Refusal> {
        let mut v = Violations::new();
        let account: Option<Option<AccountId>> = v.optional_name("account", account);
        let (account,) = v.all((account,))?;
        let tenant = match account {
            Some(account) => Some(self.0.visible(caller, &account).await?.key.tenant),
            None => None,
        };
        Ok(audit::verify(&self.0.pool, tenant, self.0.clock.now(), None).await?)
    }
}

fn encode(report: &Report) -> pb::VerifyLedgerResponse {
    let difference = |difference: &audit::Difference| pb::LedgerDifference {
        check: difference.check.to_owned(),
        object: difference.object.clone(),
        detail: difference.detail.clone(),
    };
    pb::VerifyLedgerResponse {
        ok: report.is_ok(),
        differences: report.differences.iter().map(difference).collect(),
        accounts: report.accounts,
        entries: report.entries,
        legs: report.legs,
        holds: report.holds,
        verify_time: Some(rpc::timestamp(report.at)),
    }
}

#[tonic::async_trait]
impl pb::audit_service_server::AuditService for Audit {
    async fn verify_ledger(
        &self,
        request: Request<pb::VerifyLedgerRequest>,
    ) -> Result<Response<pb::VerifyLedgerResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let report = self.verify(&caller, &request.get_ref().account).await?;
        Ok(Response::new(encode(&report)))
    }
}
