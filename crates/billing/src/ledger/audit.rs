//! Proves the ledger on live data: every balance equals its entries, every entry its leg (I-1, I-2, I-3,
//! I-7), and the audit trail its chain and the legs that it vouches for (G10). One snapshot, read only; the checks are set statements that return what differs.

use adspend_common::db::{self, Pool};
use chrono::{DateTime, Utc};

use super::TenantNo;
use crate::audit_records::chain::{self, Head, Proof};

/// Differences that a report lists, at most; the count of a broken ledger may be endless.
pub const MAX_DIFFERENCES: usize = 100;

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which check failed.
    pub check: &'static str,
    /// The account, posting or hold, by number.
    pub object: String,
    /// What was expected and what was found.
    pub detail: String,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// At most [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// Balance rows recomputed.
    pub accounts: i64,
    /// Entries summed.
    pub entries: i64,
    /// Legs checked.
    pub legs: i64,
    /// Holds checked.
    pub holds: i64,
    /// The audit trail; looked at with the whole ledger only.
    pub trail: Proof,
    /// The moment by our clock.
    pub at: DateTime<Utc>,
}

impl Report {
    /// Nothing differs.
    pub fn is_ok(&self) -> bool {
        self.differences.is_empty()
    }
}

const COUNTS: &str = "-- audit.counts
SELECT (SELECT count(*) FROM ledger_balance WHERE $1::bigint IS NULL OR tenant_id = $1),
       (SELECT count(*) FROM ledger_entry WHERE $1::bigint IS NULL OR tenant_id = $1),
       (SELECT count(*) FROM ledger_leg WHERE $1::bigint IS NULL OR tenant_id = $1),
       (SELECT count(*) FROM hold WHERE $1::bigint IS NULL OR tenant_id = $1)";

/// I-2: a stored figure is the sum of its entries, and version n has n entries without a gap.
const BALANCES: &str = "-- audit.balance_equals_entries
SELECT format('account %s in tenant %s', b.account_id, b.tenant_id),
       format('stored main %s held %s frozen %s version %s, entries give %s %s %s, %s of them up to %s',
              b.main_micros, b.held_micros, b.frozen_micros, b.version,
              e.main, e.held, e.frozen, e.entries, e.last)
FROM ledger_balance b
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount_micros) FILTER (WHERE bucket = 1), 0) AS main,
           coalesce(sum(amount_micros) FILTER (WHERE bucket = 2), 0) AS held,
           coalesce(sum(amount_micros) FILTER (WHERE bucket = 3), 0) AS frozen,
           count(*) AS entries, coalesce(max(version), 0) AS last
    FROM ledger_entry e WHERE e.tenant_id = b.tenant_id AND e.account_id = b.account_id
) e ON true
WHERE ($1::bigint IS NULL OR b.tenant_id = $1)
  AND (b.main_micros <> e.main OR b.held_micros <> e.held OR b.frozen_micros <> e.frozen
       OR b.version <> e.entries OR b.version <> e.last)
LIMIT 100";

/// Entries are numbered without gaps, their running balances are those that they give one after the other, and
/// time never goes back.
const CHAIN: &str = "-- audit.running_balance
SELECT format('entry %s of account %s in tenant %s', version, account_id, tenant_id),
       format('balance %s posted %s, running %s %s', balance_micros, posted_micros, running, total)
FROM (
    SELECT tenant_id, account_id, version, balance_micros, posted_micros, posted_at,
           sum(amount_micros) OVER (PARTITION BY tenant_id, account_id, bucket ORDER BY version)
               AS running,
           sum(amount_micros) OVER one AS total,
           lag(posted_at) OVER one AS before, row_number() OVER one AS number
    FROM ledger_entry WHERE $1::bigint IS NULL OR tenant_id = $1
    WINDOW one AS (PARTITION BY tenant_id, account_id ORDER BY version)
) chain
WHERE running <> balance_micros OR total <> posted_micros OR before > posted_at OR version <> number
LIMIT 100";

