//! Failures of the disk and of receivers, in which no event is lost or sent for ever.

use std::sync::{Arc, Mutex, mpsc};

use super::notifications::{endpoint, start};
use super::receiver::EventReceiver;
use crate::fake::status;
use crate::support::prelude::*;

#[tokio::test]
async fn events_that_cannot_be_read_for_a_while_are_sent_before_later_ones() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start();
    let url = receiver.url();
    let stopped = receiver.stop();
    let server = start(root.path(), &endpoint(&url));
    // More events than the server reads at a time.
    let mut digests = Vec::new();
    for number in 0..120 {
        let blob = number.to_string();
        let digest = Digest::of(blob.as_bytes()).to_string();
        let upload = format!("/v2/team/app/blobs/uploads/?digest={digest}");
        let pushed = client().post(server.url(&upload)).body(blob).send().await;
        assert_eq!(pushed.unwrap().status(), 201);
        digests.push(digest);
    }
    let queues = std::fs::read_dir(root.path().join("imgsync/events-1")).unwrap();
    let queue = queues.map(|queue| queue.unwrap().path()).next().unwrap();
    let (segment, moved) = (queue.join(format!("{:020}", 1)), root.path().join("moved"));
    std::fs::rename(&segment, &moved).unwrap();
    std::fs::create_dir(&segment).unwrap();
    server
        .get(&format!("/v2/team/app/blobs/{}", digests[0]))
        .await;
    digests.push(digests[0].clone());
    let receiver = stopped.start(|_, _| status(200));
    server
        .wait_for_log("endpoint test: cannot deliver events, trying again: cannot read what waits");
    std::fs::remove_dir(&segment).unwrap();
    std::fs::rename(&moved, &segment).unwrap();
    let events = receiver.wait_for(|events| events.len() >= digests.len());
    let received = events.iter().map(|event| &event["target"]["digest"]);
    assert_eq!(
        received.collect::<Vec<_>>(),
        digests.iter().collect::<Vec<_>>()
    );
    let log = server.log();
    assert!(!log.contains("lost"), "{log}");
}

#[tokio::test]
async fn an_event_is_accepted_although_the_body_of_the_answer_does_not_end() {
    let root = tempfile::tempdir().unwrap();
    // The answers wait until this is dropped.
    let (end, waiting) = mpsc::channel::<()>();
    let waiting = Arc::new(Mutex::new(waiting));
    let receiver = EventReceiver::start_with(move |_, _| {
        let waiting = Arc::clone(&waiting);
        let wait = move || {
            let _ = waiting.lock().unwrap().recv();
        };
        status(200)
            .body("pulling, and never done")
            .pause_after(7, wait)
    });
    let mut variables = endpoint(&receiver.url());
    // A receiver that a busy machine slows down gets no event twice.
    let timeout = "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_TIMEOUT";
    variables.push((timeout, "30s".to_owned()));
    let server = start(root.path(), &variables);
    server.push_image("team/app", "v1", "one").await;
    receiver.wait_for(|events| events.len() == 3);
    assert_eq!(receiver.accepted().len(), 3);
    drop(end);
}
