//! What a posting does to balances: pure, one verdict per item, nothing half done.
//!
//! The fold runs over rows that the store has locked. It yields the entries to be written and the rows as
//! they become; a refused posting leaves no trace, and a linked group stands or falls together.

use std::collections::HashMap;

use adspend_common::money::{Balance, Money};
use chrono::{DateTime, Utc};

use super::{AccountKey, AccountNo, Kind, Leg, MAX_LEGS, Place, Posted, PostedLeg, Posting, State};

/// Why a posting is refused. In the order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The id was used for something else.
    #[error("the request id was used with another payload")]
    RequestIdReused,
    /// There is no such balance row, or the account has moved to another tenant.
    #[error("account {0:?} has no balance in this tenant")]
    UnknownAccount(AccountNo),
    /// The account is blocked or closed.
    #[error("account {0:?} is blocked")]
    Blocked(AccountNo),
    /// Less is available than the amount.
    #[error("{available} is available, {amount} is needed")]
    Insufficient {
        /// Whose money.
        account: AccountNo,
        /// What may be used now.
        available: Balance,
        /// What was asked for.
        amount: Money,
    },
    /// A balance would leave the range that can be stored.
    #[error("the balance of account {0:?} would be out of range")]
    Overflow(AccountNo),
    /// Another item of an atomic group was refused.
    #[error("another item of the group was refused")]
    GroupAborted,
    /// The posting has no leg, too many, one of nothing, or one from a place to itself: a mistake of ours.
    #[error("the posting is malformed")]
    Malformed,
}

/// The balance row of an account, as locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Which.
    pub key: AccountKey,
    /// Free money; below zero by late charges and within the overdraft threshold.
    pub main: Balance,
    /// In holds.
    pub held: Money,
    /// Under a lien.
    pub frozen: Money,
    /// How far below zero voluntary debits may go.
    pub overdraft: Money,
    /// The sum of late charges ever booked.
    pub late: Money,
    /// Entries so far.
    pub version: i64,
    /// When the last one was booked; time does not go back within an account.
    pub last_at: DateTime<Utc>,
    /// Whether money may move.
    pub state: State,
    /// No hold of the account expires before this moment.
    pub hold_expires_at: Option<DateTime<Utc>>,
    /// Free money of so much or less makes the account's auto top-up due.
    pub top_up_at: Option<Money>,
    /// A deferred invoice is overdue: no overdraft, and free money is under the lien.
    pub overdue: bool,
    /// Nothing about the account's credit changes by time alone before this moment.
    pub credit_at: Option<DateTime<Utc>>,
    /// The part of the money that may be spent but not leave the account. Charges use it up first.
    pub spend_only: Money,
}

/// What the feature `credit` makes of an account's terms and debts, as the ledger needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreditLine {
    /// See [`Row::overdraft`].
    pub overdraft: Money,
    /// See [`Row::overdue`].
    pub overdue: bool,
    /// See [`Row::credit_at`].
    pub next_at: Option<DateTime<Utc>>,
}

impl Row {
    /// A row of a new account.
    pub fn new(key: AccountKey, at: DateTime<Utc>) -> Row {
        Row {
            key,
            main: Balance::ZERO,
            held: Money::ZERO,
            frozen: Money::ZERO,
            overdraft: Money::ZERO,
            late: Money::ZERO,
            version: 0,
            last_at: at,
            state: State::Active,
            hold_expires_at: None,
            top_up_at: None,
            overdue: false,
            credit_at: None,
            spend_only: Money::ZERO,
        }
    }

    /// Whether an auto top-up has to look at the account.
    pub fn wants_top_up(&self) -> bool {
        self.top_up_at.is_some_and(|at| self.main <= Balance::from(at))
    }

    /// What may be transferred, held or repaid with: main plus the overdraft threshold. Held and frozen
    /// money is out of main already (I-3). Nothing while a deferred invoice is overdue.
    pub fn available(&self) -> Balance {
        if self.overdue {
            return self.main.min(Balance::ZERO);
        }
        self.main.checked_add(self.overdraft).unwrap_or(self.main)
    }

    /// What may leave the account: what is available, less what may only be spent. Held money is
    /// about to be spent, so it is that money first.
    pub fn transferable(&self) -> Balance {
        let kept = self.spend_only.saturating_sub(self.held);
        let available = self.available();
        available.checked_sub(kept).unwrap_or(available)
    }

    /// All money of the account: main, held and frozen.
    pub fn posted(&self) -> Option<Balance> {
        self.main.checked_add(self.held)?.checked_add(self.frozen)
    }

    fn balance(&self, bucket: OwnerBucket) -> Balance {
        match bucket {
            OwnerBucket::Main => self.main,
            OwnerBucket::Held => self.held.into(),
            OwnerBucket::Frozen => self.frozen.into(),
        }
    }

