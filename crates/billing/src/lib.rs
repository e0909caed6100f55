//! The billing service.

pub mod holds;
pub mod ledger;

use adspend_common::db::migrate::{Migration, Migrations};

/// The schema of billing's database, oldest first.
pub const MIGRATIONS: Migrations = Migrations::embedded(
    "billing",
    &[
        Migration { name: "0001_ledger", sql: include_str!("../migrations/0001_ledger.sql") },
        Migration { name: "0002_holds", sql: include_str!("../migrations/0002_holds.sql") },
        Migration { name: "0003_invoices", sql: include_str!("../migrations/0003_invoices.sql") },
        Migration { name: "0004_payments", sql: include_str!("../migrations/0004_payments.sql") },
        Migration {
            name: "0005_promised_payments",
            sql: include_str!("../migrations/0005_promised_payments.sql"),
        },
        Migration {
            name: "0006_requests_by_age",
            sql: include_str!("../migrations/0006_requests_by_age.sql"),
        },
    ],
);
