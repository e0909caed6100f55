//! What people do: the set-up before the traffic, and the acts of the week at their times. `funds` and
//! `credit` have the longer ones.

use std::sync::Arc;

use adspend_common::{
    proto::adspend::{
        billing::v1::{AccountKind, Invoice, Payment, PaymentState},
        pacing::v1::BudgetUnit,
    },
    time::Clock,
};
use chrono::{DateTime, Utc};

use super::{
    book::Who,
    ceilings::Change,
    credit::Deferred,
    fleet::Fleet,
    funds::{Statement, TopUps},
    marketing,
    office::{Company, Office},
    papers::Paper,
    scenario::{
        ACCOUNTS, AGENCY, ATELIER, Act, BOUTIQUE, CAMPAIGNS, CREDITED, KIOSK, MONO, SMALL_AGENCY,
        account_name, campaign_name,
    },
    table::{moment, roubles},
    watch::parent,
};
use crate::{processes::Failure, smtp::Sink, stack::Replica};

pub(crate) const NORTH: Company = Company {
    name: "North LLC",
    inn: "7707083893",
    kpp: "773601001",
    bank_account: "40702810200000000001",
    email: "money@north.example",
};
pub(crate) const SOUTH: Company = Company {
    name: "South LLC",
    inn: "7701000019",
    kpp: "770101001",
    bank_account: "40702810500000000002",
    email: "money@south.example",
};
const SOLO: Company = Company {
    name: "Mono LLC",
    inn: "7743001840",
    kpp: "774301001",
    bank_account: "40702810800000000003",
    email: "owner@mono.example",
};
pub(crate) const CEDAR: Company = Company {
    name: "Cedar LLC",
    inn: "7810000026",
    kpp: "781001001",
    bank_account: "40702810100000000004",
    email: "owner@cedar.example",
};
/// Pays for somebody else's invoice.
pub(crate) const STRANGER: Company = Company {
    name: "Stranger LLC",
    inn: "7719000041",
    kpp: "771901001",
    bank_account: "40702810400000000005",
    email: "",
};
/// Whom we pay.
pub(crate) const LANDLORD: Company = Company { name: "Landlord LLC", ..STRANGER };

/// The agencies pay this much, and move money to their clients.
const AGENCY_PAYS: i64 = 60_000;
const SMALL_AGENCY_PAYS: i64 = 1_830;
const CLIENTS_GET: [(usize, i64); 3] = [(ATELIER, 7_000), (BOUTIQUE, 40_000), (KIOSK, 500)];
/// Three days of what its campaign could spend.
const MONO_PAYS: i64 = 2_000;
const STRANGER_PAYS: i64 = 1_600;
const PROMISE: i64 = 5_000;
const MORE: i64 = 3_000;
const BACK: i64 = 5_000;

/// What everybody who acts needs, and what they have to remember.
pub(crate) struct Story<'a> {
    pub(crate) clock: &'a Clock,
    pub(crate) office: &'a Office,
    pub(crate) fleet: &'a Arc<Fleet>,
    /// Where the mail goes.
    pub(crate) sink: &'a Sink,
    pub(crate) seen: Seen,
}

/// What the summary says of the story.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Replicas that were killed.
    pub(crate) killed: u32,
    pub(crate) restarted: u32,
    pub(crate) promises_repaid: u32,
    pub(crate) payments_allocated: u32,
    /// Money that came from outside, in roubles.
    pub(crate) paid_in: i64,
    /// Budgets that were set.
    pub(crate) changes: Vec<Change>,
    pub(crate) statement: Option<Statement>,
    pub(crate) statement_again: Option<Statement>,
    pub(crate) top_ups: TopUps,
    /// Not paid yet.
    pub(crate) deferred: Option<Invoice>,
    pub(crate) credit: Option<Deferred>,
    pub(crate) papers: Vec<Paper>,
    promise: Option<String>,
    payment: Option<Payment>,
    invoice: String,
}

