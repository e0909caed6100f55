//! AdmissionService. What is decided is decided in memory (`crate::admission`); here requests are
//! checked, tokens are sealed, and callers of a cold campaign wait for its first slice.
//!
//! A right request costs no allocation but its answer's token; a batch's tokens share one buffer.

use adspend_common::identity::{self, Caller};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{self, Deadline, Refusal, Violations};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use pb::admit_response::Decision as Outcome;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::admission::token::TOKEN_BYTES;
use crate::admission::{
    Asked, Decision, Denial, Level, Moment, Opportunity, Reason, Tally, Token, Viewer,
};
use crate::app::Services;

/// The most opportunities of one batch.
const MAX_BATCH: usize = 1_000;

/// The longest opportunity id in bytes.
pub(super) const MAX_OPPORTUNITY_BYTES: usize = 64;

/// The highest price: a hundred million units. Less than the largest slice.
const MAX_PRICE_MICROS: i64 = 100_000_000_000_000;

/// A chance of 1 in parts of a million.
const CERTAIN_PPM: i32 = 1_000_000;

/// How many batches of a stream may wait for cold campaigns at a time.
const STREAM_BATCHES: usize = 16;

const COLLECTION: &str = "campaigns/";

#[derive(Clone)]
pub(super) struct Admissions {
    services: Services,
    tally: Tally,
}

impl Admissions {
    pub(super) fn new(services: Services) -> Admissions {
        Admissions { services, tally: Tally::published() }
    }
}

#[tonic::async_trait]
impl pb::admission_service_server::AdmissionService for Admissions {
    async fn admit(
        &self,
        request: Request<pb::AdmitRequest>,
    ) -> Result<Response<pb::AdmitResponse>, Status> {
        if !is_right(request.get_ref()) {
            let mut violations = Violations::new();
            explain(&mut violations, request.get_ref());
            violations.check()?;
        }
        let moment = Moment::of(&self.services.clock);
        let mut decision =
            self.decide(&moment, identity::caller(&request), Asked::First, request.get_ref());
        if waits(&decision) {
            let until = self.patience(Deadline::of(&request));
            decision =
                self.wait(decision, until, identity::caller(&request), request.get_ref()).await;
        }
        self.tally.count([&decision]);
        let token = |token: &Token| self.services.token_key.seal(token);
        Ok(Response::new(response(&decision, token)))
    }

    async fn batch_admit(
        &self,
        request: Request<pb::BatchAdmitRequest>,
    ) -> Result<Response<pb::BatchAdmitResponse>, Status> {
        let deadline = Deadline::of(&request);
        let requests = &request.get_ref().requests;
        let responses = self.batch(identity::caller(&request), deadline, requests).await?;
        Ok(Response::new(pb::BatchAdmitResponse { responses }))
    }

    type StreamAdmitStream = BoxStream<'static, Result<pb::StreamAdmitResponse, Status>>;

    /// A batch that waits for a cold campaign does not hold up those behind it.
    async fn stream_admit(
        &self,
        request: Request<tonic::Streaming<pb::StreamAdmitRequest>>,
    ) -> Result<Response<Self::StreamAdmitStream>, Status> {
        let caller = identity::caller(&request).clone();
        let edge = self.clone();
        let answers = request.into_inner().map(move |message| {
            let (edge, caller) = (edge.clone(), caller.clone());
            async move {
                let pb::StreamAdmitRequest { sequence, requests } = message?;
                let responses = edge.batch(&caller, Deadline::none(), &requests).await?;
                Ok(pb::StreamAdmitResponse { sequence, responses })
            }
        });
        Ok(Response::new(answers.buffer_unordered(STREAM_BATCHES).boxed()))
    }
}

