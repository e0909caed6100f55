//! Autopayment by card against a provider that speaks the real HTTP API (R-120..R-128).

mod answers;
mod cards;
mod crashes;
mod fires;
mod notifications;
mod support;
