//! Tests of retention, through the programs.

use std::time::{Duration, SystemTime};

use crate::support::launch::{Running, Setup, stderr, stdout};
use crate::support::prelude::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

const CONFIG: &str = "\
version: 0.1
storage: {filesystem: {rootdirectory: '{folder}/registry'}}
http: {addr: '127.0.0.1:0'}
imgsync:
  gc: {grace: 0s}
  retention:
  - {repositories: 'ci/**', keeppushed: 72h, keeppulled: 72h, keeptags: [v*]}
";

/// Pushes an image as if that had been ten days ago.
async fn push_old_image(running: &Running, repository: &str, tag: &str) {
    let config = format!("{{\"image\":\"{repository}:{tag}\"}}").into_bytes();
    let url = |path: &str| format!("{}/v2/{repository}/{path}", running.url);
    let upload = url(&format!("blobs/uploads/?digest={}", Digest::of(&config)));
    let manifest = manifest(&config, &[]);
    let pushed = client().post(upload).body(config).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::CREATED);
    let put = client().put(url(&format!("manifests/{tag}")));
    let put = put.header("Content-Type", "application/vnd.oci.image.manifest.v1+json");
    let pushed = put.body(manifest).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::CREATED);
    let repositories = running
        .setup()
        .path("registry/docker/registry/v2/repositories");
    let tags = repositories.join(repository).join("_manifests/tags");
    let link = std::fs::File::options()
        .write(true)
        .open(tags.join(tag).join("current/link"));
    link.unwrap()
        .set_modified(SystemTime::now() - 10 * DAY)
        .unwrap();
}

async fn tags(running: &Running, repository: &str) -> Vec<String> {
    let url = format!("{}/v2/{repository}/tags/list", running.url);
    let list: serde_json::Value = client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let tags = list["tags"].as_array().cloned().unwrap_or_default();
    tags.iter()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn new_rules_are_reported_first_and_removed_tags_can_be_restored() {
    let running = Setup::new(CONFIG).serve();
    for tag in ["old", "pulled", "v1"] {
        push_old_image(&running, "ci/app", tag).await;
    }
    push_old_image(&running, "app", "old").await;
    let pull = format!("{}/v2/ci/app/manifests/pulled", running.url);
    assert_eq!(client().get(pull).send().await.unwrap().status(), 200);
    let run = |arguments: &[&str]| running.setup().run(arguments);

    for arguments in [&["retention", "--dry-run"][..], &["retention"]] {
        let output = run(arguments);
        assert_eq!(
            stdout(&output),
            "would remove ci/app:old: pushed 10d ago, no pull known\n"
        );
        let details = stderr(&output);
        for line in [
            "keep ci/app:pulled: pulled within the last 3d (keeppulled)",
            "keep ci/app:v1: the name matches v* (keeptags)",
        ] {
            assert!(details.contains(line), "{details}");
        }
        assert_eq!(tags(&running, "ci/app").await, ["old", "pulled", "v1"]);
    }
    let output = run(&["retention"]);
    let removed = stdout(&output);
    assert!(removed.starts_with("removed ci/app:old: "), "{removed}");
    assert_eq!(tags(&running, "ci/app").await, ["pulled", "v1"]);
    assert_eq!(tags(&running, "app").await, ["old"]);
    let config = running.setup().path("config.yml");
    let undelete = [
        "undelete",
        "ci/app:old",
        "--config",
        config.to_str().unwrap(),
    ];
    let output = running.setup().program(&undelete).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(tags(&running, "ci/app").await, ["old", "pulled", "v1"]);
}

#[tokio::test]
async fn pulls_are_known_after_a_stop_and_the_command_works_alone() {
    let mut running = Setup::new(CONFIG).serve();
    for tag in ["old", "pulled"] {
        push_old_image(&running, "ci/app", tag).await;
    }
    let pull = format!("{}/v2/ci/app/manifests/pulled", running.url);
    assert_eq!(client().head(pull).send().await.unwrap().status(), 200);
    running.stop();
    let output = running.setup().run(&["retention", "--dry-run"]);
    let removed = stdout(&output);
    assert!(
        removed.starts_with("would remove ci/app:old: "),
        "{removed}"
    );
    assert_eq!(removed.lines().count(), 1, "{removed}");
}

#[tokio::test]
async fn a_running_server_reports_new_rules_and_then_applies_them() {
    // Without a grace period, a collection during the push would remove its config.
    let mut before = Setup::new(CONFIG).serve();
    push_old_image(&before, "ci/app", "old").await;
    before.stop();
    let root = before.setup().path("registry");
    let config = CONFIG.replace("{folder}/registry", root.to_str().unwrap());
    let running = Setup::new(&config)
        .with("REGISTRY_IMGSYNC_GC_INTERVAL", "300ms")
        .serve();
    running.wait_for_log("imgsync.retention is new").await;
    running.wait_for_log("retention removed a tag").await;
    assert_eq!(tags(&running, "ci/app").await, [""; 0]);
}
