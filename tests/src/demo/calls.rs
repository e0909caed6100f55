//! The calls of the traffic, each a task of its own that always ends in an answer.

use adspend_common::{
    proto::adspend::{
        pacing::v1::{
            AdmitRequest, BatchAdmitRequest, BatchSettleRequest, CancelRequest, DenialReason,
            SettleRequest, admit_response, settle_request, settle_result,
        },
        types::v1::ItemError,
    },
    time::{Clock, Day},
};
use chrono::{DateTime, NaiveDate, Utc};
use prost::bytes::Bytes;
use tokio::time::timeout;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    book::Reservation,
    events::Event,
    fleet::{CALL_LIMIT, Member, request},
    scenario::{CAMPAIGNS, campaign_name},
};

/// An opportunity on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) number: usize,
    pub(crate) event: Event,
    pub(crate) attempts: u32,
}

/// What the service said to an opportunity.
#[derive(Debug)]
pub(crate) enum Decision {
    Admitted(Admission),
    Denied(&'static str),
}

/// Leave to spend.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) token: Bytes,
    pub(crate) expires_at: DateTime<Utc>,
    /// When the answer was there.
    pub(crate) at: DateTime<Utc>,
    /// The Moscow day of the admission, when the call did not go over midnight.
    pub(crate) day: Option<Day>,
}

/// A charge on its way.
#[derive(Debug)]
pub(crate) struct Reported {
    pub(crate) charge_id: String,
    pub(crate) token: Bytes,
    pub(crate) expires_at: DateTime<Utc>,
    pub(crate) reservation: Reservation,
    pub(crate) price_micros: i64,
    /// Its price stands in the book.
    pub(crate) counted: bool,
    /// The replica that had it last.
    pub(crate) replica: usize,
    pub(crate) attempts: u32,
}

impl Reported {
    pub(crate) fn expired(&self, now: DateTime<Utc>) -> bool {
        now >= self.expires_at
    }
}

/// A cancellation on its way.
#[derive(Debug)]
pub(crate) struct Cancelled {
    pub(crate) request_id: String,
    pub(crate) token: Bytes,
    pub(crate) reservation: Reservation,
    pub(crate) counted: bool,
    pub(crate) replica: usize,
}

/// What the service said to a charge.
#[derive(Debug)]
pub(crate) enum Settled {
    Done { day: Day, late: bool, replayed: bool },
    Refused { reason: String, retriable: bool },
}

/// What the service said to a cancellation.
#[derive(Debug)]
pub(crate) enum Verdict {
    Done,
    Refused(String),
    Again,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Answer {
    Admitted(Vec<(Asked, usize, Decision)>),
    Settled(Vec<(Reported, Settled)>),
    /// A repeat would be answered alike.
    Refused(String),
    /// The call failed; whatever it did is not known.
    AskAgain {
        replica: usize,
        why: String,
        batch: Vec<Asked>,
    },
    SettleAgain {
        replica: usize,
        why: String,
        batch: Vec<Reported>,
    },
}

/// Waits for a call, but not for ever.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(CALL_LIMIT + CALL_LIMIT / 5, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("no answer within the limit")),
    }
}

/// Asks for a batch of opportunities.
pub(crate) async fn admit(
    mut member: Member,
    replica: usize,
    batch: Vec<Asked>,
    sent_at: DateTime<Utc>,
    clock: Clock,
) -> Answer {
    let requests = batch.iter().map(|asked| AdmitRequest {
        opportunity_id: format!("event-{}", asked.number),
        campaign: campaign_name(asked.event.log),
        max_price_micros: CAMPAIGNS
            .get(asked.event.log)
            .map_or(1, |campaign| campaign.max_price_micros),
        // What is proved is that not even whole prices pass a limit, so whole prices are what is asked for.
        charge_probability_ppm: Some(1_000_000),
    });
    let message = BatchAdmitRequest { requests: requests.collect() };
    let responses = match within(member.admission.batch_admit(request(message))).await {
        Ok(answer) if answer.responses.len() == batch.len() => answer.responses,
        Ok(answer) => {
            let why = format!("{} answers to {}", answer.responses.len(), batch.len());
            return Answer::AskAgain { replica, why, batch };
        }
        Err(status) if is_temporary(status.code()) => {
            return Answer::AskAgain { replica, why: describe(&status), batch };
        }
        Err(status) => return Answer::Refused(format!("BatchAdmit: {}", describe(&status))),
    };
    let at = clock.now();
    let day = Some(Day::of(sent_at)).filter(|day| day.contains(at));
    let mut decided = Vec::with_capacity(batch.len());
    let mut missing = Vec::new();
    for (asked, response) in batch.into_iter().zip(responses) {
        let decision = match response.decision {
            Some(admit_response::Decision::Admitted(admitted)) => {
                let expires_at = admitted.expire_time.and_then(|time| {
                    DateTime::from_timestamp(time.seconds, time.nanos.unsigned_abs())
                });
                expires_at.map(|expires_at| {
                    let token = admitted.token;
                    Decision::Admitted(Admission { token, expires_at, at, day })
                })
            }
            Some(admit_response::Decision::Denied(denied)) => {
                Some(Decision::Denied(reason_name(denied.reason())))
            }
            None => None,
        };
        match decision {
            Some(decision) => decided.push((asked, replica, decision)),
            None => missing.push(asked),
        }
    }
    if missing.is_empty() {
        Answer::Admitted(decided)
    } else {
        // Never an answer of our service; the repeats end the run.
        missing.extend(decided.into_iter().map(|(asked, _, _)| asked));
        Answer::AskAgain { replica, why: "an answer without a decision".to_owned(), batch: missing }
    }
}

