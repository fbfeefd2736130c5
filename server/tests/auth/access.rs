//! Who may do what, with which login or token.

use super::{PASSWORD, Setup, challenge, eventually, htpasswd};
use crate::support::prelude::*;
use base64::Engine as _;
use reqwest::RequestBuilder;

#[tokio::test]
async fn who_is_not_known_is_told_how_to_log_in() {
    let setup = Setup::start("");
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
            let request = client().request(method.parse().unwrap(), setup.server.url(path));
            let request = match password {
                Some(password) => request.basic_auth("alice", Some(password)),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(challenge(&response), r#"Basic realm="a \"realm\"""#);
            let faults = faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
            assert_eq!(faults[0].detail, detail, "{method} {path}");
        }
    }
    let head = client().head(setup.server.url("/v2/a/manifests/v1")).send();
    assert_eq!(head.await.unwrap().status(), 401);
    for bad in [
        "Basic",
        "Basic !",
        "Digest username=alice",
        "Bearer a.b.c",
        "",
    ] {
        let response = setup.get("/v2/").header("authorization", bad).send();
        assert_eq!(response.await.unwrap().status(), 401, "{bad}");
    }
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
    assert_eq!(setup.get("/").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn anyone_pulls_what_a_pattern_names_and_pushing_needs_a_login() {
    let setup = Setup::start("public/**");
    setup.push("public/team/app").await;
    setup.push("private").await;
    for (path, status) in [
        ("/v2/public/team/app/manifests/v1", 200),
        ("/v2/public/team/app/tags/list", 200),
        ("/v2/public/none/manifests/v1", 404),
        ("/v2/private/manifests/v1", 401),
        // What is not there answers as what is not theirs.
        ("/v2/none/manifests/v1", 401),
        ("/v2/_catalog", 401),
        ("/v2/", 401),
    ] {
        let response = setup.get(path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let wrong = setup.get(path).basic_auth("alice", Some("x")).send();
        assert_eq!(wrong.await.unwrap().status(), 401, "{path}");
    }
    let upload = setup.server.url("/v2/public/team/app/blobs/uploads/");
    let response = client().post(&upload).send().await.unwrap();
    let expected = format!(
        "Bearer realm=\"{}\",service=\"a \\\"realm\\\"\",\
         scope=\"repository:public/team/app:pull,push\"",
        setup.server.url("/v2/_imgsync/token")
    );
    assert_eq!(challenge(&response), expected);
    faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    // The layers of what anyone may pull can be asked for by anyone; linking them is a push.
    for (mount, status) in [(false, 200), (true, 401)] {
        let url = setup
            .server
            .url("/v2/public/team/app/_imgsync/layers/resolve");
        let body = serde_json::json!({"diffIDs": [], "mount": mount}).to_string();
        let response = client().post(url).body(body).send().await.unwrap();
        assert_eq!(response.status(), status, "mount: {mount}");
    }
}

#[tokio::test]
async fn tokens_are_asked_for_as_docker_does() {
    let setup = Setup::start("public/*");
    setup.push("public/app").await;
    let ask = || setup.get("/v2/_imgsync/token?service=x&scope=repository:a:pull&account=alice");
    let token = async |request: RequestBuilder| {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["token"], answer["access_token"]);
        assert!(answer["expires_in"].as_u64().unwrap() >= 60);
        answer["token"].as_str().unwrap().to_owned()
    };
    let alice = token(ask().basic_auth("alice", Some(PASSWORD))).await;
    let anyone = token(ask()).await;
    for (path, of_alice, of_anyone) in [
        ("/v2/", 200, 401),
        ("/v2/public/app/manifests/v1", 200, 200),
        ("/v2/private/manifests/v1", 404, 401),
        // A token buys no other one.
        ("/v2/_imgsync/token", 401, 401),
    ] {
        for (token, status) in [(&alice, of_alice), (&anyone, of_anyone)] {
            let response = setup.get(path).bearer_auth(token).send().await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    }
    let wrong = ask().basic_auth("alice", Some("x")).send().await.unwrap();
    assert!(challenge(&wrong).starts_with("Basic "));
    faults(wrong, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
    let forged = alice.replace(&hex::encode("alice"), &hex::encode("bob"));
    let response = setup.get("/v2/").bearer_auth(forged).send().await.unwrap();
    assert!(challenge(&response).ends_with(",error=\"invalid_token\""));
    // A user that is gone takes their token along, at once.
    let path = setup.htpasswd();
    let gone = htpasswd(&[path.to_str().unwrap(), "alice", "--delete"], "");
    assert!(gone.status.success());
    setup.server.signal("HUP");
    eventually(async || setup.status_of("alice", PASSWORD).await == 401).await;
    let response = setup.get("/v2/").bearer_auth(alice).send().await.unwrap();
    assert_eq!(response.status(), 401);
}

#[tokio::test]
async fn an_upload_session_belongs_to_who_opened_it() {
    let setup = Setup::start("");
    let send = async |user: &str, method: &str, path: &str, body: &'static str| {
        let request = client().request(method.parse().unwrap(), setup.server.url(path));
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
        faults(response, StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN").await;
    }
    assert_eq!(send("alice", "GET", &session, "").await.status(), 204);
    assert_eq!(send("alice", "PUT", &last, "tes").await.status(), 201);
}

#[tokio::test]
async fn whatever_stands_in_the_header_is_a_login_that_fails() {
    let setup = Setup::start("public/*");
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
            let response = setup.get(path).header("authorization", &header).send();
            let response = response.await.unwrap();
            faults(response, StatusCode::UNAUTHORIZED, "UNAUTHORIZED").await;
        }
    }
    // The first one counts, and no second one can make up for it.
    let request = setup.get("/v2/").basic_auth("alice", Some("x"));
    let request = request.basic_auth("alice", Some(PASSWORD)).send();
    assert_eq!(request.await.unwrap().status(), 401);
    assert_eq!(setup.status_of("alice", PASSWORD).await, 200);
}
