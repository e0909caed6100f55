//! How money reaches a client by itself and an agency by its bank: the auto top-up that runs dry and the
//! statement that helps it up (R-42, R-110..R-115, R-187..R-190).

use std::time::{Duration, Instant};

use adspend_common::{
    proto::adspend::billing::v1::{
        AutoTopUpDisabledReason, AutoTopUpOutcome, AutoTopUpRun, AutoTopUpState, StatementLine,
        StatementLineOutcome, StatementSummary,
    },
    time::Day,
};
use serde::Serialize;

use super::{
    bank::{self, Order, Way},
    checks::micros,
    clerk::TopUp,
    mailbox,
    office::Office,
    scenario::{AGENCY, KIOSK, SMALL_AGENCY, account_name},
    story::{LANDLORD, NORTH, SOUTH, STRANGER, Story},
    table::roubles,
};
use crate::processes::Failure;

/// 500 when 100 or less is left, 2 000 a day at most.
pub(crate) const TOP_UP: TopUp = TopUp { amount: 500, threshold: 100, limit: 2_000 };
/// The subject of the one letter of R-113.
const OFF: &str = "Автопополнение клиента «Kiosk» отключено";

/// What arrives through the bank for an invoice: to the agency with money, and to the one without.
const NORTH_PAYS: i64 = 6_100;
const SOUTH_PAYS: i64 = 1_830;
/// Nobody knows what for.
const STRAY: i64 = 900;
const RENT: i64 = 250_000;

/// How long something that needs no more than a moment may take, in real time.
const MOMENT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A statement's lines by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Paid an invoice.
    pub credited: i32,
    /// Arrived, and wait for somebody who knows whose they are.
    pub unallocated: i32,
    /// Had been imported before.
    pub duplicates: i32,
    /// No payment to us.
    pub ignored: i32,
}

impl Statement {
    fn of(summary: &StatementSummary) -> Self {
        let StatementSummary { credited, unallocated, duplicates, ignored, .. } = *summary;
        Self { credited, unallocated, duplicates, ignored }
    }
}

/// What became of a line, for people.
pub(crate) fn outcome(line: &StatementLine) -> String {
    let name = line.outcome().as_str_name();
    let name = name.trim_start_matches("STATEMENT_LINE_OUTCOME_").to_lowercase();
    let reason = [line.reason.as_str(), line.account.as_str()].join("");
    let amount = roubles(micros(line.amount.as_ref()));
    format!("    order {:>3} over {amount:>10}: {name} {reason}", line.document_number)
}

/// How often an auto top-up did something.
pub(crate) fn times(runs: &[AutoTopUpRun], outcome: AutoTopUpOutcome) -> usize {
    runs.iter().filter(|run| run.outcome() == outcome).count()
}

/// Waits for a condition of the runs of the kiosk's auto top-up.
async fn until(
    office: &Office,
    what: &str,
    holds: impl Fn(&[AutoTopUpRun]) -> bool,
) -> Result<Vec<AutoTopUpRun>, Failure> {
    let by = Instant::now() + MOMENT;
    loop {
        let runs = office.top_up_runs(&account_name(KIOSK)).await?;
        if holds(&runs) {
            return Ok(runs);
        }
        if Instant::now() > by {
            return Err(format!("{what}: not within {MOMENT:?}; runs: {runs:?}").into());
        }
        tokio::time::sleep(POLL).await;
    }
}

