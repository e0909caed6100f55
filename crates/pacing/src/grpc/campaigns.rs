//! CampaignService.

use adspend_common::id::{Accounts, RequestId};
use adspend_common::identity;
use adspend_common::proto::adspend::pacing::v1 as pb;
use adspend_common::proto::google::r#type::{Date, DayOfWeek};
use adspend_common::rpc::{self, PageScope, Refusal, Violations};
use adspend_common::time::Day;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use tonic::{Request, Response, Status};

use super::budgets::warnings;
use super::{Reply, call, position, reply};
use crate::app::Services;
use crate::calendar::policy::PaymentModel;
use crate::calendar::schedule::{Interval, MINUTES_IN_DAY, Schedule, WeeklyHours};
use crate::campaigns::{
    self, CampaignNo, CampaignState, Changes, Filter, Listed, NewCampaign, Page, Profile, Update,
    check_dates,
};

/// What UpdateCampaign may change.
const UPDATABLE: &[&str] =
    &["display_name", "time_zone", "schedule", "start_date", "end_date", "payment_model"];

/// The longest `display_name`.
const MAX_DISPLAY_NAME_BYTES: usize = 256;

/// The most intervals of a schedule: one for each hour of the week.
const MAX_INTERVALS: usize = 168;

/// The zone of a campaign that names none.
const DEFAULT_ZONE: Tz = Tz::Europe__Moscow;

pub(super) struct Campaigns {
    services: Services,
}

impl Campaigns {
    pub(super) fn new(services: Services) -> Campaigns {
        Campaigns { services }
    }

    fn page_token(&self, scope: &PageScope, page: &Page) -> String {
        let seal = |no: CampaignNo| self.services.page_key.seal(scope, &no.0.to_be_bytes());
        page.next.map(seal).unwrap_or_default()
    }
}

#[tonic::async_trait]
impl pb::campaign_service_server::CampaignService for Campaigns {
    async fn create_campaign(
        &self,
        request: Request<pb::CreateCampaignRequest>,
    ) -> Result<Response<pb::CreateCampaignResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let (new, id) = new_campaign(&request, self.services.clock.now())?;
        let call = call::<_, pb::CreateCampaignResponse>(&caller, "CreateCampaign", id, &request);
        let answer = campaigns::create(&self.services, &caller, &call, &new).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }

    async fn get_campaign(
        &self,
        request: Request<pb::GetCampaignRequest>,
    ) -> Result<Response<pb::GetCampaignResponse>, Status> {
        let mut v = Violations::new();
        let id = v.name("name", &request.get_ref().name);
        let (id,) = v.all((id,))?;
        let found = campaigns::get(&self.services, identity::caller(&request), &id).await;
        let campaign = Some(campaign(&found.map_err(Refusal::from)?));
        Ok(Response::new(pb::GetCampaignResponse { campaign }))
    }

    async fn list_campaigns(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> Result<Response<pb::ListCampaignsResponse>, Status> {
        let (caller, asked) = (identity::caller(&request), request.get_ref());
        let scope = PageScope::new("ListCampaigns", caller).with(&asked.account);
        let mut v = Violations::new();
        let account = v.optional_name::<Accounts>("account", &asked.account);
        let limit = v.page_size(asked.page_size);
        let token = v.page_token(&self.services.page_key, &scope, &asked.page_token);
        let (account, limit, token) = v.all((account, limit, token))?;
        let filter = Filter { account, after: position(token).map(CampaignNo), limit };
        let page = campaigns::list(&self.services, caller, &filter).await.map_err(Refusal::from)?;
        let next_page_token = self.page_token(&scope, &page);
        let campaigns = page.campaigns.iter().map(campaign).collect();
        Ok(Response::new(pb::ListCampaignsResponse { campaigns, next_page_token }))
    }

    async fn update_campaign(
        &self,
        request: Request<pb::UpdateCampaignRequest>,
    ) -> Result<Response<pb::UpdateCampaignResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let (update, id) = update(&request)?;
        let call = call::<_, pb::UpdateCampaignResponse>(&caller, "UpdateCampaign", id, &request);
        let answer = campaigns::update(&self.services, &caller, &call, &update).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }

    async fn pause_campaign(
        &self,
        request: Request<pb::PauseCampaignRequest>,
    ) -> Result<Response<pb::PauseCampaignResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let mut v = Violations::new();
        let (name, id) = (v.name("name", &request.name), v.request_id(&request.request_id));
        let (name, id) = v.all((name, id))?;
        let call = call::<_, pb::PauseCampaignResponse>(&caller, "PauseCampaign", id, &request);
        let state = CampaignState::Paused;
        let answer = campaigns::set_state(&self.services, &caller, &call, &name, state).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }

    async fn resume_campaign(
        &self,
        request: Request<pb::ResumeCampaignRequest>,
    ) -> Result<Response<pb::ResumeCampaignResponse>, Status> {
        let caller = identity::caller(&request).clone();
        let request = request.into_inner();
        let mut v = Violations::new();
        let (name, id) = (v.name("name", &request.name), v.request_id(&request.request_id));
        let (name, id) = v.all((name, id))?;
        let call = call::<_, pb::ResumeCampaignResponse>(&caller, "ResumeCampaign", id, &request);
        let state = CampaignState::Active;
        let answer = campaigns::set_state(&self.services, &caller, &call, &name, state).await;
        Ok(reply(answer.map_err(Refusal::from)?)?)
    }
}

