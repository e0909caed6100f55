//! Shared parts.

pub mod config;
pub mod db;
pub mod id;
pub mod money;
pub mod proto;
pub mod time;
