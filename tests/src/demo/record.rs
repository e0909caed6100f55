//! What the parts of a run share: the book and the counters.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::book::Book;

/// What the traffic adds up to, beside the book.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: AtomicU64,
    pub(crate) admit_calls: AtomicU64,
    pub(crate) settle_calls: AtomicU64,
    pub(crate) failed_calls: AtomicU64,
    pub(crate) repeated_items: AtomicU64,
    pub(crate) replayed_charges: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) left_to_expire: AtomicU64,
    pub(crate) most_behind_ms: AtomicU64,
}

/// Counts.
pub(crate) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// What the replay shares with the watch and the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    book: Arc<Mutex<Book>>,
    pub(crate) counters: Arc<Counters>,
}

impl Record {
    /// The book; held for a moment, never across a wait.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
