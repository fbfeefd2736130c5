//! Events of `notifications`: each one arrives, in order.

use std::sync::{Arc, Mutex, mpsc};

use serde_json::Value;

use super::receiver::{EventReceiver, wait_until};
use crate::fake::status;
use crate::support::launch::{Setup, stdout};
use crate::support::prelude::*;

/// Returns the variables of a server with an endpoint.
pub(super) fn endpoint(url: &str) -> Vec<(&'static str, String)> {
    let variable = |name, value: &str| (name, value.to_owned());
    vec![
        variable("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME", "test"),
        variable("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL", url),
        variable("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_TIMEOUT", "200ms"),
        variable("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_THRESHOLD", "3"),
        variable("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_BACKOFF", "20ms"),
        variable("REGISTRY_STORAGE_DELETE_ENABLED", "true"),
    ]
}

pub(super) fn start(root: &Path, variables: &[(&'static str, String)]) -> Server {
    let variables = variables.iter();
    let variables: Vec<_> = variables
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    Server::start_with(root, &variables)
}

/// Returns the tags of the pushed manifests in events.
fn pushed_tags(events: &[Value]) -> Vec<String> {
    let tags = events.iter().filter(|event| event["action"] == "push");
    let tags = tags.filter_map(|event| event["target"]["tag"].as_str());
    tags.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_events_arrive_in_order_at_a_receiver_that_fails_stalls_and_restarts() {
    let root = tempfile::tempdir().unwrap();
    // A stalled request waits until this is dropped.
    let (end, stalled) = mpsc::channel::<()>();
    let stalled = Arc::new(Mutex::new(stalled));
    let misbehave = move |number: usize, request: &crate::fake::Request| match number % 8 {
        1 => status(500),
        3 => status(404),
        4 => {
            let _ = stalled.lock().unwrap().recv();
            status(503)
        }
        6 => status(302).header("Location", "/elsewhere"),
        7 if request.target == "/events" => status(307).header("Location", "/moved"),
        _ => status(202),
    };
    let receiver = EventReceiver::start_with(misbehave.clone());
    let mut server = start(root.path(), &endpoint(&receiver.url()));
    let mut pushed = Vec::new();
    let mut receiver = Some(receiver);
    let mut stopped = None;
    for number in 0..24 {
        let tag = format!("v{number}");
        server.push_image("team/app", &tag, &tag).await;
        pushed.push(tag);
        match number {
            // Right after the answer to a push.
            5 | 11 | 17 => server.kill_and_restart(),
            9 => stopped = receiver.take().map(EventReceiver::stop),
            14 => {
                let stopped = stopped.take().unwrap();
                receiver = Some(stopped.start(misbehave.clone()));
            }
            _ => {}
        }
    }
    server.kill_and_restart();
    let receiver = receiver.unwrap();
    let all_arrived = |events: &[Value]| pushed_tags(events).len() >= pushed.len();
    let events = receiver.wait_for(all_arrived);
    assert_eq!(pushed_tags(&events), pushed);
    let blobs = events
        .iter()
        .filter(|event| event["target"].get("tag").is_none());
    assert_eq!(blobs.count(), 2 * pushed.len());
    assert!(receiver.server.lines().contains(&"POST /moved".to_owned()));
    assert!(
        !receiver
            .server
            .lines()
            .contains(&"GET /elsewhere".to_owned())
    );
    drop(end);
    let log = server.log();
    assert!(!log.contains("lost"), "{log}");
}

#[tokio::test]
async fn operations_have_their_events_with_the_facts_of_the_request() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start();
    let mut variables = endpoint(&receiver.url());
    let headers = "[Bearer swordfish]".to_owned();
    variables.push((
        "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_Authorization",
        headers,
    ));
    let includes = "REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES";
    variables.push((includes, "true".to_owned()));
    let server = start(root.path(), &variables);
    let image = server.push_image("team/app", "v1", "one").await;
    let digest = Digest::of(&image);
    let layer = Digest::of(b"the layer of one");
    let mount = format!("/v2/other/blobs/uploads/?mount={layer}&from=team/app");
    let mounted = client().post(server.url(&mount)).send().await.unwrap();
    assert_eq!(mounted.status(), 201);
    server.get("/v2/team/app/manifests/v1").await;
    server.get(&format!("/v2/team/app/blobs/{layer}")).await;
    for path in [
        "/v2/team/app/manifests/v1".to_owned(),
        format!("/v2/other/blobs/{layer}"),
    ] {
        let deleted = client().delete(server.url(&path)).send().await.unwrap();
        assert_eq!(deleted.status(), 202);
    }
    server
        .put_manifest("team/app", "v2", media::OCI_MANIFEST, &image)
        .await;
    let path = format!("/v2/team/app/manifests/{digest}");
    let deleted = client().delete(server.url(&path)).send().await.unwrap();
    assert_eq!(deleted.status(), 202);
    let events = receiver.wait_for(|events| events.len() >= 11);
    let described: Vec<_> = events
        .iter()
        .map(|event| {
            let target = &event["target"];
            let text = |key: &str| target[key].as_str().unwrap_or("-").to_owned();
            let short: String = text("digest").chars().take(13).collect();
            format!(
                "{} {} {} {short} {}",
                event["request"]["method"].as_str().unwrap(),
                event["action"].as_str().unwrap(),
                text("repository"),
                text("tag")
            )
        })
        .collect();
    let short = |digest: &Digest| digest.to_string().chars().take(13).collect::<String>();
    let (layer, digest) = (short(&layer), short(&digest));
    let config = short(&Digest::of(b"{\"word\":\"one\"}"));
    assert_eq!(
        described,
        [
            format!("POST push team/app {config} -"),
            format!("POST push team/app {layer} -"),
            format!("PUT push team/app {digest} v1"),
            format!("POST mount other {layer} -"),
            format!("GET pull team/app {digest} v1"),
            format!("GET pull team/app {layer} -"),
            "DELETE delete team/app - v1".to_owned(),
            format!("DELETE delete other {layer} -"),
            format!("PUT push team/app {digest} v2"),
            format!("DELETE delete team/app {digest} -"),
            "DELETE delete team/app - v2".to_owned(),
        ]
    );
    assert_eq!(
        events[2]["target"]["references"].as_array().unwrap().len(),
        2
    );
    assert_eq!(events[3]["target"]["fromRepository"], "team/app");
    let request = &receiver.accepted()[0];
    assert_eq!(request.authorization(), "Bearer swordfish");
    let media_type = "application/vnd.docker.distribution.events.v2+json";
    assert_eq!(request.header("content-type"), Some(media_type));
    assert!(!server.log().contains("swordfish"));
}

#[tokio::test]
async fn pulls_of_a_read_only_server_have_events() {
    let root = tempfile::tempdir().unwrap();
    Server::start(root.path())
        .push_image("team/app", "v1", "one")
        .await;
    let receiver = EventReceiver::start();
    let mut variables = endpoint(&receiver.url());
    let read_only = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED";
    variables.push((read_only, "true".to_owned()));
    let server = start(root.path(), &variables);
    assert_eq!(server.head("/v2/team/app/manifests/v1").await.status(), 200);
    let events = receiver.wait_for(|events| !events.is_empty());
    assert_eq!(events[0]["request"]["method"], "HEAD");
}

#[tokio::test]
async fn a_reload_adds_removes_and_moves_endpoints_and_status_tells_what_waits() {
    let (old, new) = (EventReceiver::start(), EventReceiver::start());
    let config = |endpoints: &str| {
        format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: '{{folder}}/data'}}}}\n\
             http: {{addr: '127.0.0.1:0'}}\nnotifications: {{endpoints: [{endpoints}]}}\n"
        )
    };
    let down = "http://127.0.0.1:9/?token=swordfish";
    let first = config(&format!("{{name: a, url: '{down}', timeout: 100ms}}"));
    let server = Setup::new(&first).serve();
    let push = async || {
        let url = format!(
            "{}/v2/x/blobs/uploads/?digest={}",
            server.url,
            Digest::of(b"1")
        );
        let pushed = client().post(url).body("1").send().await.unwrap();
        assert_eq!(pushed.status(), 201);
    };
    push().await;
    let status_of = || {
        let output = server.setup().run(&["status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["events"].clone()
    };
    wait_until(|| {
        let status = status_of();
        let is_failing = status[0]["waiting"] == 1 && status[0]["error"].is_string();
        if is_failing {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let text = stdout(&server.setup().run(&["status"]));
    assert!(
        text.contains("events for endpoint a: 1 wait, 0 delivered"),
        "{text}"
    );
    let urls = (old.url(), new.url());
    server.setup().write(&config(&format!(
        "{{name: a, url: '{}'}}, {{name: b, url: '{}'}}",
        urls.0, urls.1
    )));
    server.signal("HUP");
    assert_eq!(old.wait_for(|events| !events.is_empty()).len(), 1);
    push().await;
    old.wait_for(|events| events.len() == 2);
    new.wait_for(|events| events.len() == 1);
    let log = server.log();
    assert!(log.contains("endpoint a: cannot deliver events"), "{log}");
    assert!(!log.contains("swordfish"), "{log}");
}