/// An answer that may say what the owner should know.
trait Warned {
    fn warned(self, listed: &Listed) -> Self;
}

impl Warned for pb::CreateCampaignResponse {
    fn warned(self, listed: &Listed) -> Self {
        Self { warnings: warnings(&listed.warnings, &[]), ..self }
    }
}

impl Warned for pb::UpdateCampaignResponse {
    fn warned(self, listed: &Listed) -> Self {
        Self { warnings: warnings(&listed.warnings, &[]), ..self }
    }
}

impl Warned for pb::PauseCampaignResponse {
    fn warned(self, _: &Listed) -> Self {
        self
    }
}

impl Warned for pb::ResumeCampaignResponse {
    fn warned(self, _: &Listed) -> Self {
        self
    }
}

macro_rules! reply {
    ($($response:ident),+) => {
        $(impl Reply<Listed> for pb::$response {
            fn of(listed: &Listed) -> Self {
                Self { campaign: Some(campaign(listed)), ..Self::default() }.warned(listed)
            }

            fn mark_replayed(&mut self) {
                self.replayed = true;
            }
        })+
    };
}

reply!(
    CreateCampaignResponse,
    UpdateCampaignResponse,
    PauseCampaignResponse,
    ResumeCampaignResponse
);

fn new_campaign(
    request: &pb::CreateCampaignRequest,
    now: DateTime<Utc>,
) -> Result<(NewCampaign, RequestId), Refusal> {
    let mut v = Violations::new();
    let id = v.id_or_new("campaign_id", &request.campaign_id, now);
    let request_id = v.request_id(&request.request_id);
    let campaign = v.required("campaign", request.campaign.as_ref());
    let decided = campaign.and_then(|campaign| {
        v.within("campaign", |v| {
            let account = v.name("account", &campaign.account);
            let profile = changes(v, campaign, UPDATABLE).and_then(profile);
            Some((account?, profile?))
        })
    });
    let (id, request_id, (account, profile)) = v.all((id, request_id, decided))?;
    Ok((NewCampaign { id, account, profile }, request_id))
}

fn update(request: &pb::UpdateCampaignRequest) -> Result<(Update, RequestId), Refusal> {
    let mut v = Violations::new();
    let request_id = v.request_id(&request.request_id);
    let mask = v.required("update_mask", request.update_mask.as_ref());
    let mask = mask.and_then(|mask| v.mask("update_mask", Some(mask), UPDATABLE));
    let campaign = v.required("campaign", request.campaign.as_ref());
    let decided = campaign.and_then(|campaign| {
        v.within("campaign", |v| {
            let id = v.name("name", &campaign.name);
            // Without a mask nothing more can be said about the fields.
            let changes = changes(v, campaign, mask.as_deref().unwrap_or_default());
            Some((id?, changes?))
        })
    });
    let (request_id, _, (id, changes)) = v.all((request_id, mask, decided))?;
    let etag = request.campaign.as_ref().map(|campaign| campaign.etag.clone());
    let etag = etag.filter(|etag| !etag.is_empty());
    Ok((Update { id, etag, changes }, request_id))
}

/// The profile of a new campaign; `None` unless all is decided.
fn profile(changes: Changes) -> Option<Profile> {
    let Changes { display_name, zone, hours, start, end, payment } = changes;
    let schedule = Schedule { hours: hours?, zone: zone?, start: start?, end: end? };
    Some(Profile { display_name: display_name?, schedule, payment: payment? })
}

/// The fields that the mask names, as changes.
fn changes(v: &mut Violations, campaign: &pb::Campaign, mask: &[&str]) -> Option<Changes> {
    let named = |field: &str| mask.contains(&field);
    let mut wrong = false;
    let mut keep = |sound: bool| wrong |= !sound;
    let mut changes = Changes::default();
    if named("display_name") {
        let text = v.optional_text("display_name", &campaign.display_name, MAX_DISPLAY_NAME_BYTES);
        keep(text.is_some());
        changes.display_name = text;
    }
    if named("time_zone") {
        changes.zone = zone(v, &campaign.time_zone);
        keep(changes.zone.is_some());
    }
    if named("schedule") {
        changes.hours = hours(v, &campaign.schedule);
        keep(changes.hours.is_some());
    }
    if named("payment_model") {
        let model = v.enumeration::<pb::PaymentModel>("payment_model", campaign.payment_model);
        changes.payment = model.and_then(payment);
        keep(changes.payment.is_some());
    }
    if named("start_date") {
        changes.start = date(v, "start_date", campaign.start_date.as_ref());
        keep(changes.start.is_some());
    }
    if named("end_date") {
        changes.end = date(v, "end_date", campaign.end_date.as_ref());
        keep(changes.end.is_some());
    }
    if let Err(error) = check_dates(changes.start.flatten(), changes.end.flatten()) {
        v.add("end_date", error.to_string());
        keep(false);
    }
    (!wrong).then_some(changes)
}

