//! End-to-end tests: what the workspace as a whole promises.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod annotations;
mod chaos;
mod contract;
mod demo;
mod deploy;
mod eval;
mod examples;
mod readme;
mod tidy;
mod tools;
