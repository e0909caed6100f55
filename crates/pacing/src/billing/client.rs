//! Billing over gRPC.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use adspend_common::client::{self, Channel, Retry, request};
use adspend_common::id::{AccountId, CampaignId};
use adspend_common::proto::adspend::billing::v1 as pb;
use adspend_common::proto::adspend::types::v1::ItemError;
use adspend_common::rpc::{self, Deadline};
use chrono::DateTime;
use futures_util::future::BoxFuture;
use pb::account_service_client::AccountServiceClient;
use pb::hold_service_client::HoldServiceClient;
use tonic::{Code, Response, Status};

use super::{
    AccountFacts, AccountKind, AccountState, Billing, Error, Hold, HoldAsk, HoldExtension,
    HoldState, LateCharge, Refused, Settings, SpendReport, Verdicts,
};

/// Billing at its addresses. Connects when it is used; call it inside the runtime.
pub fn connect(settings: &Settings) -> Result<Arc<dyn Billing>, client::Error> {
    let token = settings.token.clone();
    let target = client::Settings { token, ..client::Settings::new(settings.endpoint.clone()) };
    let channel = Channel::connect(&target)?;
    Ok(Arc::new(Client {
        accounts: AccountServiceClient::new(channel.clone()),
        holds: HoldServiceClient::new(channel),
        timeout: settings.timeout.get(),
        retry: Retry::default(),
    }))
}

struct Client {
    accounts: AccountServiceClient<Channel>,
    holds: HoldServiceClient<Channel>,
    timeout: Duration,
    retry: Retry,
}

type Holds = HoldServiceClient<Channel>;

impl Client {
    /// Every call may be repeated: reads change nothing, and batches carry ids or sequences.
    async fn call<T, A>(&self, attempt: impl Fn(Duration) -> A) -> Result<T, Status>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let answer = client::call(Deadline::after(self.timeout), &self.retry, attempt).await?;
        Ok(answer.into_inner())
    }

    async fn holds<T, A>(&self, attempt: impl Fn(Holds, Duration) -> A) -> Result<T, Error>
    where
        A: Future<Output = Result<Response<T>, Status>>,
    {
        let call = self.call(|left| attempt(self.holds.clone(), left)).await;
        call.map_err(|status| no_answer(&status))
    }
}

impl Billing for Client {
    fn get_account<'a>(
        &'a self,
        id: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>> {
        Box::pin(async move {
            let message = pb::GetAccountRequest { name: id.name() };
            let attempt = |left| {
                let (mut accounts, message) = (self.accounts.clone(), message.clone());
                async move { accounts.get_account(request(message, left)).await }
            };
            match self.call(attempt).await {
                Ok(answer) => {
                    let account = answer.account.ok_or_else(|| odd("an account without itself"))?;
                    facts(id, &account).map(Some)
                }
                Err(status) if status.code() == Code::NotFound => Ok(None),
                Err(status) => Err(no_answer(&status)),
            }
        })
    }

