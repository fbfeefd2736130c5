//! Challenges of registries, and errors after them.

use imgsync_oci::Reference;
use imgsync_oci::client::Error;

use super::{BASIC, alice, blob_found, digest, new_client, realm, repository, tokens};
use crate::fake::{FakeServer, status};

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
