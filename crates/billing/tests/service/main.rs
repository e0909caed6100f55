//! Billing as its callers see it: in process, over real connections, on real PostgreSQL, with the clock in
//! hand and no job running. Every test ends with the ledger's audit.

#![allow(clippy::unwrap_used, reason = "a helper of a test that has no answer has failed the test")]

mod accounts;
mod audit_records;
mod autopay;
mod bad_input;
mod bank;
mod changed_invoices;
mod corrections;
mod credit;
mod credit_storm;
mod documents;
mod eligibility;
mod events;
mod exports;
mod holds;
mod identities;
mod jobs;
mod notices;
mod payments;
mod promises;
#[path = "../../../../tests/src/provider.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "it is the end-to-end package's, which offers all of it"
)]
mod provider;
mod relations;
mod repayments;
mod repeats;
#[path = "../../../../tests/src/smtp.rs"]
#[allow(
    unreachable_pub,
    reason = "it is the end-to-end package's, whose demonstration uses it too"
)]
mod smtp;
mod spend_only;
mod statements;
mod storm;
mod support;
mod top_ups;
mod top_ups_at_once;
mod transactions;
mod transfers;
