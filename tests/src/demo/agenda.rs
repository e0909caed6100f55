//! What the traffic still has to do, by its time.

use std::{cmp::Reverse, collections::BinaryHeap};

use chrono::{DateTime, Utc};

use super::{
    book::Reservation,
    calls::{Cancelled, Reported},
};

/// Something that is to be done at a moment of the simulated time.
#[derive(Debug)]
pub(crate) enum Due {
    Charge(Reported),
    Cancel(Cancelled),
    /// A reservation that nobody reports ends by itself.
    Expire(Reservation),
}

#[derive(Debug)]
struct Timed {
    at: DateTime<Utc>,
    order: u64,
    due: Due,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Timed {}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The earliest first; of one moment in the order in which they were put down.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<Timed>>,
    order: u64,
}

impl Agenda {
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Nothing waits but reservations that end by themselves.
    pub(crate) fn only_expiries(&self) -> bool {
        self.heap.iter().all(|timed| matches!(timed.0.due, Due::Expire(_)))
    }

    pub(crate) fn push(&mut self, at: DateTime<Utc>, due: Due) {
        self.order += 1;
        self.heap.push(Reverse(Timed { at, order: self.order, due }));
    }

    /// Takes the earliest if its time has come.
    pub(crate) fn next_if_due(&mut self, now: DateTime<Utc>) -> Option<Due> {
        if self.heap.peek()?.0.at > now {
            return None;
        }
        self.heap.pop().map(|timed| timed.0.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_time_and_nothing_comes_early() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let expire = |micros| Due::Expire(Reservation { campaign: 0, day: None, micros });
        let mut agenda = Agenda::default();
        for (second, micros) in [(3, 30), (1, 10), (2, 20), (1, 11)] {
            agenda.push(at(second), expire(micros));
        }
        assert!(agenda.next_if_due(at(0)).is_none());
        let mut taken = Vec::new();
        while let Some(due) = agenda.next_if_due(at(2)) {
            let Due::Expire(reservation) = due else { panic!("only expiries were put down") };
            taken.push(reservation.micros);
        }
        assert_eq!(taken, [10, 11, 20]);
        assert_eq!(agenda.len(), 1);
        assert!(agenda.only_expiries());
    }
}