    fn open_holds(&self, asks: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>> {
        let count = asks.len();
        let requests = asks.into_iter().map(open_item).collect();
        let message = pb::OpenHoldsRequest { requests };
        Box::pin(async move {
            let attempt = |mut holds: Holds, left| {
                let request = request(message.clone(), left);
                async move { holds.open_holds(request).await }
            };
            verdicts(count, self.holds(attempt).await?.results)
        })
    }

    fn extend_holds(&self, extensions: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>> {
        let count = extensions.len();
        let item = |HoldExtension { hold, ttl }| pb::ExtendHoldItem {
            hold,
            ttl: Some(rpc::duration(ttl)),
        };
        let message =
            pb::ExtendHoldsRequest { requests: extensions.into_iter().map(item).collect() };
        Box::pin(async move {
            let attempt = |mut holds: Holds, left| {
                let request = request(message.clone(), left);
                async move { holds.extend_holds(request).await }
            };
            verdicts(count, self.holds(attempt).await?.results)
        })
    }

    fn release_holds(&self, holds: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>> {
        let count = holds.len();
        let requests = holds.into_iter().map(|hold| pb::ReleaseHoldItem { hold }).collect();
        let message = pb::ReleaseHoldsRequest { requests };
        Box::pin(async move {
            let attempt = |mut holds: Holds, left| {
                let request = request(message.clone(), left);
                async move { holds.release_holds(request).await }
            };
            verdicts(count, self.holds(attempt).await?.results)
        })
    }

    fn settle_holds(&self, reports: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>> {
        let count = reports.len();
        let requests = reports.into_iter().map(settle_item).collect();
        let message = pb::SettleHoldsRequest { requests };
        Box::pin(async move {
            let attempt = |mut holds: Holds, left| {
                let request = request(message.clone(), left);
                async move { holds.settle_holds(request).await }
            };
            verdicts(count, self.holds(attempt).await?.results)
        })
    }

    fn record_charges(&self, charges: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>> {
        let count = charges.len();
        let requests = charges.into_iter().map(charge_item).collect();
        let message = pb::RecordChargesRequest { requests };
        Box::pin(async move {
            let attempt = |mut holds: Holds, left| {
                let request = request(message.clone(), left);
                async move { holds.record_charges(request).await }
            };
            let results = self.holds(attempt).await?.results;
            complete(count, results.len())?;
            Ok(results.into_iter().map(|result| result.error.map_or(Ok(()), refused)).collect())
        })
    }
}

fn open_item(ask: HoldAsk) -> pb::OpenHoldItem {
    pb::OpenHoldItem {
        account: ask.account.name(),
        amount_micros: ask.amount_micros,
        min_amount_micros: ask.least_micros,
        ttl: Some(rpc::duration(ask.ttl)),
        request_id: ask.request_id.to_string(),
    }
}

fn settle_item(report: SpendReport) -> pb::SettleHoldItem {
    let spend = |(campaign, cumulative_spent_micros): (CampaignId, i64)| pb::CampaignSpend {
        campaign: campaign.name(),
        cumulative_spent_micros,
    };
    pb::SettleHoldItem {
        hold: report.hold,
        sequence: report.sequence,
        spends: report.spends.into_iter().map(spend).collect(),
    }
}

fn charge_item(charge: LateCharge) -> pb::RecordChargeItem {
    pb::RecordChargeItem {
        account: charge.account.name(),
        campaign: charge.campaign.name(),
        amount_micros: charge.amount_micros,
        day: Some(rpc::date(charge.day)),
        request_id: charge.request_id.to_string(),
    }
}

fn facts(id: &AccountId, account: &pb::Account) -> Result<AccountFacts, Error> {
    let kind = match account.kind() {
        pb::AccountKind::Agency => AccountKind::Agency,
        pb::AccountKind::Client => AccountKind::Client,
        pb::AccountKind::Advertiser => AccountKind::Advertiser,
        pb::AccountKind::Unspecified => return Err(odd("an account without a kind")),
    };
    let state = match account.state() {
        pb::AccountState::Active => AccountState::Active,
        pb::AccountState::Blocked => AccountState::Blocked,
        pb::AccountState::Closed => AccountState::Closed,
        pb::AccountState::Unspecified => return Err(odd("an account without a state")),
    };
    let tenant = match account.agency.as_str() {
        "" => id.clone(),
        agency => AccountId::from_name(agency).map_err(|error| odd(&error.to_string()))?,
    };
    let currency = account.currency_code.parse();
    let currency = currency.map_err(|_| odd("an account in a currency that we do not know"))?;
    Ok(AccountFacts { tenant, currency, kind, state })
}

fn verdicts(count: usize, results: Vec<pb::HoldResult>) -> Verdicts<Hold> {
    use pb::hold_result::Outcome;
    complete(count, results.len())?;
    let verdict = |result: pb::HoldResult| match result.outcome {
        Some(Outcome::Hold(hold)) => Ok(Ok(self::hold(hold)?)),
        Some(Outcome::Error(error)) => Ok(refused(error)),
        None => Err(odd("a verdict that says nothing")),
    };
    results.into_iter().map(verdict).collect()
}

/// Verdicts are matched by their place, so all of them must be there.
fn complete(asked: usize, answered: usize) -> Result<(), Error> {
    if asked == answered { Ok(()) } else { Err(odd("verdicts are missing")) }
}

fn hold(hold: pb::Hold) -> Result<Hold, Error> {
    let state = match hold.state() {
        pb::HoldState::Open => HoldState::Open,
        pb::HoldState::Expired => HoldState::Expired,
        pb::HoldState::Released => HoldState::Released,
        pb::HoldState::Unspecified => return Err(odd("a hold without a state")),
    };
    let expires_at = hold.expire_time.as_ref().and_then(|time| {
        let nanos = u32::try_from(time.nanos).ok()?;
        DateTime::from_timestamp(time.seconds, nanos)
    });
    Ok(Hold {
        state,
        opened_micros: hold.opened_micros,
        settled_micros: hold.settled_micros,
        released_micros: hold.released_micros,
        late_micros: hold.late_micros,
        sequence: hold.sequence,
        expires_at: expires_at.ok_or_else(|| odd("a hold without an end"))?,
        name: hold.name,
    })
}

fn refused<T>(error: ItemError) -> Result<T, Refused> {
    Err(Refused { reason: error.reason, message: error.message })
}

/// An answer that the contract does not have.
fn odd(message: &str) -> Error {
    Error::Refused { code: "OK".to_owned(), message: message.to_owned() }
}

/// Who cannot be let in will not be let in the next time either; all else may pass.
fn no_answer(status: &Status) -> Error {
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Error::Refused {
            code: format!("{:?}", status.code()),
            message: status.message().to_owned(),
        },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Error::Away(format!("{:?}: {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use adspend_common::money::Currency;

    use super::*;

    fn account(kind: pb::AccountKind, agency: &str) -> pb::Account {
        pb::Account {
            kind: kind.into(),
            agency: agency.to_owned(),
            currency_code: "RUB".to_owned(),
            state: pb::AccountState::Active.into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_tenant_is_the_agency_or_the_account_itself() {
        let shop = AccountId::parse("shop").unwrap();
        for (kind, agency, tenant) in [
            (pb::AccountKind::Client, "accounts/north", "north"),
            (pb::AccountKind::Advertiser, "", "shop"),
            (pb::AccountKind::Agency, "", "shop"),
        ] {
            let facts = facts(&shop, &account(kind, agency)).unwrap();
            assert_eq!((facts.tenant.as_str(), facts.currency), (tenant, Currency::RUB));
        }
    }

    #[test]
    fn an_account_that_we_do_not_understand_is_no_account() {
        let shop = AccountId::parse("shop").unwrap();
        let sound = account(pb::AccountKind::Client, "accounts/north");
        let kind = pb::Account { kind: 9, ..sound.clone() };
        let state = pb::Account { state: 0, ..sound.clone() };
        let agency = pb::Account { agency: "north".to_owned(), ..sound.clone() };
        let currency = pb::Account { currency_code: "XXX".to_owned(), ..sound };
        for odd in [kind, state, agency, currency] {
            assert!(matches!(facts(&shop, &odd), Err(Error::Refused { .. })), "{odd:?}");
        }
    }

    #[test]
    fn verdicts_keep_their_places() {
        let sound = pb::Hold {
            name: "accounts/a/holds/h".to_owned(),
            state: pb::HoldState::Open.into(),
            opened_micros: 5,
            expire_time: Some(prost_types::Timestamp { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let error = ItemError { reason: "INSUFFICIENT_FUNDS".to_owned(), ..Default::default() };
        let result = |outcome| pb::HoldResult { outcome: Some(outcome), replayed: false };
        let results = vec![
            result(pb::hold_result::Outcome::Error(error)),
            result(pb::hold_result::Outcome::Hold(sound)),
        ];
        let read = verdicts(2, results.clone()).unwrap();
        assert_eq!(read[0].as_ref().unwrap_err().reason, "INSUFFICIENT_FUNDS");
        assert_eq!(read[1].as_ref().unwrap().opened_micros, 5);
        assert!(verdicts(3, results).is_err(), "one is missing");
    }

    #[test]
    fn what_may_pass_is_away_and_the_rest_is_refused() {
        for (code, away) in [
            (Code::Unavailable, true),
            (Code::DeadlineExceeded, true),
            (Code::Aborted, true),
            (Code::Internal, true),
            (Code::PermissionDenied, false),
            (Code::Unauthenticated, false),
            (Code::InvalidArgument, false),
        ] {
            let error = no_answer(&Status::new(code, "x"));
            assert_eq!(matches!(error, Error::Away(_)), away, "{code:?}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_away() {
        let settings = Settings {
            endpoint: "http://127.0.0.1:1".to_owned(),
            timeout: adspend_common::config::HumanDuration::from_millis(200),
            ..Settings::default()
        };
        let billing = connect(&settings).unwrap();
        let answer = billing.get_account(&AccountId::parse("shop").unwrap()).await;
        assert!(matches!(answer, Err(Error::Away(_))), "{answer:?}");
    }
}
