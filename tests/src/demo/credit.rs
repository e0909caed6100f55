//! Money before its payment: a deferred invoice that is credited at once, goes overdue, freezes what is
//! left and is repaid by its own payment.

use adspend_common::{
    proto::{
        adspend::billing::v1::{
            GetBalanceResponse, Invoice, InvoiceState, InvoiceTerms, StatementLineOutcome,
        },
        google::r#type::Date,
    },
    time::Day,
};
use chrono::{NaiveDate, TimeDelta};
use serde::Serialize;

use super::{
    bank::{self, Order, Way},
    checks::micros,
    funds::outcome,
    office::part,
    scenario::CREDITED,
    story::{CEDAR, Story},
    table::roubles,
};
use crate::processes::Failure;

/// What an operator grants, and what is taken of it.
const GRANT: i64 = 5_000;
const DEFERRED: i64 = 2_440;

/// What became of the deferred invoice.
#[derive(Debug, Clone, Serialize)]
pub struct Deferred {
    /// Credited at once, in micro-units.
    pub amount_micros: i64,
    /// The last day of payment.
    pub due_date: String,
    /// Under the lien when it was overdue.
    pub frozen_micros: i64,
    /// Free again on the day after it was repaid.
    pub returned_micros: i64,
}

/// What the balance of the account with credit must be.
struct Expected {
    frozen: i64,
    available: i64,
    debt: i64,
}

fn day(date: Option<Date>) -> Option<Day> {
    let date = date?;
    let (month, day) = (u32::try_from(date.month).ok()?, u32::try_from(date.day).ok()?);
    NaiveDate::from_ymd_opt(date.year, month, day).map(Day::from_date)
}

fn differs(balance: &GetBalanceResponse, expected: &Expected) -> Result<(), Failure> {
    let micro_units = |units: i64| units * 1_000_000;
    let GetBalanceResponse { posted, frozen, available, deferred_debt, .. } = balance;
    let found = [posted, frozen, available, deferred_debt].map(|money| micros(money.as_ref()));
    let Expected { frozen, available, debt } = *expected;
    if found == [DEFERRED, frozen, available, debt].map(micro_units) {
        Ok(())
    } else {
        Err(format!("posted, frozen, available and deferred debt of {CREDITED}: {found:?}").into())
    }
}

impl Story<'_> {
    /// An operator grants credit, and the owner takes a deferred invoice: the money is there at once.
    pub(crate) async fn defer(&mut self) -> Result<(), Failure> {
        let cedar = format!("accounts/{CREDITED}");
        self.office.grant(&cedar, GRANT, "grant").await?;
        let terms = InvoiceTerms::Deferred;
        let invoice = self.office.issue(&cedar, DEFERRED, terms, "deferred").await?;
        let due = part("a deferred invoice", day(invoice.pay_by))?;
        let balance = self.office.balance(&cedar).await?;
        differs(&balance, &Expected { frozen: 0, available: DEFERRED, debt: DEFERRED })?;
        self.say(&format!(
            "credit of {GRANT} for {cedar}; deferred invoice {} over {DEFERRED} is credited at once, \
             to be paid by {due}",
            invoice.number
        ));
        self.seen.deferred = Some(invoice);
        Ok(())
    }

    /// The term of the deferred invoice ends unpaid; its own payment comes two days later.
    pub(crate) async fn overdue(&mut self) -> Result<(), Failure> {
        let cedar = format!("accounts/{CREDITED}");
        let invoice = part("a deferred invoice", self.seen.deferred.take())?;
        let due = part("a deferred invoice", day(invoice.pay_by))?;

        self.clock.sleep_until(due.prev().start()).await;
        let state = self.office.get_invoice(&invoice.name).await?.state();
        // The look is worth something if the term had not ended when its answer came.
        if due.end() > self.clock.now() && state != InvoiceState::Issued {
            return Err(format!("before its term has ended the invoice is {state:?}").into());
        }
        self.say(&format!("invoice {} of {cedar} is not paid yet", invoice.number));

        self.clock.sleep_until(due.end() + TimeDelta::hours(1)).await;
        let state = self.office.get_invoice(&invoice.name).await?.state();
        let terms = self.office.credit_terms(&cedar).await?;
        let refused = terms.deferral_refusals.iter().any(|why| why == "DEFERRED_OVERDUE");
        if state != InvoiceState::Overdue || !terms.overdue || !refused {
            return Err(format!("an overdue invoice: {state:?}, {terms:?}").into());
        }
        let balance = self.office.balance(&cedar).await?;
        differs(&balance, &Expected { frozen: DEFERRED, available: 0, debt: DEFERRED })?;
        let frozen_micros = micros(balance.frozen.as_ref());
        self.say(&format!(
            "it is overdue: {} of unspent money is frozen, and there is no new deferral",
            roubles(frozen_micros)
        ));

        let paid_on = due.plus_days(2);
        self.clock.sleep_until(paid_on.start() + TimeDelta::hours(12)).await;
        self.pay_deferred(&invoice, paid_on).await?;
        let balance = self.office.balance(&cedar).await?;
        if self.clock.now() < paid_on.end() {
            differs(&balance, &Expected { frozen: DEFERRED, available: 0, debt: 0 })?;
            self.say("what is frozen comes back at 00:00 of the next day");
        }

        self.clock.sleep_until(paid_on.end() + TimeDelta::hours(1)).await;
        let balance = self.office.balance(&cedar).await?;
        differs(&balance, &Expected { frozen: 0, available: DEFERRED, debt: 0 })?;
        let returned_micros = micros(balance.available.as_ref());
        self.say(&format!("{} of {cedar} are free again", roubles(returned_micros)));
        self.seen.credit = Some(Deferred {
            amount_micros: DEFERRED * 1_000_000,
            due_date: due.to_string(),
            frozen_micros,
            returned_micros,
        });
        Ok(())
    }

    /// The very payment that repays it comes in a statement of ISO 20022.
    async fn pay_deferred(&mut self, invoice: &Invoice, on: Day) -> Result<(), Failure> {
        let purpose = format!("Оплата по счёту № {}", invoice.number);
        let (company, roubles) = (CEDAR, DEFERRED);
        let order = Order { number: 301, way: Way::In, company, roubles, purpose };
        let file = bank::camt(on, &[order]);
        let (lines, _) = self.office.import(&file, "statement-deferred").await?;
        self.say("its payment comes in a bank statement (camt.053)");
        for line in &lines {
            println!("{}", outcome(line));
        }
        let state = self.office.get_invoice(&invoice.name).await?.state();
        let told: Vec<_> = lines.iter().map(|line| line.outcome()).collect();
        if told != [StatementLineOutcome::Credited] || state != InvoiceState::Paid {
            return Err(format!("the payment of a deferred invoice: {told:?}, {state:?}").into());
        }
        self.seen.paid_in += DEFERRED;
        Ok(())
    }
}
