//! Users, from a file to a decision.

use std::path::Path;

use base64::Engine as _;

use super::*;

fn settings(path: &Path, patterns: &[&str]) -> AuthConfig {
    AuthConfig {
        htpasswd: Some(HtpasswdFile {
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

async fn who(
    auth: &AccessController,
    header: &[u8],
) -> Result<Option<String>, AuthenticationError> {
    let user = auth.identify(Some(header)).await?;
    Ok(user.map(|user| user.as_str().to_owned()))
}

#[tokio::test]
async fn only_who_knows_the_password_is_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    for _ in 0..2 {
        let alice = who(&auth, &basic("alice", "secret")).await;
        assert_eq!(alice, Ok(Some("alice".to_owned())));
        for (user, password) in [
            ("alice", "Secret"),
            ("bob", "secret"),
            ("", ""),
            ("alice", ""),
        ] {
            let unknown = who(&auth, &basic(user, password)).await;
            assert_eq!(
                unknown,
                Err(AuthenticationError::InvalidLogin),
                "{user} {password}"
            );
        }
    }
    assert_eq!(
        who(&auth, b"Digest x").await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert_eq!(
        who(&auth, b"Bearer x").await,
        Err(AuthenticationError::InvalidToken)
    );
    assert_eq!(auth.identify(None).await, Ok(None));
}

#[tokio::test]
async fn a_changed_file_counts_at_once_and_a_missing_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "one");
    set(&path, "bob", "two");
    let settings = settings(&path, &["public/**"]);
    let auth = AccessController::open(&settings).unwrap();
    let alice = auth.identify(Some(&basic("alice", "one"))).await.unwrap();
    assert!(who(&auth, &basic("bob", "two")).await.is_ok());
    let bearer = format!("Bearer {}", auth.issue_token(alice.as_ref())).into_bytes();
    assert_eq!(who(&auth, &bearer).await, Ok(Some("alice".to_owned())));

    set(&path, "bob", "three");
    auth.reload(&settings).unwrap();
    assert_eq!(who(&auth, &bearer).await, Ok(Some("alice".to_owned())));
    assert_eq!(
        who(&auth, &basic("bob", "two")).await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert!(who(&auth, &basic("bob", "three")).await.is_ok());

    edit_user(&path, "alice", &UserChange::Delete).unwrap();
    auth.reload(&settings).unwrap();
    assert_eq!(
        who(&auth, &basic("alice", "one")).await,
        Err(AuthenticationError::InvalidLogin)
    );
    assert_eq!(
        who(&auth, &bearer).await,
        Err(AuthenticationError::InvalidToken)
    );

    std::fs::remove_file(&path).unwrap();
    let error = auth.reload(&settings).unwrap_err();
    assert!(error.hint().unwrap().contains("imgsync-server htpasswd"));
    assert!(who(&auth, &basic("bob", "three")).await.is_ok());
    std::fs::write(&path, "").unwrap();
    auth.reload(&settings).unwrap();
    assert_eq!(
        who(&auth, &basic("bob", "three")).await,
        Err(AuthenticationError::InvalidLogin)
    );
}

#[tokio::test]
async fn anyone_may_pull_what_a_pattern_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &["public/**"])).unwrap();
    assert_eq!(auth.scheme(), Some((AuthScheme::Token, "here".to_owned())));
    let alice = auth
        .identify(Some(&basic("alice", "secret")))
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
    assert_eq!(off.identify(Some(b"Basic nonsense")).await, Ok(None));
}

#[tokio::test]
async fn clients_that_come_at_once_cost_one_check_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    let header = basic("alice", "secret");
    let logins = (0..60).map(|_| auth.identify(Some(&header)));
    let all = futures::future::join_all(logins).await;
    assert!(all.iter().all(Result::is_ok));
    // More than can wait: those that were remembered do not.
    let many = (0..1000).map(|_| auth.identify(Some(&header)));
    assert!(
        futures::future::join_all(many)
            .await
            .iter()
            .all(Result::is_ok)
    );
}

#[tokio::test]
async fn a_flood_of_wrong_passwords_is_turned_away_and_known_users_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("htpasswd");
    set(&path, "alice", "secret");
    let auth = AccessController::open(&settings(&path, &[])).unwrap();
    let header = basic("alice", "secret");
    auth.identify(Some(&header)).await.unwrap();
    let wrong = basic("alice", "wrong");
    let flood = (0..500).map(|_| auth.identify(Some(&wrong)));
    let (answers, known) = futures::future::join(
        futures::future::join_all(flood),
        auth.identify(Some(&header)),
    )
    .await;
    let busy = |answer: &&Result<_, _>| **answer == Err(AuthenticationError::Busy);
    assert!(answers.iter().filter(busy).count() > 300);
    assert!(answers.iter().all(Result::is_err) && known.is_ok());
    assert_eq!(
        auth.identify(Some(&wrong)).await,
        Err(AuthenticationError::InvalidLogin)
    );
}
