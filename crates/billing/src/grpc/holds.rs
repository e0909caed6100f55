//! `adspend.billing.v1.HoldService`: decode, call, encode; nothing is decided here.

use std::{collections::HashSet, sync::Arc};

use adspend_common::{
    db,
    id::{AccountId, CampaignId},
    identity::{Caller, caller},
    money::{Currency, Money},
    proto::adspend::billing::v1 as pb,
    rpc::{self, PageScope, Refusal, Violations, not_found},
};
use chrono::{DateTime, TimeDelta, Utc};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Shared, corrections, ledger_status::hold_refusal, split};
use crate::{
    accounts::AccountFacts,
    holds::{self, Done, Hold, HoldRef, HoldState, MAX_CAMPAIGNS, MAX_ITEMS, MAX_TTL},
    ledger::{Actor, batch::Linked},
};

/// The service.
#[derive(Clone)]
pub(crate) struct Holds(pub(crate) Arc<Shared>);

/// An item that was decoded, with what its answer needs; or why it was not.
type Decoded<T> = Result<(T, Arc<AccountFacts>), Refusal>;

const SHORTEST_TTL: std::time::Duration = std::time::Duration::from_secs(1);

impl Holds {
    async fn open_item(&self, caller: &Caller, item: &pb::OpenHoldItem) -> Decoded<holds::Open> {
        let mut v = Violations::new();
        let account = v.name("account", &item.account);
        let amount = v.micros("amount_micros", item.amount_micros);
        let least = v.micros("min_amount_micros", item.min_amount_micros);
        if let (Some(amount), Some(least)) = (amount, least)
            && least > amount
        {
            v.add("min_amount_micros", "must not be above amount_micros");
        }
        let ttl = v.duration("ttl", item.ttl.as_ref(), SHORTEST_TTL..=MAX_TTL);
        let request_id = v.request_id(&item.request_id);
        let (account, amount, least, ttl, request_id) =
            v.all((account, amount, least, ttl, request_id))?;
        let facts = self.0.visible(caller, &account).await?;
        let request_id = request_id.as_str().to_owned();
        let ttl = delta(ttl);
        Ok((holds::Open { account: facts.key, amount, least, ttl, request_id }, facts))
    }

    async fn hold_item(&self, caller: &Caller, name: &str) -> Decoded<HoldRef> {
        let mut v = Violations::new();
        let path = v.path2("hold", name, ["accounts", "holds"]);
        let ([account, id],) = v.all((path,))?;
        let facts = self.0.visible_as(caller, &AccountId::from(account), name).await?;
        let id = Uuid::parse_str(id.as_str()).map_err(|_| not_found(name))?;
        Ok((HoldRef { account: facts.key, id }, facts))
    }

    async fn settle_item(
        &self,
        caller: &Caller,
        item: &pb::SettleHoldItem,
    ) -> Decoded<holds::Settle> {
        let mut v = Violations::new();
        let path = v.path2("hold", &item.hold, ["accounts", "holds"]);
        if item.sequence < 1 {
            v.add("sequence", "must be positive");
        }
        let spends = decode_spends(&mut v, &item.spends);
        let (_, spends) = v.all((path, spends))?;
        let (hold, facts) = self.hold_item(caller, &item.hold).await?;
        Ok((holds::Settle { hold, sequence: item.sequence, spends }, facts))
    }

    async fn extend_item(
        &self,
        caller: &Caller,
        item: &pb::ExtendHoldItem,
    ) -> Decoded<(HoldRef, TimeDelta)> {
        let mut v = Violations::new();
        let path = v.path2("hold", &item.hold, ["accounts", "holds"]);
        let ttl = v.duration("ttl", item.ttl.as_ref(), SHORTEST_TTL..=MAX_TTL);
        let (_, ttl) = v.all((path, ttl))?;
        let (hold, facts) = self.hold_item(caller, &item.hold).await?;
        Ok(((hold, delta(ttl)), facts))
    }

