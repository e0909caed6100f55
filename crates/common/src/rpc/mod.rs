//! The wire's manners: how a request becomes checked values, and how a refusal becomes a status.
//!
//! - [`Violations`] turns fields into domain values and gathers everything that is wrong with
//!   them, so that a caller learns all of it from one answer.
//! - [`Refusal`] is the one form of a "no": a unary [`tonic::Status`] and a batch's
//!   [`ItemError`](crate::proto::adspend::types::v1::ItemError) are written from it, so they
//!   cannot differ.
//! - [`fault`] is the other "no": our own bug, logged once, told to the caller as a trace id.
//! - [`PageKey`] seals page tokens, [`Deadline`] is the time a call has left.
//! - [`ProstCodec`] is what generated services and clients write messages with.
//!
//! Invariant: every status that leaves here carries `ErrorInfo` with domain `adspend` and a
//! reason of the catalogue in `proto/adspend/type/v1/errors.proto`.
//!
//! Deliberately not here: which method a caller may call ([`crate::identity`]), and the layer that
//! applies deadlines ([`crate::server`]).

mod cards;
mod codec;
mod context;
mod database;
mod dates;
mod deadline;
mod decode;
mod encode;
mod page;
mod refusal;
mod text;
mod violations;

pub use cards::holds_card_number;
pub use codec::{ProstCodec, WholeDecoder, WholeEncoder};
pub(crate) use context::Context;
pub use deadline::Deadline;
pub use decode::batch_limit;
pub use encode::{balance, date, duration, money, timestamp};
pub use page::{BadPageToken, PageKey, PageScope};
pub(crate) use refusal::fault_text;
pub use refusal::{Refusal, fault, invalid, not_found, precondition, refuse, unavailable};
pub use text::is_unseen;
pub use tonic::Code;
pub use violations::{All, Violations};

pub use crate::proto::adspend::types::v1::Reason;

use crate::money::Money;

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "adspend";

/// The largest amount that a request may name: a thousand million units, far below what a sum of
/// balances can hold.
pub const MAX_AMOUNT: Money = match Money::from_micros(1_000_000_000_000_000) {
    Some(amount) => amount,
    None => Money::ZERO,
};

/// How many items a page holds when the request does not say.
pub const DEFAULT_PAGE_SIZE: u32 = 50;

/// The most items on a page; a larger wish is taken as this.
pub const MAX_PAGE_SIZE: u32 = 1_000;
