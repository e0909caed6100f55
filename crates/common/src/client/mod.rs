//! Calls to another of our services.
//!
//! tonic's balanced channel keeps sending to a dead address, resolves names once, and a call
//! without a ready address ignores its deadline. So:
//!
//! - [`Channel`] goes round all addresses of its targets, resolves them again every few seconds,
//!   and leaves an address out for a while when a call to it breaks. It adds the bearer token and
//!   the trace context.
//! - [`call`] bounds every attempt by the time that is left, tells the server how long that is,
//!   and tries again what may be tried again, with jitter and within a budget. Only for calls that
//!   carry a request id: a repeat of another call may take effect twice.
//!
//! Deliberately not here: hedging, weights, zones.

mod channel;
mod retry;

pub use channel::{Channel, Error, Settings};
pub use retry::{Retry, call, request};
