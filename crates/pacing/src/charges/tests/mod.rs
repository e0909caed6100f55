//! Charges on a real database: each test has its own.

mod concurrency;
mod effects;
mod idempotency;
mod settling;
pub(crate) mod support;