    async fn find(&self, caller: &Caller, name: &str) -> Result<pb::Hold, Refusal> {
        let mut v = Violations::new();
        let path = v.path2("name", name, ["accounts", "holds"]);
        v.all((path,))?;
        let (hold, facts) = self.hold_item(caller, name).await?;
        let client = self.0.pool.get().await?;
        let hold = holds::find(&client, hold).await?.ok_or_else(|| not_found(name))?;
        Ok(encode(&hold, &facts, self.0.clock.now()))
    }

    async fn list(
        &self,
        caller: &Caller,
        request: &pb::ListHoldsRequest,
    ) -> Result<pb::ListHoldsResponse, Refusal> {
        let open_only = [u8::from(request.open_only)];
        let scope = PageScope::new("ListHolds", caller).with(&request.parent).with(open_only);
        let mut v = Violations::new();
        let parent = v.name("parent", &request.parent);
        let size = v.page_size(request.page_size);
        let position = v.page_token(&self.0.pages, &scope, &request.page_token);
        let (parent, size, position) = v.all((parent, size, position))?;
        let facts = self.0.visible(caller, &parent).await?;
        let now = self.0.clock.now();
        let after = position.as_deref().and_then(super::moment_and_id);
        let open_at = request.open_only.then_some(now);
        let limit = i64::from(size).saturating_add(1);
        let client = self.0.pool.get().await?;
        let mut found = holds::list(&client, facts.key, after, open_at, limit).await?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map_or_else(String::new, |hold| {
            self.0.pages.seal(&scope, &super::after_moment_and_id(hold.opened_at, hold.id))
        });
        let holds = found.iter().map(|hold| encode(hold, &facts, now)).collect();
        Ok(pb::ListHoldsResponse { holds, next_page_token })
    }

    async fn charge_item(
        &self,
        caller: &Caller,
        item: &pb::RecordChargeItem,
    ) -> Decoded<crate::ledger::Posting> {
        let mut v = Violations::new();
        let account = v.name("account", &item.account);
        let campaign: Option<CampaignId> = v.name("campaign", &item.campaign);
        let amount = v.micros("amount_micros", item.amount_micros);
        let day = v.optional_day("day", item.day.as_ref());
        let request_id = v.request_id(&item.request_id);
        let (account, campaign, amount, day, request_id) =
            v.all((account, campaign, amount, day, request_id))?;
        let facts = self.0.visible(caller, &account).await?;
        let day = day.map_or_else(String::new, |day| day.to_string());
        let (campaign, id) = (campaign.name(), request_id.as_str());
        Ok((holds::late_charge(facts.key, &campaign, amount, &day, id), facts))
    }

    /// Answers the items in the order given: those that could not be decoded with why, the others with their
    /// verdicts. An account that moved is forgotten, so that the caller's retry finds it.
    fn answer<T>(
        &self,
        items: Vec<Decoded<T>>,
        names: impl Iterator<Item = String>,
        verdicts: Result<Vec<holds::Verdict>, db::Error>,
    ) -> Result<Vec<pb::HoldResult>, Refusal> {
        use pb::hold_result::Outcome;
        let now = self.0.clock.now();
        let mut verdicts = verdicts?.into_iter();
        let answer = |(item, name): (Decoded<T>, String)| {
            let outcome = item.and_then(|(_, facts)| {
                let verdict = verdicts.next().unwrap_or(Err(holds::Error::NotFound));
                if matches!(
                    verdict,
                    Err(holds::Error::NotFound
                        | holds::Error::Refused(crate::ledger::Refusal::UnknownAccount(_)))
                ) {
                    self.0.directory.invalidate(&facts.id);
                }
                let done = verdict.map_err(|error| hold_refusal(error, &name))?;
                Ok((done, facts))
            });
            match outcome {
                Ok((Done { hold, replayed }, facts)) => pb::HoldResult {
                    outcome: Some(Outcome::Hold(encode(&hold, &facts, now))),
                    replayed,
                },
                Err(refusal) => pb::HoldResult {
                    outcome: Some(Outcome::Error(refusal.item())),
                    replayed: false,
                },
            }
        };
        Ok(items.into_iter().zip(names).map(answer).collect())
    }
}

