//! Webhooks about pushed tags: signed, the newest wins, and a rejected one does not keep back others.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::receiver::{EventReceiver, wait_until};
use crate::fake::{Request, status};
use crate::support::launch::{Setup, stderr, stdout};
use crate::support::prelude::*;

const SECRET: &str = "swordfish-0123456789";

fn start(root: &Path, url: &str) -> Server {
    let list = format!(
        "[{{url: '{url}', secret: {SECRET}, repositories: ['team/**'], tags: [v*], timeout: 30s}}]"
    );
    let variables = [
        ("REGISTRY_IMGSYNC_WEBHOOKS", &*list),
        ("REGISTRY_HTTP_DEBUG_ADDR", "127.0.0.1:0"),
        ("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", "true"),
    ];
    Server::start_with(root, &variables)
}

/// Returns the body of a request with a valid signature.
fn verified(request: &Request) -> Value {
    let header = |name: &str| {
        request
            .header(name)
            .unwrap_or_else(|| panic!("{request:?}"))
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let (id, time) = (header("webhook-id"), header("webhook-timestamp"));
    let signed = [format!("{id}.{time}.").as_bytes(), &request.body].concat();
    let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    hmac::verify(&key, &signed, &signature).unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["id"], id);
    body
}

fn names(receiver: &EventReceiver) -> Vec<String> {
    let bodies = receiver.accepted().iter().map(verified).collect::<Vec<_>>();
    let name = |body: &Value| {
        let text = |key: &str| body[key].as_str().unwrap().to_owned();
        format!("{}:{}", text("repository"), text("tag"))
    };
    bodies.iter().map(name).collect()
}

#[tokio::test]
async fn the_newest_push_of_each_tag_arrives_with_a_signature() {
    let root = tempfile::tempdir().unwrap();
    let stopped = EventReceiver::start();
    let url = stopped.url();
    let stopped = stopped.stop();
    let mut server = start(root.path(), &url);
    for (repository, tag, word) in [
        ("team/app", "v1", "one"),
        ("team/app", "v1", "two"),
        ("team/app", "latest", "two"),
        ("other", "v1", "two"),
        ("team/web", "v1", "one"),
        ("team/app", "v1", "three"),
    ] {
        server.push_image(repository, tag, word).await;
    }
    server.kill_and_restart();
    let receiver = stopped.start(|_, _| status(204));
    wait_until(|| match names(&receiver) {
        names if names.len() >= 2 => Ok(()),
        names => Err(format!("{names:?}")),
    });
    let last = server.push_image("team/app", "v2", "three").await;
    wait_until(|| match names(&receiver) {
        names if names.len() >= 3 => Ok(()),
        names => Err(format!("{names:?}")),
    });
    assert_eq!(
        names(&receiver),
        ["team/web:v1", "team/app:v1", "team/app:v2"]
    );
    let bodies: Vec<_> = receiver.accepted().iter().map(verified).collect();
    let digest = Digest::of(&last).to_string();
    assert_eq!(bodies[1]["digest"], digest.as_str());
    assert_eq!(bodies[2]["action"], "push");
}

#[tokio::test]
async fn a_rejected_webhook_is_given_up_logged_and_not_lost() {
    let root = tempfile::tempdir().unwrap();
    let receiver = EventReceiver::start_with(|_, request| {
        let text = String::from_utf8_lossy(&request.body);
        status(if text.contains("team/bad") { 404 } else { 200 })
    });
    let server = start(root.path(), &receiver.url());
    server.push_image("team/bad", "v1", "one").await;
    server.push_image("team/good", "v1", "one").await;
    wait_until(|| match names(&receiver) {
        names if names == ["team/good:v1"] => Ok(()),
        names => Err(format!("{names:?}")),
    });
    let log = server.wait_for_log("rejects a request, which is not repeated");
    assert!(!log.contains(SECRET), "{log}");
    let (_, url) = log.split_once("metrics at ").unwrap();
    let url = url.split_whitespace().next().unwrap();
    let metrics = client().get(url).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for (name, count) in [("rejected", 1), ("lost", 0)] {
        let series =
            format!("imgsync_notifications_{name}_total{{to=\"webhook 1 (127.0.0.1)\"}} {count}\n");
        assert!(metrics.contains(&series), "{metrics}");
    }
}

#[tokio::test]
async fn secrets_are_checked_at_the_start_and_not_printed() {
    let config = "version: 0.1\nstorage: {filesystem: {rootdirectory: '{folder}/data'}}\n\
                  http: {addr: '127.0.0.1:0'}\nimgsync: {webhooks: [{url: 'http://127.0.0.1:9', \
                  secretfile: '{folder}/secret', repositories: [a]}]}\n";
    let setup = Setup::new(config);
    let output = setup.run(&["serve"]);
    assert!(
        stderr(&output).contains("cannot read the secret of webhook 1"),
        "{output:?}"
    );
    std::fs::write(setup.path("secret"), "short\n").unwrap();
    let output = setup.run(&["config"]);
    assert!(
        stderr(&output).contains("has fewer than 16 characters"),
        "{output:?}"
    );
    assert!(!stdout(&output).contains("short") && !stderr(&output).contains("short\n"));
    std::fs::write(setup.path("secret"), format!("{SECRET}\n")).unwrap();
    let output = setup.run(&["config"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!stdout(&output).contains(SECRET));
}
