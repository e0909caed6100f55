//! What a marketer does at pacing: campaigns and budgets, on whichever replica is in turn.

use std::sync::Arc;

use adspend_common::proto::{
    adspend::pacing::v1::{
        Budget, BudgetMode, BudgetUnit, Campaign, CreateCampaignRequest, PauseCampaignRequest,
        PreviewBudgetChangeRequest, ResumeCampaignRequest, ScheduleInterval, SetBudgetRequest,
    },
    google::r#type::{Date, DayOfWeek},
};
use tonic::{Response, Status};

use super::{
    fleet::{Fleet, Member, request},
    office::{part, patient, roubles},
    scenario::{self, account_name, campaign_name},
};
use crate::processes::Failure;

/// Calls a replica in turn until one answers.
pub(crate) async fn any_replica<T, F: Future<Output = Result<Response<T>, Status>>>(
    fleet: &Arc<Fleet>,
    what: &str,
    call: impl Fn(Member) -> F,
) -> Result<T, Failure> {
    patient(what, || {
        let replica = fleet.pick();
        let (answer, fleet) = (call(fleet.member(replica)), Arc::clone(fleet));
        async move {
            let answer = answer.await;
            if answer.as_ref().is_err_and(|status| status.code() == tonic::Code::Unavailable) {
                fleet.rest(replica);
            }
            answer
        }
    })
    .await
}

/// Creates the campaign that stands for a log.
pub(crate) async fn create_campaign(fleet: &Arc<Fleet>, number: usize) -> Result<(), Failure> {
    let Some(campaign) = scenario::CAMPAIGNS.get(number) else { return Ok(()) };
    let name = campaign_name(number);
    let id = name.trim_start_matches("campaigns/").to_owned();
    let schedule = campaign.hours.map(|(from, to)| {
        let days = (1..=7).filter_map(|day| DayOfWeek::try_from(day).ok());
        let interval = |day: DayOfWeek| ScheduleInterval {
            day: day.into(),
            start_minute: from * 60,
            end_minute: to * 60,
        };
        days.map(interval).collect()
    });
    let message = CreateCampaignRequest {
        campaign_id: id.clone(),
        campaign: Some(Campaign {
            account: account_name(campaign.account),
            display_name: id.clone(),
            time_zone: "Europe/Moscow".to_owned(),
            schedule: schedule.unwrap_or_default(),
            payment_model: campaign.payment.into(),
            end_date: campaign.last_day.map(|(year, month, day)| Date {
                year,
                month: i32::try_from(month).unwrap_or_default(),
                day: i32::try_from(day).unwrap_or_default(),
            }),
            ..Campaign::default()
        }),
        request_id: format!("create-{id}"),
    };
    let what = format!("CreateCampaign {id}");
    let answer = any_replica(fleet, &what, |mut member| {
        let message = message.clone();
        async move { member.campaigns.create_campaign(request(message)).await }
    });
    part(&what, answer.await?.campaign).map(drop)
}

/// Sets a budget and gives it as it then stands.
pub(crate) async fn set_budget(
    fleet: &Arc<Fleet>,
    parent: &str,
    units: i64,
    unit: BudgetUnit,
    request_id: &str,
) -> Result<Budget, Failure> {
    let message = SetBudgetRequest {
        parent: parent.to_owned(),
        amount: roubles(units),
        unit: unit.into(),
        mode: BudgetMode::Traffic.into(),
        request_id: request_id.to_owned(),
    };
    let what = format!("SetBudget {parent}");
    let answer = any_replica(fleet, &what, |mut member| {
        let message = message.clone();
        async move { member.budgets.set_budget(request(message)).await }
    });
    part(&what, answer.await?.budget)
}

/// What a change would do.
pub(crate) async fn preview(
    fleet: &Arc<Fleet>,
    parent: &str,
    units: i64,
    unit: BudgetUnit,
) -> Result<Budget, Failure> {
    let message = PreviewBudgetChangeRequest {
        parent: parent.to_owned(),
        amount: roubles(units),
        unit: unit.into(),
        mode: BudgetMode::Traffic.into(),
    };
    let what = format!("PreviewBudgetChange {parent}");
    let answer = any_replica(fleet, &what, |mut member| {
        let message = message.clone();
        async move { member.budgets.preview_budget_change(request(message)).await }
    });
    part(&what, answer.await?.budget)
}

pub(crate) async fn pause(fleet: &Arc<Fleet>, campaign: &str) -> Result<(), Failure> {
    let message =
        PauseCampaignRequest { name: campaign.to_owned(), request_id: "pause".to_owned() };
    let answer = any_replica(fleet, "PauseCampaign", |mut member| {
        let message = message.clone();
        async move { member.campaigns.pause_campaign(request(message)).await }
    });
    answer.await.map(drop)
}

pub(crate) async fn resume(fleet: &Arc<Fleet>, campaign: &str) -> Result<(), Failure> {
    let message =
        ResumeCampaignRequest { name: campaign.to_owned(), request_id: "resume".to_owned() };
    let answer = any_replica(fleet, "ResumeCampaign", |mut member| {
        let message = message.clone();
        async move { member.campaigns.resume_campaign(request(message)).await }
    });
    answer.await.map(drop)
}
