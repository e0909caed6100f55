//! What the end-to-end tests, the development runner, the demonstration and the benchmarks share.

pub mod bench;
pub mod demo;
pub mod eval;
pub mod lock;
pub mod processes;
pub mod provider;
pub mod smtp;
pub mod stack;
