//! Tokens: their lifetime, their scopes, and errors of the token server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgsync_oci::client::upload::UploadStart;
use imgsync_oci::client::{ConnectErrorKind, Credentials, Error};
use imgsync_oci::endpoint::Mount;

use super::{
    alice, blob_found, chunk, digest, new_client, open, realm, registry, repository, tokens,
};
use crate::fake::{FakeServer, status};
use crate::reserved_port::ReservedPort;

#[tokio::test]
async fn a_token_is_used_until_its_end_and_one_request_renews_it_for_all() {
    let server = tokens(", \"expires_in\": 300");
    let hub = registry(realm(&server), |_| true, |_| blob_found());
    let client = new_client(&hub.address(), alice("secret"));
    for _ in 0..3 {
        client.head_blob(&repository(), &digest()).await.unwrap();
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].query("service"), ["the, service"]);
    assert_eq!(
        requests[0].query("scope"),
        ["repository:team/app:pull,push"]
    );
    assert_eq!(requests[0].query("account"), ["x"]);
    assert_eq!(hub.requests().last().unwrap().authorization(), "Bearer t1");

    // The registry no longer accepts the first token, and many requests get a 401 at the same time.
    let server = tokens("");
    let round = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&round);
    let good = move |token: &str| now.load(Ordering::SeqCst) == 0 || token != "t1";
    let hub = registry(realm(&server), good, |_| blob_found());
    let client = new_client(&hub.address(), alice("secret"));
    client.head_blob(&repository(), &digest()).await.unwrap();
    round.store(1, Ordering::SeqCst);
    let all = (0..16).map(|_| async {
        let repository = repository();
        client.head_blob(&repository, &digest()).await.unwrap()
    });
    futures::future::join_all(all).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_token_without_lifetime_is_renewed_for_every_request() {
    let server = tokens(", \"expires_in\": 0");
    let hub = registry(realm(&server), |_| true, |_| blob_found());
    let client = new_client(&hub.address(), alice("secret"));
    for _ in 0..3 {
        client.head_blob(&repository(), &digest()).await.unwrap();
    }
    let sent = hub.requests();
    let last = sent.last().unwrap().authorization();
    assert_eq!(last, format!("Bearer t{}", server.requests().len()));
}

#[tokio::test]
async fn a_login_that_expires_during_an_upload_is_renewed() {
    let server = tokens("");
    // The first token expires just before the first chunk.
    let patches = Arc::new(AtomicUsize::new(0));
    let hub = {
        let (realm, patches) = (realm(&server), Arc::clone(&patches));
        FakeServer::start(move |request| {
            let refused = status(401).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"{realm}\",error=\"invalid_token\""),
            );
            match (&*request.method, request.authorization()) {
                ("PATCH", "Bearer t1") => {
                    patches.fetch_add(1, Ordering::SeqCst);
                    refused
                }
                ("POST", "Bearer t1") => status(202).header("Location", "/session"),
                ("PATCH", "Bearer t2") => status(202).header("Location", "/session"),
                ("GET", "Bearer t2") => status(204).header("Range", "0-0"),
                ("PUT", "Bearer t2") => status(201),
                _ => refused,
            }
        })
    };
    let client = new_client(&hub.address(), alice("secret"));
    let mut session = open(&client).await;
    let error = chunk(&client, &mut session).await.unwrap_err();
    assert!(error.to_string().contains("login"), "{error}");
    assert!(client.sync_upload_offset(&mut session).await.unwrap());
    chunk(&client, &mut session).await.unwrap();
    client.finish_upload(&session, &digest()).await.unwrap();
    assert_eq!(patches.load(Ordering::SeqCst), 1);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_never_accepted_is_an_error() {
    let server = tokens("");
    let hub = registry(realm(&server), |_| false, |_| blob_found());
    let client = new_client(&hub.address(), alice("secret"));
    let error = client
        .head_blob(&repository(), &digest())
        .await
        .unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 401);
    assert_eq!(hub.requests().len(), 2);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_by_post() {
    let server = FakeServer::start(|request| {
        match (&*request.method, request.field("refresh_token").as_str()) {
            ("POST", "identity") => status(200).body(r#"{"access_token": "granted"}"#),
            _ => status(400).body(r#"{"error": "invalid_grant"}"#),
        }
    });
    let hub = registry(realm(&server), |token| token == "granted", |_| blob_found());
    let login = |token: &str| Some(Credentials::IdentityToken(token.to_owned()));
    let client = new_client(&hub.address(), login("identity"));
    client.head_blob(&repository(), &digest()).await.unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.authorization(), "");
    assert_eq!(request.field("grant_type"), "refresh_token");
    assert_eq!(request.field("service"), "the, service");
    assert_eq!(request.field("scope"), "repository:team/app:pull,push");
    assert!(!request.target.contains("identity"));

    let expired = new_client(&hub.address(), login("expired"));
    let error = expired
        .head_blob(&repository(), &digest())
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Status { is_login: true, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_password_is_an_error_and_not_an_anonymous_login() {
    let server = tokens("");
    // A registry that would accept an anonymous token.
    let hub = registry(realm(&server), |_| true, |_| blob_found());
    let wrong = new_client(&hub.address(), alice("guess"));
    let error = wrong.head_blob(&repository(), &digest()).await.unwrap_err();
    let Error::Status {
        is_login, status, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert!(*is_login && status.as_u16() == 401, "{error}");
    let text = error.to_string();
    for part in [&*server.address(), "no such user", "alice"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        hub.requests().len(),
        1,
        "nothing was asked without the login"
    );
}

#[tokio::test]
async fn a_token_server_that_is_down_is_named() {
    let closed_port = ReservedPort::new();
    let address = closed_port.address();
    let hub = registry(
        format!("http://{address}/token"),
        |_| true,
        |_| blob_found(),
    );
    let client = new_client(&hub.address(), alice("secret"));
    let error = client.check().await.unwrap_err();
    let Error::Connect { registry, kind, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(registry.as_str(), address.to_string());
    assert_eq!(*kind, ConnectErrorKind::Network);
}

#[tokio::test]
async fn a_mount_requests_pull_on_its_source() {
    let server = tokens("");
    let hub = registry(realm(&server), |_| true, |_| status(201));
    let client = new_client(&hub.address(), alice("secret"));
    let mount = Mount {
        digest: digest(),
        from: Some("base/os".parse().unwrap()),
    };
    let start = client
        .start_upload(&repository(), Some(mount))
        .await
        .unwrap();
    assert_eq!(start, UploadStart::Mounted);
    let scopes = server.requests()[0].query("scope");
    assert_eq!(
        scopes,
        ["repository:team/app:pull,push", "repository:base/os:pull"]
    );
}
