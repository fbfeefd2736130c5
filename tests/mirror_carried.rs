//! Images carried where no network goes: out of a registry into an archive or a folder, and in to
//! another registry, every digest as it was; readable by others on the way.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::bytes::{digest, noise};
use support::peers::present;
use support::run::{Outcome, must, run, until};
use support::seed::{self, OCI_INDEX, Place};
use support::{
    Cut, Image, Imgsync, Moment, Podman, Relay, Scratch, Server, Shape, Upstream, archive, check,
    http, image, skopeo,
};

const FROM: &str = "team/app";
const TO: &str = "carried/app";
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// What there is at the source.
struct World {
    /// What each tag names, the one of cosign's scheme included.
    tags: BTreeMap<String, String>,
    /// What speaks about `v1` by its subject.
    referrer: String,
    /// The ID of `v1`.
    id: String,
}

fn version(number: u64) -> Image {
    let shared = image::layer("shared", noise(1, 300_000));
    let own = image::layer("own", noise(1000 + number, 200_000));
    Image::new(vec![shared, own])
}

/// Two versions, an index of three platforms, a signature by referrer and one by tag.
fn seeded(address: SocketAddr) -> World {
    let repository = FROM;
    let place = Place {
        address,
        repository,
    };
    let mut tags = BTreeMap::new();
    let first = place.image(Some("v1"), &version(1));
    tags.insert("v1".to_owned(), digest(&first));
    tags.insert(
        "v2".to_owned(),
        digest(&place.image(Some("v2"), &version(2))),
    );
    let parts = [11, 12, 13].map(|number| place.image(None, &version(number)));
    let parts: Vec<_> = PLATFORMS
        .into_iter()
        .zip(parts.iter().map(|it| &**it))
        .collect();
    let index = seed::index(&parts);
    tags.insert(
        "multi".to_owned(),
        place.manifest("multi", OCI_INDEX, &index),
    );
    let signature = format!("{}.sig", digest(&index).replace(':', "-"));
    let signed = place.artifact(Some(&signature), &index, b"a signature by tag");
    tags.insert(signature, digest(&signed));
    let referrer = place.artifact(None, &first, b"a signature by referrer");
    World {
        tags,
        referrer: digest(&referrer),
        id: version(1).id(),
    }
}

/// Panics unless everything is at a registry as it was at the first one.
fn assert_there(world: &World, address: SocketAddr) {
    for (tag, expected) in &world.tags {
        let reply = http::get(address, &format!("/v2/{TO}/manifests/{tag}"));
        assert_eq!(digest(&reply.body), *expected, "{tag}: {}", reply.text());
    }
    for tag in ["v1", "v2", "multi"] {
        let found = check::at_registry(address, &format!("{TO}:{tag}"));
        assert_eq!(found.manifest, world.tags[tag]);
        let parts = if tag == "multi" { PLATFORMS.len() } else { 0 };
        assert_eq!(found.children.len(), parts);
    }
    let first = &world.tags["v1"];
    let list = http::get(address, &format!("/v2/{TO}/referrers/{first}"));
    assert_eq!(list.json()["manifests"][0]["digest"], *world.referrer);
    let referrer = http::get(address, &format!("/v2/{TO}/manifests/{}", world.referrer));
    assert_eq!(digest(&referrer.body), world.referrer);
}

/// Panics unless skopeo takes an image out of a layout or archive, byte by byte.
fn assert_skopeo_reads(place: &str, tag: &str, expected: &str, scratch: &Scratch) {
    let folder = scratch.path(&format!("skopeo-{tag}"));
    skopeo::copy(
        &format!("{place}:{tag}"),
        &format!("dir:{}", folder.display()),
    );
    let manifest = std::fs::read(folder.join("manifest.json")).expect("skopeo's copy");
    assert_eq!(digest(&manifest), expected, "{place}:{tag}");
    std::fs::remove_dir_all(&folder).expect("skopeo's copy");
}

struct Stage {
    imgsync: Imgsync,
    scratch: Scratch,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn command(&self, source: &str, target: &str) -> Command {
        let mut command = self.imgsync.command();
        command.args(["mirror", source, target]);
        command
    }

    fn mirror(&self, source: &str, target: &str) -> Outcome {
        run(&mut self.command(source, target))
    }

    /// Out of one registry, which then ends, into `place`; in to another registry.
    fn carried(&self, place: &str) -> World {
        let mut source = Server::start(&self.scratch.folder("source"));
        let world = seeded(source.address());
        let from = format!("{}/{FROM}", source.address());
        self.mirror(&from, place).succeeded();

        // Again: nothing is read, and nothing changes.
        let relay = Relay::start(source.address(), Cut::Never);
        let from = format!("{}/{FROM}", relay.address());
        let again = self.mirror(&from, place).succeeded();
        let requests = relay.requests();
        let read = |request: &&support::framing::Request| {
            request.reads_blob()
                || (request.method == "GET" && request.target.contains("/manifests/"))
        };
        assert_eq!(
            requests.iter().find(read).map(ToString::to_string),
            None,
            "{again}"
        );
        source.stop();

        let target = Server::start(&self.scratch.folder("target"));
        let to = format!("{}/{TO}", target.address());
        self.mirror(place, &to).succeeded();
        assert_there(&world, target.address());
        world
    }
}

