//! Events of assembled layers.

use super::*;
use crate::events::receiver::EventReceiver;

#[tokio::test]
async fn an_assembled_layer_has_one_push_however_often_clients_ask_for_its_state() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start();
    let endpoint = [
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "test"),
        ("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", &*receiver.url()),
    ];
    let server = Server::start_with(root.path(), &endpoint);
    let (old, new) = (
        layer_pairs::sources(false, 50, 500),
        layer_pairs::sources(true, 50, 500),
    );
    let mut assembly = Assembly::prepare(&server, "a", &old, &new).await;
    assembly.upload(&server, "a").await;
    assert_eq!(assembly.post(&server, "a").await.status(), 202);
    assembly.assert_held(&assembly.wait(&server, "a").await);
    for _ in 0..3 {
        assembly.assert_held(&assembly.poll(&server, "a").await.unwrap());
    }
    // Another client pushes the same layer.
    assembly.upload(&server, "a").await;
    let again = assembly.post(&server, "a").await;
    assembly.assert_held(&again.json().await.unwrap());
    assembly.assert_held(&assembly.poll(&server, "a").await.unwrap());
    let last = server.push_blob("a", b"last").await.to_string();
    let events = receiver.wait_for(|events| {
        events
            .iter()
            .any(|event| event["target"]["digest"] == *last)
    });
    let layer = assembly.digest().to_string();
    let pushes = events
        .iter()
        .filter(|event| event["target"]["digest"] == *layer);
    let pushes: Vec<_> = pushes
        .map(|event| {
            let method = event["request"]["method"].as_str().unwrap();
            (event["action"].as_str().unwrap(), method)
        })
        .collect();
    assert_eq!(pushes, [("push", "GET"), ("push", "POST")]);
}
