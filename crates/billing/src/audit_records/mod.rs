//! Who did what when with which request: the audit trail.
//!
//! A changing call leaves a record in the transaction of its effect: `requests::finish` writes one with the
//! request, the calls of holds write their own, and what goes through the ledger's group commit is recorded
//! once a batch, by the ledger itself (`ledger::journal`). A call that was refused or repeated changes
//! nothing and leaves nothing.
//!
//! A request is kept as it came, without what is secret and without fields too long to keep
//! ([`rules::kept`]); its hash is that of all of it. Records are never changed, and [`chain`] makes a change
//! by somebody else show.

pub mod chain;
pub(crate) mod listing;
pub(crate) mod rules;
pub(crate) mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use adspend_common::identity::Caller;

use crate::ledger::Actor;

/// A changing call, as its record shows it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who asked for what.
    pub actor: Actor,
    /// What the caller marked it with; empty when its items have ids of their own.
    pub request_id: String,
    /// The hash of all that was asked.
    pub hash: [u8; 32],
    /// The message.
    pub request: Vec<u8>,
}

impl Asked {
    /// Who calls.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.actor.caller
    }
}
