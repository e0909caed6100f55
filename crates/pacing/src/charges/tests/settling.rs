//! From charges to billing: a double of billing that keeps books of its own, loses answers, takes
//! calls twice and goes away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use adspend_common::id::AccountId;
use futures_util::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::support::{Fixture, charge, late_conversion};
use crate::billing::{
    AccountFacts, Billing, Error, Hold, HoldAsk, HoldExtension, HoldState, LateCharge, Refused,
    SpendReport, Verdicts,
};
use crate::charges::Settings;
use crate::charges::settlement::{self, Round};

/// Books as billing does: a sequence takes effect once, sums never fall, a charge's request id
/// takes effect once. Whatever it is told wrong is kept in `wrong`.
#[derive(Default)]
struct Recorder {
    away: AtomicBool,
    refusing: AtomicBool,
    /// Of ten calls, how many lose their answer after they took effect, or come twice.
    faults: AtomicUsize,
    calls: AtomicUsize,
    random: Mutex<Option<StdRng>>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// The last sequence of each hold, and every payload by sequence.
    last: HashMap<String, i64>,
    payloads: HashMap<(String, i64), SpendReport>,
    sums: BTreeMap<(String, String), i64>,
    late: BTreeMap<String, LateCharge>,
    wrong: Vec<String>,
}

impl Books {
    fn settle(&mut self, report: &SpendReport) {
        let key = (report.hold.clone(), report.sequence);
        if let Some(first) = self.payloads.get(&key) {
            if first != report {
                self.wrong.push(format!("{report:?} repeats {first:?} with another payload"));
            }
            return;
        }
        self.payloads.insert(key, report.clone());
        let last = self.last.entry(report.hold.clone()).or_default();
        if report.sequence <= *last {
            self.wrong.push(format!("{report:?} comes after {last}"));
            return;
        }
        *last = report.sequence;
        for (campaign, sum) in &report.spends {
            let key = (report.hold.clone(), campaign.as_str().to_owned());
            let booked = self.sums.entry(key).or_default();
            if sum < booked {
                self.wrong.push(format!("{report:?} falls below {booked}"));
            }
            *booked = (*booked).max(*sum);
        }
    }

    fn total(&self) -> i64 {
        self.sums.values().sum::<i64>()
            + self.late.values().map(|charge| charge.amount_micros).sum::<i64>()
    }
}

impl Recorder {
    fn faulty(seed: u64, faults: usize) -> Recorder {
        Recorder {
            faults: AtomicUsize::new(faults),
            random: Mutex::new(Some(StdRng::seed_from_u64(seed))),
            ..Recorder::default()
        }
    }

    fn chance(&self) -> bool {
        let faults = self.faults.load(Ordering::Relaxed);
        let mut random = self.random.lock().unwrap();
        random.as_mut().is_some_and(|random| random.random_range(0..10) < faults)
    }

    /// One call: `effect` happens never, once or twice, and the answer may be lost.
    fn call<T>(&self, mut effect: impl FnMut(&mut Books) -> Vec<T>) -> Verdicts<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let away = || Error::Away("cut off".to_owned());
        if self.away.load(Ordering::Relaxed) || self.chance() {
            return Err(away());
        }
        let mut books = self.books.lock().unwrap();
        let answer = effect(&mut books);
        if self.chance() {
            effect(&mut books);
        }
        if self.chance() {
            return Err(away());
        }
        if self.refusing.load(Ordering::Relaxed) {
            let refused = || Refused { reason: "HOLD_CLOSED".to_owned(), message: String::new() };
            return Ok(answer.iter().map(|_| Err(refused())).collect());
        }
        Ok(answer.into_iter().map(Ok).collect())
    }

    fn wrong(&self) -> Vec<String> {
        self.books.lock().unwrap().wrong.clone()
    }
}

fn hold(report: &SpendReport) -> Hold {
    Hold {
        name: report.hold.clone(),
        state: HoldState::Open,
        opened_micros: 0,
        settled_micros: 0,
        released_micros: 0,
        late_micros: 0,
        sequence: report.sequence,
        expires_at: chrono::DateTime::UNIX_EPOCH,
    }
}

