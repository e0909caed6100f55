//! How old billing's facts may be.

use adspend_common::id::AccountId;
use adspend_common::identity::{Caller, Role};
use std::time::Duration;

use super::{Error, find, refresh_once};
use crate::billing::AccountState;
use crate::campaigns::{self, Cursor};
use crate::tests_support::TestApp;

fn id(text: &str) -> AccountId {
    AccountId::parse(text).unwrap()
}

async fn state(app: &TestApp, account: &str) -> Result<AccountState, Error> {
    let now = app.clock.now();
    Ok(find(&app.services, now, &Caller::operator(), &id(account)).await?.state)
}

#[tokio::test]
async fn a_copy_is_trusted_for_a_while_and_then_read_again() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        assert_eq!(state(&app, "shop").await.unwrap(), AccountState::Active);
    }
    assert_eq!(app.billing.asked(), 1);
    app.billing.set_state("shop", AccountState::Blocked);
    app.clock.advance(Duration::from_secs(59));
    assert_eq!(state(&app, "shop").await.unwrap(), AccountState::Active, "still trusted");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(state(&app, "shop").await.unwrap(), AccountState::Blocked);
    assert_eq!(app.billing.asked(), 2);
}

#[tokio::test]
async fn an_old_copy_is_better_than_none() {
    let app = TestApp::start().await;
    state(&app, "shop").await.unwrap();
    app.billing.set_away(true);
    app.clock.advance(Duration::from_secs(3_600));
    assert_eq!(state(&app, "shop").await.unwrap(), AccountState::Active);
    assert!(matches!(state(&app, "kiosk").await, Err(Error::Billing(_))), "never seen before");
}

#[tokio::test]
async fn a_stranger_is_told_what_is_told_of_nobody() {
    let app = TestApp::start().await;
    let caller =
        Caller { role: Role::Advertiser, tenant: Some(id("solo")), label: "solo".to_owned() };
    for account in ["shop", "nobody"] {
        let found = find(&app.services, app.clock.now(), &caller, &id(account)).await;
        assert!(matches!(found, Err(Error::NotFound(_))), "{account}");
    }
    assert!(find(&app.services, app.clock.now(), &caller, &id("solo")).await.is_ok());
}

#[tokio::test]
async fn the_background_notices_what_changed_and_tells_the_directories() {
    let app = TestApp::start().await;
    app.create("spring").await;
    let (db, mut cursor) = (app.services.db.get().await.unwrap(), Cursor::START);
    cursor = campaigns::changed_since(&db, cursor).await.unwrap().1;
    app.billing.set_state("shop", AccountState::Blocked);
    let asked = app.billing.asked();
    refresh_once(&app.services).await.unwrap();
    assert_eq!(app.billing.asked(), asked, "the copy is young");
    app.clock.advance(Duration::from_secs(300));
    refresh_once(&app.services).await.unwrap();
    let (changed, _) = campaigns::changed_since(&db, cursor).await.unwrap();
    assert_eq!(changed[0].account.state, AccountState::Blocked);
    let asked = app.billing.asked();
    refresh_once(&app.services).await.unwrap();
    assert_eq!(app.billing.asked(), asked, "read once");

    app.billing.set_state("shop", AccountState::Active);
    app.clock.advance(Duration::from_secs(60));
    refresh_once(&app.services).await.unwrap();
    assert_eq!(app.billing.asked(), asked + 1, "who is stopped is looked at more often");
    assert_eq!(state(&app, "shop").await.unwrap(), AccountState::Active);
}
