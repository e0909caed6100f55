//! From a campaign's name to its entity: an immutable snapshot, replaced as a whole.
//!
//! Open addressing in one flat array, at most seven eighths full, so that it stays small enough
//! for the nearer caches: a look-up is one hash, a line or two of the array and the entity itself. Built off the hot path whenever a campaign comes; a campaign that
//! only changes (paused, other hours, other tenant) changes its entity and no directory.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Entity;

/// A snapshot of all campaigns that this replica knows.
pub(super) struct Directory {
    hasher: RandomState,
    slots: Box<[Slot]>,
    /// By seat.
    entities: Vec<Arc<Entity>>,
    tenants: HashMap<Box<str>, u32, RandomState>,
}

#[derive(Clone, Default)]
struct Slot {
    hash: u64,
    entity: Option<Arc<Entity>>,
}

impl Directory {
    /// Entities in the order of their seats, and the numbers of the tenants.
    pub(super) fn new(
        entities: Vec<Arc<Entity>>,
        tenants: HashMap<Box<str>, u32, RandomState>,
    ) -> Directory {
        let hasher = RandomState::default();
        let size = (entities.len().saturating_mul(8) / 7 + 1).next_power_of_two().max(2);
        let mut slots = vec![Slot::default(); size].into_boxed_slice();
        for entity in &entities {
            let hash = hasher.hash_one(entity.name().as_bytes());
            let free = probe(hash, size).find(|&index| slots[index].entity.is_none());
            let index = free.expect("a table that is not full has a free slot");
            slots[index] = Slot { hash, entity: Some(Arc::clone(entity)) };
        }
        Directory { hasher, slots, entities, tenants }
    }

    /// The campaign with this bare id.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Entity>> {
        let hash = self.hasher.hash_one(name.as_bytes());
        for index in probe(hash, self.slots.len()) {
            let slot = self.slots.get(index)?;
            let entity = slot.entity.as_ref()?;
            if slot.hash == hash && entity.is_named(name.as_bytes()) {
                return Some(entity);
            }
        }
        None
    }

    /// Every campaign, by seat.
    pub(super) fn entities(&self) -> &[Arc<Entity>] {
        &self.entities
    }

    /// The number of a tenant that owns any campaign.
    pub(super) fn tenant_no(&self, tenant: &str) -> Option<u32> {
        self.tenants.get(tenant).copied()
    }
}

/// The slots to look at, in order, each once. `size` is a power of two.
fn probe(hash: u64, size: usize) -> impl Iterator<Item = usize> {
    let mask = size - 1;
    let start = hash as usize & mask;
    (0..size).map(move |step| (start + step) & mask)
}
