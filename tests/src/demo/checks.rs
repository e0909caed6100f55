//! What the two services say at the end, held against the driver's record and against each other.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use adspend_common::proto::{
    adspend::{
        billing::v1::{
            HoldState, ListHoldsRequest, ListTransactionsRequest, Transaction, TransactionType,
            VerifyLedgerRequest,
        },
        pacing::v1::{GetPacingStateRequest, GetPacingStateResponse},
    },
    google::r#type::{Date, Money},
};
use adspend_common::time::Day;
use chrono::Datelike as _;

use super::{
    book::{Book, Who},
    fleet::{Fleet, request},
    marketing::any_replica,
    office::{Office, patient},
    scenario::{ACCOUNTS, account_name, campaign_name, everybody},
    watch::parent,
};
use crate::processes::Failure;

/// How long the outboxes may take to empty.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// Pages of a list, a thousand rows each.
const PAGES: usize = 1_000;

pub(crate) fn micros(money: Option<&Money>) -> i64 {
    money.map_or(0, |money| money.units * 1_000_000 + i64::from(money.nanos) / 1_000)
}

async fn state(
    fleet: &Arc<Fleet>,
    who: Who,
    day: Option<Day>,
) -> Result<GetPacingStateResponse, Failure> {
    let date = |day: Day| Date {
        year: day.date().year(),
        month: i32::try_from(day.date().month()).unwrap_or_default(),
        day: i32::try_from(day.date().day()).unwrap_or_default(),
    };
    let message = GetPacingStateRequest { parent: parent(who), day: day.map(date) };
    any_replica(fleet, "GetPacingState", |mut member| {
        let message = message.clone();
        async move { member.reports.get_pacing_state(request(message)).await }
    })
    .await
}