impl Story<'_> {
    /// The agency sets the auto top-up of its client.
    pub(crate) async fn top_up_on(&mut self, request_id: &str) -> Result<(), Failure> {
        let kiosk = account_name(KIOSK);
        let set = self.office.set_top_up(&kiosk, TOP_UP, request_id).await?;
        if set.state() != AutoTopUpState::Enabled {
            return Err(format!("the auto top-up of {kiosk}: {:?}", set.state()).into());
        }
        let TopUp { amount, threshold, limit } = TOP_UP;
        self.say(&format!(
            "auto top-up of {kiosk}: {amount} when {threshold} or less is left, {limit} a day"
        ));
        Ok(())
    }

    /// By now its spend has emptied the client and its agency: the auto top-up is off, with one letter
    ///
    pub(crate) async fn ran_dry(&mut self) -> Result<(), Failure> {
        let (kiosk, south) = (account_name(KIOSK), format!("accounts/{SMALL_AGENCY}"));
        let off = |runs: &[AutoTopUpRun]| times(runs, AutoTopUpOutcome::SwitchedOff) > 0;
        let runs = until(self.office, "the agency ran short", off).await?;
        let fired = times(&runs, AutoTopUpOutcome::Transferred);
        let there = micros(self.office.balance(&south).await?.available.as_ref());
        let set = self.office.top_up(&kiosk).await?;
        if fired == 0
            || times(&runs, AutoTopUpOutcome::SwitchedOff) != 1
            || there >= TOP_UP.amount * 1_000_000
            || set.disabled_reason() != AutoTopUpDisabledReason::InsufficientFunds
        {
            return Err(format!("an auto top-up that ran dry: {set:?}, {runs:?}").into());
        }
        self.say(&format!(
            "{kiosk} was topped up {fired} times; {south} has {} left, too little: switched off",
            roubles(there)
        ));
        let letter = mailbox::arrives(self.sink, OFF, 1).await?;
        if letter.to != SOUTH.email {
            return Err(format!("the letter of {south} went to {}", letter.to).into());
        }
        self.say(&format!("mail to {}: {}", letter.to, letter.subject));
        Ok(())
    }

    /// The bank's file of the day: of every sort a line; then the same file again.
    pub(crate) async fn bank_statement(&mut self) -> Result<(), Failure> {
        let (north, south) = (format!("accounts/{AGENCY}"), format!("accounts/{SMALL_AGENCY}"));
        let of_north = self.office.invoice(&north, NORTH_PAYS, "invoice-bank-north").await?;
        let of_south = self.office.invoice(&south, SOUTH_PAYS, "invoice-bank-south").await?;
        let day = Day::of(self.clock.now());
        let pays = |number, company, roubles, invoice: &str| {
            let date = day.date().format("%d.%m.%Y");
            let purpose = format!("Оплата по счёту № {invoice} от {date}, в т.ч. НДС 20%");
            Order { number, way: Way::In, company, roubles, purpose }
        };
        let stray = "Оплата рекламы по договору".to_owned();
        let rent = "Аренда офиса за ноябрь".to_owned();
        let orders = [
            pays(101, NORTH, NORTH_PAYS, &of_north.number),
            pays(102, SOUTH, SOUTH_PAYS, &of_south.number),
            // Paid twice: the second one is nobody's yet.
            pays(103, NORTH, NORTH_PAYS, &of_north.number),
            Order { purpose: stray, ..pays(104, STRANGER, STRAY, "") },
            Order { way: Way::Out, purpose: rent, ..pays(105, LANDLORD, RENT, "") },
            // The bank has one order twice.
            pays(102, SOUTH, SOUTH_PAYS, &of_south.number),
        ];
        let file = bank::one_c(day, &orders);
        let (lines, summary) = self.office.import(&file, "statement").await?;
        self.say(&format!("a bank statement of {} lines, {} bytes", orders.len(), file.len()));
        for line in &lines {
            println!("{}", outcome(line));
        }
        let told: Vec<_> =
            lines.iter().map(|line| (line.outcome(), line.reason.as_str())).collect();
        let expected = [
            (StatementLineOutcome::Credited, ""),
            (StatementLineOutcome::Credited, ""),
            (StatementLineOutcome::Unallocated, "ALREADY_PAID"),
            (StatementLineOutcome::Unallocated, "NUMBER_NOT_FOUND"),
            (StatementLineOutcome::Ignored, "OUTGOING"),
            (StatementLineOutcome::Duplicate, ""),
        ];
        if told != expected {
            return Err(format!("the statement's lines: {told:?}").into());
        }
        self.seen.paid_in += NORTH_PAYS + SOUTH_PAYS;
        let (_, again) = self.office.import(&file, "statement-again").await?;
        let (first, again) = (Statement::of(&summary), Statement::of(&again));
        if again != (Statement { duplicates: 5, ignored: 1, ..Statement::default() }) {
            return Err(format!("the same statement again: {again:?}").into());
        }
        self.say("the same file again: 5 duplicates, 1 ignored, nothing booked");
        self.seen.statement = Some(first);
        self.seen.statement_again = Some(again);
        self.refilled().await
    }

    /// With money in the agency, and switched on by hand again, the top-up fires.
    async fn refilled(&mut self) -> Result<(), Failure> {
        let before = self.office.top_up_runs(&account_name(KIOSK)).await?;
        let before = times(&before, AutoTopUpOutcome::Transferred);
        self.top_up_on("top-up-again").await?;
        let fired = |runs: &[AutoTopUpRun]| times(runs, AutoTopUpOutcome::Transferred) > before;
        until(self.office, "the auto top-up fires again", fired).await?;
        self.say("it fires at once: the client goes on");
        Ok(())
    }
}

/// How often the client was topped up, how often that was switched off, and how many letters said so.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct TopUps {
    /// Transfers.
    pub transferred: usize,
    /// Switched off because the agency was short of money.
    pub switched_off: usize,
    /// Letters about it: one each.
    pub letters: usize,
}

/// The auto top-up as it ends: a letter for each time that it was switched off, no more.
pub(crate) async fn tally(story: &Story<'_>) -> Result<TopUps, Failure> {
    let runs = story.office.top_up_runs(&account_name(KIOSK)).await?;
    let transferred = times(&runs, AutoTopUpOutcome::Transferred);
    let switched_off = times(&runs, AutoTopUpOutcome::SwitchedOff);
    mailbox::arrives(story.sink, OFF, switched_off).await?;
    let letters = mailbox::letters(story.sink);
    let letters = letters.iter().filter(|letter| letter.subject == OFF).count();
    if letters != switched_off {
        return Err(format!("{letters} letters for {switched_off} times switched off").into());
    }
    Ok(TopUps { transferred, switched_off, letters })
}
