//! Tests of authentication and authorization, from the htpasswd file to the decision.

use std::path::Path;

use base64::Engine as _;
use imgsync_oci::endpoint::Action;

use super::*;
use crate::client_address::ClientAddress;

const CLIENT: ClientAddress = ClientAddress::Local;

fn settings(path: &Path, patterns: &[&str]) -> AuthConfig {
    AuthConfig {
        htpasswd: Some(HtpasswdConfig {
            path: path.to_owned(),
            realm: "here".to_owned(),
        }),
        anonymous_pull: patterns.iter().map(|text| text.parse().unwrap()).collect(),
        secret: None,
    }
}

fn set(path: &Path, user: &str, password: &str) {
    let (password, cost) = (password.to_owned(), 4);
    edit_user(path, user, &UserChange::Set { password, cost }).unwrap();
}

fn basic(user: &str, password: &str) -> Vec<u8> {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {login}").into_bytes()
}

async fn identify(
    auth: &AccessController,
    header: &[u8],
) -> Result<Option<String>, AuthenticationError> {
    let user = auth.identify(Some(header), CLIENT).await?;
    Ok(user.map(|user| user.as_str().to_owned()))
}

#[tokio::test]
async fn only_the_right_password_authenticates_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    for _ in 0..2 {
        let alice = identify(&auth, &basic("alice", "secret")).await;
        assert_eq!(alice, Ok(Some("alice".to_owned())));
        for (user, password) in [
            ("alice", "Secret"),
            ("bob", "secret"),
            ("", ""),
            ("alice", ""),
        ] {
            let unknown = identify(&auth, &basic(user, password)).await;
            assert_eq!(
                unknown,
                Err(AuthenticationError::InvalidLogin),
                "{user} {password}"
            );
        }
    }
    assert_eq!(
        identify(&auth, b"Digest x").await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert_eq!(
        identify(&auth, b"Bearer x").await,
        Err(AuthenticationError::InvalidToken)
    );
    assert_eq!(auth.identify(None, CLIENT).await, Ok(None));
}

#[tokio::test]
async fn a_reload_applies_a_changed_file_and_keeps_the_users_if_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "one");
    set(&path, "bob", "two");
    let settings = settings(&path, &["public/**"]);
    let auth = AccessController::open(&settings).unwrap();
    let alice = auth
        .identify(Some(&basic("alice", "one")), CLIENT)
        .await
        .unwrap();
    assert!(identify(&auth, &basic("bob", "two")).await.is_ok());
    let bearer = format!("Bearer {}", auth.issue_token(alice.as_ref())).into_bytes();
    assert_eq!(identify(&auth, &bearer).await, Ok(Some("alice".to_owned())));

    set(&path, "bob", "three");
    auth.reload(&settings).unwrap();
    assert_eq!(identify(&auth, &bearer).await, Ok(Some("alice".to_owned())));
    assert_eq!(
        identify(&auth, &basic("bob", "two")).await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert!(identify(&auth, &basic("bob", "three")).await.is_ok());

    edit_user(&path, "alice", &UserChange::Delete).unwrap();
    auth.reload(&settings).unwrap();
    assert_eq!(
        identify(&auth, &basic("alice", "one")).await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert_eq!(
        identify(&auth, &bearer).await,
        Err(AuthenticationError::InvalidToken)
    );

    std::fs::remove_file(&path).unwrap();
    let error = auth.reload(&settings).unwrap_err();
    assert!(error.hint().unwrap().contains("imgsync-server htpasswd"));
    assert!(identify(&auth, &basic("bob", "three")).await.is_ok());
    std::fs::write(&path, "").unwrap();
    auth.reload(&settings).unwrap();
    assert_eq!(
        identify(&auth, &basic("bob", "three")).await,
        Err(AuthenticationError::InvalidLogin)
    );
}

#[tokio::test]
async fn anyone_may_pull_from_matching_repositories_and_do_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &["public/**"])).unwrap();
    assert_eq!(auth.scheme(), Some((AuthScheme::Token, "here".to_owned())));
    let alice = auth
        .identify(Some(&basic("alice", "secret")), CLIENT)
        .await
        .unwrap();
    let (public, private) = ("public/app".parse().unwrap(), "app".parse().unwrap());
    for (action, repository, anyone) in [
        (Action::Pull, Some(&public), true),
        (Action::Push, Some(&public), false),
        (Action::Pull, Some(&private), false),
        (Action::Push, Some(&private), false),
        (Action::Catalog, None, false),
        (Action::Check, None, false),
    ] {
        assert_eq!(
            auth.is_allowed(None, action, repository),
            anyone,
            "{action:?}"
        );
        assert!(auth.is_allowed(alice.as_ref(), action, repository));
    }
    let off = AccessController::open(&AuthConfig::default()).unwrap();
    assert!(off.is_allowed(None, Action::Push, Some(&private)) && off.scheme().is_none());
    assert_eq!(
        off.identify(Some(b"Basic nonsense"), CLIENT).await,
        Ok(None)
    );
}

#[tokio::test]
async fn simultaneous_logins_share_one_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    let header = basic("alice", "secret");
    let logins = (0..60).map(|_| auth.identify(Some(&header), CLIENT));
    let all = futures::future::join_all(logins).await;
    assert!(all.iter().all(Result::is_ok));
    // More logins than the queue holds: cached logins do not need it.
    let many = (0..1000).map(|_| auth.identify(Some(&header), CLIENT));
    assert!(
        futures::future::join_all(many)
            .await
            .iter()
            .all(Result::is_ok)
    );
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_rejected_and_cached_logins_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    let header = basic("alice", "secret");
    auth.identify(Some(&header), CLIENT).await.unwrap();
    let wrong = basic("alice", "wrong");
    let flood = (0..500).map(|_| auth.identify(Some(&wrong), CLIENT));
    let (rejected, cached) = futures::future::join(
        futures::future::join_all(flood),
        auth.identify(Some(&header), CLIENT),
    )
    .await;
    let busy = |result: &&Result<_, _>| **result == Err(AuthenticationError::Busy);
    assert!(rejected.iter().filter(busy).count() > 300);
    assert!(rejected.iter().all(Result::is_err) && cached.is_ok());
    assert_eq!(
        auth.identify(Some(&wrong), CLIENT).await,
        Err(AuthenticationError::InvalidLogin)
    );
}