/// I-3: only late charges take a balance below the overdraft threshold, and their sum is remembered.
const THRESHOLD: &str = "-- audit.threshold
SELECT format('account %s in tenant %s', b.account_id, b.tenant_id),
       format('main %s overdraft %s late %s, uncovered entries sum to %s',
              b.main_micros, b.overdraft_micros, b.late_micros, l.late)
FROM ledger_balance b
LEFT JOIN LATERAL (
    SELECT coalesce(-sum(amount_micros), 0) AS late FROM ledger_entry e
    WHERE e.tenant_id = b.tenant_id AND e.account_id = b.account_id AND (e.kind = 13 OR e.kind = 15 AND e.amount_micros < 0)
) l ON true
WHERE ($1::bigint IS NULL OR b.tenant_id = $1)
  AND (b.late_micros <> l.late OR b.main_micros + b.overdraft_micros + b.late_micros < 0)
LIMIT 100";

/// I-7: opened = settled + released + still held, and what is held in an account is what its holds hold.
const HOLDS: &str = "-- audit.held_equals_holds
SELECT format('account %s in tenant %s', b.account_id, b.tenant_id),
       format('held %s, its open holds hold %s', b.held_micros, h.held)
FROM ledger_balance b
LEFT JOIN LATERAL (
    SELECT coalesce(sum(opened_micros - settled_micros - released_micros), 0) AS held
    FROM hold h WHERE h.tenant_id = b.tenant_id AND h.account_id = b.account_id
) h ON true
WHERE ($1::bigint IS NULL OR b.tenant_id = $1) AND b.held_micros <> h.held
LIMIT 100";

/// What was reported of a hold is what was booked of it, out of the hold or late.
const SPENDS: &str = "-- audit.settled_equals_spends
SELECT format('hold %s in tenant %s', h.hold_id, h.tenant_id),
       format('settled %s late %s, reported %s', h.settled_micros, h.late_micros, s.spent)
FROM hold h
LEFT JOIN LATERAL (
    SELECT coalesce(sum(spent_micros), 0) AS spent FROM hold_spend s
    WHERE s.tenant_id = h.tenant_id AND s.hold_id = h.hold_id
) s ON true
WHERE ($1::bigint IS NULL OR h.tenant_id = $1)
  AND h.settled_micros + h.late_micros <> s.spent
LIMIT 100";

/// A promise owes what was taken and not repaid, and the counter-account says the same.
const PROMISES: &str = "-- audit.promised_equals_promises
SELECT format('tenant %s', coalesce(l.tenant_id, p.tenant_id)),
       format('ledger owes %s, promises owe %s', coalesce(l.owed, 0), coalesce(p.owed, 0))
FROM (
    SELECT tenant_id, sum(CASE WHEN from_bucket = 13 THEN amount_micros ELSE -amount_micros END)
        AS owed
    FROM ledger_leg WHERE (from_bucket = 13 OR to_bucket = 13)
        AND ($1::bigint IS NULL OR tenant_id = $1) GROUP BY tenant_id
) l
FULL JOIN (
    SELECT tenant_id, sum(outstanding_micros) AS owed FROM promised_payment
    WHERE $1::bigint IS NULL OR tenant_id = $1 GROUP BY tenant_id
) p ON p.tenant_id = l.tenant_id
WHERE coalesce(l.owed, 0) <> coalesce(p.owed, 0)
LIMIT 100";

/// Free funds are the payments that wait to be assigned.
const UNALLOCATED: &str = "-- audit.unallocated_equals_payments
SELECT format('tenant %s', coalesce(l.tenant_id, p.tenant_id)),
       format('ledger has %s unallocated, payments have %s', coalesce(l.free, 0),
              coalesce(p.free, 0))
