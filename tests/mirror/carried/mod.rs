//! Images carried where no network goes: out of a registry into an archive or a folder, and in to
//! another registry, every digest as it was; readable by others on the way.

mod resumed;
mod whole;

use std::collections::BTreeMap;

use crate::support::prelude::*;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, RemoteRepository};
use serde_json::Value;

const FROM: &str = "team/app";
const TO: &str = "carried/app";
const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/s390x"];

/// What there is at the source.
struct ArchiveContent {
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
fn seeded(address: SocketAddr) -> ArchiveContent {
    let repository = FROM;
    let place = RemoteRepository {
        address,
        repository,
    };
    let mut tags = BTreeMap::new();
    let first = place.push_image(Some("v1"), &version(1));
    tags.insert("v1".to_owned(), digest(&first));
    tags.insert(
        "v2".to_owned(),
        digest(&place.push_image(Some("v2"), &version(2))),
    );
    let parts = [11, 12, 13].map(|number| place.push_image(None, &version(number)));
    let parts: Vec<_> = PLATFORMS
        .into_iter()
        .zip(parts.iter().map(|it| &**it))
        .collect();
    let index = seed::index(&parts);
    tags.insert(
        "multi".to_owned(),
        place.push_manifest("multi", OCI_INDEX, &index),
    );
    let signature = format!("{}.sig", digest(&index).replace(':', "-"));
    let signed = place.push_artifact(Some(&signature), &index, b"a signature by tag");
    tags.insert(signature, digest(&signed));
    let referrer = place.push_artifact(None, &first, b"a signature by referrer");
    ArchiveContent {
        tags,
        referrer: digest(&referrer),
        id: version(1).id(),
    }
}

/// Panics unless everything is at a registry as it was at the first one.
fn assert_there(content: &ArchiveContent, address: SocketAddr) {
    for (tag, expected) in &content.tags {
        let reply = http::get(address, &format!("/v2/{TO}/manifests/{tag}"));
        assert_eq!(digest(&reply.body), *expected, "{tag}: {}", reply.text());
    }
    for tag in ["v1", "v2", "multi"] {
        let found = check::at_registry(address, &format!("{TO}:{tag}"));
        assert_eq!(found.manifest, content.tags[tag]);
        let parts = if tag == "multi" { PLATFORMS.len() } else { 0 };
        assert_eq!(found.children.len(), parts);
    }
    let first = &content.tags["v1"];
    let list = http::get(address, &format!("/v2/{TO}/referrers/{first}"));
    assert_eq!(list.json()["manifests"][0]["digest"], *content.referrer);
    let referrer = http::get(address, &format!("/v2/{TO}/manifests/{}", content.referrer));
    assert_eq!(digest(&referrer.body), content.referrer);
}

struct ArchiveFixture {
    imgsync: Imgsync,
    scratch: Scratch,
}

impl ArchiveFixture {
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
    fn carried(&self, place: &str) -> ArchiveContent {
        let mut source = Server::start(&self.scratch.folder("source"));
        let content = seeded(source.address());
        let from = format!("{}/{FROM}", source.address());
        self.mirror(&from, place).succeeded();

        // Again: nothing is read, and nothing changes.
        let relay = Relay::start(source.address(), RelayFault::None);
        let from = format!("{}/{FROM}", relay.address());
        let again = self.mirror(&from, place).succeeded();
        let requests = relay.requests();
        let read = |request: &&crate::support::request_parser::ObservedRequest| {
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
        assert_there(&content, target.address());
        content
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
    upstream.configure(|settings| settings.pause_blob_at = Some(bytes));
    (upstream, image)
}