impl Story<'_> {
    pub(crate) fn say(&self, text: &str) {
        println!("{}  {text}", moment(self.clock.now()));
    }

    /// Accounts, money, campaigns and budgets, before the first opportunity.
    pub(crate) async fn set_up(&mut self) -> Result<(), Failure> {
        let office = self.office;
        let (agency, south) = (format!("accounts/{AGENCY}"), format!("accounts/{SMALL_AGENCY}"));
        office.open_account(AGENCY, "North", AccountKind::Agency, "", Some(NORTH)).await?;
        office.open_account(SMALL_AGENCY, "South", AccountKind::Agency, "", Some(SOUTH)).await?;
        for account in &ACCOUNTS {
            let (kind, of, company) = match account.agency {
                None => (AccountKind::Advertiser, String::new(), Some(SOLO)),
                Some(agency) => (AccountKind::Client, format!("accounts/{agency}"), None),
            };
            office.open_account(account.id, account.title, kind, &of, company).await?;
        }
        office.open_account(CREDITED, "Cedar", AccountKind::Advertiser, "", Some(CEDAR)).await?;
        self.say("agency north with clients atelier and boutique, agency south with client kiosk");
        self.say("direct advertisers mono and cedar");
        self.pay_invoice(&agency, AGENCY_PAYS, NORTH, "1").await?;
        self.pay_invoice(&account_name(MONO), MONO_PAYS, SOLO, "2").await?;
        self.pay_invoice(&south, SMALL_AGENCY_PAYS, SOUTH, "4").await?;
        for (client, units) in CLIENTS_GET {
            let agency = ACCOUNTS.get(client).and_then(|account| account.agency);
            let agency = format!("accounts/{}", agency.unwrap_or_default());
            let (client, id) = (account_name(client), format!("transfer-{client}"));
            office.transfer(&agency, &client, units, &id).await?;
            self.say(&format!("transfer of {units} from {agency} to {client}"));
        }
        self.top_up_on("top-up").await?;
        self.defer().await?;
        for number in 0..CAMPAIGNS.len() {
            marketing::create_campaign(self.fleet, number).await?;
        }
        for (number, account) in ACCOUNTS.iter().enumerate() {
            if let Some(units) = account.daily_roubles {
                self.set_budget(Who::Account(number), units, BudgetUnit::AverageDaily, "first")
                    .await?;
            }
        }
        for (number, campaign) in CAMPAIGNS.iter().enumerate() {
            if let Some((units, unit)) = campaign.budget {
                self.set_budget(Who::Campaign(number), units, unit, "first").await?;
            }
        }
        Ok(())
    }

    async fn pay_invoice(
        &mut self,
        account: &str,
        units: i64,
        payer: Company,
        number: &str,
    ) -> Result<(), Failure> {
        let invoice = self.office.invoice(account, units, &format!("invoice-{number}")).await?;
        let payment = self.office.pay(&invoice, payer, &format!("payment-{number}")).await?;
        if payment.state() != PaymentState::Credited {
            let state = payment.state().as_str_name();
            return Err(format!("payment {number}: {state} {}", payment.unallocated_reason).into());
        }
        self.seen.paid_in += units;
        self.say(&format!("invoice {} of {account} over {units} is paid", invoice.number));
        Ok(())
    }

    async fn set_budget(
        &mut self,
        who: Who,
        units: i64,
        unit: BudgetUnit,
        id: &str,
    ) -> Result<(), Failure> {
        let parent = &parent(who);
        let wanted = marketing::preview(self.fleet, parent, units, unit).await?;
        let id = format!("{id}-{}", parent.replace('/', "-"));
        let set = marketing::set_budget(self.fleet, parent, units, unit, &id).await?;
        self.seen.changes.push(Change { who, at: self.clock.now(), roubles: units, unit });
        let ceilings = |budget: &adspend_common::proto::adspend::pacing::v1::Budget| {
            let limits = budget.ceilings.iter().filter_map(|day| day.limit.as_ref());
            limits
                .map(|limit| roubles(limit.units * 1_000_000 + i64::from(limit.nanos) / 1_000))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let from = if set.pending.is_some() { "from tomorrow" } else { "at once" };
        let unit = match unit {
            BudgetUnit::Weekly => "a week",
            BudgetUnit::AverageDaily | BudgetUnit::Unspecified => "a day",
        };
        self.say(&format!(
            "budget of {parent}: {units} {unit}, {from}; ceilings to Sunday {}",
            ceilings(&wanted)
        ));
        Ok(())
    }

    /// Carries out the acts, each at its time.
    pub(crate) async fn week(
        &mut self,
        acts: &[(DateTime<Utc>, Act)],
        victim: &mut Replica,
    ) -> Result<(), Failure> {
        for (at, act) in acts {
            self.clock.sleep_until(*at).await;
            self.act(*act, victim).await?;
        }
        Ok(())
    }

    async fn act(&mut self, act: Act, victim: &mut Replica) -> Result<(), Failure> {
        let agency = format!("accounts/{AGENCY}");
        let (atelier, mono) = (account_name(ATELIER), account_name(MONO));
        match act {
            Act::TakePromise => {
                let name = self.office.promise(&agency, PROMISE, "promise").await?;
                self.seen.promise = Some(name);
                self.say(&format!("{agency} takes a promised payment of {PROMISE}"));
            }
            Act::TransferMore => {
                self.office.transfer(&agency, &atelier, MORE, "transfer-more").await?;
                self.say(&format!("transfer of {MORE} from {agency} to {atelier}"));
            }
            Act::Decrease => {
                self.set_budget(Who::Campaign(3), 500, BudgetUnit::AverageDaily, "decrease")
                    .await?;
            }
            Act::Increase => {
                self.set_budget(Who::Campaign(0), 450, BudgetUnit::AverageDaily, "increase")
                    .await?;
            }
            Act::Kill => {
                victim.kill().await?;
                self.seen.killed += 1;
                self.say("a replica of pacing is killed (SIGKILL); the others go on");
            }
            Act::Restart => {
                victim.start().await?;
                self.seen.restarted += 1;
                self.say("it is back");
            }
            Act::RanDry => self.ran_dry().await?,
            Act::WrongPayer => self.wrong_payer(&mono).await?,
            Act::Pause => {
                marketing::pause(self.fleet, &campaign_name(4)).await?;
                self.say(&format!("{} is paused", campaign_name(4)));
            }
            Act::Statement => self.bank_statement().await?,
            Act::Resume => {
                marketing::resume(self.fleet, &campaign_name(4)).await?;
                self.say(&format!("{} goes on", campaign_name(4)));
            }
            Act::Allocate => self.allocate(&mono).await?,
            Act::RepayPromise => self.repay(&agency).await?,
            Act::Block => {
                self.office.block(&mono, "block").await?;
                self.say(&format!("{mono} is blocked"));
            }
            Act::Unblock => {
                self.office.unblock(&mono, "unblock").await?;
                self.say(&format!("{mono} is unblocked"));
            }
            Act::TransferBack => {
                let boutique = account_name(BOUTIQUE);
                match self.office.transfer(&boutique, &agency, BACK, "transfer-back").await {
                    Ok(()) => self.say(&format!("transfer of {BACK} back from {boutique}")),
                    // Money that pacing holds cannot leave.
                    Err(why) => self.say(&format!("no transfer back: {why}")),
                }
            }
        }
        Ok(())
    }

    async fn wrong_payer(&mut self, mono: &str) -> Result<(), Failure> {
        let invoice = self.office.invoice(mono, STRANGER_PAYS, "invoice-3").await?;
        let payment = self.office.pay(&invoice, STRANGER, "payment-3").await?;
        if payment.state() != PaymentState::Unallocated
            || payment.unallocated_reason != "PAYER_MISMATCH"
        {
            let state = payment.state().as_str_name();
            return Err(
                format!("a stranger's payment: {state} {}", payment.unallocated_reason).into()
            );
        }
        self.say(&format!(
            "{} pays invoice {} of {mono}: unallocated, {}",
            STRANGER.name, invoice.number, payment.unallocated_reason
        ));
        self.seen.invoice = invoice.name;
        self.seen.payment = Some(payment);
        Ok(())
    }

    async fn allocate(&mut self, mono: &str) -> Result<(), Failure> {
        let Some(payment) = self.seen.payment.take() else { return Ok(()) };
        let allocated =
            self.office.allocate(&payment, mono, &self.seen.invoice, "allocate").await?;
        if allocated.state() != PaymentState::Allocated {
            return Err(format!("allocated: {}", allocated.state().as_str_name()).into());
        }
        self.seen.paid_in += STRANGER_PAYS;
        self.seen.payments_allocated += 1;
        self.say(&format!("the operator allocates {STRANGER_PAYS} to {mono}, which goes on"));
        Ok(())
    }

    async fn repay(&mut self, agency: &str) -> Result<(), Failure> {
        let Some(promise) = self.seen.promise.take() else { return Ok(()) };
        self.office.repay(&promise, "repay").await?;
        self.seen.promises_repaid += 1;
        self.say(&format!("{agency} repays the promised payment"));
        Ok(())
    }
}
