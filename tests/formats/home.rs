//! Tests that the current tool reads the cache and state of an older tool (`tests/frozen/home`): it
//! resumes pushes, uses cached knowledge, and prunes a mirror.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::archive::write_tar;
use crate::support::bytes::{digest, noise};
use crate::support::fake::{FakeServer, Request, status};
use crate::support::http;
use crate::support::recorded::{
    LIMITED, REGISTRY, RecordedFolders, SOURCE, STREAM, files, frozen_path, get, listen,
    paths_containing, start_server, upload_session,
};
use crate::support::run::Outcome;
use crate::support::store::blob_path;
use crate::support::{Image, check, image, seed};

fn events(outcome: &Outcome) -> Vec<Value> {
    let lines = outcome.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {events:?}"))
}

/// Starts a fake daemon that describes an image and refuses to export it.
fn start_daemon(image: &str) -> FakeServer {
    let inspected = std::fs::read(frozen_path(&format!("images/{image}.inspect.json"))).unwrap();
    FakeServer::start(move |request| {
        let line = request.line();
        if line.ends_with("/info") {
            status(200).body("{}")
        } else if line.ends_with("/json") {
            status(200).body(inspected.clone())
        } else {
            status(404)
        }
    })
}

/// Both pushes were interrupted in a layer: `app` from a classic image store, `late` from
/// containerd's.
#[test]
fn interrupted_pushes_resume_without_an_export_and_without_sending_again() {
    let recorded = RecordedFolders::copy();
    let server = recorded.start_server("");
    let spool = recorded.cache().join("spool");
    assert_eq!(paths_containing(&files(&spool), "/.draft-").len(), 1);
    for name in ["app", "late"] {
        let (_, location) = upload_session(&recorded, &format!("team/{name}"));
        let session = http::send(server.address(), "GET", &location, &[], b"");
        assert_eq!(session.header("imgsync-upload-offset"), Some("3072"));
        let daemon = start_daemon(name);
        let remote = format!("{REGISTRY}/team/{name}:v1");
        let arguments = ["push", "--json", &format!("{name}:v1"), &remote];
        let pushed = recorded.run_tool(&[("DOCKER_HOST", &daemon.address())], &arguments);
        let pushed = pushed.succeeded();
        let exports = daemon
            .lines()
            .iter()
            .filter(|line| line.ends_with("/get"))
            .count();
        assert_eq!(exports, 0, "{pushed}");
        let events = events(&pushed);
        let found = check::at_registry(server.address(), &format!("team/{name}:v1"));
        let (layer, size) = found.blobs.last().unwrap();
        let (_, config) = found.blobs[0];
        // The push sends the rest of the layer and the config.
        let sent = event(&events, "outcome")["sent"].as_u64().unwrap();
        assert_eq!(sent, size - 3072 + config, "{layer}: {pushed}");
        if name == "app" {
            let layers = event(&events, "plan")["layers"].as_array().unwrap();
            assert_eq!(
                layers.last().unwrap()["kept"],
                true,
                "packed anew: {pushed}"
            );
        }
    }
    assert_eq!(
        files(&spool),
        Vec::<PathBuf>::new(),
        "left over in the spool"
    );
    let left = files(&recorded.cache().join("uploads"));
    let open = left
        .iter()
        .filter(|path| path.metadata().unwrap().len() > 0);
    assert_eq!(open.count(), 0, "sessions that are finished: {left:?}");
}

/// Starts a registry without the extension that accepts every mount and every upload. Mounted blobs
/// come from the recording.
fn start_plain_registry(address: &str, recorded: &RecordedFolders) -> FakeServer {
    let (root, mounted) = (recorded.root(), Mutex::new(Vec::new()));
    FakeServer::start_at(listen(address), move |request: &Request| {
        let mut mounted = mounted.lock().unwrap();
        let path = request.target.split('?').next().unwrap();
        let name = path.rsplit('/').next().unwrap().to_owned();
        let is_upload = path.contains("/blobs/uploads/");
        match (&*request.method, request.query("mount").pop()) {
            ("HEAD", _) if mounted.contains(&name) => {
                let size = blob_path(&root, &name).metadata().unwrap().len();
                status(200).header("Content-Length", size.to_string())
            }
            ("GET", _) if mounted.contains(&name) => {
                status(200).body(std::fs::read(blob_path(&root, &name)).unwrap())
            }
            ("POST", Some(blob)) => {
                mounted.push(blob);
                status(201).header("Location", "/linked")
            }
            ("POST", None) if is_upload => status(202).header("Location", format!("{path}session")),
            ("PATCH", _) => status(202).header("Location", path),
            ("PUT", _) => status(201)
                .header("Location", "/there")
                .header("Docker-Content-Digest", digest(&request.body)),
            _ => status(404),
        }
    })
}

