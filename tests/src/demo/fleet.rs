//! The replicas of pacing as an ad server sees them: calls in round robin, a replica that does not
//! answer is left alone for a moment.

use std::{
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use adspend_common::{
    proto::adspend::pacing::v1::{
        admission_service_client::AdmissionServiceClient,
        budget_service_client::BudgetServiceClient, campaign_service_client::CampaignServiceClient,
        charge_service_client::ChargeServiceClient, report_service_client::ReportServiceClient,
    },
    server::MAX_MESSAGE_BYTES,
};
use tonic::{Request, transport::Channel};

use crate::{processes::Failure, stack::Replica};

/// How long one call may take. Real time, as everything in this file.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long a replica that failed a call is passed over.
const REST: Duration = Duration::from_millis(250);

/// A request with the deadline that the service is told.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

/// The clients of one replica; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) admission: AdmissionServiceClient<Channel>,
    pub(crate) charges: ChargeServiceClient<Channel>,
    pub(crate) campaigns: CampaignServiceClient<Channel>,
    pub(crate) budgets: BudgetServiceClient<Channel>,
    pub(crate) reports: ReportServiceClient<Channel>,
}

impl Member {
    fn new(channel: Channel) -> Self {
        Self {
            admission: AdmissionServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            charges: ChargeServiceClient::new(channel.clone()),
            campaigns: CampaignServiceClient::new(channel.clone()),
            budgets: BudgetServiceClient::new(channel.clone()),
            reports: ReportServiceClient::new(channel),
        }
    }
}

/// All replicas.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    /// Per replica: microseconds after `began` until which it is passed over.
    rests_until: Vec<AtomicI64>,
    next: AtomicUsize,
    began: Instant,
}

impl Fleet {
    pub(crate) fn new(replicas: &[Replica]) -> Result<Self, Failure> {
        let members = replicas.iter().map(|replica| replica.channel().map(Member::new));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err("no replica of pacing".to_owned().into());
        }
        let rests_until = members.iter().map(|_| AtomicI64::new(0)).collect();
        Ok(Self { members, rests_until, next: AtomicUsize::new(0), began: Instant::now() })
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The next replica in turn that does not rest; any if all of them do.
    pub(crate) fn pick(&self) -> usize {
        self.pick_other(usize::MAX)
    }

    /// The same, but another than `than` while there is one.
    pub(crate) fn pick_other(&self, than: usize) -> usize {
        let now = self.elapsed_micros();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..self.len()).map(|step| turn.wrapping_add(step) % self.len());
        let awake = |replica: &usize| {
            self.rests_until.get(*replica).is_some_and(|until| until.load(Ordering::Relaxed) <= now)
        };
        let mut fallback = turn % self.len();
        for replica in in_turn.filter(awake) {
            if replica != than {
                return replica;
            }
            fallback = replica;
        }
        fallback
    }

    /// The clients of a replica that [`Fleet::pick`] gave.
    pub(crate) fn member(&self, replica: usize) -> Member {
        self.members[replica % self.members.len()].clone()
    }

    /// A replica did not answer.
    pub(crate) fn rest(&self, replica: usize) {
        let until = self.elapsed_micros() + i64::try_from(REST.as_micros()).unwrap_or(i64::MAX / 2);
        if let Some(rests) = self.rests_until.get(replica) {
            rests.store(until, Ordering::Relaxed);
        }
    }

    fn elapsed_micros(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 2)
    }

    #[cfg(test)]
    fn idle(replicas: usize) -> Self {
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        Self {
            members: (0..replicas).map(|_| Member::new(channel.clone())).collect(),
            rests_until: (0..replicas).map(|_| AtomicI64::new(0)).collect(),
            next: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replicas_take_turns_and_one_that_failed_is_passed_over() {
        let fleet = Fleet::idle(3);
        let turns: Vec<_> = (0..6).map(|_| fleet.pick()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        fleet.rest(1);
        assert!((0..6).all(|_| fleet.pick() != 1));
    }

    #[tokio::test]
    async fn another_replica_is_found_unless_there_is_only_one() {
        let fleet = Fleet::idle(3);
        assert!((0..9).all(|turn| fleet.pick_other(turn % 3) != turn % 3));
        assert_eq!(Fleet::idle(1).pick_other(0), 0);
        let fleet = Fleet::idle(2);
        fleet.rest(0);
        assert_eq!(fleet.pick_other(1), 1, "the other one does not answer");
    }

    #[tokio::test]
    async fn when_all_rest_one_is_tried_all_the_same() {
        let fleet = Fleet::idle(2);
        fleet.rest(0);
        fleet.rest(1);
        assert!(fleet.pick() < 2);
    }
}
