#![doc = include_str!("../README.md")]

pub mod accounts;
pub mod admission;
pub mod app;
pub mod billing;
pub mod budgets;
pub mod calendar;
pub mod campaigns;
pub mod charges;
pub mod config;
pub mod controller;
mod grpc;
pub mod leases;
pub mod pacer;
pub mod replicas;
pub mod reports;
pub mod requests;
#[cfg(test)]
pub(crate) mod tests_support;

pub use app::Services;

use adspend_common::db::migrate::{Migration, Migrations};

/// The schema of pacing's database, oldest first.
pub const MIGRATIONS: Migrations = Migrations::embedded(
    "pacing",
    &[
        Migration {
            name: "0001_campaigns_and_budgets",
            sql: include_str!("../migrations/0001_campaigns_and_budgets.sql"),
        },
        Migration {
            name: "0002_leases_and_charges",
            sql: include_str!("../migrations/0002_leases_and_charges.sql"),
        },
        Migration { name: "0003_pacing", sql: include_str!("../migrations/0003_pacing.sql") },
        Migration { name: "0004_in_flight", sql: include_str!("../migrations/0004_in_flight.sql") },
        Migration {
            name: "0005_few_charges",
            sql: include_str!("../migrations/0005_few_charges.sql"),
        },
        Migration {
            name: "0006_conversions",
            sql: include_str!("../migrations/0006_conversions.sql"),
        },
    ],
);
