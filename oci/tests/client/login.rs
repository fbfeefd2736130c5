//! Tests challenges and tokens with a fake registry and a fake token server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fake::{FakeServer, Reply, Request, status};
use bytes::Bytes;
use imgsync_oci::client::upload::{UploadSession, UploadStart};
use imgsync_oci::client::{Client, ConnectErrorKind, Credentials, Error, UrlScheme};
use imgsync_oci::endpoint::Mount;
use imgsync_oci::{Digest, Reference, Repository};

/// `alice:secret`, encoded for Basic authentication.
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";

fn alice(password: &str) -> Option<Credentials> {
    Some(Credentials::Password {
        username: "alice".to_owned(),
        password: password.to_owned(),
    })
}

fn new_client(registry: &str, credentials: Option<Credentials>) -> Client {
    let client = Client::new(&registry.parse().unwrap(), UrlScheme::Http).unwrap();
    client.with_login(credentials, true)
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn digest() -> Digest {
    Digest::of(b"blob")
}

fn blob_found() -> Reply {
    status(200).header("Content-Length", "4")
}

/// Starts a token server that accepts alice and issues the tokens `t1`, `t2` and so on.
fn tokens(life: &'static str) -> FakeServer {
    let count = AtomicUsize::new(0);
    FakeServer::start(move |request| match request.authorization() {
        BASIC => {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            status(200).body(format!("{{\"token\": \"t{number}\"{life}}}"))
        }
        _ => {
            status(401).body(r#"{"errors": [{"code": "UNAUTHORIZED", "message": "no such user"}]}"#)
        }
    })
}

/// Starts a registry that requires a token of the server at `realm`, and accepts the tokens for which
/// `good` is true.
fn registry(
    realm: String,
    good: impl Fn(&str) -> bool + Send + Sync + 'static,
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> FakeServer {
    FakeServer::start(move |request| {
        match request.authorization().strip_prefix("Bearer ") {
            Some(token) if good(token) => answer(request),
            _ => status(401).header(
                "WWW-Authenticate",
                format!("Bearer realm=\"{realm}\",service=\"the, service\",scope=\"repository:team/app:pull\""),
            ),
        }
    })
}

fn realm(server: &FakeServer) -> String {
    format!("http://{}/token?account=x", server.address())
}

#[tokio::test]
async fn basic_is_sent_with_every_request_after_the_challenge() {
    let registry = FakeServer::start(|request| match request.authorization() {
        BASIC => blob_found(),
        _ => status(401).header("WWW-Authenticate", "Basic realm=\"here\""),
    });
    let client = new_client(&registry.address(), alice("secret"));
    for _ in 0..2 {
        let found = client.head_blob(&repository(), &digest()).await;
        assert_eq!(found.unwrap(), Some(4));
    }
    let sent: Vec<String> = registry
        .requests()
        .iter()
        .map(|request| request.authorization().to_owned())
        .collect();
    assert_eq!(sent, ["", BASIC, BASIC]);

    let wrong = new_client(&registry.address(), alice("guess"));
    let error = wrong.head_blob(&repository(), &digest()).await.unwrap_err();
    assert_eq!(error.status().unwrap().as_u16(), 401);
    assert!(error.to_string().contains("alice"), "{error}");
}

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

/// Appends a chunk to a session.
async fn chunk(client: &Client, session: &mut UploadSession) -> Result<(), Error> {
    let bytes = futures::stream::iter([Ok(Bytes::from_static(b"blob"))]);
    client.append_upload(session, bytes, 4).await
}

async fn open(client: &Client) -> UploadSession {
    let opened = client.start_upload(&repository(), None).await.unwrap();
    let UploadStart::Open(session) = opened else {
        panic!("mounted without a source");
    };
    session
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
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
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

#[tokio::test]
async fn a_challenge_with_further_scopes_is_answered() {
    let server = tokens("");
    let realm = realm(&server);
    let hub = FakeServer::start(move |request| {
        match request.authorization() {
        "" => status(401).header("WWW-Authenticate", format!(
            "Bearer realm=\"{realm}\", scope=\"repository:team/app:delete,pull repository:team/app:special\""
        )),
        _ => status(202),
    }
    });
    let client = new_client(&hub.address(), alice("secret"));
    let tag: Reference = "v1".parse().unwrap();
    client.delete_manifest(&repository(), &tag).await.unwrap();
    let scopes = server.requests()[0].query("scope");
    assert_eq!(
        scopes,
        [
            "repository:team/app:pull,delete",
            "repository:team/app:special"
        ]
    );
}

#[tokio::test]
async fn lists_are_read_to_their_end_and_not_from_other_hosts() {
    let hub =
        FakeServer::start(
            |request| match request.query("last").first().map(String::as_str) {
                None => status(200)
                    .header("Link", "</v2/team/app/tags/list?last=b&n=2>; rel=\"next\"")
                    .body(r#"{"name": "team/app", "tags": ["a", "b", "not a tag"]}"#),
                Some("b") => status(200)
                    .header("Link", "<http://example.com/v2/>; rel=\"next\"")
                    .body(r#"{"tags": ["c"]}"#),
                Some(_) => status(404),
            },
        );
    let client = new_client(&hub.address(), None);
    let first = client
        .list_tags(&repository(), None)
        .await
        .unwrap()
        .unwrap();
    let texts: Vec<String> = first.names.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["a", "b"]);
    let error = client
        .list_tags(&repository(), first.next)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidResponse { .. }), "{error}");
}

/// Challenges as other servers send them: Basic authentication needs no parameter.
#[tokio::test]
async fn a_login_does_not_depend_on_the_form_of_the_challenge() {
    for challenge in [
        "Basic realm=/",
        "Basic realm=\"\u{79c1}\u{6709}\"",
        "Basic realm=My Registry",
        "Basic realm='My Registry'",
        "Basic  realm=\"x\"",
        "basic",
        "Negotiate, Basic realm=x",
        "Bearer realm=\"ftp://nowhere\", Basic realm=\"x\"",
    ] {
        let registry = FakeServer::start(move |request| match request.authorization() {
            BASIC => blob_found(),
            _ => status(401).header("WWW-Authenticate", challenge),
        });
        let client = new_client(&registry.address(), alice("secret"));
        let found = client.head_blob(&repository(), &digest()).await;
        assert_eq!(found.unwrap(), Some(4), "{challenge}");
    }
}

#[tokio::test]
async fn a_token_is_preferred_in_any_order_of_the_challenges() {
    let server = tokens("");
    for is_bearer_first in [true, false] {
        let realm = realm(&server);
        let hub = FakeServer::start(move |request| {
            if request.authorization().starts_with("Bearer ") {
                return blob_found();
            }
            let mut challenges = ["Negotiate".to_owned(), format!("Bearer realm=\"{realm}\"")];
            if is_bearer_first {
                challenges.reverse();
            }
            let [first, second] = challenges;
            let refused = status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
            refused
                .header("WWW-Authenticate", first)
                .header("WWW-Authenticate", second)
        });
        let client = new_client(&hub.address(), alice("secret"));
        client.head_blob(&repository(), &digest()).await.unwrap();
    }
}

#[tokio::test]
async fn an_error_tells_whether_the_credentials_were_sent() {
    use imgsync_oci::client::CredentialUse;
    let credential_use = async |challenge: &'static str| {
        let registry = FakeServer::start(move |_| match challenge {
            "" => status(401),
            challenge => status(401).header("WWW-Authenticate", challenge),
        });
        let client = new_client(&registry.address(), alice("secret"));
        let error = client.head_blob(&repository(), &digest()).await;
        match error.unwrap_err() {
            Error::Status { credentials, .. } => *credentials,
            error => panic!("{error}"),
        }
    };
    let account: Box<str> = "alice".into();
    let not_sent = |schemes: &[&str]| CredentialUse::NotSent {
        account: account.clone(),
        schemes: schemes.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(credential_use("").await, not_sent(&[]));
    assert_eq!(
        credential_use("Negotiate, NTLM").await,
        not_sent(&["Negotiate", "NTLM"])
    );
    let sent = CredentialUse::Sent {
        account: account.clone(),
    };
    assert_eq!(credential_use("Basic realm=\"x\"").await, sent);
    let challenge = "Basic realm=\"x\", error=\"insufficient_scope\"";
    let insufficient = CredentialUse::Insufficient { account };
    assert_eq!(credential_use(challenge).await, insufficient);
}
