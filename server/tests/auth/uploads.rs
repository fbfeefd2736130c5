//! Tests that no user can take all upload sessions.

use std::time::{Duration, SystemTime};

use super::{AuthServer, PASSWORD, wait_until};
use crate::support::prelude::*;

/// One user may have six of these sessions.
const VARIABLES: &[(&str, &str)] = &[("REGISTRY_IMGSYNC_LIMITS_OPENUPLOADS", "8")];

const USERS: &[(&str, &str)] = &[("alice", "4"), ("bob", "4"), ("carol", "4")];

impl AuthServer {
    async fn open_upload(&self, user: &str) -> Response {
        let url = self.server.url("/v2/a/blobs/uploads/");
        let request = client().post(url).basic_auth(user, Some(PASSWORD));
        request.send().await.unwrap()
    }

    /// Opens sessions until one is refused, and returns the locations of the others.
    async fn open_all(&self, user: &str) -> Vec<String> {
        let mut opened = Vec::new();
        loop {
            let response = self.open_upload(user).await;
            if response.status() != 202 {
                assert_eq!(response.status(), 429);
                assert!(!header(&response, "retry-after").is_empty());
                return opened;
            }
            opened.push(header(&response, "location"));
        }
    }

    async fn upload_status(&self, user: &str, location: &str) -> u16 {
        let request = client().get(self.server.url(location));
        let request = request.basic_auth(user, Some(PASSWORD));
        request.send().await.unwrap().status().as_u16()
    }

    async fn count_uploads(&self, user: &str, locations: &[String]) -> usize {
        let mut count = 0;
        for location in locations {
            count += usize::from(self.upload_status(user, location).await == 204);
        }
        count
    }

    /// Makes a session the one that was idle the longest, but not long enough to be abandoned.
    fn set_idle(&self, location: &str) {
        let id = location.rsplit('/').next().unwrap();
        let state = format!("root/imgsync/uploads/{id}.json");
        let state = std::fs::File::options()
            .write(true)
            .open(self.folder.path().join(state));
        let modified = SystemTime::now() - Duration::from_secs(60);
        state.unwrap().set_modified(modified).unwrap();
    }
}

#[tokio::test]
async fn no_user_can_take_all_upload_sessions() {
    let mut auth = AuthServer::with("", USERS, VARIABLES);
    let of_bob = auth.open_all("bob").await;
    assert_eq!(of_bob.len(), 6);
    // A new start knows the owners.
    auth.server.kill_and_restart();
    assert_eq!(auth.open_upload("bob").await.status(), 429);
    for _ in 0..2 {
        assert_eq!(auth.open_upload("alice").await.status(), 202);
    }
    // All eight are open now. The next ones replace those of bob, the idlest first.
    auth.set_idle(&of_bob[3]);
    assert_eq!(auth.open_upload("alice").await.status(), 202);
    assert_eq!(auth.upload_status("bob", &of_bob[3]).await, 404);
    assert_eq!(auth.count_uploads("bob", &of_bob).await, 5);
    // Until both have as many.
    let of_alice = auth.open_all("alice").await;
    assert_eq!(of_alice.len(), 1);
    assert_eq!(auth.count_uploads("bob", &of_bob).await, 4);
    assert_eq!(auth.open_all("carol").await.len(), 2);
}

#[tokio::test]
async fn a_session_that_is_being_written_is_not_replaced() {
    let auth = AuthServer::with("", USERS, VARIABLES);
    let of_bob = auth.open_all("bob").await;
    auth.set_idle(&of_bob[0]);
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Vec<u8>, std::io::Error>>();
    let writing = client().patch(auth.server.url(&of_bob[0]));
    let writing = writing.basic_auth("bob", Some(PASSWORD));
    let body = reqwest::Body::wrap_stream(receiver);
    let writing = tokio::spawn(writing.body(body).send());
    sender.unbounded_send(Ok(b"01".to_vec())).unwrap();
    // A chunk with an offset that is never right writes nothing.
    let is_busy = async || {
        let request = client().patch(auth.server.url(&of_bob[0]));
        let request = request.header("content-range", format!("{0}-{0}", 1_u64 << 60));
        let request = request.basic_auth("bob", Some(PASSWORD)).body("x");
        let answer = request.send().await.unwrap().text().await.unwrap();
        answer.contains("another request")
    };
    wait_until(is_busy).await;
    for _ in 0..3 {
        assert_eq!(auth.open_upload("alice").await.status(), 202);
    }
    assert_eq!(auth.count_uploads("bob", &of_bob).await, 5);
    assert_eq!(auth.upload_status("bob", &of_bob[0]).await, 204);
    drop((sender, writing));
}