/// Without the extension, only the cache knows which blobs the layers are and where they are
/// stored. The older tool did not sign the entries, so the blobs are verified.
#[test]
fn cached_digests_and_locations_save_compressing_and_uploading() {
    let recorded = RecordedFolders::copy();
    let server = recorded.start_server("");
    let base = check::at_registry(server.address(), "team/base:v1");
    drop(server);
    let registry = start_plain_registry(REGISTRY, &recorded);
    let archive = frozen_path("images/base.tar");
    let remote = format!("{REGISTRY}/other/base:v1");
    let arguments = ["push", "--json", archive.to_str().unwrap(), &remote];
    let pushed = recorded.run_tool(&[], &arguments).succeeded();
    let events = events(&pushed);
    let requests = registry.requests();
    let mounted: Vec<_> = requests
        .iter()
        .filter(|request| {
            request
                .query("from")
                .iter()
                .any(|from| from.starts_with("team/"))
        })
        .flat_map(|request| request.query("mount"))
        .collect();
    for (blob, _) in &base.blobs[1..] {
        assert!(mounted.contains(blob), "{blob} is not mounted: {pushed}");
    }
    let plan = event(&events, "plan");
    assert_eq!(plan["read"], 0, "read and packed anew: {pushed}");
    let layers = plan["layers"].as_array().unwrap();
    for layer in layers {
        assert_eq!(layer["why"], "downloaded and verified", "{pushed}");
    }
}

fn archive_of(recorded: &RecordedFolders, size: usize) -> String {
    let image = Image::new(vec![image::layer("file", noise(7, size))]);
    let path = recorded.scratch.path("archive.tar");
    write_tar(&image.docker_archive("app:v1"), &path);
    path.to_str().unwrap().to_owned()
}

fn chunks(registry: &FakeServer) -> Vec<Request> {
    let requests = registry.requests().into_iter();
    requests
        .filter(|request| request.method == "PATCH")
        .collect()
}

#[test]
fn cached_limits_of_registries_are_used() {
    let recorded = RecordedFolders::copy();
    let archive = archive_of(&recorded, 200_000);
    let push = |address: &str| {
        let registry = start_plain_registry(address, &recorded);
        let remote = format!("{address}/team/app:v1");
        recorded
            .run_tool(&[], &["push", &archive, &remote])
            .succeeded();
        chunks(&registry)
    };
    // The tool does not probe again: no request is refused.
    let streamed = push(STREAM);
    assert!(
        streamed
            .iter()
            .all(|chunk| chunk.header("content-range").is_none())
    );
    assert!(streamed.iter().any(|chunk| chunk.body.len() > 65_536));
    let limited = push(LIMITED);
    assert!(
        limited
            .iter()
            .all(|chunk| chunk.header("content-range").is_some())
    );
    let largest = limited.iter().map(|chunk| chunk.body.len()).max();
    assert_eq!(largest, Some(65_536));
}

#[test]
fn a_mirror_prunes_only_the_tags_that_it_copied() {
    let recorded = RecordedFolders::copy();
    let target = recorded.start_server("");
    let source = start_server(
        &recorded.scratch,
        SOURCE,
        &recorded.scratch.path("source"),
        "",
    );
    let repository = seed::RemoteRepository {
        address: source.address(),
        repository: "lib/tool",
    };
    repository.push_image(
        Some("v9"),
        &Image::new(vec![image::layer("file", noise(9, 300))]),
    );
    let tags = || {
        let tags = get(&target, "/v2/copy/tool/tags/list").json();
        let tags = tags["tags"].as_array().unwrap().iter();
        let tags = tags.map(|tag| tag.as_str().unwrap().to_owned());
        tags.collect::<Vec<_>>()
    };
    let before = tags();
    assert_eq!(before.len(), 4, "{before:?}");
    let (from, to) = (
        format!("{SOURCE}/lib/tool"),
        format!("{REGISTRY}/copy/tool"),
    );
    let mirrored = recorded.run_tool(&[], &["mirror", "--prune", &from, &to]);
    mirrored.succeeded();
    // The signature is pruned with its image.
    assert_eq!(tags(), ["theirs", "v9"]);
}
