//! What a caller wants to be done, and what became of it.

use adspend_common::money::Money;
use adspend_common::time::Day;

use super::rules::{Refused, Said};
use crate::admission::token::Token;

/// One thing to be done.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// Book a charge.
    Charge(Charge),
    /// Give an admission back.
    Cancel(Token),
}

/// A charge to be booked.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    /// The caller's id of it, unique within the account.
    pub(crate) id: String,
    /// What it settles.
    pub(crate) target: Target,
    /// The price.
    pub(crate) price: Money,
}

/// What a charge settles.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// An admission.
    Admission(Token),
    /// Nothing that was reserved: a late conversion of a campaign.
    Late {
        /// The account that pays.
        account_no: i64,
        /// The campaign.
        campaign_no: i64,
        /// It pays per conversion.
        is_conversion: bool,
    },
}

impl Item {
    /// The account whose books it changes.
    pub(crate) fn account_no(&self) -> i64 {
        match self {
            Item::Charge(charge) => charge.account_no(),
            Item::Cancel(token) => token.account_no,
        }
    }

    /// The admission that it ends.
    pub(crate) fn token(&self) -> Option<&Token> {
        match self {
            Item::Charge(Charge { target: Target::Admission(token), .. }) | Item::Cancel(token) => {
                Some(token)
            }
            Item::Charge(Charge { target: Target::Late { .. }, .. }) => None,
        }
    }
}

impl Charge {
    pub(crate) fn account_no(&self) -> i64 {
        match &self.target {
            Target::Admission(token) => token.account_no,
            Target::Late { account_no, .. } => *account_no,
        }
    }

    pub(crate) fn said(&self) -> Said {
        let (campaign_no, admission) = match &self.target {
            Target::Admission(token) => {
                (token.campaign_no, Some((token.slice_no, token.admission_no)))
            }
            Target::Late { campaign_no, .. } => (*campaign_no, None),
        };
        Said { campaign_no, admission, price: self.price }
    }
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The charge is booked.
    Booked { day: Day, late: bool, replayed: bool },
    /// The admission is given back.
    Cancelled { released: Money, replayed: bool },
    /// Nothing was changed.
    Refused(Refused),
}

/// What an admission took from its slice.
pub(crate) fn expected(token: &Token) -> Money {
    Money::from_micros(token.expected_micros).unwrap_or_default()
}

/// What a token reserves. A token is ours, so its amount is one of money.
pub(crate) fn reserved(token: &Token) -> Money {
    Money::from_micros(token.reserved_micros).unwrap_or_default()
}