FROM (
    SELECT tenant_id, sum(CASE WHEN to_bucket = 12 THEN amount_micros ELSE -amount_micros END)
        AS free
    FROM ledger_leg WHERE (from_bucket = 12 OR to_bucket = 12)
        AND ($1::bigint IS NULL OR tenant_id = $1) GROUP BY tenant_id
) l
FULL JOIN (
    SELECT tenant_id, sum(amount_micros) AS free FROM payment
    WHERE state = 2 AND ($1::bigint IS NULL OR tenant_id = $1) GROUP BY tenant_id
) p ON p.tenant_id = l.tenant_id
WHERE coalesce(l.free, 0) <> coalesce(p.free, 0)
LIMIT 100";

/// What auto top-ups say that they transferred is what the ledger says, one for one.
const TOP_UPS: &str = "-- audit.top_ups_equal_runs
SELECT format('posting %s in tenant %s', coalesce(l.posting_id, r.posting_id),
              coalesce(l.tenant_id, r.tenant_id)),
       format('ledger moved %s to account %s, the run says %s to %s', l.amount_micros, l.to_account,
              r.amount_micros, r.account_id)
FROM (SELECT * FROM ledger_leg WHERE kind = 16 AND ($1::bigint IS NULL OR tenant_id = $1)) l
FULL JOIN (
    SELECT * FROM auto_top_up_run WHERE outcome = 1 AND ($1::bigint IS NULL OR tenant_id = $1)
) r ON r.tenant_id = l.tenant_id AND r.posting_id = l.posting_id
WHERE l.posting_id IS NULL OR r.posting_id IS NULL OR l.amount_micros <> r.amount_micros
   OR l.to_account <> r.account_id OR l.from_account <> l.tenant_id
LIMIT 100";

/// What is owed on deferred invoices is what they were credited with.
const DEFERRED: &str = "-- audit.deferred_equals_invoices
SELECT format('tenant %s', coalesce(l.tenant_id, i.tenant_id)),
       format('ledger is owed %s, deferred invoices %s', coalesce(l.owed, 0), coalesce(i.owed, 0))
FROM (
    SELECT tenant_id, sum(CASE WHEN from_bucket = 14 THEN amount_micros ELSE -amount_micros END)
        AS owed
    FROM ledger_leg WHERE (from_bucket = 14 OR to_bucket = 14)
        AND ($1::bigint IS NULL OR tenant_id = $1) GROUP BY tenant_id
) l
FULL JOIN (
    SELECT tenant_id, sum(amount_micros) AS owed FROM invoice
    WHERE terms = 2 AND state = 1 AND ($1::bigint IS NULL OR tenant_id = $1) GROUP BY tenant_id
) i ON i.tenant_id = l.tenant_id
WHERE coalesce(l.owed, 0) <> coalesce(i.owed, 0)
LIMIT 100";

/// what was repaid from a balance is an invoice of that account, whole, once. An invoice goes along when its
/// account joins another tenant, the posting stays.
const REPAID: &str = "-- audit.repaid_equals_invoices
SELECT format('posting %s in tenant %s', coalesce(l.posting_id, i.repayment_id),
              coalesce(l.tenant_id, i.tenant_id)),
       format('ledger took %s from account %s, invoice %s of account %s asks for %s', l.amount,
              l.from_account, i.number, i.account_id, i.amount_micros)
FROM (
    SELECT tenant_id, posting_id, from_account, sum(amount_micros) AS amount
    FROM ledger_leg WHERE kind = 24 GROUP BY tenant_id, posting_id, from_account
) l
FULL JOIN (SELECT * FROM invoice WHERE repayment_id IS NOT NULL) i
    ON i.repayment_id = l.posting_id AND i.account_id = l.from_account
WHERE ($1::bigint IS NULL OR coalesce(l.tenant_id, i.tenant_id) = $1)
  AND (l.posting_id IS NULL OR i.invoice_id IS NULL OR l.amount <> i.amount_micros)
LIMIT 100";

