//! What a run comes to: `target/demo/summary.json`, and whether it is a success.

use std::{collections::BTreeMap, fs, path::Path, sync::atomic::Ordering};

use serde::Serialize;

use super::{
    Outcome,
    book::{Book, Who},
    credit::Deferred,
    funds::{Statement, TopUps},
    papers::Paper,
    record::Counters,
    story::Seen,
};
use crate::processes::Failure;

/// The figures of a run. Amounts are micro-units of a rouble.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Recorded impressions that were replayed.
    pub opportunities: u64,
    /// Of them, admitted ones.
    pub admitted: u64,
    /// Denied ones, by reason.
    pub denied: BTreeMap<String, u64>,
    /// The sum of all charges that pacing acknowledged, in micro-units.
    pub charges_acknowledged: i64,
    /// The sum of all charges in billing's ledger, in micro-units.
    pub charges_settled_in_billing: i64,
    /// How many charges were acknowledged.
    pub charges_count: u64,
    /// Charges that pacing marked late, and their sum.
    pub late_charges: u64,
    /// Their sum.
    pub late_micros: i64,
    /// By how much reservations and charges of a day passed its ceiling, summed over days and limits.
    pub admitted_over_limit_micros: i64,
    /// By how much the charges in time of a day passed its ceiling, summed over days and limits.
    pub overspend_micros: i64,
    /// "ok", or what differs.
    pub ledger_audit: String,
    /// Where the record, pacing and billing differ; empty in a good run.
    pub differences: Vec<String>,
    /// Money in, less money charged, less money that is there.
    pub missing_micros: i64,
    /// Calls of pacing to billing's HoldService.
    pub billing_calls: u64,
    /// The same for a thousand admissions.
    pub billing_calls_per_1000_admissions: f64,
    /// Holds opened in the run.
    pub holds: u64,
    /// Replicas of pacing.
    pub replicas: usize,
    /// Replicas that were killed with SIGKILL.
    pub killed: u32,
    /// Of them, started again.
    pub restarted: u32,
    /// Promised payments taken and repaid.
    pub promises_repaid: u32,
    /// Payments of a wrong payer that were allocated.
    pub payments_allocated: u32,
    /// A bank statement by what became of its lines; none in a run without its day.
    pub statement: Option<Statement>,
    /// The same file imported once more.
    pub statement_again: Option<Statement>,
    /// The auto top-up whose agency ran short of money.
    pub top_ups: TopUps,
    /// The deferred invoice that went overdue and was repaid.
    pub deferred_invoice: Option<Deferred>,
    /// How far what was charged lay from what was due, every five minutes: root mean square in shares of a
    /// day's target, mean over the accounts that have a budget.
    pub distance_from_curve: Option<f64>,
    /// Letters that the SMTP server took.
    pub letters: usize,
    /// The month's documents, as PDF in `target/demo/documents`.
    pub documents: Vec<Paper>,
    /// Calls to pacing that failed.
    pub failed_calls: u64,
    /// Opportunities, charges and cancellations sent again because of it.
    pub repeated_items: u64,
    /// Charges that had been booked when they were sent again.
    pub replayed_charges: u64,
    /// Admissions given back.
    pub cancelled: u64,
    /// Admissions left to expire.
    pub left_to_expire: u64,
    /// By how much an opportunity came later than its time, at most, in real milliseconds.
    pub most_behind_ms: u64,
    /// How fast the clock ran.
    pub clock_speed: u32,
    /// The whole run, without the start of PostgreSQL.
    pub wall_seconds: f64,
}

/// What a summary is made from.
pub(crate) struct Findings<'a> {
    pub(crate) book: &'a Book,
    pub(crate) counters: &'a Counters,
    pub(crate) seen: &'a Seen,
    pub(crate) outcome: Outcome,
    pub(crate) letters: usize,
    pub(crate) distance_from_curve: Option<f64>,
    pub(crate) replicas: usize,
    pub(crate) clock_speed: u32,
    pub(crate) wall_seconds: f64,
}

