//! The billing service.

pub mod ledger;