impl Admissions {
    async fn batch(
        &self,
        caller: &Caller,
        deadline: Deadline,
        requests: &[pb::AdmitRequest],
    ) -> Result<Vec<pb::AdmitResponse>, Refusal> {
        rpc::batch_limit("requests", requests.len(), MAX_BATCH)?;
        // All of them before any: a batch with a mistake in it spends nothing.
        if !requests.iter().all(is_right) {
            let mut violations = Violations::new();
            for (index, request) in requests.iter().enumerate() {
                violations.item("requests", index, |violations| explain(violations, request));
            }
            violations.check()?;
        }
        let moment = Moment::of(&self.services.clock);
        let mut decisions = Vec::with_capacity(requests.len());
        {
            let view = self.services.admission.view();
            let viewer = view.viewer(caller.tenant.as_ref().map(AsRef::as_ref));
            for request in requests {
                decisions.push(view.admit(&moment, viewer, Asked::First, &opportunity(request)));
            }
        }
        if decisions.iter().any(waits) {
            let until = self.patience(deadline);
            for (decision, request) in decisions.iter_mut().zip(requests) {
                if waits(decision) {
                    *decision = self.wait(decision.clone(), until, caller, request).await;
                }
            }
        }
        self.tally.count(&decisions);
        Ok(self.encode(&decisions))
    }

    fn encode(&self, decisions: &[Decision]) -> Vec<pb::AdmitResponse> {
        let mut sealed = Vec::with_capacity(decisions.len() * TOKEN_BYTES);
        for decision in decisions {
            if let Decision::Admitted(token) = decision {
                self.services.token_key.seal_into(&mut sealed, token);
            }
        }
        let mut sealed = Bytes::from(sealed);
        let mut next = |token: &Token| sealed.split_to(token.sealed_bytes());
        decisions.iter().map(|decision| response(decision, &mut next)).collect()
    }

    fn decide(
        &self,
        moment: &Moment,
        caller: &Caller,
        asked: Asked,
        request: &pb::AdmitRequest,
    ) -> Decision {
        let view = self.services.admission.view();
        let viewer: Viewer = view.viewer(caller.tenant.as_ref().map(AsRef::as_ref));
        view.admit(moment, viewer, asked, &opportunity(request))
    }

    /// Until when a caller may wait: the deadline of the call, and our own limit.
    fn patience(&self, deadline: Deadline) -> Instant {
        // A tenth of what is left is for the way back.
        let left = deadline.remaining().mul_f64(0.9);
        Instant::now() + left.min(self.services.leases.cold_wait())
    }

    /// Waits until something is known about a campaign that is not known or cold, and decides
    /// again.
    async fn wait(
        &self,
        decision: Decision,
        until: Instant,
        caller: &Caller,
        request: &pb::AdmitRequest,
    ) -> Decision {
        let again = |asked| self.decide(&Moment::of(&self.services.clock), caller, asked, request);
        let mut decision = decision;
        if is_unknown(&decision) {
            // Somebody of the same batch may have waited for it already.
            decision = again(Asked::First);
        }
        if is_unknown(&decision) {
            // It may have been made on another replica a moment ago.
            let caught_up = tokio::time::timeout_at(until, self.services.feed.catch_up()).await;
            if !matches!(caught_up, Ok(Ok(()))) {
                return decision;
            }
            decision = again(Asked::First);
        }
        while let Decision::Cold(entity) = decision {
            let mut arrival = std::pin::pin!(entity.arrival());
            // From here on an arrival is noticed, so look once more before sleeping.
            arrival.as_mut().enable();
            decision = again(Asked::Again);
            if !matches!(decision, Decision::Cold(_)) {
                break;
            }
            self.services.leases.hurry();
            if tokio::time::timeout_at(until, arrival).await.is_err() {
                return Decision::Denied(overloaded());
            }
            decision = again(Asked::Again);
        }
        decision
    }
}

fn is_unknown(decision: &Decision) -> bool {
    matches!(decision, Decision::Denied(Denial { reason: Reason::CampaignUnknown, .. }))
}

fn waits(decision: &Decision) -> bool {
    matches!(decision, Decision::Cold(_)) || is_unknown(decision)
}

fn overloaded() -> Denial {
    Denial {
        reason: Reason::Overloaded,
        level: None,
        limit_micros: 0,
        used_micros: 0,
        retry_after_micros: 100_000,
    }
}

fn opportunity(request: &pb::AdmitRequest) -> Opportunity<'_> {
    Opportunity {
        id: &request.opportunity_id,
        campaign: request.campaign.strip_prefix(COLLECTION).unwrap_or_default(),
        max_price_micros: request.max_price_micros,
        chance_ppm: request.charge_probability_ppm.and_then(|ppm| u32::try_from(ppm).ok()),
    }
}

