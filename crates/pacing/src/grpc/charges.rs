//! ChargeService.

use adspend_common::id::CampaignId;
use adspend_common::identity::{self, Caller};
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::rpc::{self, Refusal, Violations, invalid};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use pb::settle_request::Target;
use pb::settle_result::Outcome;
use tonic::{Request, Response, Status};

use crate::admission::token::Token;
use crate::app::Services;
use crate::charges::{self, Booked, ChargeId, MAX_BATCH, NewCharge, NewTarget};

#[derive(Clone)]
pub(super) struct Charges {
    services: Services,
}

impl Charges {
    pub(super) fn new(services: Services) -> Charges {
        Charges { services }
    }
}

#[tonic::async_trait]
impl pb::charge_service_server::ChargeService for Charges {
    async fn settle(
        &self,
        request: Request<pb::SettleRequest>,
    ) -> Result<Response<pb::SettleResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let charge = self.charge(request.into_inner())?;
        let verdicts = self.services.charges.settle(&caller, vec![charge]).await;
        let mut verdicts = verdicts.map_err(Refusal::from)?.into_iter();
        let booked = verdicts.next().expect("a verdict for every charge").map_err(Refusal::from)?;
        Ok(Response::new(done(booked)))
    }

    async fn batch_settle(
        &self,
        request: Request<pb::BatchSettleRequest>,
    ) -> Result<Response<pb::BatchSettleResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let results = self.batch(&caller, request.into_inner().requests).await?;
        Ok(Response::new(pb::BatchSettleResponse { results }))
    }

    type StreamSettleStream = BoxStream<'static, Result<pb::StreamSettleResponse, Status>>;

    /// Several batches are worked on at a time; the edge ends the stream when the server stops.
    async fn stream_settle(
        &self,
        request: Request<tonic::Streaming<pb::StreamSettleRequest>>,
    ) -> Result<Response<Self::StreamSettleStream>, Status> {
        let caller = identity::caller(&request).clone();
        let (edge, at_a_time) = (self.clone(), self.services.config.charges.stream_batches);
        let answers = request.into_inner().map(move |message| {
            let (edge, caller) = (edge.clone(), caller.clone());
            async move { Ok(edge.message(&caller, message?).await) }
        });
        Ok(Response::new(answers.buffer_unordered(at_a_time.max(1)).boxed()))
    }

    async fn cancel(
        &self,
        request: Request<pb::CancelRequest>,
    ) -> Result<Response<pb::CancelResponse>, Status> {
        let asked = request.get_ref();
        let mut v = Violations::new();
        let present = v.required("token", (!asked.token.is_empty()).then_some(()));
        let id = v.request_id(&asked.request_id);
        v.all((present, id))?;
        let token = self.token(&asked.token)?;
        let cancelled = self.services.charges.cancel(identity::caller(&request), token).await;
        let cancelled = cancelled.map_err(Refusal::from)?.map_err(Refusal::from)?;
        let released_micros = cancelled.released.micros();
        Ok(Response::new(pb::CancelResponse { released_micros, replayed: cancelled.replayed }))
    }
}

impl Charges {
    /// A message of a stream. What fails as a whole fails for each of its charges, so that the
    /// stream goes on.
    async fn message(
        &self,
        caller: &Caller,
        message: pb::StreamSettleRequest,
    ) -> pb::StreamSettleResponse {
        let (sequence, count) = (message.sequence, message.requests.len());
        let results = self.batch(caller, message.requests).await.unwrap_or_else(|refusal| {
            let error = Outcome::Error(refusal.item());
            vec![pb::SettleResult { outcome: Some(error) }; count.clamp(1, MAX_BATCH)]
        });
        pb::StreamSettleResponse { sequence, results }
    }

    /// A verdict for each, in the order given.
    async fn batch(
        &self,
        caller: &Caller,
        requests: Vec<pb::SettleRequest>,
    ) -> Result<Vec<pb::SettleResult>, Refusal> {
        rpc::batch_limit("requests", requests.len(), MAX_BATCH)?;
        if requests.is_empty() {
            return Err(invalid("requests", "is required"));
        }
        let mut wrong = Vec::with_capacity(requests.len());
        let mut charges = Vec::with_capacity(requests.len());
        for request in requests {
            wrong.push(self.charge(request).map(|charge| charges.push(charge)).err());
        }
        let mut verdicts = self.services.charges.settle(caller, charges).await?.into_iter();
        let results = wrong.into_iter().map(|wrong| {
            let outcome = match (wrong, &mut verdicts) {
                (Some(refusal), _) => Outcome::Error(refusal.item()),
                (None, verdicts) => match verdicts.next().expect("a verdict for every charge") {
                    Ok(booked) => Outcome::Done(done(booked)),
                    Err(refusal) => Outcome::Error(Refusal::from(refusal).item()),
                },
            };
            pb::SettleResult { outcome: Some(outcome) }
        });
        Ok(results.collect())
    }

    /// A charge as it is asked for; all wrong fields at once, and then the token.
    fn charge(&self, request: pb::SettleRequest) -> Result<NewCharge, Refusal> {
        let mut v = Violations::new();
        let target = match &request.target {
            Some(Target::Token(token)) if !token.is_empty() => Some(None),
            Some(Target::Campaign(name)) => v.name("campaign", name).map(Some),
            Some(Target::Token(_)) | None => v.required("token", None),
        };
        let id = ChargeId::new(request.charge_id);
        if id.is_none() {
            v.add("charge_id", "must be 1 to 64 printable ASCII characters");
        }
        let price = v.micros("price_micros", request.price_micros);
        let (named, id, price): (Option<CampaignId>, _, _) = v.all((target, id, price))?;
        let target = match (named, &request.target) {
            (Some(campaign), _) => NewTarget::Campaign(campaign),
            (None, Some(Target::Token(token))) => NewTarget::Admission(self.token(token)?),
            (None, Some(Target::Campaign(_)) | None) => unreachable!("a violation"),
        };
        Ok(NewCharge { id, target, price })
    }

    fn token(&self, bytes: &[u8]) -> Result<Token, Refusal> {
        let forged = |_| charges::Refusal::TokenInvalid;
        Ok(self.services.token_key.open(bytes).map_err(forged)?)
    }
}

fn done(booked: Booked) -> pb::SettleResponse {
    pb::SettleResponse {
        day: Some(rpc::date(booked.day)),
        late: booked.late,
        replayed: booked.replayed,
        currency_code: booked.currency.to_string(),
    }
}
