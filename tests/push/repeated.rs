//! Tests repeated pushes: the requests show that blobs which the registry has are not sent.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use crate::support::kills::kill_client;
use crate::support::older_server::wait_for_diff_ids;
use crate::support::prelude::*;
use crate::support::request_parser::ObservedRequest;
use crate::support::{Trigger, store};

struct RepeatFixture {
    server: Server,
    imgsync: Imgsync,
    /// Dropped last: the server must have stopped before its folder is deleted.
    scratch: Scratch,
}

impl RepeatFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    /// Pushes and returns all requests and stdout.
    fn push(&self, image: &str, name: &str) -> (Vec<ObservedRequest>, String) {
        let relay = Relay::start(self.server.address(), RelayFault::None);
        let remote = format!("{}/{name}", relay.address());
        let outcome = self.imgsync.push(image, &remote).succeeded();
        (relay.requests(), outcome.stdout)
    }

    fn blobs(&self, name: &str) -> BTreeSet<(String, u64)> {
        check::at_registry(self.server.address(), name)
            .blobs
            .into_iter()
            .collect()
    }

    /// Panics if pushing the same image again sends a blob: to the same tag, to another tag, and
    /// without a cache.
    fn assert_nothing_sent(&self, image: &str) {
        let before = check::at_registry(self.server.address(), "app:v1");
        for (name, forget) in [("app:v1", false), ("app:more", false), ("app:v1", true)] {
            if forget {
                self.imgsync.clear_cache();
            }
            let (requests, stdout) = self.push(image, name);
            assert_no_blob(&requests);
            assert!(stdout.contains(": sent 0 B, saved "), "{stdout}");
            // Few requests, not one for each layer and attempt.
            assert!(requests.len() <= 12, "{}", describe(&requests));
            assert_eq!(check::at_registry(self.server.address(), name), before);
        }
    }

    /// Pushes a changed version. Panics unless it sends exactly the new blobs, each once, and one
    /// manifest.
    fn assert_only_new_sent(&self, image: &str, forget: bool) {
        let before = self.blobs("app:v1");
        if forget {
            self.imgsync.clear_cache();
        }
        let (requests, _) = self.push(image, "app:v2");
        let after = self.blobs("app:v2");
        let new: Vec<_> = after.difference(&before).cloned().collect();
        assert_eq!(new.len(), 2, "the last layer and the config: {new:?}");

        let finished: Vec<_> = requests
            .iter()
            .filter_map(ObservedRequest::completed_digest)
            .collect();
        let named: BTreeSet<_> = finished.iter().cloned().collect();
        assert_eq!(
            named,
            new.iter().map(|(digest, _)| digest.clone()).collect()
        );
        assert_eq!(finished.len(), 2, "{}", describe(&requests));
        let sent: u64 = requests
            .iter()
            .filter(|r| r.writes_blob())
            .map(|r| r.body)
            .sum();
        let sizes: u64 = new.iter().map(|(_, size)| size).sum();
        assert_eq!(sent, sizes, "{}", describe(&requests));
        let manifests = requests.iter().filter(|request| request.puts_manifest());
        assert_eq!(manifests.count(), 1, "{}", describe(&requests));
    }
}

fn assert_no_blob(requests: &[ObservedRequest]) {
    let wrote = requests.iter().any(ObservedRequest::writes_blob);
    assert!(!wrote, "{}", describe(requests));
}

fn describe(requests: &[ObservedRequest]) -> String {
    let lines: Vec<_> = requests.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Returns two versions of an image that differ only in the last layer.
fn versions() -> [Image; 2] {
    let lower = || (0..3).map(|i| layer("data", bytes::mixed(i, 1_500_000)));
    let last = |seed| layer("app", bytes::mixed(seed, 400_000));
    [8, 9].map(|seed| Image::new(lower().chain([last(seed)]).collect()))
}

/// Writes both versions with the function `write`.
fn write_versions(scratch: &Scratch, write: impl Fn(&Image, PathBuf) -> PathBuf) -> [PathBuf; 2] {
    let [first, second] = versions();
    [(first, "first"), (second, "second")].map(|(image, name)| write(&image, scratch.path(name)))
}

fn as_archive(image: &Image, path: PathBuf) -> PathBuf {
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    path
}

fn as_layout(image: &Image, path: PathBuf) -> PathBuf {
    archive::write_folder(&image.oci_layout("v1"), &path);
    path
}

#[test]
fn an_unchanged_image_from_the_daemon_sends_no_blob() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = RepeatFixture::new();
    let image = DockerImage::build(&unique("again"), "v1");
    fixture.push(image.reference(), "app:v1");
    fixture.assert_nothing_sent(image.reference());
}

