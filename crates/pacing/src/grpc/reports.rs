//! ReportService.

use adspend_common::identity;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{self, Refusal, Violations};
use tonic::{Request, Response, Status};

use super::budgets::parent;
use crate::app::Services;
use crate::reports::{self, PacingState};

pub(super) struct Reports {
    services: Services,
}

impl Reports {
    pub(super) fn new(services: Services) -> Reports {
        Reports { services }
    }
}

#[tonic::async_trait]
impl pb::report_service_server::ReportService for Reports {
    async fn get_pacing_state(
        &self,
        request: Request<pb::GetPacingStateRequest>,
    ) -> Result<Response<pb::GetPacingStateResponse>, Status> {
        let asked = request.get_ref();
        let mut v = Violations::new();
        let (owner, day) =
            (parent(&mut v, &asked.parent), v.optional_day("day", asked.day.as_ref()));
        let (owner, day) = v.all((owner, day))?;
        let caller = identity::caller(&request);
        let state = reports::pacing_state(&self.services, caller, &owner, day).await;
        Ok(Response::new(response(&state.map_err(Refusal::from)?)))
    }
}

fn response(state: &PacingState) -> pb::GetPacingStateResponse {
    pb::GetPacingStateResponse {
        day: Some(rpc::date(state.day)),
        limit_micros: state.limit.map(|limit| limit.micros()),
        charged_micros: state.charged.micros(),
        late_micros: state.late.micros(),
        reserved_micros: state.reserved.micros(),
        charges: state.charges,
        admission_rate_ppm: state.rate_ppm,
        free_hold_micros: state.free_hold.micros(),
        unsettled_micros: state.unsettled.micros(),
        currency_code: state.currency.to_string(),
        replicas: i32::try_from(state.replicas).unwrap_or(i32::MAX),
        read_time: Some(rpc::timestamp(state.read_at)),
    }
}
