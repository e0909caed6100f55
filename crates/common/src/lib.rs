#![doc = include_str!("../README.md")]

pub mod client;
pub mod config;
pub mod db;
#[cfg(feature = "devpg")]
pub mod devpg;
pub mod id;
pub mod identity;
mod json;
pub mod money;
pub mod proto;
pub mod requisites;
pub mod rpc;
pub mod server;
pub mod telemetry;
pub mod time;