/// The checks of [`explain`] without words: true for every right request, and for no other.
fn is_right(request: &pb::AdmitRequest) -> bool {
    let id = request.campaign.strip_prefix(COLLECTION).unwrap_or_default().as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=MAX_OPPORTUNITY_BYTES).contains(&request.opportunity_id.len())
        && id.len() <= adspend_common::id::MAX_ID_BYTES
        && edge(id.first())
        && edge(id.last())
        && id.iter().all(inside)
        && (1..=MAX_PRICE_MICROS).contains(&request.max_price_micros)
        && request.charge_probability_ppm.is_none_or(|ppm| (0..=CERTAIN_PPM).contains(&ppm))
}

/// Everything that is wrong with a request.
fn explain(violations: &mut Violations, request: &pb::AdmitRequest) {
    let _ = violations.text("opportunity_id", &request.opportunity_id, MAX_OPPORTUNITY_BYTES);
    let _ = violations.name::<adspend_common::id::Campaigns>("campaign", &request.campaign);
    if request.max_price_micros > MAX_PRICE_MICROS {
        violations.add("max_price_micros", format!("must be at most {MAX_PRICE_MICROS}"));
    } else {
        let _ = violations.micros("max_price_micros", request.max_price_micros);
    }
    if request.charge_probability_ppm.is_some_and(|ppm| !(0..=CERTAIN_PPM).contains(&ppm)) {
        violations.add("charge_probability_ppm", format!("must be from 0 to {CERTAIN_PPM}"));
    }
}

fn response(decision: &Decision, seal: impl FnOnce(&Token) -> Bytes) -> pb::AdmitResponse {
    let outcome = match decision {
        Decision::Admitted(token) => Outcome::Admitted(pb::Admission {
            token: seal(token),
            expire_time: Some(prost_types::Timestamp {
                seconds: token.expires_at_micros.div_euclid(1_000_000),
                nanos: nanos(token.expires_at_micros),
            }),
        }),
        Decision::Denied(denial) => Outcome::Denied(denied(denial)),
        // Nobody answers with it: whoever is cold has waited.
        Decision::Cold(_) => Outcome::Denied(denied(&overloaded())),
    };
    pb::AdmitResponse { decision: Some(outcome) }
}

fn nanos(micros: i64) -> i32 {
    i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0)
}

fn denied(denial: &Denial) -> pb::Denial {
    let level = match denial.level {
        None => pb::Level::Unspecified,
        Some(Level::Campaign) => pb::Level::Campaign,
        Some(Level::Account) => pb::Level::Account,
    };
    let retry_after = (denial.retry_after_micros > 0).then(|| prost_types::Duration {
        seconds: denial.retry_after_micros.div_euclid(1_000_000),
        nanos: nanos(denial.retry_after_micros),
    });
    pb::Denial {
        reason: reason(denial.reason).into(),
        level: level.into(),
        limit_micros: denial.limit_micros,
        used_micros: denial.used_micros,
        retry_after,
    }
}

pub(super) fn reason(reason: Reason) -> pb::DenialReason {
    match reason {
        Reason::CampaignUnknown => pb::DenialReason::CampaignUnknown,
        Reason::CampaignPaused => pb::DenialReason::CampaignPaused,
        Reason::AccountBlocked => pb::DenialReason::AccountBlocked,
        Reason::OutsideSchedule => pb::DenialReason::OutsideSchedule,
        Reason::OutsideDates => pb::DenialReason::OutsideDates,
        Reason::CampaignDayLimit => pb::DenialReason::CampaignDayLimit,
        Reason::CampaignWeekLimit => pb::DenialReason::CampaignWeekLimit,
        Reason::AccountDayLimit => pb::DenialReason::AccountDayLimit,
        Reason::AccountWeekLimit => pb::DenialReason::AccountWeekLimit,
        Reason::Throttled => pb::DenialReason::Throttled,
        Reason::NoFunds => pb::DenialReason::NoFunds,
        Reason::NoFundsConfirmed => pb::DenialReason::NoFundsConfirmed,
        Reason::Overloaded => pb::DenialReason::Overloaded,
    }
}