impl Billing for Recorder {
    fn get_account<'a>(
        &'a self,
        _: &'a AccountId,
    ) -> BoxFuture<'a, Result<Option<AccountFacts>, Error>> {
        unreachable!("settlement knows its accounts")
    }

    fn open_holds(&self, _: Vec<HoldAsk>) -> BoxFuture<'_, Verdicts<Hold>> {
        unreachable!("settlement opens no holds")
    }

    fn extend_holds(&self, _: Vec<HoldExtension>) -> BoxFuture<'_, Verdicts<Hold>> {
        unreachable!("settlement extends no holds")
    }

    fn release_holds(&self, _: Vec<String>) -> BoxFuture<'_, Verdicts<Hold>> {
        unreachable!("settlement releases no holds")
    }

    fn settle_holds(&self, reports: Vec<SpendReport>) -> BoxFuture<'_, Verdicts<Hold>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.call(|books| {
                reports.iter().for_each(|report| books.settle(report));
                reports.iter().map(hold).collect()
            })
        })
    }

    fn record_charges(&self, charges: Vec<LateCharge>) -> BoxFuture<'_, Verdicts<()>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.call(|books| {
                for charge in &charges {
                    let id = charge.request_id.as_str().to_owned();
                    let first = books.late.entry(id).or_insert_with(|| charge.clone()).clone();
                    if first != *charge {
                        books.wrong.push(format!("{charge:?} repeats {first:?}"));
                    }
                }
                charges.iter().map(|_| ()).collect()
            })
        })
    }
}

const CHARGED: &str = "SELECT coalesce(sum(price_micros), 0)::bigint FROM charge";
const UNSETTLED: &str = "SELECT (
    (SELECT count(*) FROM hold_spend WHERE acknowledged_micros < charged_micros)
    + (SELECT count(*) FROM settlement)
    + (SELECT count(*) FROM late_charge WHERE NOT acknowledged))::bigint";

impl Fixture {
    async fn round(&self, billing: &Recorder) -> Round {
        let settings = Settings::default();
        settlement::round(&self.pool, &self.clock, billing, &settings).await.unwrap()
    }

    /// Rounds until nothing is left to be settled.
    async fn settle_all(&self, billing: &Recorder) {
        for _ in 0..100 {
            self.round(billing).await;
            if self.number(UNSETTLED).await == 0 {
                return;
            }
            // Reports that had no answer are claimed for a while.
            self.advance(Duration::from_secs(20));
        }
        panic!("still unsettled");
    }
}

#[tokio::test]
async fn a_round_settles_all_holds_in_one_call_and_a_quiet_one_makes_none() {
    let books = Fixture::new().await;
    let mut batch = Vec::new();
    for n in 0..20u32 {
        let shop = books.shop(&format!("shop-{n}"), "agency").await;
        for (m, name) in ["a", "b"].iter().enumerate() {
            let campaign = books.campaign(shop, &format!("{name}-{n}")).await;
            let slice = books.slice(shop, campaign, 1_000).await;
            let at = u32::try_from(m).unwrap();
            batch.push(charge(&format!("c-{n}-{m}"), slice.token(at, 100), i64::from(n) + 1));
        }
    }
    books.settle(batch).await;
    let billing = Recorder::default();
    let round = books.round(&billing).await;
    assert_eq!((round.reports, billing.calls.load(Ordering::Relaxed)), (20, 1));
    assert_eq!(books.round(&billing).await, Round::default());
    assert_eq!(billing.calls.load(Ordering::Relaxed), 1);
    let charged = books.number(CHARGED).await;
    assert_eq!(billing.books.lock().unwrap().total(), charged);
    assert_eq!((billing.wrong(), books.number(UNSETTLED).await), (vec![], 0));
}

#[tokio::test]
async fn a_report_keeps_its_sequence_and_payload_until_it_is_acknowledged() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let campaign = books.campaign(shop, "spring").await;
    let slice = books.slice(shop, campaign, 1_000).await;
    books.settle(vec![charge("c-1", slice.token(0, 100), 30)]).await;
    let billing = Recorder::faulty(1, 0);
    billing.away.store(true, Ordering::Relaxed);
    assert!(books.round(&billing).await.away);
    let sequence = books.number("SELECT sequence FROM settlement").await;
    // More is charged while the first report has no answer yet.
    books.settle(vec![charge("c-2", slice.token(1, 100), 50)]).await;
    books.advance(Duration::from_secs(20));
    assert!(books.round(&billing).await.away);
    assert_eq!(books.number("SELECT spent_micros[1] FROM settlement").await, 30);
    billing.away.store(false, Ordering::Relaxed);
    books.settle_all(&billing).await;
    let recorded = billing.books.lock().unwrap();
    assert!(recorded.last.values().all(|last| *last > sequence));
    assert_eq!((recorded.payloads.len(), recorded.total(), recorded.wrong.len()), (2, 80, 0));
}

