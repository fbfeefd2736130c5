//! Tests several requests at a time, all of which are challenged.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fake::{FakeServer, status};
use imgsync_oci::Digest;
use imgsync_oci::client::{Client, Credentials, UrlScheme};

const REQUESTS: usize = 8;

/// Sends requests at a time, to a registry that answers only once all of them have arrived. Returns
/// how many were successful.
async fn send_all(registry: &FakeServer) -> usize {
    let client = Client::new(&registry.address().parse().unwrap(), UrlScheme::Http).unwrap();
    let credentials = Credentials::Password {
        username: "alice".to_owned(),
        password: "secret".to_owned(),
    };
    let client = client.with_login(Some(credentials), true);
    let (repository, digest) = ("team/app".parse().unwrap(), Digest::of(b"blob"));
    let requests = (0..REQUESTS).map(|_| client.head_blob(&repository, &digest));
    let answers = futures::future::join_all(requests).await;
    answers.iter().filter(|answer| answer.is_ok()).count()
}

fn registry(accepts: bool, logins: &'static AtomicUsize) -> FakeServer {
    let all_arrived = Barrier::new(REQUESTS);
    FakeServer::start(move |request| {
        let challenge = status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
        if request.header("authorization").is_none() {
            all_arrived.wait();
            return challenge;
        }
        logins.fetch_add(1, Ordering::SeqCst);
        if accepts {
            status(200).header("Content-Length", "4")
        } else {
            challenge
        }
    })
}

#[tokio::test]
async fn each_request_is_sent_again_with_the_password() {
    static LOGINS: AtomicUsize = AtomicUsize::new(0);
    let registry = registry(true, &LOGINS);
    assert_eq!(send_all(&registry).await, REQUESTS);
    assert_eq!(LOGINS.load(Ordering::SeqCst), REQUESTS);
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_with_each_request() {
    static LOGINS: AtomicUsize = AtomicUsize::new(0);
    let registry = registry(false, &LOGINS);
    assert_eq!(send_all(&registry).await, 0);
    assert_eq!(LOGINS.load(Ordering::SeqCst), REQUESTS);
}
