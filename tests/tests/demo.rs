//! A day of the demonstration: the same driver, services and checks as `make demo`.

use std::path::Path;

use adspend_common::devpg::TestDatabase;
use e2e::demo::{self, Options};

/// A budget changes, a replica is killed and comes back, and nothing is lost or overspent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_wednesday_is_admitted_within_limits_and_charged_to_the_last_micro_unit() {
    let billing = TestDatabase::create(&adspend_billing::MIGRATIONS).await;
    let pacing = TestDatabase::create(&adspend_pacing::MIGRATIONS).await;
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = package.join("../target/e2e/demo");
    let options = Options::wednesday(billing.url().into(), pacing.url().into(), folder);
    let data = package.join("data/open-bandit/events.csv");
    let summary = demo::run(&options, &data).await.unwrap();
    assert_eq!(summary.faults(), Vec::<String>::new());
    assert_eq!(summary.opportunities, 9_058);
    assert_eq!((summary.killed, summary.restarted), (1, 1));
    assert!(summary.denied.contains_key("OUTSIDE_SCHEDULE"), "{:?}", summary.denied);
    assert_eq!(summary.opportunities, summary.admitted + summary.denied.values().sum::<u64>());
}
