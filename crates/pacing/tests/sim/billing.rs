//! Billing in memory, behind links that lose, cut, repeat and reorder. Its books are simple enough
//! to be believed: money is on the balance, in a hold, spent, or late.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use adspend_common::id::AccountId;
use adspend_common::time::Clock;
use adspend_pacing::billing::{
    AccountFacts, Billing, Error, Hold, HoldAsk, HoldExtension, HoldState, LateCharge, Refused,
    SpendReport, Verdicts,
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The books.
pub(crate) struct Bank {
    clock: Clock,
    rng: StdRng,
    pub(crate) balances: HashMap<String, i64>,
    pub(crate) holds: HashMap<String, BankHold>,
    /// Questions by request id, with the hold that each opened.
    opened: HashMap<String, (HoldAsk, Option<String>)>,
    recorded: HashMap<String, i64>,
    /// Everything ever heard, to be heard again.
    heard: Vec<Message>,
    pub(crate) faulty: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct BankHold {
    pub(crate) account: String,
    pub(crate) opened: i64,
    pub(crate) settled: i64,
    pub(crate) released: i64,
    pub(crate) late: i64,
    pub(crate) state: HoldState,
    pub(crate) expires_at: DateTime<Utc>,
    sequence: i64,
    cumulative: HashMap<String, i64>,
}

#[derive(Debug, Clone)]
enum Message {
    Open(HoldAsk),
    Settle(SpendReport),
    Release(String),
    Extend(HoldExtension),
    Record(LateCharge),
}

impl Bank {
    pub(crate) fn new(clock: Clock, seed: u64) -> Arc<Mutex<Bank>> {
        Arc::new(Mutex::new(Bank {
            clock,
            rng: StdRng::seed_from_u64(seed),
            balances: HashMap::new(),
            holds: HashMap::new(),
            opened: HashMap::new(),
            recorded: HashMap::new(),
            heard: Vec::new(),
            faulty: true,
        }))
    }

    /// What was booked as spent, in time, late or without a hold.
    pub(crate) fn spent(&self) -> i64 {
        let holds: i64 = self.holds.values().map(|hold| hold.settled + hold.late).sum();
        holds + self.recorded.values().sum::<i64>()
    }

    fn hear(&mut self, message: &Message) -> Result<Option<Hold>, Refused> {
        self.expire();
        match message {
            Message::Open(ask) => self.open(ask).map(Some),
            Message::Settle(report) => self.settle(report).map(Some),
            Message::Release(name) => self.release(name).map(Some),
            Message::Extend(extension) => self.extend(extension).map(Some),
            Message::Record(charge) => {
                let id = charge.request_id.to_string();
                if self.recorded.insert(id, charge.amount_micros).is_none() {
                    *self.balances.entry(charge.account.to_string()).or_default() -=
                        charge.amount_micros;
                }
                Ok(None)
            }
        }
    }

    /// A fact of time, not of a sweeper.
    fn expire(&mut self) {
        let now = self.clock.now();
        for hold in self.holds.values_mut() {
            if hold.state == HoldState::Open && now >= hold.expires_at {
                hold.state = HoldState::Expired;
                hold.released = hold.opened - hold.settled;
                *self.balances.entry(hold.account.clone()).or_default() += hold.released;
            }
        }
    }

    fn open(&mut self, ask: &HoldAsk) -> Result<Hold, Refused> {
        let id = ask.request_id.to_string();
        if let Some((before, Some(name))) = self.opened.get(&id) {
            assert_eq!(before, ask, "one request id, one payload");
            return Ok(self.hold(name));
        }
        let account = ask.account.to_string();
        let balance = self.balances.entry(account.clone()).or_default();
        let opened = ask.amount_micros.min(*balance);
        if opened < ask.least_micros {
            self.opened.insert(id, (ask.clone(), None));
            return Err(refused("INSUFFICIENT_FUNDS"));
        }
        *balance -= opened;
        let name = format!("accounts/{account}/holds/{id}");
        let hold = BankHold {
            account,
            opened,
            settled: 0,
            released: 0,
            late: 0,
            state: HoldState::Open,
            expires_at: self.clock.now() + TimeDelta::from_std(ask.ttl).unwrap(),
            sequence: 0,
            cumulative: HashMap::new(),
        };
        self.holds.insert(name.clone(), hold);
        self.opened.insert(id, (ask.clone(), Some(name.clone())));
        Ok(self.hold(&name))
    }

    fn settle(&mut self, report: &SpendReport) -> Result<Hold, Refused> {
        let hold = self.holds.get_mut(&report.hold).expect("a hold that was opened");
        if report.sequence > hold.sequence {
            hold.sequence = report.sequence;
            for (campaign, sum) in &report.spends {
                let before = hold.cumulative.entry(campaign.to_string()).or_default();
                let more = (sum - *before).max(0);
                *before += more;
                let room = match hold.state {
                    HoldState::Open => hold.opened - hold.settled,
                    HoldState::Expired | HoldState::Released => 0,
                };
                hold.settled += more.min(room);
                hold.late += more - more.min(room);
                *self.balances.entry(hold.account.clone()).or_default() -= more - more.min(room);
            }
        }
        Ok(self.hold(&report.hold))
    }

    fn release(&mut self, name: &str) -> Result<Hold, Refused> {
        let hold = self.holds.get_mut(name).expect("a hold that was opened");
        if hold.state == HoldState::Open {
            hold.state = HoldState::Released;
            hold.released = hold.opened - hold.settled;
            *self.balances.entry(hold.account.clone()).or_default() += hold.released;
        }
        Ok(self.hold(name))
    }

    fn extend(&mut self, extension: &HoldExtension) -> Result<Hold, Refused> {
        let until = self.clock.now() + TimeDelta::from_std(extension.ttl).unwrap();
        let hold = self.holds.get_mut(&extension.hold).expect("a hold that was opened");
        if hold.state != HoldState::Open {
            return Err(refused("HOLD_EXPIRED"));
        }
        hold.expires_at = hold.expires_at.max(until);
        Ok(self.hold(&extension.hold))
    }

    fn hold(&self, name: &str) -> Hold {
        let hold = &self.holds[name];
        Hold {
            name: name.to_owned(),
            state: hold.state,
            opened_micros: hold.opened,
            settled_micros: hold.settled,
            released_micros: hold.released,
            late_micros: hold.late,
            sequence: hold.sequence,
            expires_at: hold.expires_at,
        }
    }

    /// An old message arrives once more. Not a question for a hold that was refused: nobody asks
    /// again with its id, and a network does not keep messages for hours.
    fn echo(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.heard.len());
        let message = self.heard[index].clone();
        if let Message::Open(ask) = &message
            && !matches!(self.opened.get(ask.request_id.as_str()), Some((_, Some(_))))
        {
            return;
        }
        let _ = self.hear(&message);
    }
}

fn refused(reason: &str) -> Refused {
    Refused { reason: reason.to_owned(), message: String::new() }
}

/// One replica's way to the bank.
pub(crate) struct Link {
    bank: Arc<Mutex<Bank>>,
    pub(crate) cut: AtomicBool,
    pub(crate) calls: AtomicU64,
}

impl Link {
    pub(crate) fn to(bank: &Arc<Mutex<Bank>>) -> Arc<Link> {
        let (cut, calls) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Link { bank: Arc::clone(bank), cut, calls })
    }

    async fn call(&self, messages: Vec<Message>) -> Verdicts<Option<Hold>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // Somebody else may run while the message is on its way.
        tokio::task::yield_now().await;
        let mut bank = self.bank.lock().unwrap();
        if self.cut.load(Ordering::Relaxed) {
            return Err(Error::Away("cut".to_owned()));
        }
        if bank.faulty && bank.rng.random_bool(0.05) {
            return Err(Error::Away("lost on the way there".to_owned()));
        }
        if bank.faulty && bank.rng.random_bool(0.2) {
            bank.echo();
        }
        let verdicts = messages.iter().map(|message| bank.hear(message)).collect();
        bank.heard.extend(messages);
        if bank.faulty && bank.rng.random_bool(0.1) {
            return Err(Error::Away("lost on the way back".to_owned()));
        }
        Ok(verdicts)
    }

    async fn holds(&self, messages: Vec<Message>) -> Verdicts<Hold> {
        let verdicts = self.call(messages).await?;
        Ok(verdicts.into_iter().map(|verdict| verdict.map(|hold| hold.unwrap())).collect())
    }
}

impl Billing for Link {
    fn get_account<'a>(
        &'a self,
        _: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>> {
        Box::pin(async { Err(Error::Away("nobody asks".to_owned())) })
    }

    fn open_holds(&self, asks: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>> {
        Box::pin(self.holds(asks.into_iter().map(Message::Open).collect()))
    }

    fn extend_holds(&self, extensions: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>> {
        Box::pin(self.holds(extensions.into_iter().map(Message::Extend).collect()))
    }

    fn release_holds(&self, holds: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>> {
        Box::pin(self.holds(holds.into_iter().map(Message::Release).collect()))
    }

    fn settle_holds(&self, reports: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>> {
        Box::pin(self.holds(reports.into_iter().map(Message::Settle).collect()))
    }

    fn record_charges(&self, charges: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>> {
        Box::pin(async move {
            let verdicts = self.call(charges.into_iter().map(Message::Record).collect()).await?;
            Ok(verdicts.into_iter().map(|verdict| verdict.map(|_| ())).collect())
        })
    }
}