impl Summary {
    pub(crate) fn new(findings: Findings<'_>) -> Self {
        let total = findings.book.total();
        let (mut over_limit, mut overspend) = (0, 0);
        for (_, _, cell) in findings.book.cells() {
            over_limit += cell.over_limit_micros();
            overspend += cell.overspend_micros();
        }
        let counters = findings.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let thousands = total.admitted.max(1) as f64 / 1_000.0;
        let per_thousand =
            (findings.outcome.billing_calls as f64 / thousands * 1_000.0).round() / 1_000.0;
        Self {
            opportunities: total.opportunities,
            admitted: total.admitted,
            denied: total.denied.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect(),
            charges_acknowledged: total.charged_micros,
            charges_settled_in_billing: findings.outcome.booked.values().sum(),
            charges_count: total.charges,
            late_charges: total.late,
            late_micros: total.late_micros,
            admitted_over_limit_micros: over_limit,
            overspend_micros: overspend,
            ledger_audit: findings.outcome.ledger_audit,
            differences: findings.outcome.differences,
            missing_micros: findings.outcome.missing_micros,
            billing_calls: findings.outcome.billing_calls,
            billing_calls_per_1000_admissions: per_thousand,
            holds: findings.outcome.holds.number,
            replicas: findings.replicas,
            killed: findings.seen.killed,
            restarted: findings.seen.restarted,
            promises_repaid: findings.seen.promises_repaid,
            payments_allocated: findings.seen.payments_allocated,
            statement: findings.seen.statement,
            statement_again: findings.seen.statement_again,
            top_ups: findings.seen.top_ups,
            deferred_invoice: findings.seen.credit.clone(),
            letters: findings.letters,
            distance_from_curve: findings.distance_from_curve,
            documents: findings.seen.papers.clone(),
            failed_calls: count(&counters.failed_calls),
            repeated_items: count(&counters.repeated_items),
            replayed_charges: count(&counters.replayed_charges),
            cancelled: count(&counters.cancelled),
            left_to_expire: count(&counters.left_to_expire),
            most_behind_ms: count(&counters.most_behind_ms),
            clock_speed: findings.clock_speed,
            wall_seconds: (findings.wall_seconds * 10.0).round() / 10.0,
        }
    }

    /// Why the run is not a success; empty when it is one.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.differences.clone();
        if self.charges_acknowledged != self.charges_settled_in_billing {
            faults.push(format!(
                "charges differ: {} acknowledged, {} settled",
                self.charges_acknowledged, self.charges_settled_in_billing
            ));
        }
        for (name, micros) in [
            ("admitted over a limit", self.admitted_over_limit_micros),
            ("overspent", self.overspend_micros),
            ("missing", self.missing_micros),
        ] {
            if micros != 0 {
                faults.push(format!("{name}: {micros} micro-units"));
            }
        }
        if self.ledger_audit != "ok" {
            faults.push(format!("the ledger's audit: {}", self.ledger_audit));
        }
        if self.admitted == 0 || self.charges_count == 0 {
            faults.push("nothing was admitted and charged, so nothing is proved".to_owned());
        }
        faults
    }

    /// Writes it for programs.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// Every limit that was passed, for people.
pub(crate) fn passed_limits(book: &Book) -> Vec<String> {
    book.cells()
        .filter(|(_, _, cell)| cell.over_limit_micros() > 0 || cell.overspend_micros() > 0)
        .map(|(who, day, cell)| {
            let who = match who {
                Who::Account(number) => super::scenario::account_name(number),
                Who::Campaign(number) => super::scenario::campaign_name(number),
            };
            format!(
                "{who} on {day}: ceiling {:?}, highest use {}, charged {} (late {})",
                cell.ceiling, cell.highest_micros, cell.charged_micros, cell.late_micros
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::book::{Ceiling, Charged, Reservation};
    use adspend_common::time::Day;

    fn summary(ceiling_micros: i64, booked_micros: i64, audit: &str) -> Summary {
        let day = Day::from_ymd(2019, 11, 25).unwrap();
        let mut book = Book::default();
        for who in [Who::Campaign(0), Who::Account(0)] {
            book.rule(who, day, Ceiling::Micros(ceiling_micros));
        }
        book.came(0, day);
        let reservation = Reservation { campaign: 0, day: Some(day), micros: 10 };
        book.admitted(reservation, day);
        book.charging(reservation, 7);
        let (price_micros, late, counted) = (7, false, true);
        book.charged(Charged { campaign: 0, day, price_micros, late, counted });
        Summary::new(Findings {
            book: &book,
            counters: &Counters::default(),
            seen: &Seen::default(),
            outcome: Outcome {
                booked: BTreeMap::from([("campaigns/all-bts".to_owned(), booked_micros)]),
                ledger_audit: audit.to_owned(),
                ..Outcome::default()
            },
            letters: 0,
            distance_from_curve: Some(0.01),
            replicas: 3,
            clock_speed: 1,
            wall_seconds: 1.0,
        })
    }

    #[test]
    fn each_broken_promise_makes_a_run_fail() {
        assert_eq!(summary(10, 7, "ok").faults(), Vec::<String>::new());
        let faults = |summary: Summary| summary.faults().join("; ");
        assert!(faults(summary(10, 6, "ok")).contains("charges differ"));
        assert!(faults(summary(9, 7, "ok")).contains("admitted over a limit: 2"));
        assert!(faults(summary(6, 7, "ok")).contains("overspent: 2"));
        assert!(faults(summary(10, 7, "entries differ")).contains("entries differ"));
    }

    #[test]
    fn the_figures_that_others_read_have_their_names() {
        let json = serde_json::to_value(summary(10, 7, "ok")).unwrap();
        for name in [
            "opportunities",
            "admitted",
            "charges_acknowledged",
            "charges_settled_in_billing",
            "admitted_over_limit_micros",
            "overspend_micros",
            "ledger_audit",
            "billing_calls",
            "replicas",
            "killed",
            "statement",
            "top_ups",
            "deferred_invoice",
            "letters",
            "documents",
        ] {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["ledger_audit"], "ok");
        assert_eq!(json["charges_acknowledged"], 7);
    }
}
