//! Tests which requests are allowed with which login or token.

use super::{AuthServer, PASSWORD, challenge, htpasswd, wait_until};
use crate::support::prelude::*;
use base64::Engine as _;
use reqwest::RequestBuilder;

#[tokio::test]
async fn requests_without_a_login_get_a_challenge() {
    let auth = AuthServer::start("");
    let digest = Digest::of(b"x");
    let entry = |name: &str, action: &str| serde_json::json!({"Type": "repository", "Class": "", "Name": name, "Action": action});
    let upload = format!("/v2/a/blobs/uploads/?mount={digest}&from=b/c");
    for (method, path, detail) in [
        ("GET", "/v2/", serde_json::Value::Null),
        ("GET", "/v2/a/tags/list", vec![entry("a", "pull")].into()),
        (
            "POST",
            &*upload,
            vec![entry("a", "pull"), entry("a", "push"), entry("b/c", "pull")].into(),
        ),
        (
            "DELETE",
            "/v2/a/manifests/v1",
            vec![entry("a", "delete")].into(),
        ),
        (
            "GET",
            "/v2/_catalog",
            vec![serde_json::json!({
                "Type": "registry", "Class": "", "Name": "catalog", "Action": "*"
            })]
            .into(),
        ),
    ] {
        for password in [None, Some("wrong")] {
            let request = client().request(method.parse().unwrap(), auth.server.url(path));
            let request = match password {
                Some(password) => request.basic_auth("alice", Some(password)),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(challenge(&response), r#"Basic realm="a \"realm\"""#);
            let errors = assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
            assert_eq!(errors[0].detail, detail, "{method} {path}");
        }
    }
    // As in the stock registry, the realm can be in any language.
    let realm = [(
        "REGISTRY_AUTH_HTPASSWD_REALM",
        "\u{79c1}\u{6709}\u{4ed3}\u{5e93}",
    )];
    let foreign = AuthServer::with("", &[("alice", "4")], &realm);
    let response = foreign.get("/v2/").send().await.unwrap();
    assert_eq!(
        response.headers()["www-authenticate"].as_bytes(),
        "Basic realm=\"\u{79c1}\u{6709}\u{4ed3}\u{5e93}\"".as_bytes()
    );
    let head = client().head(auth.server.url("/v2/a/manifests/v1")).send();
    assert_eq!(head.await.unwrap().status(), 401);
    for bad in [
        "Basic",
        "Basic !",
        "Digest username=alice",
        "Bearer a.b.c",
        "",
    ] {
        let response = auth.get("/v2/").header("authorization", bad).send();
        assert_eq!(response.await.unwrap().status(), 401, "{bad}");
    }
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
    assert_eq!(auth.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn anonymous_pulls_match_a_pattern_and_pushes_need_a_login() {
    let auth = AuthServer::start("public/**");
    auth.push("public/team/app").await;
    auth.push("private").await;
    for (path, status) in [
        ("/v2/public/team/app/manifests/v1", 200),
        ("/v2/public/team/app/tags/list", 200),
        ("/v2/public/none/manifests/v1", 404),
        ("/v2/private/manifests/v1", 401),
        // A missing repository gets the response of a private one.
        ("/v2/none/manifests/v1", 401),
        ("/v2/_catalog", 401),
        ("/v2/", 401),
    ] {
        let response = auth.get(path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let wrong = auth.get(path).basic_auth("alice", Some("x")).send();
        assert_eq!(wrong.await.unwrap().status(), 401, "{path}");
    }
    let upload = auth.server.url("/v2/public/team/app/blobs/uploads/");
    let response = client().post(&upload).send().await.unwrap();
    let expected = format!(
        "Bearer realm=\"{}\",service=\"a \\\"realm\\\"\",\
         scope=\"repository:public/team/app:pull,push\"",
        auth.server.url("/v2/_imgsync/token")
    );
    assert_eq!(challenge(&response), expected);
    assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    for call in ["repository/delete", "trash/restore"] {
        let path = format!("/v2/public/team/app/_imgsync/{call}");
        let response = client().post(auth.server.url(&path)).send().await.unwrap();
        assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    }
    // To resolve layers without a mount, the permission to pull is enough.
    for (mount, status) in [(false, 200), (true, 401)] {
        let url = auth
            .server
            .url("/v2/public/team/app/_imgsync/layers/resolve");
        let body = serde_json::json!({"diffIDs": [], "mount": mount}).to_string();
        let response = client().post(url).body(body).send().await.unwrap();
        assert_eq!(response.status(), status, "mount: {mount}");
    }
}

#[tokio::test]
async fn tokens_are_issued_as_docker_requests_them() {
    let auth = AuthServer::start("public/*");
    auth.push("public/app").await;
    let request_token =
        || auth.get("/v2/_imgsync/token?service=x&scope=repository:a:pull&account=alice");
    let token = async |request: RequestBuilder| {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["token"], answer["access_token"]);
        assert!(answer["expires_in"].as_u64().unwrap() >= 60);
        answer["token"].as_str().unwrap().to_owned()
    };
    let alice = token(request_token().basic_auth("alice", Some(PASSWORD))).await;
    let anonymous = token(request_token()).await;
    for (path, alice_status, anonymous_status) in [
        ("/v2/", 200, 401),
        ("/v2/public/app/manifests/v1", 200, 200),
        ("/v2/private/manifests/v1", 404, 401),
        // A token cannot be used to get another token.
        ("/v2/_imgsync/token", 401, 401),
    ] {
        for (token, status) in [(&alice, alice_status), (&anonymous, anonymous_status)] {
            let response = auth.get(path).bearer_auth(token).send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    }
    let wrong = request_token()
        .basic_auth("alice", Some("x"))
        .send()
        .await
        .unwrap();
    assert!(challenge(&wrong).starts_with("Basic "));
    assert_error(wrong, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let forged = alice.replace(&hex::encode("alice"), &hex::encode("bob"));
    let response = auth.get("/v2/").bearer_auth(forged).send().await.unwrap();
    assert!(challenge(&response).ends_with(",error=\"invalid_token\""));
    // The token of a deleted user is refused at once.
    let path = auth.htpasswd();
    let deleted = htpasswd(&[path.to_str().unwrap(), "alice", "--delete"], "");
    assert!(deleted.status.success());
    auth.server.signal("HUP");
    wait_until(async || auth.status_of("alice", PASSWORD).await == 401).await;
    let response = auth.get("/v2/").bearer_auth(alice).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn an_upload_session_belongs_to_the_user_who_opened_it() {
    let auth = AuthServer::start("");
    let send = async |user: &str, method: &str, path: &str, body: &'static str| {
        let request = client().request(method.parse().unwrap(), auth.server.url(path));
        let request = request.basic_auth(user, Some(PASSWORD)).body(body);
        request.send().await.unwrap()
    };
    let opened = send("alice", "POST", "/v2/a/blobs/uploads/", "").await;
    let session = header(&opened, "location");
    assert_eq!(send("alice", "PATCH", &session, "by").await.status(), 202);
    let last = format!("{session}?digest={}", Digest::of(b"bytes"));
    for (method, path) in [
        ("GET", &session),
        ("PATCH", &session),
        ("PUT", &last),
        ("DELETE", &session),
    ] {
        let response = send("bob", method, path, "").await;
        assert_error(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(send("alice", "GET", &session, "").await.status(), 204);
    assert_eq!(send("alice", "PUT", &last, "tes").await.status(), 201);
}

#[tokio::test]
async fn malformed_authorization_headers_are_failed_logins() {
    let auth = AuthServer::start("public/*");
    let encoded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let long = "x".repeat(40_000);
    for header in [
        format!("Basic {}", encoded(format!("alice:{long}").as_bytes())),
        format!("Basic {}", encoded(format!("{long}:x").as_bytes())),
        format!("Basic {}", encoded(b"alice\n:x")),
        format!("Basic {}", encoded(b"alice\0:x")),
        format!("Basic {}", encoded(b"\xff\xfe:x")),
        format!("Basic {}", encoded(b"alice")),
        format!("Basic {}", encoded(b":")),
        format!("Basic {long}"),
        format!("Bearer {long}"),
        "Bearer ".to_owned(),
        format!("Bearer {}.99999999999999999999.00", hex::encode("alice")),
        format!("Bearer {}.9999999999.", hex::encode("alice")),
        "Bearer ../../etc/passwd".to_owned(),
        format!("Negotiate {long}"),
    ] {
        for path in ["/v2/", "/v2/public/app/tags/list", "/v2/_imgsync/token"] {
            let response = auth.get(path).header("authorization", &header).send();
            let response = response.await.unwrap();
            assert_error(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
        }
    }
    // Of two headers the first one is used: a valid second one does not help.
    let request = auth.get("/v2/").basic_auth("alice", Some("x"));
    let request = request.basic_auth("alice", Some(PASSWORD)).send();
    assert_eq!(request.await.unwrap().status(), 401);
    assert_eq!(auth.status_of("alice", PASSWORD).await, 200);
}
