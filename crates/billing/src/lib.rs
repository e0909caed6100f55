#![doc = include_str!("../README.md")]

pub mod accounts;
pub mod app;
pub mod audit_records;
mod auto_topups;
mod autopay;
pub mod config;
mod corrections;
mod credit;
mod documents;
mod events;
mod grpc;
pub mod holds;
mod invoices;
mod jobs;
pub mod ledger;
mod notices;
mod payments;
mod promised_payments;
mod requests;
mod secrets;
mod statements;
mod transactions;
pub mod transfers;

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
        Migration { name: "0007_secrets", sql: include_str!("../migrations/0007_secrets.sql") },
        Migration {
            name: "0008_payments_by_account",
            sql: include_str!("../migrations/0008_payments_by_account.sql"),
        },
        Migration {
            name: "0009_events_and_notices",
            sql: include_str!("../migrations/0009_events_and_notices.sql"),
        },
        Migration {
            name: "0010_audit_records",
            sql: include_str!("../migrations/0010_audit_records.sql"),
        },
        Migration {
            name: "0011_entries_are_sides_of_legs",
            sql: include_str!("../migrations/0011_entries_are_sides_of_legs.sql"),
        },
        Migration {
            name: "0012_corrections",
            sql: include_str!("../migrations/0012_corrections.sql"),
        },
        Migration {
            name: "0013_auto_top_ups",
            sql: include_str!("../migrations/0013_auto_top_ups.sql"),
        },
        Migration { name: "0014_credit", sql: include_str!("../migrations/0014_credit.sql") },
        Migration { name: "0015_documents", sql: include_str!("../migrations/0015_documents.sql") },
        Migration { name: "0016_autopay", sql: include_str!("../migrations/0016_autopay.sql") },
        Migration {
            name: "0017_announcements",
            sql: include_str!("../migrations/0017_announcements.sql"),
        },
        Migration {
            name: "0018_statements",
            sql: include_str!("../migrations/0018_statements.sql"),
        },
        Migration {
            name: "0019_spend_only",
            sql: include_str!("../migrations/0019_spend_only.sql"),
        },
        Migration {
            name: "0020_repayment_from_balance",
            sql: include_str!("../migrations/0020_repayment_from_balance.sql"),
        },
        Migration {
            name: "0021_changed_invoices",
            sql: include_str!("../migrations/0021_changed_invoices.sql"),
        },
    ],
);

/// The UUID that a resource id is, in the one form in which we write it; none for any other id.
pub(crate) fn uuid_of(id: &adspend_common::id::ResourceId) -> Option<uuid::Uuid> {
    let uuid = uuid::Uuid::parse_str(id.as_str()).ok()?;
    (uuid.hyphenated().to_string() == id.as_str()).then_some(uuid)
}