#[test]
fn a_changed_image_from_the_daemon_sends_what_is_new() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = RepeatFixture::new();
    let name = unique("changed");
    let first = DockerImage::build(&name, "v1");
    let second = DockerImage::build(&name, "v2");
    fixture.push(first.reference(), "app:v1");
    fixture.assert_only_new_sent(second.reference(), false);
}

#[test]
fn a_changed_image_from_the_daemon_sends_what_is_new_also_without_a_cache() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = RepeatFixture::new();
    let name = unique("forgotten");
    let first = DockerImage::build(&name, "v1");
    let second = DockerImage::build(&name, "v2");
    fixture.push(first.reference(), "app:v1");
    fixture.assert_only_new_sent(second.reference(), true);
}

#[test]
fn an_unchanged_image_from_an_archive_sends_no_blob() {
    for form in [as_archive, as_layout] {
        let fixture = RepeatFixture::new();
        let [first, _] = write_versions(&fixture.scratch, form);
        fixture.push(text(&first), "app:v1");
        fixture.assert_nothing_sent(text(&first));
    }
}

#[test]
fn a_changed_image_from_an_archive_sends_what_is_new() {
    for form in [as_archive, as_layout] {
        for forget in [false, true] {
            let fixture = RepeatFixture::new();
            let [first, second] = write_versions(&fixture.scratch, form);
            fixture.push(text(&first), "app:v1");
            fixture.assert_only_new_sent(text(&second), forget);
        }
    }
}

/// The layers are overwritten with zeros, so a push that reads one fails.
#[test]
fn an_unchanged_image_opens_no_layer() {
    let fixture = RepeatFixture::new();
    let [image, _] = versions();

    let layout = as_layout(&image, fixture.scratch.path("layout"));
    fixture.push(text(&layout), "layout:v1");
    for blob in image.compressed() {
        let path = layout.join(image::blob_name(&blob));
        std::fs::write(path, vec![0; blob.len()]).expect("the blob");
    }
    assert_no_blob(&fixture.push(text(&layout), "layout:v1").0);

    let path = as_archive(&image, fixture.scratch.path("archive"));
    fixture.push(text(&path), "archive:v1");
    let mut entries = image.docker_archive("app:v1");
    for entry in &mut entries {
        if entry.name.ends_with(".tar") {
            entry.bytes.fill(0);
        }
    }
    archive::write_tar(&entries, &path);
    assert_no_blob(&fixture.push(text(&path), "archive:v1").0);
}

/// An unchanged layout of many layers needs a request or two, not one for each layer.
#[test]
fn an_unchanged_layout_needs_few_requests() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = Image::new(
        (0..30)
            .map(|seed| layer("data", noise(seed, 2000)))
            .collect(),
    );
    let folder = as_layout(&image, scratch.path("layout"));
    let stock = StockRegistry::start(&scratch.folder("stock"));
    let own = Server::start(&scratch.folder("root"));
    let push = |address| {
        let relay = Relay::start(address, RelayFault::None);
        let remote = format!("{}/app:v1", relay.address());
        imgsync.push(text(&folder), &remote).succeeded();
        relay.requests()
    };
    for (address, most) in [(stock.address(), 2), (own.address(), 3)] {
        let requests = push(address);
        // Each blob is asked for once, and sent.
        let asked = requests.iter().filter(|request| request.method == "HEAD");
        assert_eq!(asked.count(), 31, "{}", describe(&requests));
        if address == own.address() {
            wait_for_diff_ids(address);
        }
        let requests = push(address);
        assert!(requests.len() <= most, "{}", describe(&requests));
    }
    // Our own server notices that a blob is gone.
    let lost = digest(&image.compressed()[7]);
    std::fs::remove_file(store::blob_path(own.root(), &lost)).expect("the blob");
    let requests = push(own.address());
    let patches = requests.iter().filter(|request| request.method == "PATCH");
    assert_eq!(patches.count(), 1, "{}", describe(&requests));
    let found = check::at_registry(own.address(), "app:v1");
    assert_eq!(found.config, image.id());
}

