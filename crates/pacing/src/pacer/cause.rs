//! What decided an entity's own rate, and the numbers that it is stored under.

use crate::controller::rate::Why;

/// What decided it: the controller, or that there was nothing to control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The controller, and why.
    Why(Why),
    /// There is no budget.
    NoBudget,
}

impl Cause {
    const ALL: [Cause; 10] = [
        Cause::Why(Why::AllTraffic),
        Cause::Why(Why::Curve),
        Cause::Why(Why::Floor),
        Cause::Why(Why::Slew),
        Cause::Why(Why::WarmStart),
        Cause::Why(Why::HardStop),
        Cause::Why(Why::Waits),
        Cause::Why(Why::Asap),
        Cause::Why(Why::Closed),
        Cause::NoBudget,
    ];

    /// Its number in `pace_reading.why`.
    pub(crate) fn number(self) -> i16 {
        match self {
            Cause::Why(Why::AllTraffic) => 1,
            Cause::Why(Why::Curve) => 2,
            Cause::Why(Why::Floor) => 3,
            Cause::Why(Why::Slew) => 4,
            Cause::Why(Why::WarmStart) => 5,
            Cause::Why(Why::HardStop) => 6,
            Cause::Why(Why::Waits) => 7,
            Cause::Why(Why::Asap) => 8,
            Cause::Why(Why::Closed) => 9,
            Cause::NoBudget => 10,
        }
    }

    /// What a number stands for.
    pub(crate) fn from_number(number: i16) -> Option<Cause> {
        Cause::ALL.into_iter().find(|cause| cause.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 to 10 is what `pace_reading_why_is_known` lets in.
    #[test]
    fn every_number_that_the_table_takes_can_be_read() {
        for number in 1..=10 {
            assert_eq!(Cause::from_number(number).map(Cause::number), Some(number));
        }
        assert_eq!((Cause::from_number(0), Cause::from_number(11)), (None, None));
    }
}
