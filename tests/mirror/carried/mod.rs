//! Images carried where no network goes: out of a registry into an archive or a folder, and in to
//! another registry, every digest as it was; readable by others on the way.

mod resumed;
mod whole;

use std::collections::BTreeMap;

use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, Place};
use serde_json::Value;

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
    let shared = layer("shared", noise(1, 300_000));
    let own = layer("own", noise(1000 + number, 200_000));
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
        let read = |request: &&crate::support::framing::Request| {
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

/// The source of one image that stops in the middle of its blobs, and what it has.
fn held_up(bytes: usize) -> (Upstream, Image) {
    let upstream = Upstream::start();
    let layer = layer("large", noise(5, 3_000_000));
    let image = Image::new(vec![layer]);
    upstream.put(FROM, "v1", &image);
    upstream.behave(|it| it.hold = Some(bytes));
    (upstream, image)
}