/// Waits until pacing has nothing that billing has not acknowledged.
pub(crate) async fn settled(fleet: &Arc<Fleet>) -> Result<(), Failure> {
    let by = Instant::now() + SETTLE_LIMIT;
    loop {
        let mut unsettled = 0;
        for account in 0..ACCOUNTS.len() {
            unsettled += state(fleet, Who::Account(account), None).await?.unsettled_micros;
        }
        if unsettled == 0 {
            return Ok(());
        }
        if Instant::now() > by {
            return Err(
                format!("{unsettled} micro-units were not settled in {SETTLE_LIMIT:?}").into()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What pacing reports of every account, campaign and day.
pub(crate) async fn told(
    fleet: &Arc<Fleet>,
    days: &[Day],
) -> Result<Vec<(Who, Day, GetPacingStateResponse)>, Failure> {
    let mut told = Vec::new();
    for day in days {
        for who in Who::all() {
            told.push((who, *day, state(fleet, who, Some(*day)).await?));
        }
    }
    Ok(told)
}

/// Where pacing's charges of a day differ from the record; empty when they agree. What is late is
/// not compared: an answer says late from the token's expiry, the report counts those whose
/// reservation was gone when they were booked.
pub(crate) fn pacing_differs(
    book: &Book,
    told: &[(Who, Day, GetPacingStateResponse)],
) -> Vec<String> {
    let mut differences = Vec::new();
    for (who, day, state) in told {
        let cell = book.cell(*who, *day).cloned().unwrap_or_default();
        let charges = u64::try_from(state.charges).unwrap_or(u64::MAX);
        if (cell.charged_micros, cell.charges) != (state.charged_micros, charges) {
            differences.push(format!(
                "{} on {day}: {} charges of {} micro-units were acknowledged, pacing reports \
                 {charges} of {}",
                parent(*who),
                cell.charges,
                cell.charged_micros,
                state.charged_micros
            ));
        }
    }
    differences
}

/// Where pacing told a ceiling above that of the rules.
pub(crate) fn ceilings_differ(book: &Book) -> Vec<String> {
    book.cells()
        .filter(|(_, _, cell)| cell.told_too_much())
        .map(|(who, day, cell)| {
            let who = parent(who);
            format!(
                "{who} on {day}: the rules give {:?}, pacing told {:?}",
                cell.ceiling, cell.told
            )
        })
        .collect()
}

/// What billing has booked as spent, per campaign, in micro-units.
pub(crate) async fn booked(office: &Office) -> Result<BTreeMap<String, i64>, Failure> {
    let mut booked = BTreeMap::new();
    for account in 0..ACCOUNTS.len() {
        for transaction in charges(office, &account_name(account)).await? {
            let sum: &mut i64 = booked.entry(transaction.object).or_default();
            *sum -= micros(transaction.amount.as_ref());
        }
    }
    Ok(booked)
}

/// The charges of an account.
pub(crate) async fn charges(office: &Office, account: &str) -> Result<Vec<Transaction>, Failure> {
    let mut message = ListTransactionsRequest {
        parent: account.to_owned(),
        types: vec![TransactionType::Charge.into()],
        page_size: 1_000,
        ..ListTransactionsRequest::default()
    };
    let mut charges = Vec::new();
    for _ in 0..PAGES {
        let call = || {
            let (mut client, message) = (office.transactions.clone(), message.clone());
            async move { client.list_transactions(request(message)).await }
        };
        let page = patient("ListTransactions", call).await?;
        charges.extend(page.transactions);
        message.page_token = page.next_page_token;
        if message.page_token.is_empty() {
            return Ok(charges);
        }
    }
    Err(format!("more than {PAGES} pages of charges").into())
}

/// Where billing's charges differ from those that pacing has acknowledged.
pub(crate) fn billing_differs(book: &Book, booked: &BTreeMap<String, i64>) -> Vec<String> {
    let mut acknowledged: BTreeMap<String, i64> = BTreeMap::new();
    for (who, _, cell) in book.cells() {
        if let Who::Campaign(campaign) = who {
            *acknowledged.entry(campaign_name(campaign)).or_default() += cell.charged_micros;
        }
    }
    let mut names: Vec<_> = acknowledged.keys().chain(booked.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |sums: &BTreeMap<String, i64>, name| sums.get(name).copied().unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name, of(&acknowledged, name), of(booked, name)))
        .filter(|(_, acknowledged, booked)| acknowledged != booked)
        .map(|(name, acknowledged, booked)| {
            format!("{name}: {acknowledged} micro-units were acknowledged, billing has {booked}")
        })
        .collect()
}

/// What the holds of all accounts come to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holds {
    pub(crate) number: u64,
    pub(crate) open: u64,
    pub(crate) opened_micros: i64,
    pub(crate) settled_micros: i64,
    pub(crate) released_micros: i64,
    pub(crate) late_micros: i64,
    /// Holds that ended and whose parts are not their whole (I-7).
    pub(crate) broken: u64,
}

impl Holds {
    /// Where the holds contradict the charges.
    pub(crate) fn differ(self, charged_micros: i64) -> Option<String> {
        let spent = self.settled_micros + self.late_micros;
        if self.broken > 0 {
            Some(format!("{} holds are not the sum of their parts", self.broken))
        } else if spent != charged_micros {
            Some(format!("{spent} micro-units were spent with holds, {charged_micros} charged"))
        } else {
            None
        }
    }
}

pub(crate) async fn holds(office: &Office) -> Result<Holds, Failure> {
    let mut sum = Holds::default();
    for account in 0..ACCOUNTS.len() {
        let mut message = ListHoldsRequest {
            parent: account_name(account),
            page_size: 1_000,
            ..ListHoldsRequest::default()
        };
        for _ in 0..PAGES {
            let call = || {
                let (mut client, message) = (office.holds.clone(), message.clone());
                async move { client.list_holds(request(message)).await }
            };
            let page = patient("ListHolds", call).await?;
            for hold in page.holds {
                sum.number += 1;
                sum.opened_micros += hold.opened_micros;
                sum.settled_micros += hold.settled_micros;
                sum.released_micros += hold.released_micros;
                sum.late_micros += hold.late_micros;
                let held = hold.opened_micros - hold.settled_micros - hold.released_micros;
                let whole = if hold.state() == HoldState::Open { held >= 0 } else { held == 0 };
                sum.broken += u64::from(!whole);
                sum.open += u64::from(hold.state() == HoldState::Open);
            }
            message.page_token = page.next_page_token;
            if message.page_token.is_empty() {
                break;
            }
        }
    }
    Ok(sum)
}

/// Money that came in and was not charged, less what all accounts have: zero when none was lost or
/// made. Promised and deferred money that is still owed counts as having come in.
pub(crate) async fn missing_micros(
    office: &Office,
    paid_in_units: i64,
    charged_micros: i64,
) -> Result<i64, Failure> {
    let mut missing = paid_in_units * 1_000_000 - charged_micros;
    for name in everybody() {
        let balance = office.balance(&name).await?;
        missing += micros(balance.promised_debt.as_ref()) + micros(balance.deferred_debt.as_ref());
        missing -= micros(balance.posted.as_ref());
    }
    Ok(missing)
}

/// "ok", or what the ledger's own audit finds.
pub(crate) async fn verify_ledger(office: &Office) -> Result<String, Failure> {
    let call = || {
        let mut client = office.audit.clone();
        async move { client.verify_ledger(request(VerifyLedgerRequest::default())).await }
    };
    let report = patient("VerifyLedger", call).await?;
    println!(
        "VerifyLedger: {} accounts, {} entries, {} legs, {} holds, {} differences",
        report.accounts,
        report.entries,
        report.legs,
        report.holds,
        report.differences.len()
    );
    if report.ok && report.differences.is_empty() {
        return Ok("ok".to_owned());
    }
    let lines = report.differences.iter().map(|difference| {
        format!("{} {}: {}", difference.check, difference.object, difference.detail)
    });
    Ok(lines.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::book::Charged;

    #[test]
    fn a_single_micro_unit_between_the_services_is_found_on_either_side() {
        let day = Day::from_ymd(2019, 11, 25).unwrap();
        let mut book = Book::default();
        let (price_micros, late, counted) = (411_113, false, false);
        book.charged(Charged { campaign: 0, day, price_micros, late, counted });
        let booked = |micros| BTreeMap::from([(campaign_name(0), micros)]);
        assert!(billing_differs(&book, &booked(411_113)).is_empty());
        assert_eq!(billing_differs(&book, &booked(411_112)).len(), 1);
        assert_eq!(billing_differs(&book, &BTreeMap::new()).len(), 1);
        let mut more = booked(411_113);
        more.insert("campaigns/unknown".to_owned(), 1);
        assert_eq!(billing_differs(&book, &more).len(), 1);
    }

    #[test]
    fn money_of_the_wire_keeps_its_micro_units() {
        let money = |units, nanos| Money { currency_code: "RUB".to_owned(), units, nanos };
        assert_eq!(micros(Some(&money(-1, -234_567_000))), -1_234_567);
        assert_eq!(micros(None), 0);
    }
}