#[tokio::test]
async fn a_claimed_report_is_left_alone_until_its_claim_runs_out() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let slice = books.slice(shop, books.campaign(shop, "spring").await, 1_000).await;
    books.settle(vec![charge("c-1", slice.token(0, 100), 30)]).await;
    let billing = Recorder::default();
    // A replica that dies between claiming and sending leaves this behind.
    books
        .round(&{
            let dead = Recorder::default();
            dead.refusing.store(true, Ordering::Relaxed);
            dead
        })
        .await;
    assert_eq!(books.number("SELECT attempts::bigint FROM settlement").await, 1);
    assert_eq!(books.round(&billing).await.reports, 0);
    books.advance(Settings::default().claim.get());
    assert_eq!(books.round(&billing).await.reports, 1);
    assert_eq!(billing.books.lock().unwrap().total(), 30);
}

#[tokio::test]
async fn charges_of_a_closed_hold_and_late_ones_still_reach_billing() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let slice = books.slice(shop, books.campaign(shop, "spring").await, 1_000).await;
    books.advance(Duration::from_secs(7_200));
    books.resolve(slice).await;
    books.client().await.execute("UPDATE hold SET state = 4", &[]).await.unwrap();
    let batch = vec![charge("c-1", slice.token(0, 100), 30), late_conversion("c-2", "spring", 7)];
    assert!(books.settle(batch).await.iter().all(|answer| answer.clone().unwrap().late));
    let billing = Recorder::default();
    let round = books.round(&billing).await;
    assert_eq!((round.reports, round.charges), (1, 1));
    let recorded = billing.books.lock().unwrap();
    assert_eq!(recorded.sums.values().copied().collect::<Vec<_>>(), [30]);
    let late = recorded.late.values().next().unwrap();
    assert_eq!((late.amount_micros, late.campaign.as_str()), (7, "spring"));
    assert_eq!(late.account.as_str(), "shop");
}

#[tokio::test]
async fn what_billing_refuses_stays_and_does_not_stop_the_rest() {
    let books = Fixture::new().await;
    let shop = books.shop("shop", "shop").await;
    let slice = books.slice(shop, books.campaign(shop, "spring").await, 1_000).await;
    books.settle(vec![charge("c-1", slice.token(0, 100), 30)]).await;
    let billing = Recorder::default();
    billing.refusing.store(true, Ordering::Relaxed);
    assert_eq!(books.round(&billing).await.refused, 1);
    assert_eq!(books.number(UNSETTLED).await, 2);
    billing.refusing.store(false, Ordering::Relaxed);
    books.advance(Duration::from_secs(60));
    books.settle_all(&billing).await;
    assert_eq!(billing.books.lock().unwrap().total(), 30);
}

/// Charges go on while two replicas settle over a billing that loses, doubles and drops calls: in
/// the end it has booked what was charged, to the micro-unit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_billing_ends_with_exactly_what_was_charged() {
    let books = Fixture::new().await;
    let mut slices = Vec::new();
    for n in 0..3 {
        let shop = books.shop(&format!("shop-{n}"), "agency").await;
        for m in 0..2 {
            let campaign = books.campaign(shop, &format!("campaign-{n}-{m}")).await;
            slices.push(books.slice(shop, campaign, 1_000_000).await);
        }
    }
    let billing = Recorder::faulty(7, 3);
    for round in 0..60u32 {
        let mut batch = Vec::new();
        for (n, slice) in slices.iter().enumerate() {
            let id = format!("c-{round}-{n}");
            batch.push(charge(&id, slice.token(round, 100), i64::from(round % 90) + 1));
        }
        batch.push(late_conversion(&format!("late-{round}"), "campaign-1-0", 11));
        let (_, first, second) =
            tokio::join!(books.settle(batch), books.round(&billing), books.round(&billing));
        assert!(first.refused + second.refused == 0);
        books.advance(Duration::from_secs(u64::from(round % 4)));
    }
    assert!(billing.calls.load(Ordering::Relaxed) > 20);
    books.settle_all(&billing).await;
    assert_eq!(billing.wrong(), Vec::<String>::new());
    let charged = books.number(CHARGED).await;
    assert_eq!(billing.books.lock().unwrap().total(), charged);
    let by_hold = "SELECT count(*) FROM hold_spend WHERE acknowledged_micros <> charged_micros";
    assert_eq!(books.number(by_hold).await, 0);
    books.assert_books().await;
}
