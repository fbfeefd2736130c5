//! Events of restored content: it counts as pushed.

use serde_json::Value;

use super::notifications::{endpoint, start};
use super::receiver::EventReceiver;
use crate::support::prelude::*;

async fn restore(server: &Server, body: &str) {
    let url = server.url("/v2/team/app/_imgsync/trash/restore");
    let restored = client().post(url).body(body.to_owned()).send().await;
    assert_eq!(restored.unwrap().status(), 200);
}

async fn delete(server: &Server, reference: &str) {
    let url = server.url(&format!("/v2/team/app/manifests/{reference}"));
    let deleted = client().delete(url).send().await.unwrap();
    assert_eq!(deleted.status(), 202);
}

/// Describes the events about manifests.
fn described(events: &[Value]) -> Vec<String> {
    let blobs = "application/octet-stream";
    let events = events
        .iter()
        .filter(|event| event["target"]["mediaType"] != blobs);
    let described = events.map(|event| {
        let target = &event["target"];
        let text = |key: &str| target[key].as_str().unwrap_or("-").to_owned();
        let action = event["action"].as_str().unwrap();
        format!("{action} {} {}", text("digest"), text("tag"))
    });
    described.collect()
}

#[tokio::test]
async fn restored_tags_and_manifests_have_pushes() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start();
    let server = start(root.path(), &endpoint(&receiver.url()));
    let one = server.push_image("team/app", "v1", "one").await;
    let two = server.push_image("team/app", "v2", "two").await;
    let tagged = format!("{}?tag=v3", Digest::of(&two));
    server
        .put_manifest("team/app", &tagged, media::OCI_MANIFEST, &two)
        .await;
    let (one, two) = (Digest::of(&one).to_string(), Digest::of(&two).to_string());
    delete(&server, "v1").await;
    restore(&server, r#"{"reference":"v1"}"#).await;
    // Nothing changes.
    restore(&server, r#"{"reference":"v1"}"#).await;
    delete(&server, "v1").await;
    delete(&server, &one).await;
    restore(&server, &format!("{{\"reference\":\"{one}\"}}")).await;
    let url = server.url("/v2/team/app/_imgsync/repository/delete");
    assert_eq!(client().post(url).send().await.unwrap().status(), 200);
    restore(&server, "{}").await;
    server.push_image("team/app", "last", "last").await;
    let last = |event: &Value| event["target"]["tag"] == "last";
    let events = receiver.wait_for(|events| events.iter().any(last));
    let mut described = described(&events);
    described.pop();
    // The tags of a repository are restored in no particular order.
    let restored = described.split_off(described.len() - 3);
    assert_eq!(
        described,
        [
            format!("push {one} v1"),
            format!("push {two} v2"),
            format!("push {two} v3"),
            "delete - v1".to_owned(),
            format!("push {one} v1"),
            "delete - v1".to_owned(),
            format!("delete {one} -"),
            format!("push {one} -"),
            "delete - -".to_owned(),
        ]
    );
    for push in [
        format!("push {one} v1"),
        format!("push {two} v2"),
        format!("push {two} v3"),
    ] {
        assert!(restored.contains(&push), "{restored:?}");
    }
    let event = events.iter().rfind(|event| event["target"]["tag"] == "v1");
    let target = &event.unwrap()["target"];
    assert_eq!(target["mediaType"], media::OCI_MANIFEST);
    let path = format!("/v2/team/app/manifests/{one}");
    assert!(target["url"].as_str().unwrap().ends_with(&path), "{target}");
}
