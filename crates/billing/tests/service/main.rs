//! Billing as its callers see it: in process, over real connections, on real PostgreSQL, with the clock in
//! hand and no job running. Every test ends with the ledger's audit.

#![allow(clippy::unwrap_used, reason = "a helper of a test that has no answer has failed the test")]

mod accounts;
mod bad_input;
mod bank;
mod events;
mod holds;
mod identities;
mod jobs;
mod payments;
mod promises;
mod relations;
mod repeats;
mod statements;
mod storm;
mod support;
mod transactions;
mod transfers;
