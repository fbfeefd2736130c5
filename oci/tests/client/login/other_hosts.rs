//! Credentials do not leave the registry and its token server.

use imgsync_oci::client::Credentials;

use super::{
    alice, blob_found, chunk, digest, new_client, open, realm, registry, repository, tokens,
};
use crate::fake::{FakeServer, status};

#[tokio::test]
async fn credentials_are_not_sent_to_another_host() {
    let elsewhere = FakeServer::start(|request| match &*request.method {
        "PATCH" => status(202).header("Location", "/session2"),
        "PUT" => status(201),
        "HEAD" => blob_found(),
        _ => status(200).body("blob"),
    });
    let server = tokens("");
    let host = elsewhere.address();
    let hub = registry(
        realm(&server),
        |_| true,
        move |request| match &*request.method {
            "POST" => status(202).header("Location", format!("http://{host}/session?state=1")),
            _ => status(307).header("Location", format!("http://{host}/blob")),
        },
    );
    let client = new_client(&hub.address(), alice("secret"));
    assert_eq!(
        client.head_blob(&repository(), &digest()).await.unwrap(),
        Some(4)
    );
    let small = client
        .fetch_small_blob(&repository(), &digest(), 100)
        .await
        .unwrap();
    assert_eq!(small.unwrap(), "blob");
    let mut session = open(&client).await;
    chunk(&client, &mut session).await.unwrap();
    client.finish_upload(&session, &digest()).await.unwrap();
    let lines = ["HEAD /blob", "GET /blob", "PATCH /session", "PUT /session2"];
    assert_eq!(elsewhere.lines(), lines);
    for request in elsewhere.requests() {
        assert_eq!(request.authorization(), "", "{}", request.line());
        assert_eq!(request.header("referer"), None, "{}", request.line());
    }
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_of_the_token_server() {
    let thief = FakeServer::start(|_| status(200).body(r#"{"token": "anonymous"}"#));
    let to = thief.address();
    for code in [302, 307] {
        let to = to.clone();
        let server =
            FakeServer::start(move |_| status(code).header("Location", format!("http://{to}/")));
        let hub = registry(realm(&server), |_| true, |_| blob_found());
        let logins = [
            alice("secret"),
            Some(Credentials::IdentityToken("identity".to_owned())),
        ];
        for login in logins {
            let client = new_client(&hub.address(), login);
            let error = client.check().await.unwrap_err();
            assert_eq!(error.status().unwrap().as_u16(), code);
        }
    }
    assert_eq!(thief.lines(), [""; 0]);
}
