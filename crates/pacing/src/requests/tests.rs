//! How long an answer is kept.

use adspend_common::id::RequestId;
use chrono::TimeDelta;

use super::{Begun, Call, KEPT, begin, finish, purge_once, replay};
use crate::tests_support::TestApp;

fn call(id: &str, payload: u8) -> Call<u8> {
    Call {
        tenant: "north".to_owned(),
        method: "Test",
        id: RequestId::parse(id).unwrap(),
        payload_hash: [payload; 32],
        encode: |answer| vec![*answer],
    }
}

async fn done(app: &TestApp, call: &Call<u8>) -> Begun {
    let mut client = app.services.db.get().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let begun = begin(&tx, call, app.clock.now()).await.unwrap();
    if begun == Begun::New {
        finish(&tx, call, &7).await.unwrap();
    }
    tx.commit().await.unwrap();
    begun
}

#[tokio::test]
async fn an_answer_is_kept_for_a_week() {
    let app = TestApp::start().await;
    assert_eq!(done(&app, &call("a", 1)).await, Begun::New);
    app.clock.advance(KEPT.to_std().unwrap());
    purge_once(&app.services, app.clock.now() - KEPT).await.unwrap();
    assert_eq!(done(&app, &call("a", 1)).await, Begun::Replay(vec![7]));
    app.clock.advance(TimeDelta::milliseconds(1).to_std().unwrap());
    purge_once(&app.services, app.clock.now() - KEPT).await.unwrap();
    assert_eq!(done(&app, &call("a", 1)).await, Begun::New);
}

#[tokio::test]
async fn a_call_that_was_rolled_back_burns_no_id() {
    let app = TestApp::start().await;
    {
        let mut client = app.services.db.get().await.unwrap();
        let tx = client.transaction().await.unwrap();
        assert_eq!(begin(&tx, &call("a", 1), app.clock.now()).await.unwrap(), Begun::New);
        tx.rollback().await.unwrap();
        assert_eq!(replay(&client, &call("a", 1)).await.unwrap(), None);
    }
    assert_eq!(done(&app, &call("a", 2)).await, Begun::New);
    let db = app.services.db.get().await.unwrap();
    assert_eq!(replay(&db, &call("a", 2)).await.unwrap(), Some(vec![7]));
    assert!(replay(&db, &call("a", 1)).await.is_err(), "another payload");
}
