//! A user's folders stay as they were: tests/frozen/home is what an older tool wrote, and today's
//! goes on with its pushes, uses what it knew, and prunes what its mirror brought.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::archive::write_tar;
use crate::support::bytes::{digest, noise};
use crate::support::fake::{FakeServer, Request, status};
use crate::support::http;
use crate::support::recorded::{
    LIMITED, REGISTRY, Recorded, SOURCE, STREAM, files, frozen, get, listener, named, serve,
    sessions,
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

/// A daemon that says what it has, and exports nothing.
fn daemon(image: &str) -> FakeServer {
    let inspected = std::fs::read(frozen(&format!("images/{image}.inspect.json"))).unwrap();
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

/// `app` was pushed from a classic store, `late` from containerd's; both broke off in a layer.
#[test]
fn interrupted_pushes_go_on_without_an_export_and_without_what_was_sent() {
    let recorded = Recorded::open();
    let server = recorded.server("");
    let spool = recorded.cache().join("spool");
    assert_eq!(named(&files(&spool), "/.draft-").len(), 1);
    for name in ["app", "late"] {
        let (_, location) = sessions(&recorded, &format!("team/{name}"));
        let asked = http::send(server.address(), "GET", &location, &[], b"");
        assert_eq!(asked.header("imgsync-upload-offset"), Some("3072"));
        let daemon = daemon(name);
        let remote = format!("{REGISTRY}/team/{name}:v1");
        let arguments = ["push", "--json", &format!("{name}:v1"), &remote];
        let pushed = recorded.run(&[("DOCKER_HOST", &daemon.address())], &arguments);
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
        // The rest of the layer, and the config.
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

/// A registry without the extension that links what it is asked to and takes whatever else comes.
/// Linked are blobs of the recording, whose sizes it knows from there.
fn plain_registry(address: &str, recorded: &Recorded) -> FakeServer {
    let (root, linked) = (recorded.root(), Mutex::new(Vec::new()));
    FakeServer::start_at(listener(address), move |request: &Request| {
        let mut linked = linked.lock().unwrap();
        let path = request.target.split('?').next().unwrap();
        let name = path.rsplit('/').next().unwrap().to_owned();
        let is_upload = path.contains("/blobs/uploads/");
        match (&*request.method, request.query("mount").pop()) {
            ("HEAD", _) if linked.contains(&name) => {
                let size = blob_path(&root, &name).metadata().unwrap().len();
                status(200).header("Content-Length", size.to_string())
            }
            ("POST", Some(blob)) => {
                linked.push(blob);
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

/// Without the extension only the home can tell which blobs the layers are, and where they are.
#[test]
fn known_layers_and_their_places_save_packing_and_sending() {
    let recorded = Recorded::open();
    let server = recorded.server("");
    let base = check::at_registry(server.address(), "team/base:v1");
    drop(server);
    let registry = plain_registry(REGISTRY, &recorded);
    let archive = frozen("images/base.tar");
    let remote = format!("{REGISTRY}/other/base:v1");
    let arguments = ["push", "--json", archive.to_str().unwrap(), &remote];
    let pushed = recorded.run(&[], &arguments).succeeded();
    let events = events(&pushed);
    let requests = registry.requests();
    let linked: Vec<_> = requests
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
        assert!(linked.contains(blob), "{blob} is not linked: {pushed}");
    }
    let read = event(&events, "plan")["read"].as_u64();
    assert_eq!(read, Some(0), "read and packed anew: {pushed}");
}

fn archive_of(recorded: &Recorded, size: usize) -> String {
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
fn what_registries_were_found_to_take_counts() {
    let recorded = Recorded::open();
    let archive = archive_of(&recorded, 200_000);
    let push = |address: &str| {
        let registry = plain_registry(address, &recorded);
        let remote = format!("{address}/team/app:v1");
        recorded.run(&[], &["push", &archive, &remote]).succeeded();
        chunks(&registry)
    };
    // Neither is found out again, which would take a refusal.
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
fn a_mirror_prunes_what_it_brought_and_nothing_else() {
    let recorded = Recorded::open();
    let target = recorded.server("");
    let source = serve(
        &recorded.scratch,
        SOURCE,
        &recorded.scratch.path("source"),
        "",
    );
    let place = seed::RemoteRepository {
        address: source.address(),
        repository: "lib/tool",
    };
    place.push_image(
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
    let mirrored = recorded.run(&[], &["mirror", "--prune", &from, &to]);
    mirrored.succeeded();
    // The signature went with its image.
    assert_eq!(tags(), ["theirs", "v9"]);
}