fn date(v: &mut Violations, field: &str, date: Option<&Date>) -> Option<Option<NaiveDate>> {
    v.optional_day(field, date).map(|day| day.map(Day::date))
}

fn zone(v: &mut Violations, name: &str) -> Option<Tz> {
    if name.is_empty() {
        return Some(DEFAULT_ZONE);
    }
    let zone = name.parse().ok();
    if zone.is_none() {
        v.add("time_zone", "must be the name of an IANA time zone, such as Europe/Moscow");
    }
    zone
}

fn hours(v: &mut Violations, schedule: &[pb::ScheduleInterval]) -> Option<WeeklyHours> {
    if schedule.len() > MAX_INTERVALS {
        v.add("schedule", format!("at most {MAX_INTERVALS} intervals are taken"));
        return None;
    }
    let intervals: Vec<Option<Interval>> = schedule
        .iter()
        .enumerate()
        .map(|(index, interval)| v.item("schedule", index, |v| read_interval(v, interval)))
        .collect();
    let intervals: Option<Vec<Interval>> = intervals.into_iter().collect();
    // Each interval was checked alone, and more is not asked of them together.
    WeeklyHours::new(intervals?).map_err(|error| v.add("schedule", error.to_string())).ok()
}

fn read_interval(v: &mut Violations, interval: &pb::ScheduleInterval) -> Option<Interval> {
    let weekday = v.enumeration::<DayOfWeek>("day", interval.day);
    let minute = |minute: i32| u16::try_from(minute).ok().filter(|m| *m <= MINUTES_IN_DAY);
    let (from, to) = (minute(interval.start_minute), minute(interval.end_minute));
    if from.is_none_or(|from| from == MINUTES_IN_DAY) {
        v.add("start_minute", "must be 0 to 1439");
    }
    match (from, to) {
        (_, None) => v.add("end_minute", "must be 1 to 1440"),
        (Some(from), Some(to)) if to <= from => v.add("end_minute", "must be above start_minute"),
        (Some(_) | None, Some(_)) => {}
    }
    let weekday0 = u8::try_from(weekday? as i32 - 1).ok()?;
    Some(Interval { weekday0, from_minute: from?, to_minute: to? })
}

const fn payment(model: pb::PaymentModel) -> Option<PaymentModel> {
    match model {
        pb::PaymentModel::Unspecified => None,
        pb::PaymentModel::PerImpression => Some(PaymentModel::PerImpression),
        pb::PaymentModel::PerClick => Some(PaymentModel::PerClick),
        pb::PaymentModel::PerConversion => Some(PaymentModel::PerConversion),
    }
}

/// A campaign as its owner sees it.
fn campaign(listed: &Listed) -> pb::Campaign {
    let campaign = &listed.campaign;
    let Profile { display_name, schedule, payment } = &campaign.profile;
    let Schedule { hours, zone, start, end } = schedule;
    let date = |date: &NaiveDate| rpc::date(Day::from_date(*date));
    pb::Campaign {
        name: campaign.id.name(),
        account: listed.account.id.name(),
        display_name: display_name.clone(),
        time_zone: zone.name().to_owned(),
        schedule: hours.intervals().iter().map(interval).collect(),
        payment_model: match payment {
            PaymentModel::PerImpression => pb::PaymentModel::PerImpression,
            PaymentModel::PerClick => pb::PaymentModel::PerClick,
            PaymentModel::PerConversion => pb::PaymentModel::PerConversion,
        }
        .into(),
        start_date: start.as_ref().map(date),
        end_date: end.as_ref().map(date),
        state: match campaign.state {
            CampaignState::Active => pb::CampaignState::Active,
            CampaignState::Paused => pb::CampaignState::Paused,
        }
        .into(),
        create_time: Some(rpc::timestamp(campaign.created_at)),
        etag: campaign.etag(),
    }
}

fn interval(interval: &Interval) -> pb::ScheduleInterval {
    pb::ScheduleInterval {
        day: i32::from(interval.weekday0) + 1,
        start_minute: i32::from(interval.from_minute),
        end_minute: i32::from(interval.to_minute),
    }
}
