//! Charges on a real database: each test has its own.

mod concurrency;
mod conversions;
mod effects;
mod folding;
mod idempotency;
mod lost_commits;
mod settling;
pub(crate) mod support;
