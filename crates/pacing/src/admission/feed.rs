//! Keeps the directory at what the database says, and the masks at the day.
//!
//! A poll several times a second finds what any replica changed. A caller who changed something
//! here, or who names a campaign that is not known yet, need not wait for it: [`Feed::catch_up`]
//! takes a turn at once, and callers that come together share one.

use std::sync::Arc;
use std::time::Duration;

use adspend_common::db::{self, Pool};
use adspend_common::server::Stop;
use adspend_common::time::{Clock, Day};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Admission, Facts, Standing};
use crate::billing::AccountState;
use crate::calendar::policy::PaymentModel;
use crate::campaigns::{self, CampaignState, Cursor, Listed};

/// How often changes of other replicas are looked for (real): two index probes each.
const INTERVAL: Duration = Duration::from_millis(250);

/// What the directory is fed from.
pub struct Feed {
    db: Pool,
    clock: Clock,
    admission: Arc<Admission>,
    progress: Mutex<Progress>,
}

struct Progress {
    cursor: Cursor,
    day: Option<Day>,
    last_began: Option<Instant>,
}

impl Feed {
    /// Nothing read yet.
    pub fn new(db: Pool, clock: Clock, admission: Arc<Admission>) -> Feed {
        let progress = Progress { cursor: Cursor::START, day: None, last_began: None };
        Feed { db, clock, admission, progress: Mutex::new(progress) }
    }

    /// Returns once everything that was committed before the call is in the directory.
    pub async fn catch_up(&self) -> Result<(), db::Error> {
        let called = Instant::now();
        let mut progress = self.progress.lock().await;
        if progress.last_began.is_some_and(|began| began >= called) {
            return Ok(());
        }
        let began = Instant::now();
        let day = Day::of(self.clock.now());
        let changed = {
            let client = self.db.get().await?;
            let (changed, next) = campaigns::changed_since(&client, progress.cursor).await?;
            progress.cursor = next;
            changed
        };
        if !changed.is_empty() {
            let facts: Vec<Facts> = changed.into_iter().map(Facts::from).collect();
            let left_out = self.admission.apply(&facts, day);
            if left_out > 0 {
                tracing::error!(left_out, "more campaigns than `leases.campaigns` allows");
            }
        }
        if progress.day.replace(day) != Some(day) {
            self.admission.roll(day);
        }
        progress.last_began = Some(began);
        Ok(())
    }

    /// Catches up for as long as the service runs.
    pub(crate) async fn run(self: Arc<Self>, stop: Stop) {
        loop {
            tokio::select! {
                () = stop.stopping().cancelled() => return,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "changes of campaigns could not be read");
            }
        }
    }
}

impl From<Listed> for Facts {
    fn from(listed: Listed) -> Facts {
        let Listed { campaign, account, .. } = listed;
        let standing = match (campaign.state, account.state) {
            (CampaignState::Paused, _) => Standing::Paused,
            (CampaignState::Active, AccountState::Active) => Standing::Active,
            (CampaignState::Active, AccountState::Blocked | AccountState::Closed) => {
                Standing::AccountBlocked
            }
        };
        Facts {
            account_no: campaign.account_no.0,
            campaign_no: campaign.no.0,
            name: campaign.id,
            tenant: account.tenant,
            standing,
            pays_per_click: campaign.profile.payment == PaymentModel::PerClick,
            pays_per_conversion: campaign.profile.payment == PaymentModel::PerConversion,
            schedule: campaign.profile.schedule,
        }
    }
}