/// A layer that the tool compresses is asked for once, and not by its digest where the registry knows
/// layers by their diffIDs.
#[test]
fn a_new_layer_is_asked_for_once() {
    let scratch = Scratch::new();
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let image = Image::new(
        (0..3)
            .map(|seed| layer("data", noise(seed, 2000)))
            .collect(),
    );
    let archive = as_archive(&image, scratch.path("app.tar"));
    let stock = StockRegistry::start(&scratch.folder("stock"));
    let own = Server::start(&scratch.folder("root"));
    // The config and the layers. At the second push, the cache has the digests of the layers.
    for (address, count) in [(own.address(), 1), (stock.address(), 4)] {
        let relay = Relay::start(address, RelayFault::None);
        let remote = format!("{}/app:v1", relay.address());
        imgsync.push(text(&archive), &remote).succeeded();
        let requests = relay.requests();
        let is_asked = |request: &&ObservedRequest| {
            request.method == "HEAD" && request.target.contains("/blobs/")
        };
        let asked = requests.iter().filter(is_asked);
        let asked: Vec<_> = asked.map(|request| request.target.clone()).collect();
        assert_eq!(asked.len(), count, "{}", describe(&requests));
        let different: BTreeSet<_> = asked.into_iter().collect();
        assert_eq!(different.len(), count, "{}", describe(&requests));
        assert_eq!(check::at_registry(address, "app:v1").config, image.id());
    }
}

/// What an interrupted push has sent is neither sent again nor saved.
#[test]
fn bytes_of_an_interrupted_push_do_not_count_as_saved() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch.folder("root"));
    let imgsync = Imgsync::new(&scratch.folder("home"));
    let path = scratch.path("image.tar");
    let image = Image::new(vec![layer("data", noise(77, 3_000_000))]);
    archive::write_tar(&image.docker_archive("app:v1"), &path);
    let path = path.to_str().expect("a path in UTF-8");

    let relay = Relay::start(server.address(), RelayFault::None);
    let remote = format!("{}/app:v1", relay.address());
    let push = ["push", "--json", "--chunk-size", "64KiB", path, &remote];
    let mut slow = imgsync.command();
    slow.args(push).args(["--limit-rate", "1MB"]);
    let child = slow.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let child = Arc::new(Mutex::new(child.expect("imgsync starts")));
    let kills = Arc::new(AtomicUsize::new(0));
    relay.run_at(Trigger::BytesSent(1_000_000), kill_client(&child, &kills));
    let _ = wait_until("the end of a push", || {
        child.lock().unwrap().try_wait().expect("the status")
    });

    let dry = ["push", "--dry-run", path, &remote];
    let plan = run(imgsync.command().args(dry)).succeeded();
    let resumed = "of it were sent by an interrupted push";
    assert!(plan.stdout.contains(resumed), "{plan}");
    let again = run(imgsync.command().args(push)).succeeded();
    let outcome = again.stdout.lines().last().expect("an event");
    let outcome: serde_json::Value = serde_json::from_str(outcome).expect("JSON");
    let number = |field: &str| outcome[field].as_u64().expect("a number");
    assert!(number("resumed") > 500_000, "{outcome}");
    assert_eq!(number("saved"), 0, "{outcome}");
    let size = check::at_registry(server.address(), "app:v1").size();
    assert_eq!(number("sent") + number("resumed"), size, "{outcome}");
}