fn decode_spends(v: &mut Violations, spends: &[pb::CampaignSpend]) -> Option<Vec<(String, Money)>> {
    if spends.len() > MAX_CAMPAIGNS {
        v.add("spends", format!("at most {MAX_CAMPAIGNS} campaigns in one report"));
        return None;
    }
    let mut seen = HashSet::new();
    let mut decoded = Vec::with_capacity(spends.len());
    for (index, spend) in spends.iter().enumerate() {
        v.item("spends", index, |v| {
            let campaign: Option<CampaignId> = v.name("campaign", &spend.campaign);
            let spent = v.micros_or_zero("cumulative_spent_micros", spend.cumulative_spent_micros);
            if !seen.insert(spend.campaign.as_str()) {
                v.add("campaign", "comes twice");
            }
            if let (Some(campaign), Some(spent)) = (campaign, spent) {
                decoded.push((campaign.name(), spent));
            }
        });
    }
    Some(decoded)
}

fn delta(ttl: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(ttl).unwrap_or(TimeDelta::MAX)
}

fn encode(hold: &Hold, facts: &AccountFacts, now: DateTime<Utc>) -> pb::Hold {
    let seen = holds::rules::at(hold, now);
    let state = match seen.state {
        HoldState::Open => pb::HoldState::Open,
        HoldState::Expired => pb::HoldState::Expired,
        HoldState::Released => pb::HoldState::Released,
    };
    let currency: Currency = facts.currency;
    pb::Hold {
        name: format!("{}/holds/{}", facts.id.name(), seen.id),
        state: state.into(),
        opened_micros: seen.opened.micros(),
        settled_micros: seen.settled.micros(),
        released_micros: seen.released.micros(),
        late_micros: seen.late.micros(),
        currency_code: currency.to_string(),
        sequence: seen.sequence,
        create_time: Some(rpc::timestamp(seen.opened_at)),
        expire_time: Some(rpc::timestamp(seen.expires_at)),
    }
}

/// The decoded items alone, for the feature.
fn fine<T: Clone>(items: &[Decoded<T>]) -> Vec<T> {
    items.iter().flatten().map(|(item, _)| item.clone()).collect()
}

