//! Every RPC of this edge, over a real connection, on a real database.

mod admission;
mod budgets;
mod campaigns;
mod charges;
mod conversions;
mod edge;
mod midnight;
mod pacing;
mod reports;
mod simulations;

use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::Money;
use pb::budget_service_client::BudgetServiceClient;
use pb::campaign_service_client::CampaignServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::tests_support::TestApp;

impl TestApp {
    pub(super) fn campaigns(&self) -> CampaignServiceClient<Channel> {
        CampaignServiceClient::new(self.channel.clone())
    }

    pub(super) fn budgets(&self) -> BudgetServiceClient<Channel> {
        BudgetServiceClient::new(self.channel.clone())
    }

    /// Creates `campaigns/{id}` of `shop`, paid per click.
    pub(crate) async fn create(&self, id: &str) -> pb::Campaign {
        let response = self.campaigns().create_campaign(create(id, "accounts/shop")).await;
        response.unwrap().into_inner().campaign.unwrap()
    }

    pub(super) async fn set(&self, request: pb::SetBudgetRequest) -> Result<pb::Budget, Status> {
        Ok(self.budgets().set_budget(request).await?.into_inner().budget.unwrap())
    }
}

/// A request to create `campaigns/{id}`, paid per click, with the request id `create-{id}`.
fn create(id: &str, account: &str) -> pb::CreateCampaignRequest {
    pb::CreateCampaignRequest {
        campaign_id: id.to_owned(),
        campaign: Some(pb::Campaign {
            account: account.to_owned(),
            display_name: id.to_uppercase(),
            payment_model: pb::PaymentModel::PerClick.into(),
            ..Default::default()
        }),
        request_id: format!("create-{id}"),
    }
}

fn roubles(units: i64) -> Money {
    Money { currency_code: "RUB".to_owned(), units, nanos: 0 }
}

/// A request for an average daily budget in roubles; the amount is the request id.
fn daily(parent: &str, units: i64) -> pb::SetBudgetRequest {
    pb::SetBudgetRequest {
        parent: parent.to_owned(),
        amount: Some(roubles(units)),
        unit: pb::BudgetUnit::AverageDaily.into(),
        mode: 0,
        request_id: format!("{parent}-{units}"),
    }
}

fn weekly(parent: &str, units: i64) -> pb::SetBudgetRequest {
    pb::SetBudgetRequest { unit: pb::BudgetUnit::Weekly.into(), ..daily(parent, units) }
}

/// The limits of a budget's days in whole roubles; -1 is no limit.
fn limits(budget: &pb::Budget) -> Vec<i64> {
    let limit = |ceiling: &pb::DayCeiling| ceiling.limit.as_ref().map_or(-1, |money| money.units);
    budget.ceilings.iter().map(limit).collect()
}

/// The amount of a figure in whole roubles and its first day of the month.
fn figure(figure: Option<&pb::BudgetFigure>) -> Option<(i64, i32)> {
    let figure = figure?;
    Some((figure.amount.as_ref()?.units, figure.effective_date.as_ref()?.day))
}
