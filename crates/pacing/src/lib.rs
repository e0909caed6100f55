//! The pacing service.
pub mod calendar;
