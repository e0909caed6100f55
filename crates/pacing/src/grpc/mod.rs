//! The edge: requests become values of the features, their answers become messages. Nothing is
//! decided here. One file per service of `proto/adspend/pacing/v1`; [`status`] alone names codes.

mod admission;
mod budgets;
mod campaigns;
mod charges;
mod methods;
mod reports;
mod status;
#[cfg(test)]
mod tests;

use adspend_common::id::RequestId;
use adspend_common::identity::Caller;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{Refusal, fault};
use adspend_common::server::{MAX_MESSAGE_BYTES, Server};
use prost::Message;
use tonic::Response;
use tonic::codec::CompressionEncoding::Gzip;

use crate::app::Services;
use crate::requests::{Answer, Call};

pub(crate) use methods::METHODS;

/// Adds every service.
pub(crate) fn register(server: Server, services: &Services) -> Server {
    let campaigns = campaigns::Campaigns::new(services.clone());
    let campaigns = pb::campaign_service_server::CampaignServiceServer::new(campaigns)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let budgets = budgets::Budgets::new(services.clone());
    let budgets = pb::budget_service_server::BudgetServiceServer::new(budgets)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let charges = charges::Charges::new(services.clone());
    let charges = pb::charge_service_server::ChargeServiceServer::new(charges)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let reports = reports::Reports::new(services.clone());
    let reports = pb::report_service_server::ReportServiceServer::new(reports)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    let admissions = admission::Admissions::new(services.clone());
    let admissions = pb::admission_service_server::AdmissionServiceServer::new(admissions)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .accept_compressed(Gzip)
        .send_compressed(Gzip);
    server.service(admissions).service(campaigns).service(budgets).service(charges).service(reports)
}

/// The response of a changing method: made from a `T`, or read back when the call is a repeat.
trait Reply<T>: Message + Default {
    /// The response for what was done now.
    fn of(outcome: &T) -> Self;

    /// Says that it had been done before.
    fn mark_replayed(&mut self);
}

/// A changing call: `request` is what must be the same when the id comes again.
fn call<T, R: Reply<T>>(
    caller: &Caller,
    method: &'static str,
    id: RequestId,
    request: &impl Message,
) -> Call<T> {
    Call {
        tenant: caller.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        method,
        id,
        payload_hash: *blake3::hash(&request.encode_to_vec()).as_bytes(),
        encode: |outcome| R::of(outcome).encode_to_vec(),
    }
}

/// The answer of a changing call as its response.
fn reply<T, R: Reply<T>>(answer: Answer<T>) -> Result<Response<R>, Refusal> {
    match answer {
        Answer::New(outcome) => Ok(Response::new(R::of(&outcome))),
        Answer::Replayed(bytes) => {
            let mut response = R::decode(bytes.as_slice()).map_err(|error| fault(&error))?;
            response.mark_replayed();
            Ok(Response::new(response))
        }
    }
}

/// Where a page begins: the number that the last one ended with.
fn position(token: Option<Vec<u8>>) -> Option<i64> {
    // A token of ours holds eight bytes; its MAC was checked.
    token.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes)
}
