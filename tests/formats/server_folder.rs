//! A server's folder stays as it was: tests/frozen/server is what an older server wrote, and today's
//! serves it, goes on with its uploads and downloads, and knows what of it was fetched.

use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::bytes::{digest, noise};
use crate::support::http::{self, Response};
use crate::support::recorded::{
    Recorded, SOURCE, caching, files, frozen, get, htpasswd, named, serve, sessions,
};
use crate::support::run::wait_until;
use crate::support::store::blob_path;
use crate::support::{Server, check, seed};

#[test]
fn what_was_pushed_is_served_and_what_was_derived_is_known() {
    let recorded = Recorded::open();
    let server = recorded.server("");
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
    // Known at once: nothing is computed anew.
    let asked = json!({"config": base.config, "diffIDs": base.diff_ids}).to_string();
    let target = "/v2/team/base/_imgsync/layers/resolve";
    let known = http::send(server.address(), "POST", target, &[], asked.as_bytes()).json();
    for (layer, (blob, size)) in known["layers"]
        .as_array()
        .unwrap()
        .iter()
        .zip(&base.blobs[1..])
    {
        assert_eq!(layer["state"], "held", "{known}");
        assert_eq!(layer["blob"]["digest"], *blob);
        assert_eq!(layer["blob"]["size"], *size);
    }
    assert_eq!(known["manifests"][0]["digest"], base.manifest);
    assert!(!server.log().contains("WARN"), "{}", server.log());
}

#[test]
fn open_uploads_go_on_where_they_were_durable() {
    let recorded = Recorded::open();
    let (folder, location) = sessions(&recorded, "team/begun");
    let held = std::fs::read(folder.join("data")).unwrap();
    assert!(
        held.len() > 1000,
        "the recorded server was killed with more than was durable"
    );
    let server = recorded.server("");
    let asked = http::send(server.address(), "GET", &location, &[], b"");
    assert_eq!(asked.header("imgsync-upload-offset"), Some("1000"));
    let more = noise(5, 500);
    let range = [("Content-Range", "1000-1499")];
    let patched = http::send(server.address(), "PATCH", &location, &range, &more);
    assert_eq!(patched.status, 202, "{}", patched.text());
    let whole = [&held[..1000], &more].concat();
    let finish = format!("{location}?digest={}", digest(&whole));
    let done = http::send(server.address(), "PUT", &finish, &[], b"");
    assert_eq!(done.status, 201, "{}", done.text());
    let blob = format!("/v2/team/begun/blobs/{}", digest(&whole));
    assert!(get(&server, &blob).body == whole);
}

#[test]
fn a_users_upload_is_still_theirs() {
    let recorded = Recorded::open();
    let users = htpasswd(&recorded.scratch, &["alice", "bob"]);
    let server = recorded.server(&format!(
        "auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\n"
    ));
    let (_, location) = sessions(&recorded, "team/owned");
    let ask = |login: &str| {
        let header = [("Authorization", login)];
        http::send(server.address(), "GET", &location, &header, b"")
    };
    // alice:secret, bob:secret
    let alice = ask("Basic YWxpY2U6c2VjcmV0");
    assert_eq!(alice.header("imgsync-upload-offset"), Some("700"));
    let bob = ask("Basic Ym9iOnNlY3JldA==");
    assert!((400..500).contains(&bob.status), "{}", bob.status);
}

/// The blob of the only layer of an image of the recording's upstream.
fn layer_of(server: &Server, repository: &str) -> (String, Response) {
    let manifest = get(server, &format!("/v2/up.example/{repository}/manifests/v1"));
    let layer = manifest.json()["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    (layer, manifest)
}

#[test]
fn what_was_cached_is_served_and_evicted_and_what_was_pushed_is_not() {
    let recorded = Recorded::open();
    // Nobody is behind it any more: what is here is served, with a word on that.
    let mut server = recorded.server(&caching(""));
    let (layer, manifest) = layer_of(&server, "lib/cached");
    assert!(
        manifest
            .header("warning")
            .is_some_and(|value| value.starts_with("110"))
    );
    get(&server, &format!("/v2/up.example/lib/cached/blobs/{layer}"));
    server.stop();
    drop(server);

    // Long enough ago to make room.
    let marks = files(&recorded.root().join("imgsync/cache/repositories"));
    for mark in named(&marks, "/_marks/") {
        let file = std::fs::File::options().append(true).open(mark).unwrap();
        let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
        file.set_modified(then).unwrap();
    }
    let server = recorded.server(&caching(", maxbytes: 1"));
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
fn a_blob_that_came_in_part_is_fetched_from_there() {
    let recorded = Recorded::open();
    let blobs: Vec<_> = files(&frozen("upstream"))
        .into_iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    let upstream = serve(&recorded.scratch, SOURCE, &recorded.scratch.path("up"), "");
    for repository in ["lib/stopped", "lib/killed"] {
        let place = seed::RemoteRepository {
            address: upstream.address(),
            repository,
        };
        blobs.iter().for_each(|blob| drop(place.push_blob(blob)));
    }
    // Long fresh: the upstream of today has no manifests.
    let server = recorded.server(&caching(", freshness: 876000h"));
    let metrics = debug_address(&server);
    let fetched = || {
        let text = http::get(metrics.parse().unwrap(), "/metrics").text();
        let line = text
            .lines()
            .find(|line| line.starts_with("imgsync_upstream_bytes_total"))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // The server that was killed had not made durable what it held.
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