/// the overdraft is the threshold less the unpaid deferred invoices; frozen money has a reason.
const CREDIT: &str = "-- audit.overdraft_equals_credit
SELECT format('account %s in tenant %s', b.account_id, b.tenant_id),
       format('overdraft %s frozen %s overdue %s, threshold %s unpaid %s', b.overdraft_micros,
              b.frozen_micros, b.overdue, coalesce(c.threshold_micros, 0), i.unpaid)
FROM ledger_balance b
LEFT JOIN credit c ON c.tenant_id = b.tenant_id AND c.account_id = b.account_id
LEFT JOIN LATERAL (
    SELECT coalesce(sum(amount_micros), 0) AS unpaid FROM invoice i
    WHERE i.tenant_id = b.tenant_id AND i.account_id = b.account_id AND i.terms = 2 AND i.state = 1
) i ON true
WHERE ($1::bigint IS NULL OR b.tenant_id = $1)
  AND (b.overdraft_micros <> greatest(coalesce(c.threshold_micros, 0) - i.unpaid, 0)
       OR b.frozen_micros > 0 AND NOT b.overdue AND c.unfreeze_at IS NULL
       OR b.overdue AND i.unpaid = 0)
LIMIT 100";

/// money for spend only came from credits for closed months, here or before the account moved.
const SPEND_ONLY: &str = "-- audit.spend_only_within_credits
SELECT format('account %s in tenant %s', b.account_id, b.tenant_id),
       format('%s for spend only, credits gave %s', b.spend_only_micros, c.given)
FROM ledger_balance b
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.spend_only_micros), 0) AS given FROM click_credit c
    WHERE c.account_id = b.account_id AND NOT EXISTS (
        SELECT FROM reversal r WHERE r.tenant_id = c.tenant_id AND r.posting_id = c.posting_id)
) c
WHERE b.spend_only_micros > 0 AND ($1::bigint IS NULL OR b.tenant_id = $1)
  AND b.spend_only_micros > c.given
LIMIT 100";

const CHECKS: [(&str, &str); 12] = [
    ("balance_equals_entries", BALANCES),
    ("running_balance", CHAIN),
    ("threshold", THRESHOLD),
    ("held_equals_holds", HOLDS),
    ("settled_equals_spends", SPENDS),
    ("promised_equals_promises", PROMISES),
    ("unallocated_equals_payments", UNALLOCATED),
    ("top_ups_equal_runs", TOP_UPS),
    ("deferred_equals_invoices", DEFERRED),
    ("repaid_equals_invoices", REPAID),
    ("overdraft_equals_credit", CREDIT),
    ("spend_only_within_credits", SPEND_ONLY),
];

/// Recomputes the ledger, or one tenant of it, from its rows. Reads everything: minutes on a large ledger,
/// but without a lock, so it may run on live data. The whole ledger is proved with its audit trail; a head of
/// the trail's chain that was kept must still be in it.
pub async fn verify(
    pool: &Pool,
    tenant: Option<TenantNo>,
    at: DateTime<Utc>,
    known_head: Option<Head>,
) -> Result<Report, db::Error> {
    let whole = tenant.is_none();
    let tenant = tenant.map(|tenant| tenant.0);
    let mut client = pool.get().await?;
    let tx = client.snapshot().await?;
    tx.statement_timeout(std::time::Duration::from_secs(3600)).await?;
    let counts = tx.query_one(COUNTS, &[&tenant]).await?;
    let mut differences = Vec::new();
    for (check, sql) in CHECKS {
        for row in tx.query(sql, &[&tenant]).await? {
            if differences.len() < MAX_DIFFERENCES {
                differences.push(Difference { check, object: row.get(0), detail: row.get(1) });
            }
        }
    }
    let mut trail = Proof::default();
    if whole {
        let differs = |difference| {
            if differences.len() < MAX_DIFFERENCES {
                differences.push(difference);
            }
        };
        trail = chain::prove(&tx, known_head, differs).await?;
    }
    tx.rollback().await?;
    Ok(Report {
        differences,
        accounts: counts.get(0),
        entries: counts.get(1),
        legs: counts.get(2),
        holds: counts.get(3),
        trail,
        at,
    })
}
