//! The edge over real sockets: what strangers, slow callers and broken handlers get.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod answers;
mod callers;
mod client;
mod connections;
mod deadlines;
mod drain;
mod overload;
mod pages;
mod support;
mod tls;
