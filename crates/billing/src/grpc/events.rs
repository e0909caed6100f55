//! `adspend.billing.v1.EventService`: decode, watch, encode; nothing is decided here.

use std::{sync::Arc, time::Duration};

use adspend_common::{
    id::AccountId,
    identity::Caller,
    money::{Currency, Money},
    proto::{adspend::billing::v1 as pb, google::r#type as google},
    rpc::{self, PageScope, Refusal, Violations},
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use pb::event::Payload;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Shared, number, split};
use crate::events::{self, Event, Happened, Watch};

/// The longest time without a message on a stream.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);

/// The service.
#[derive(Clone)]
pub(crate) struct Events(pub(crate) Arc<Shared>);

/// A stream and what its messages are made with.
struct Told {
    shared: Arc<Shared>,
    scope: PageScope,
    watch: Watch,
    until_now: bool,
    silence: Duration,
    silent_until: Instant,
}

impl Events {
    async fn begin(
        &self,
        caller: &Caller,
        request: &pb::WatchEventsRequest,
    ) -> Result<Told, Refusal> {
        let shared = Arc::clone(&self.0);
        let scope = PageScope::new("WatchEvents", caller).with(&request.parent);
        let mut v = Violations::new();
        let parent: Option<Option<AccountId>> = v.optional_name("parent", &request.parent);
        let after = match request.resume_token.as_str() {
            "" => Some(None),
            token => match shared.pages.open(&scope, token) {
                Ok(position) => Some(number(&position)),
                Err(_) => {
                    v.add("resume_token", "is not a token of a stream with this parent");
                    None
                }
            },
        };
        let (parent, after) = v.all((parent, after))?;
        let tenant = match parent {
            Some(account) => Some(shared.visible(caller, &account).await?.key.tenant),
            None => shared.tenant(caller).await?,
        };
        let tenant_name = caller.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        let who = format!("{} {} {tenant_name}", caller.label, caller.role);
        let watch = shared.events.watch(who, tenant, after).await?;
        // Well before the edge takes the stream for dead.
        let silence = LONGEST_SILENCE.min(shared.config.limits.stream_idle_timeout.get() / 3);
        let until_now = request.until_now;
        let silent_until = Instant::now() + silence;
        Ok(Told { shared, scope, watch, until_now, silence, silent_until })
    }
}

impl Told {
    /// The next message; none at the end.
    async fn next(&mut self) -> Result<Option<pb::WatchEventsResponse>, events::Refusal> {
        loop {
            if let Some(happened) = self.watch.next().await? {
                return Ok(Some(self.message(Some(encode(&happened)))));
            }
            if self.until_now && self.watch.has_caught_up() {
                return Ok(None);
            }
            tokio::select! {
                () = self.watch.news() => {}
                () = tokio::time::sleep_until(self.silent_until) => {
                    return Ok(Some(self.message(None)));
                }
            }
        }
    }

    fn message(&mut self, event: Option<pb::Event>) -> pb::WatchEventsResponse {
        self.silent_until = Instant::now() + self.silence;
        let place = self.watch.place().to_be_bytes();
        pb::WatchEventsResponse { event, resume_token: self.shared.pages.seal(&self.scope, &place) }
    }
}

fn name(account: Option<&AccountId>) -> String {
    account.map(AccountId::name).unwrap_or_default()
}

fn encode(happened: &Happened<Event>) -> pb::Event {
    let Happened { number, tenant, account, currency, event, at, place: _ } = happened;
    pb::Event {
        number: *number,
        tenant: name(tenant.as_ref()),
        account: name(account.as_ref()),
        event_time: Some(rpc::timestamp(*at)),
        payload: Some(payload(event, *currency)),
    }
}

fn payload(event: &Event, currency: Currency) -> Payload {
    let of = Of(currency);
    match event {
        Event::AccountCreated(facts) => Payload::AccountCreated(account(facts)),
        Event::AccountUpdated(facts) => Payload::AccountUpdated(account(facts)),
        Event::AccountBlocked(facts) => Payload::AccountBlocked(account(facts)),
        Event::AccountUnblocked(facts) => Payload::AccountUnblocked(account(facts)),
        Event::ClientAttached(facts) => Payload::ClientAttached(account(facts)),
        Event::ClientDetached(facts) => Payload::ClientDetached(account(facts)),
        Event::InvoiceIssued(facts) => Payload::InvoiceIssued(of.invoice(facts)),
        Event::InvoicePaid(facts) => Payload::InvoicePaid(of.invoice(facts)),
        Event::InvoiceCancelled(facts) => Payload::InvoiceCancelled(of.invoice(facts)),
        Event::InvoiceUpdated(facts) => Payload::InvoiceUpdated(of.invoice(facts)),
        Event::InvoiceOverdue(facts) => Payload::InvoiceOverdue(of.invoice(facts)),
        Event::PaymentCredited(facts) => Payload::PaymentCredited(of.payment(facts)),
        Event::PaymentUnallocated(facts) => Payload::PaymentUnallocated(of.payment(facts)),
        Event::PaymentAllocated(facts) => Payload::PaymentAllocated(of.payment(facts)),
        Event::PaymentRefunded(facts) => Payload::PaymentRefunded(of.payment(facts)),
        Event::PromiseTaken(facts) => Payload::PromisedPaymentTaken(of.promise(facts)),
        Event::PromiseRepaid(facts) => Payload::PromisedPaymentRepaid(of.promise(facts)),
        Event::PromiseOverdue(facts) => Payload::PromisedPaymentOverdue(of.promise(facts)),
        Event::CreditTermsChanged(facts) => Payload::CreditTermsChanged(of.credit(facts)),
        Event::OverdraftThresholdChanged(facts) => {
            Payload::OverdraftThresholdChanged(of.credit(facts))
        }
        Event::LienTaken(facts) => Payload::LienTaken(of.lien(facts)),
        Event::LienReturned(facts) => Payload::LienReturned(of.lien(facts)),
        Event::AutoTopUpChanged(facts) => Payload::AutoTopUpChanged(of.auto_top_up(facts)),
        Event::AutoTopUpRun(facts) => Payload::AutoTopUpRun(of.auto_top_up(facts)),
        Event::AutoTopUpDisabled(facts) => Payload::AutoTopUpDisabled(of.auto_top_up(facts)),
        Event::AutopayChanged(facts) => Payload::AutopayChanged(of.autopay(facts)),
        Event::AutopayRun(facts) => Payload::AutopayRun(of.autopay(facts)),
        Event::AutopayFailed(facts) => Payload::AutopayFailed(of.autopay(facts)),
        Event::AutopayDisabled(facts) => Payload::AutopayDisabled(of.autopay(facts)),
        Event::DocumentMade(facts) => Payload::DocumentMade(document(facts)),
        Event::ClicksCredited(facts) => Payload::ClicksCredited(of.correction(facts)),
        Event::PostingReversed(facts) => Payload::PostingReversed(of.correction(facts)),
    }
}

fn account(facts: &events::AccountFacts) -> pb::AccountEvent {
    pb::AccountEvent { agency: name(facts.agency.as_ref()) }
}

fn document(facts: &events::DocumentFacts) -> pb::DocumentEvent {
    let events::DocumentFacts { document, number, kind } = facts.clone();
    pb::DocumentEvent { document, number, kind }
}

/// Encodes facts with amounts of a currency.
#[derive(Clone, Copy)]
struct Of(Currency);

impl Of {
    fn money(self, amount: Money) -> Option<google::Money> {
        Some(rpc::money(amount, self.0))
    }

    fn invoice(self, facts: &events::InvoiceFacts) -> pb::InvoiceEvent {
        let events::InvoiceFacts { invoice, number, amount, payment, repaid_from_balance } =
            facts.clone();
        let (amount, payment) = (self.money(amount), payment.unwrap_or_default());
        pb::InvoiceEvent { invoice, number, amount, payment, repaid_from_balance }
    }

    fn payment(self, facts: &events::PaymentFacts) -> pb::PaymentEvent {
        let events::PaymentFacts { payment, amount, invoice, collected, reason } = facts.clone();
        pb::PaymentEvent {
            payment,
            amount: self.money(amount),
            invoice: invoice.unwrap_or_default(),
            collected: self.money(collected),
            reason: reason.unwrap_or_default(),
        }
    }

    fn promise(self, facts: &events::PromiseFacts) -> pb::PromisedPaymentEvent {
        let events::PromiseFacts { promised_payment, amount, outstanding, due } = facts.clone();
        pb::PromisedPaymentEvent {
            promised_payment,
            amount: self.money(amount),
            outstanding: self.money(outstanding),
            due_date: Some(rpc::date(due)),
        }
    }

    fn credit(self, facts: &events::CreditFacts) -> pb::CreditEvent {
        let events::CreditFacts { granted, threshold } = *facts;
        pb::CreditEvent { granted: self.money(granted), threshold: self.money(threshold) }
    }

    fn lien(self, facts: &events::LienFacts) -> pb::LienEvent {
        let events::LienFacts { amount, invoice } = facts.clone();
        pb::LienEvent { amount: self.money(amount), invoice: invoice.unwrap_or_default() }
    }

    fn auto_top_up(self, facts: &events::AutoTopUpFacts) -> pb::AutoTopUpEvent {
        let events::AutoTopUpFacts { amount, run, reason } = facts.clone();
        let (run, reason) = (run.unwrap_or_default(), reason.unwrap_or_default());
        pb::AutoTopUpEvent { amount: self.money(amount), run, reason }
    }

    fn autopay(self, facts: &events::AutopayFacts) -> pb::AutopayEvent {
        let events::AutopayFacts { amount, run, reason } = facts.clone();
        let (run, reason) = (run.unwrap_or_default(), reason.unwrap_or_default());
        pb::AutopayEvent { amount: self.money(amount), run, reason }
    }

    fn correction(self, facts: &events::CorrectionFacts) -> pb::CorrectionEvent {
        let events::CorrectionFacts { object, amount, reason } = facts.clone();
        pb::CorrectionEvent { object, amount: self.money(amount), reason }
    }
}

#[tonic::async_trait]
impl pb::event_service_server::EventService for Events {
    type WatchEventsStream = BoxStream<'static, Result<pb::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (caller, message) = split(request);
        let told = self.begin(&caller, &message).await?;
        let messages = stream::unfold(Some(told), |told| async {
            let mut told = told?;
            match told.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(told))),
                Ok(None) => None,
                Err(refusal) => Some((Err(Refusal::from(refusal).into()), None)),
            }
        });
        Ok(Response::new(messages.boxed()))
    }
}
