//! Tests that the current server uses the storage folder of an older server (`tests/frozen/server`):
//! it serves the content, resumes uploads and downloads, and evicts only cached images.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::bytes::{digest, noise};
use crate::support::http::{self, Response};
use crate::support::recorded::{
    RecordedFolders, SOURCE, cache_config, files, frozen_path, get, paths_containing, start_server,
    upload_session, write_htpasswd,
};
use crate::support::run::wait_until;
use crate::support::store::blob_path;
use crate::support::{Server, check, seed};

#[test]
fn pushed_content_is_served_and_derived_data_is_used() {
    let recorded = RecordedFolders::copy();
    let server = recorded.start_server("");
    let base = check::at_registry(server.address(), "team/base:v1");
    for tag in ["v1", "v2", "theirs"] {
        check::at_registry(server.address(), &format!("copy/tool:{tag}"));
    }
    let referrers = get(
        &server,
        &format!("/v2/team/base/referrers/{}", base.manifest),
    )
    .json();
    let referrers = referrers["manifests"].as_array().unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(
        referrers[0]["artifactType"],
        "application/vnd.example.signature"
    );
    // The diffIDs come from the recorded data, not from a new computation.
    let request = json!({"config": base.config, "diffIDs": base.diff_ids}).to_string();
    let target = "/v2/team/base/_imgsync/layers/resolve";
    let resolved = http::send(server.address(), "POST", target, &[], request.as_bytes()).json();
    for (layer, (blob, size)) in resolved["layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&base.blobs[1..])
    {
        assert_eq!(layer["state"], "held", "{resolved}");
        assert_eq!(layer["blob"]["digest"], *blob);
        assert_eq!(layer["blob"]["size"], *size);
    }
    assert_eq!(resolved["manifests"][0]["digest"], base.manifest);
    assert!(!server.log().contains("WARN"), "{}", server.log());
}

#[test]
fn open_sessions_resume_at_the_durable_offset() {
    let recorded = RecordedFolders::copy();
    let (folder, location) = upload_session(&recorded, "team/begun");
    let data = std::fs::read(folder.join("data")).unwrap();
    assert!(
        data.len() > 1000,
        "the recorded server was killed with more than was durable"
    );
    let server = recorded.start_server("");
    let session = http::send(server.address(), "GET", &location, &[], b"");
    assert_eq!(session.header("imgsync-upload-offset"), Some("1000"));
    let more = noise(5, 500);
    let range = [("Content-Range", "1000-1499")];
    let patched = http::send(server.address(), "PATCH", &location, &range, &more);
    assert_eq!(patched.status, 202, "{}", patched.text());
    let whole = [&data[..1000], &more].concat();
    let completing = format!("{location}?digest={}", digest(&whole));
    let completed = http::send(server.address(), "PUT", &completing, &[], b"");
    assert_eq!(completed.status, 201, "{}", completed.text());
    let blob = format!("/v2/team/begun/blobs/{}", digest(&whole));
    assert!(get(&server, &blob).body == whole);
}

#[test]
fn a_session_still_belongs_to_its_user() {
    let recorded = RecordedFolders::copy();
    let users = write_htpasswd(&recorded.scratch, &["alice", "bob"]);
    let server = recorded.start_server(&format!(
        "auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n"
    ));
    let (_, location) = upload_session(&recorded, "team/owned");
    let get_session = |login: &str| {
        let header = [("Authorization", login)];
        http::send(server.address(), "GET", &location, &header, b"")
    };
    // The logins are alice:secret and bob:secret.
    let alice = get_session("Basic YWxpY2U6c2VjcmV0");
    assert_eq!(alice.header("imgsync-upload-offset"), Some("700"));
    let bob = get_session("Basic Ym9iOnNlY3JldA==");
    assert!((400..500).contains(&bob.status), "{}", bob.status);
}

/// Returns the digest of the only layer of a recorded cached image, and its manifest.
fn layer_of(server: &Server, repository: &str) -> (String, Response) {
    let manifest = get(server, &format!("/v2/up.example/{repository}/manifests/v1"));
    let layer = manifest.json()["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    (layer, manifest)
}

#[test]
fn cached_images_are_served_and_evicted_and_pushed_images_are_kept() {
    let recorded = RecordedFolders::copy();
    // The upstream is down, so the server sends the cached answer with a `Warning` header.
    let mut server = recorded.start_server(&cache_config(""));
    let (layer, manifest) = layer_of(&server, "lib/cached");
    assert!(
        manifest
            .header("warning")
            .is_some_and(|value| value.starts_with("110"))
    );
    get(&server, &format!("/v2/up.example/lib/cached/blobs/{layer}"));
    server.stop();
    drop(server);

    // Recently used images are not evicted, so make the marks two days old.
    let marks = files(&recorded.root().join("imgsync/cache/repositories"));
    for mark in paths_containing(&marks, "/_marks/") {
        let file = std::fs::File::options().append(true).open(mark).unwrap();
        let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        file.set_modified(two_days_ago).unwrap();
    }
    let server = recorded.start_server(&cache_config(", maxbytes: 1"));
    let data = blob_path(&recorded.root(), &layer);
    wait_until("the cached image is evicted", || {
        (!data.exists()).then_some(())
    });
    wait_until("the cached tag is evicted", || {
        let target = "/v2/up.example/lib/cached/manifests/v1";
        (http::get(server.address(), target).status >= 500).then_some(())
    });
    for name in ["team/base:v1", "copy/tool:v1", "copy/tool:theirs"] {
        check::at_registry(server.address(), name);
    }
}

#[test]
fn a_partly_downloaded_blob_is_resumed() {
    let recorded = RecordedFolders::copy();
    let blobs: Vec<_> = files(&frozen_path("upstream"))
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let upstream = start_server(&recorded.scratch, SOURCE, &recorded.scratch.path("up"), "");
    for repository in ["lib/stopped", "lib/killed"] {
        let upstream_repository = seed::RemoteRepository {
            address: upstream.address(),
            repository,
        };
        blobs
            .iter()
            .for_each(|blob| drop(upstream_repository.push_blob(blob)));
    }
    // A long freshness, because the upstream of this test has no manifests.
    let server = recorded.start_server(&cache_config(", freshness: 876000h"));
    let metrics = debug_address(&server);
    let fetched = || {
        let text = http::get(metrics.parse().unwrap(), "/metrics").text();
        let line = text
            .lines()
            .find(|line| line.starts_with("imgsync_upstream_bytes_total"))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // The killed server had not synced its bytes to the disk.
    for (repository, durable) in [("lib/stopped", 1000), ("lib/killed", 0)] {
        let (layer, _) = layer_of(&server, repository);
        let blob = blobs.iter().find(|blob| digest(blob) == layer).unwrap();
        let before = fetched();
        let pulled = get(
            &server,
            &format!("/v2/up.example/{repository}/blobs/{layer}"),
        );
        assert!(pulled.body == *blob, "{repository}");
        let size = blob.len() as u64;
        assert_eq!(fetched() - before, size - durable, "{repository}");
    }
}

fn debug_address(server: &Server) -> String {
    let log = server.log();
    let (_, rest) = log.split_once("health check at http://").unwrap();
    rest.split('/').next().unwrap().to_owned()
}