/// Reports a batch of charges.
pub(crate) async fn settle(mut member: Member, replica: usize, batch: Vec<Reported>) -> Answer {
    let requests = batch.iter().map(|reported| SettleRequest {
        target: Some(settle_request::Target::Token(reported.token.clone())),
        charge_id: reported.charge_id.clone(),
        price_micros: reported.price_micros,
    });
    let message = BatchSettleRequest { requests: requests.collect() };
    let results = match within(member.charges.batch_settle(request(message))).await {
        Ok(answer) if answer.results.len() == batch.len() => answer.results,
        Ok(answer) => {
            let why = format!("{} answers to {}", answer.results.len(), batch.len());
            return Answer::SettleAgain { replica, why, batch };
        }
        Err(status) if is_temporary(status.code()) => {
            return Answer::SettleAgain { replica, why: describe(&status), batch };
        }
        Err(status) => return Answer::Refused(format!("BatchSettle: {}", describe(&status))),
    };
    let verdicts = results.into_iter().map(|result| match result.outcome {
        Some(settle_result::Outcome::Done(done)) => {
            let day = done.day.as_ref().and_then(|date| {
                let (month, day) = (u32::try_from(date.month).ok()?, u32::try_from(date.day).ok()?);
                NaiveDate::from_ymd_opt(date.year, month, day).map(Day::from_date)
            });
            match day {
                Some(day) => Settled::Done { day, late: done.late, replayed: done.replayed },
                None => Settled::Refused { reason: "NO_DAY".to_owned(), retriable: false },
            }
        }
        Some(settle_result::Outcome::Error(error)) => {
            Settled::Refused { retriable: is_retriable(&error), reason: error.reason }
        }
        None => Settled::Refused { reason: "NO_OUTCOME".to_owned(), retriable: false },
    });
    Answer::Settled(batch.into_iter().zip(verdicts.collect::<Vec<_>>()).collect())
}

/// Gives one admission back.
pub(crate) async fn cancel(mut member: Member, cancelled: Cancelled) -> (Cancelled, Verdict) {
    let message =
        CancelRequest { token: cancelled.token.clone(), request_id: cancelled.request_id.clone() };
    let verdict = match within(member.charges.cancel(request(message))).await {
        Ok(_) => Verdict::Done,
        Err(status) if is_temporary(status.code()) => Verdict::Again,
        Err(status) => Verdict::Refused(reason_of(&status)),
    };
    (cancelled, verdict)
}

/// Whether the same call may succeed later, or has succeeded without our knowing.
pub(crate) fn is_temporary(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            // A connection that broke in the middle of an answer.
            | Code::Unknown
    )
}

fn is_retriable(error: &ItemError) -> bool {
    is_temporary(Code::from_i32(error.code))
}

/// The stable reason of a refusal, or its code.
pub(crate) fn reason_of(status: &Status) -> String {
    let reason = status.get_details_error_info().map(|info| info.reason);
    reason.unwrap_or_else(|| format!("{:?}", status.code()))
}

/// For people.
pub(crate) fn describe(status: &Status) -> String {
    format!("{} ({})", status.message(), reason_of(status))
}

fn reason_name(reason: DenialReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("DENIAL_REASON_").unwrap_or(name)
}