#[test]
fn an_archive_carries_everything_and_others_read_it() {
    let stage = Stage::new();
    let path = stage.path("carried.tar");
    let place = format!("oci-archive:{}", path.display());
    let world = stage.carried(&place);
    let left = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let names: Vec<_> = left
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    let part = names
        .iter()
        .find(|name| name.to_string_lossy().contains("part"));
    assert_eq!(part, None);

    if present(&["skopeo"]) {
        for tag in ["v1", "multi"] {
            assert_skopeo_reads(&place, tag, &world.tags[tag], &stage.scratch);
        }
    }
    if present(&["podman"]) {
        // podman takes one image out of an archive, or all of which it is told the names.
        let one = stage.path("one.tar");
        let to = format!("oci-archive:{}:v1", one.display());
        stage.mirror(&format!("{place}:v1"), &to).succeeded();
        for file in [&path, &one] {
            let podman = Podman::new();
            podman.load(file.to_str().expect("UTF-8"));
            let ids = podman.run(&["images", "--all", "--no-trunc", "--quiet"]);
            assert!(ids.contains(&world.id), "{}: {ids}", file.display());
        }
    }
}

#[test]
fn a_layout_carries_everything_and_takes_what_comes_later() {
    let stage = Stage::new();
    let folder = stage.path("carried");
    let place = format!("oci:{}", folder.display());
    let world = stage.carried(&place);
    let names: BTreeSet<_> = archive::read_folder(&folder)
        .into_iter()
        .filter(|entry| !entry.name.starts_with("blobs/sha256/"))
        .map(|entry| entry.name)
        .collect();
    let expected = ["index.json", "oci-layout"].map(str::to_owned);
    assert_eq!(names, BTreeSet::from(expected));
    assert_whole(&folder);
    if present(&["skopeo"]) {
        for tag in ["v2", "multi"] {
            assert_skopeo_reads(&place, tag, &world.tags[tag], &stage.scratch);
        }
    }

    // One tag changes, the other's registry is not even asked; what it does not name stays.
    let later = Server::start(&stage.scratch.folder("later"));
    let address = later.address();
    let repository = FROM;
    let changed = version(77);
    let manifest = Place {
        address,
        repository,
    }
    .image(Some("v2"), &changed);
    let relay = Relay::start(address, Cut::Never);
    let from = format!("{}/{FROM}", relay.address());
    stage.mirror(&from, &place).succeeded();
    let requests = relay.requests();
    let read: BTreeSet<_> = requests
        .iter()
        .filter(|request| request.reads_blob())
        .filter_map(|request| request.target.rsplit('/').next())
        .map(str::to_owned)
        .collect();
    let own = digest(&changed.compressed()[1]);
    assert_eq!(read, BTreeSet::from([own, digest(&changed.config)]));
    let tags = assert_whole(&folder);
    assert_eq!(tags["v2"], digest(&manifest));
    assert_eq!(tags["v1"], world.tags["v1"]);
    assert_eq!(tags.len(), world.tags.len());
}

/// Panics unless every blob has its digest and every tag is whole; yields the tags.
fn assert_whole(folder: &Path) -> BTreeMap<String, String> {
    let entries = archive::read_folder(folder);
    let mut blobs = BTreeMap::new();
    for entry in &entries {
        if let Some(hex) = entry.name.strip_prefix("blobs/sha256/") {
            assert_eq!(digest(&entry.bytes), format!("sha256:{hex}"));
            blobs.insert(digest(&entry.bytes), &entry.bytes);
        }
    }
    let Some(index) = archive::file(&entries, "index.json") else {
        return BTreeMap::new();
    };
    let mut tags = BTreeMap::new();
    let mut open = Vec::new();
    let index: Value = serde_json::from_slice(index).expect("an index");
    for entry in index["manifests"].as_array().expect("a list") {
        let digest = entry["digest"].as_str().expect("a digest").to_owned();
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        tags.extend(name.map(|name| (name.to_owned(), digest.clone())));
        open.push(digest);
    }
    while let Some(next) = open.pop() {
        let bytes = blobs
            .get(&next)
            .unwrap_or_else(|| panic!("{next} is missing"));
        let manifest: Value = serde_json::from_slice(bytes).expect("a manifest");
        let digest_of = |it: &Value| it["digest"].as_str().expect("a digest").to_owned();
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        open.extend(list("manifests").iter().map(digest_of));
        let config = (!manifest["config"].is_null()).then(|| manifest["config"].clone());
        for blob in list("layers").iter().chain(&config) {
            assert!(blobs.contains_key(&digest_of(blob)), "{blob} is missing");
        }
    }
    tags
}