    /// None when the figure would leave its range; held and frozen never go below zero.
    fn moved(&self, bucket: OwnerBucket, direction: Direction, amount: Money) -> Option<Row> {
        let mut row = self.clone();
        match bucket {
            OwnerBucket::Main => row.main = direction.balance(self.main, amount)?,
            OwnerBucket::Held => row.held = direction.money(self.held, amount)?,
            OwnerBucket::Frozen => row.frozen = direction.money(self.frozen, amount)?,
        }
        row.version = self.version.checked_add(1)?;
        row.posted()?;
        Some(row)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnerBucket {
    Main,
    Held,
    Frozen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

impl Direction {
    fn balance(self, before: Balance, amount: Money) -> Option<Balance> {
        match self {
            Direction::Out => before.checked_sub(amount),
            Direction::In => before.checked_add(amount),
        }
    }

    fn money(self, before: Money, amount: Money) -> Option<Money> {
        match self {
            Direction::Out => before.checked_sub(amount),
            Direction::In => before.checked_add(amount),
        }
    }
}

fn owner(place: Place) -> Option<(AccountNo, OwnerBucket)> {
    match place {
        Place::Main(account) => Some((account, OwnerBucket::Main)),
        Place::Held(account) => Some((account, OwnerBucket::Held)),
        Place::Frozen(account) => Some((account, OwnerBucket::Frozen)),
        Place::Counter(_) => None,
    }
}

/// What one end of a leg does to its owner.
#[derive(Debug, Clone, Copy)]
struct Entry {
    version: i64,
    /// The bucket's balance right after.
    balance: Balance,
    /// All money of the account right after.
    posted: Balance,
}

/// Folds postings over locked rows.
#[derive(Debug)]
pub struct Fold {
    now: DateTime<Utc>,
    rows: Vec<Row>,
    index: HashMap<AccountKey, usize>,
    touched: Vec<bool>,
    /// Accounts whose money for spend only was used or set: few ever have any.
    spend_only: Vec<AccountKey>,
    /// How rows stood before the group in progress touched them.
    undo: Vec<(usize, Row, bool)>,
}

impl Fold {
    /// A fold over these rows.
    pub fn new(now: DateTime<Utc>, rows: Vec<Row>) -> Fold {
        let index = rows.iter().enumerate().map(|(at, row)| (row.key, at)).collect();
        let touched = vec![false; rows.len()];
        Fold { now, rows, index, touched, spend_only: Vec::new(), undo: Vec::new() }
    }

    /// The row as it stands now.
    pub fn row(&self, key: AccountKey) -> Option<&Row> {
        self.index.get(&key).map(|&at| &self.rows[at])
    }

    /// The rows that were changed.
    pub fn changed(&self) -> impl Iterator<Item = &Row> {
        let rows = self.rows.iter().zip(&self.touched).filter(|(_, touched)| **touched);
        rows.map(|(row, _)| row)
    }

    /// All rows as they stand.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Sets the moment of the next expiry of holds on an account.
    pub fn set_hold_expiry(&mut self, key: AccountKey, at: Option<DateTime<Utc>>) {
        if let Some(&index) = self.index.get(&key) {
            self.rows[index].hold_expires_at = at;
            self.touched[index] = true;
        }
    }

    /// Sets what the account's credit is from now on.
    pub fn set_credit(&mut self, key: AccountKey, line: CreditLine) {
        if let Some(&index) = self.index.get(&key) {
            let row = &mut self.rows[index];
            (row.overdraft, row.overdue, row.credit_at) =
                (line.overdraft, line.overdue, line.next_at);
        }
    }

    /// Sets how much of the account's money may only be spent.
    pub fn set_spend_only(&mut self, key: AccountKey, amount: Money) {
        if let Some(&index) = self.index.get(&key) {
            self.rows[index].spend_only = amount;
            self.spend_only.push(key);
        }
    }

    /// The accounts whose money for spend only may have changed.
    pub fn spend_only(&self) -> &[AccountKey] {
        &self.spend_only
    }

    /// Books one posting, or refuses it and changes nothing.
    pub fn post(&mut self, posting: &Posting) -> Result<Posted, Refusal> {
        self.undo.clear();
        self.try_post(posting).inspect_err(|_| self.roll_back())
    }

    /// Books all of a group, or none of it. The verdict of an item that was fine by itself is
    /// [`Refusal::GroupAborted`].
    pub fn post_group(&mut self, postings: &[&Posting]) -> Vec<Result<Posted, Refusal>> {
        self.undo.clear();
        let mut verdicts = Vec::with_capacity(postings.len());
        for posting in postings {
            match self.try_post(posting) {
                Ok(posted) => verdicts.push(Ok(posted)),
                Err(refusal) => {
                    self.roll_back();
                    verdicts.clear();
                    for other in postings {
                        let same = std::ptr::eq(*other, *posting);
                        let why = if same { refusal.clone() } else { Refusal::GroupAborted };
                        verdicts.push(Err(why));
                    }
                    return verdicts;
                }
            }
        }
        verdicts
    }

    fn roll_back(&mut self) {
        while let Some((at, row, touched)) = self.undo.pop() {
            self.rows[at] = row;
            self.touched[at] = touched;
        }
    }

    fn try_post(&mut self, posting: &Posting) -> Result<Posted, Refusal> {
        if posting.legs.is_empty() || posting.legs.len() > MAX_LEGS {
            return Err(Refusal::Malformed);
        }
        let at = self.booking_time(posting);
        let mut legs = Vec::with_capacity(posting.legs.len());
        for leg in &posting.legs {
            legs.push(self.post_leg(posting, leg, at)?);
        }
        Ok(Posted { id: posting.id, at, legs, replayed: false })
    }

    /// Now, or later when an account of the posting has an entry from a clock ahead of ours.
    fn booking_time(&self, posting: &Posting) -> DateTime<Utc> {
        let mut at = self.now;
        for leg in &posting.legs {
            for place in [leg.from, leg.to] {
                if let Some((account, _)) = owner(place)
                    && let Some(row) = self.row(AccountKey { tenant: posting.tenant, account })
                {
                    at = at.max(row.last_at);
                }
            }
        }
        at
    }

    fn post_leg(
        &mut self,
        posting: &Posting,
        leg: &Leg,
        at: DateTime<Utc>,
    ) -> Result<PostedLeg, Refusal> {
        if leg.amount.is_zero() || leg.from == leg.to {
            return Err(Refusal::Malformed);
        }
        let from = self.post_side(posting, leg, Direction::Out, at)?;
        let to = self.post_side(posting, leg, Direction::In, at)?;
        Ok(PostedLeg {
            leg: leg.clone(),
            from_version: from.map_or(0, |entry| entry.version),
            to_version: to.map_or(0, |entry| entry.version),
            from_balance: from.map(|entry| entry.balance),
            to_balance: to.map(|entry| entry.balance),
            from_posted: from.map(|entry| entry.posted),
            to_posted: to.map(|entry| entry.posted),
        })
    }

    /// Books one end of a leg; none when it has no owner.
    fn post_side(
        &mut self,
        posting: &Posting,
        leg: &Leg,
        direction: Direction,
        at: DateTime<Utc>,
    ) -> Result<Option<Entry>, Refusal> {
        let place = match direction {
            Direction::Out => leg.from,
            Direction::In => leg.to,
        };
        let Some((account, bucket)) = owner(place) else { return Ok(None) };
        let key = AccountKey { tenant: posting.tenant, account };
        let index = *self.index.get(&key).ok_or(Refusal::UnknownAccount(account))?;
        let row = &self.rows[index];
        allowed(row, leg, bucket, direction)?;
        let mut next =
            row.moved(bucket, direction, leg.amount).ok_or(Refusal::Overflow(account))?;
        next.last_at = at;
        // A debt that moves in with its account is as much without cover as the charges that made it.
        let uncovered = matches!(leg.kind, Kind::LateCharge | Kind::MovedIn);
        if uncovered && direction == Direction::Out {
            next.late = row.late.checked_add(leg.amount).ok_or(Refusal::Overflow(account))?;
        }
        let charge = matches!(leg.kind, Kind::HoldSettled | Kind::LateCharge);
        if charge && direction == Direction::Out && !next.spend_only.is_zero() {
            next.spend_only = next.spend_only.saturating_sub(leg.amount);
            self.spend_only.push(key);
        }
        let entry = Entry {
            version: next.version,
            balance: next.balance(bucket),
            posted: next.posted().ok_or(Refusal::Overflow(account))?,
        };
        let before = std::mem::replace(&mut self.rows[index], next);
        self.undo.push((index, before, self.touched[index]));
        self.touched[index] = true;
        Ok(Some(entry))
    }
}

/// A voluntary movement needs active accounts at both ends, and cover where it takes free money (I-3).
/// What really happened is booked on any account that is still in this tenant.
fn allowed(row: &Row, leg: &Leg, bucket: OwnerBucket, direction: Direction) -> Result<(), Refusal> {
    let account = row.key.account;
    match row.state {
        State::Active => {}
        State::Moved => return Err(Refusal::UnknownAccount(account)),
        State::Blocked | State::Closed => {
            if leg.kind.is_voluntary() {
                return Err(Refusal::Blocked(account));
            }
        }
    }
    let takes_free_money = direction == Direction::Out && bucket == OwnerBucket::Main;
    if takes_free_money && leg.kind.is_voluntary() {
        let available = if leg.kind == Kind::DeferredRepaid {
            // Credit is not repaid with credit, and the lien of an overdue invoice is for this very debt.
            row.main
        } else if leg.kind.is_withdrawal() {
            row.transferable()
        } else {
            row.available()
        };
        if available < Balance::from(leg.amount) {
            return Err(Refusal::Insufficient { account, available, amount: leg.amount });
        }
    }
    Ok(())
}