#[tonic::async_trait]
impl pb::hold_service_server::HoldService for Holds {
    async fn open_holds(
        &self,
        request: Request<pb::OpenHoldsRequest>,
    ) -> Result<Response<pb::OpenHoldsResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let message = request.into_inner();
        rpc::batch_limit("requests", message.requests.len(), MAX_ITEMS)?;
        let record = super::asked(&caller, "OpenHolds", &message);
        let requests = message.requests;
        let mut items = Vec::with_capacity(requests.len());
        for item in &requests {
            items.push(self.open_item(&caller, item).await);
        }
        let (shared, asked) = (Arc::clone(&self.0), fine(&items));
        let verdicts = super::detached(async move {
            holds::open(&shared.pool, &shared.clock, &record, &asked).await
        });
        let names = requests.into_iter().map(|item| item.account);
        let results = self.answer(items, names, verdicts.await)?;
        Ok(Response::new(pb::OpenHoldsResponse { results }))
    }

    async fn settle_holds(
        &self,
        request: Request<pb::SettleHoldsRequest>,
    ) -> Result<Response<pb::SettleHoldsResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let message = request.into_inner();
        rpc::batch_limit("requests", message.requests.len(), MAX_ITEMS)?;
        let record = super::asked(&caller, "SettleHolds", &message);
        let requests = message.requests;
        let mut items = Vec::with_capacity(requests.len());
        for item in &requests {
            items.push(self.settle_item(&caller, item).await);
        }
        let (shared, asked) = (Arc::clone(&self.0), fine(&items));
        let verdicts = super::detached(async move {
            holds::settle(&shared.pool, &shared.clock, &record, &asked).await
        });
        let names = requests.into_iter().map(|item| item.hold);
        let results = self.answer(items, names, verdicts.await)?;
        Ok(Response::new(pb::SettleHoldsResponse { results }))
    }

    async fn release_holds(
        &self,
        request: Request<pb::ReleaseHoldsRequest>,
    ) -> Result<Response<pb::ReleaseHoldsResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let message = request.into_inner();
        rpc::batch_limit("requests", message.requests.len(), MAX_ITEMS)?;
        let record = super::asked(&caller, "ReleaseHolds", &message);
        let requests = message.requests;
        let mut items = Vec::with_capacity(requests.len());
        for item in &requests {
            items.push(self.hold_item(&caller, &item.hold).await);
        }
        let (shared, asked) = (Arc::clone(&self.0), fine(&items));
        let verdicts = super::detached(async move {
            holds::release(&shared.pool, &shared.clock, &record, &asked).await
        });
        let names = requests.into_iter().map(|item| item.hold);
        let results = self.answer(items, names, verdicts.await)?;
        Ok(Response::new(pb::ReleaseHoldsResponse { results }))
    }

    async fn extend_holds(
        &self,
        request: Request<pb::ExtendHoldsRequest>,
    ) -> Result<Response<pb::ExtendHoldsResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let message = request.into_inner();
        rpc::batch_limit("requests", message.requests.len(), MAX_ITEMS)?;
        let record = super::asked(&caller, "ExtendHolds", &message);
        let requests = message.requests;
        let mut items = Vec::with_capacity(requests.len());
        for item in &requests {
            items.push(self.extend_item(&caller, item).await);
        }
        let (shared, asked) = (Arc::clone(&self.0), fine(&items));
        let verdicts = super::detached(async move {
            holds::extend(&shared.pool, &shared.clock, &record, &asked).await
        });
        let names = requests.into_iter().map(|item| item.hold);
        let results = self.answer(items, names, verdicts.await)?;
        Ok(Response::new(pb::ExtendHoldsResponse { results }))
    }

    async fn get_hold(
        &self,
        request: Request<pb::GetHoldRequest>,
    ) -> Result<Response<pb::GetHoldResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let hold = self.find(&caller, &request.get_ref().name).await?;
        Ok(Response::new(pb::GetHoldResponse { hold: Some(hold) }))
    }

    async fn list_holds(
        &self,
        request: Request<pb::ListHoldsRequest>,
    ) -> Result<Response<pb::ListHoldsResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        Ok(Response::new(self.list(&caller, request.get_ref()).await?))
    }

    async fn credit_invalid_clicks(
        &self,
        request: Request<pb::CreditInvalidClicksRequest>,
    ) -> Result<Response<pb::CreditInvalidClicksResponse>, Status> {
        let (caller, message) = split(request);
        corrections::credit_invalid_clicks(&self.0, caller, &message).await
    }

    async fn record_charges(
        &self,
        request: Request<pb::RecordChargesRequest>,
    ) -> Result<Response<pb::RecordChargesResponse>, Status> {
        let caller = Arc::clone(caller(&request));
        let requests = request.into_inner().requests;
        rpc::batch_limit("requests", requests.len(), MAX_ITEMS)?;
        let mut items = Vec::with_capacity(requests.len());
        for item in &requests {
            items.push(self.charge_item(&caller, item).await);
        }
        let actor = Actor { caller, method: "RecordCharges" };
        let posted = self.0.poster.post_all(actor, fine(&items), Linked::No).await;
        let mut verdicts = posted.map_err(Refusal::from)?.into_iter();
        let results = items.into_iter().map(|item| {
            let done = item.and_then(|_| {
                let verdict = verdicts.next().unwrap_or(Err(crate::ledger::Refusal::GroupAborted));
                Ok(verdict?)
            });
            match done {
                Ok(posted) => pb::RecordChargeResult { error: None, replayed: posted.replayed },
                Err(refusal) => {
                    pb::RecordChargeResult { error: Some(refusal.item()), replayed: false }
                }
            }
        });
        Ok(Response::new(pb::RecordChargesResponse { results: results.collect() }))
    }
}