#[test]
fn a_layout_that_was_cut_at_any_moment_goes_on() {
    let stage = Stage::new();
    let source = Server::start(&stage.scratch.folder("source"));
    let world = seeded(source.address());
    let folder = stage.path("layout");
    let place = format!("oci:{}", folder.display());
    let mut down = 0;
    let mut kills = 0;
    // Slow, so that little is on its way at the moment of a kill.
    let slow = Shape {
        rate: Some(2_000_000),
        ..Shape::default()
    };
    // As long as it takes: each run comes a little further than the one before.
    loop {
        let relay = Relay::shaped(source.address(), Cut::Never, slow);
        let from = format!("{}/{FROM}", relay.address());
        let mut command = stage.command(&from, &place);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = std::sync::Arc::new(std::sync::Mutex::new(child.expect("imgsync starts")));
        let victim = std::sync::Arc::clone(&child);
        relay.at(Moment::Answered(350_000), move || {
            let _ = victim.lock().expect("the child").kill();
        });
        let status = until("the end of a mirror", || {
            child
                .lock()
                .expect("the child")
                .try_wait()
                .expect("a child of ours")
        });
        down += relay.traffic().down;
        let tags = assert_whole_so_far(&folder);
        if status.success() {
            assert_eq!(tags, world.tags);
            break;
        }
        kills += 1;
        assert!(kills < 50, "it does not get any further");
    }
    assert!((2..20).contains(&kills), "{kills}");
    let content: u64 = archive::read_folder(&folder)
        .iter()
        .map(|it| it.bytes.len() as u64)
        .sum();
    // What was on its way at each kill, and manifests and lists that were asked for again.
    let spare = kills * 150_000;
    assert!(
        down < content + spare,
        "{down} bytes for {content}, {kills} kills"
    );
    let names: Vec<_> = std::fs::read_dir(&folder).expect("a folder").collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

/// What a reader sees after a kill: parts lie aside.
fn assert_whole_so_far(folder: &Path) -> BTreeMap<String, String> {
    match folder.exists() {
        true => assert_whole(folder),
        false => BTreeMap::new(),
    }
}

/// The source of one image that stops in the middle of its blobs, and what it has.
fn held_up(bytes: usize) -> (Upstream, Image) {
    let upstream = Upstream::start();
    let layer = image::layer("large", noise(5, 3_000_000));
    let image = Image::new(vec![layer]);
    upstream.put(FROM, "v1", &image);
    upstream.behave(|it| it.hold = Some(bytes));
    (upstream, image)
}

#[test]
fn a_blob_goes_on_from_where_the_part_ends() {
    let stage = Stage::new();
    let (upstream, image) = held_up(1_000_000);
    let folder = stage.path("layout");
    let place = format!("oci:{}", folder.display());
    let from = format!("{}/{FROM}:v1", upstream.address());
    let mut command = stage.command(&from, &place);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("imgsync");
    let layer = digest(&image.compressed()[0]);
    let hex = layer.strip_prefix("sha256:").expect("sha256");
    let part = folder.join(".imgsync").join(format!("sha256-{hex}.part"));
    let size = until("a part on the disk", || {
        let size = part.metadata().ok()?.len();
        (size > 500_000).then_some(size)
    });
    child.kill().expect("a child of ours");
    child.wait().expect("its end");
    assert!(!folder.join("index.json").exists());

    upstream.behave(|it| it.hold = None);
    upstream.forget();
    stage.mirror(&from, &place).succeeded();
    assert_eq!(assert_whole(&folder).len(), 1);
    let ranges = ranges(&upstream, &image);
    let first = ranges.first().expect("a range");
    let first = first.trim_start_matches("bytes=").trim_end_matches('-');
    let first: u64 = first.parse().expect("a number");
    assert!(first >= size, "from {first}, with {size} there");
}

/// The ranges that were asked for of the image's layer.
fn ranges(upstream: &Upstream, image: &Image) -> Vec<String> {
    let layer = digest(&image.compressed()[0]);
    let seen = upstream.seen();
    let asked = seen
        .iter()
        .filter(|it| it.method == "GET" && it.target.ends_with(&layer));
    let ranges = asked.filter_map(|it| it.header("range").map(str::to_owned));
    ranges.collect()
}

#[test]
fn a_source_that_breaks_off_is_asked_for_the_rest() {
    for target in ["oci", "oci-archive"] {
        let stage = Stage::new();
        let (upstream, image) = held_up(0);
        upstream.behave(|it| {
            it.hold = None;
            it.cut = Some(1_500_000);
        });
        let place = format!("{target}:{}", stage.path("it").display());
        let from = format!("{}/{FROM}:v1", upstream.address());
        stage.mirror(&from, &place).succeeded();
        assert_eq!(ranges(&upstream, &image), ["bytes=1500000-"]);
        let server = Server::start(&stage.scratch.folder("target"));
        let to = format!("{}/{TO}:v1", server.address());
        stage.mirror(&format!("{place}:v1"), &to).succeeded();
        let found = check::at_registry(server.address(), &format!("{TO}:v1"));
        assert_eq!(found.config, image.id());
    }
}

#[test]
fn an_archive_that_was_cut_is_not_there_and_the_old_one_still_is() {
    let stage = Stage::new();
    let path = stage.path("it.tar");
    let place = format!("oci-archive:{}", path.display());
    let (upstream, _) = held_up(1_000_000);
    let from = format!("{}/{FROM}:v1", upstream.address());
    let killed = || {
        let mut command = stage.command(&from, &place);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("imgsync starts");
        let part = stage.path(".it.tar.imgsync-part");
        until("a part on the disk", || {
            (part.metadata().ok()?.len() > 500_000).then_some(())
        });
        child.kill().expect("a child of ours");
        child.wait().expect("its end");
    };
    killed();
    assert!(!path.exists());

    let server = Server::start(&stage.scratch.folder("source"));
    seeded(server.address());
    stage
        .mirror(&format!("{}/{FROM}:v2", server.address()), &place)
        .succeeded();
    let before = std::fs::read(&path).expect("an archive");
    killed();
    assert_eq!(std::fs::read(&path).expect("an archive"), before);

    upstream.behave(|it| it.hold = None);
    stage.mirror(&from, &place).succeeded();
    assert!(!stage.path(".it.tar.imgsync-part").exists());
    let target = Server::start(&stage.scratch.folder("target"));
    stage
        .mirror(&place, &format!("{}/{TO}", target.address()))
        .succeeded();
    for tag in ["v1", "v2"] {
        check::at_registry(target.address(), &format!("{TO}:{tag}"));
    }
}

#[test]
fn what_is_damaged_goes_nowhere() {
    let stage = Stage::new();
    let (upstream, _) = held_up(0);
    upstream.behave(|it| {
        it.hold = None;
        it.is_wrong = true;
    });
    let from = format!("{}/{FROM}:v1", upstream.address());
    for place in ["oci", "oci-archive"] {
        let path = stage.path(place);
        let to = format!("{place}:{}", path.display());
        stage.mirror(&from, &to).failed(3, &["source"]);
        assert!(!path.join("index.json").exists());
        assert!(!path.is_file());
    }

    // A layout with a blob that is not what it goes by.
    let folder = stage.path("layout");
    let entries = version(1).oci_layout("v1");
    archive::write_folder(&entries, &folder);
    let largest = entries
        .iter()
        .max_by_key(|entry| entry.bytes.len())
        .expect("a layer");
    let mut bytes = largest.bytes.clone();
    bytes[100] ^= 1;
    std::fs::write(folder.join(&largest.name), &bytes).expect("a blob");
    let server = Server::start(&stage.scratch.folder("target"));
    let from = format!("oci:{}", folder.display());
    for to in [
        format!("{}/{TO}", server.address()),
        format!("oci:{}", stage.path("other").display()),
        format!("oci-archive:{}", stage.path("other.tar").display()),
    ] {
        let outcome = stage.mirror(&from, &to);
        assert_ne!(outcome.code, Some(0), "{outcome}");
    }
    let tags = http::get(server.address(), &format!("/v2/{TO}/tags/list"));
    assert!(tags.status == 404 || tags.json()["tags"].as_array().is_none_or(Vec::is_empty));
    assert!(!stage.path("other.tar").exists());

    // Something that is no layout stays as it is.
    let letters = stage.scratch.folder("letters");
    std::fs::write(letters.join("letter.txt"), "dear").expect("a file");
    std::fs::write(stage.path("no.tar"), "dear").expect("a file");
    let source = Server::start(&stage.scratch.folder("source"));
    seeded(source.address());
    let from = format!("{}/{FROM}:v1", source.address());
    let to = format!("oci:{}", letters.display());
    stage
        .mirror(&from, &to)
        .failed(4, &["target", "no OCI layout"]);
    let to = format!("oci-archive:{}", stage.path("no.tar").display());
    stage.mirror(&from, &to).failed(4, &["target", "no.tar"]);
    assert_eq!(
        std::fs::read(stage.path("no.tar")).expect("a file"),
        b"dear"
    );
    assert_eq!(must(Command::new("ls").arg(&letters)), "letter.txt");
}
