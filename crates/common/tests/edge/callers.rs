//! Every role and every method: who may, who may not, who is nobody.

use adspend_common::config::{Auth, AuthMode};
use adspend_common::identity::{Role, TableError};
use adspend_common::rpc::Code;
use adspend_common::server;
use bytes::Bytes;

use crate::support::{
    ADMIT, BATCH_ADMIT, CHECK, METHODS, REFLECT, STREAM_ADMIT, Setup, framed, refused, token,
};

fn with_tokens() -> Setup {
    let tokens = vec![
        token("operator", "operator", None),
        token("agency", "agency", Some("a")),
        token("advertiser", "advertiser", Some("b")),
        token("ad_server", "ad_server", None),
        token("pacing", "pacing", None),
        token("auditor", "auditor", None),
    ];
    Setup { auth: Auth { mode: AuthMode::Tokens, tokens }, ..Setup::default() }
}

#[tokio::test]
async fn every_role_gets_what_the_table_says_and_a_stranger_nothing() {
    let server = with_tokens().start().await;
    let client = server.connect().await;
    let mut cells = 0;
    // What reflection takes as "list your services"; to the others it is a field they do not know.
    let list = framed(&[0x3a, 0x00]);
    for path in [ADMIT, BATCH_ADMIT, STREAM_ADMIT, REFLECT, CHECK, "/no.Service/Method", "/", "/x"]
    {
        let open = path == CHECK;
        for role in Role::ALL {
            let row = METHODS.iter().find(|(row, _)| *row == path);
            let reflection = path == REFLECT && role == Role::Operator;
            let allowed = open || reflection || row.is_some_and(|(_, who)| who.contains(&role));
            let bearer = format!("Bearer {}", role.word());
            let answer = client.send(path, &[("authorization", &bearer)], list.clone()).await;
            if allowed {
                assert_eq!(answer.status.code(), Code::Ok, "{role} {path}: {answer:?}");
            } else {
                let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
                assert_eq!(answer.refusal(), denied, "{role} {path}");
            }
            cells += 1;
        }
        for stranger in ["Bearer stranger", "Basic operator", ""] {
            let answer = client.send(path, &[("authorization", stranger)], list.clone()).await;
            if open {
                assert_eq!(answer.status.code(), Code::Ok);
            } else {
                let nobody = (Code::Unauthenticated, "UNAUTHENTICATED".to_owned());
                assert_eq!(answer.refusal(), nobody, "{stranger:?} {path}");
            }
            cells += 1;
        }
    }
    assert_eq!(cells, 8 * 9);
    server.stopped().await;
}

#[tokio::test]
async fn permission_is_decided_before_anything_else_is_looked_at() {
    let server = with_tokens().start().await;
    let client = server.connect().await;
    let headers = [("authorization", "Bearer auditor"), ("grpc-timeout", "garbage")];
    let answer = client.send(ADMIT, &headers, Bytes::from_static(b"\xff\xff garbage")).await;
    assert_eq!(answer.refusal().0, Code::PermissionDenied);
    server.stopped().await;
}

#[tokio::test]
async fn a_handler_is_told_who_calls() {
    let server = with_tokens().start().await;
    let client = server.connect().await;
    let answer = client.admit("who", &[("authorization", "Bearer ad_server")]).await;
    assert_eq!(answer.token(), "ad_server None");
    server.stopped().await;

    let server = Setup::default().start().await;
    let client = server.connect().await;
    assert_eq!(client.admit("who", &[]).await.token(), "operator None");
    let scoped = [("adspend-role", "ad_server"), ("adspend-tenant", "a")];
    assert_eq!(client.admit("who", &scoped).await.token(), "ad_server Some(\"a\")");
    let denied = client.admit("who", &[("adspend-role", "auditor")]).await;
    assert_eq!(denied.refusal().0, Code::PermissionDenied);
    server.stopped().await;
}

#[tokio::test]
async fn a_server_whose_table_does_not_fit_does_not_start() {
    let error = refused(Setup::default().builder().methods(&METHODS[..2])).await;
    let missing = TableError::Missing(STREAM_ADMIT.to_owned());
    assert!(matches!(error, server::Error::Methods(table) if table == missing));

    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listen = adspend_common::config::Listen { grpc: any, metrics: any };
    let setup = Setup::default();
    let nobody = server::Server::new("edge-test", &listen, &setup.limits, &setup.drain);
    assert!(matches!(refused(nobody).await, server::Error::NoIdentity));
}
