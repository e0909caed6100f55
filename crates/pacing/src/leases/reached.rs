//! Limits that were found used up: for the log of suspensions.

use std::sync::{Arc, Mutex, PoisonError};

use adspend_common::time::Day;
use foldhash::HashMap;

use crate::budgets::Entity;

/// A limit that is used up: nothing that is reserved can come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// The day whose limit it is.
    pub day: Day,
    /// It is the week that bounds the day.
    pub by_week: bool,
    /// The limit.
    pub limit_micros: i64,
    /// Charged and reserved.
    pub used_micros: i64,
}

/// Whose limits were reached since somebody last asked. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Reached(Arc<Mutex<HashMap<Entity, Stopped>>>);

impl Reached {
    pub(super) fn note(&self, entity: Entity, stopped: Stopped) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(entity, stopped);
    }

    /// Takes them.
    pub fn collect(&self) -> Vec<(Entity, Stopped)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect()
    }
}
