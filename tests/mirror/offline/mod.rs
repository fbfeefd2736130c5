//! Tests mirrors through an archive or a folder: from one registry into the file and from there to
//! another registry. Every digest stays the same, and other programs can read the file.

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

/// The content of the source registry.
struct ArchiveContent {
    /// The digest that each tag points at, including the signature tag.
    tags: BTreeMap<String, String>,
    /// The digest of a referrer of `v1`.
    referrer: String,
    /// The image ID of `v1`.
    id: String,
}

fn version(number: u64) -> Image {
    let shared = layer("shared", noise(1, 300_000));
    let own_layer = layer("own", noise(1000 + number, 200_000));
    Image::new(vec![shared, own_layer])
}

/// Pushes two versions, an index of three platforms, a signature as a referrer and one under a tag.
fn push_content(address: SocketAddr) -> ArchiveContent {
    let repository = FROM;
    let source_repository = RemoteRepository {
        address,
        repository,
    };
    let mut tags = BTreeMap::new();
    let first = source_repository.push_image(Some("v1"), &version(1));
    tags.insert("v1".to_owned(), digest(&first));
    tags.insert(
        "v2".to_owned(),
        digest(&source_repository.push_image(Some("v2"), &version(2))),
    );
    let children = [11, 12, 13].map(|number| source_repository.push_image(None, &version(number)));
    let children: Vec<_> = PLATFORMS
        .into_iter()
        .zip(children.iter().map(|manifest| &**manifest))
        .collect();
    let index = seed::index(&children);
    tags.insert(
        "multi".to_owned(),
        source_repository.push_manifest("multi", OCI_INDEX, &index),
    );
    let signature = format!("{}.sig", digest(&index).replace(':', "-"));
    let signed = source_repository.push_artifact(Some(&signature), &index, b"a signature by tag");
    tags.insert(signature, digest(&signed));
    let referrer = source_repository.push_artifact(None, &first, b"a signature by referrer");
    ArchiveContent {
        tags,
        referrer: digest(&referrer),
        id: version(1).id(),
    }
}

/// Panics unless a registry has the same content as the source.
fn assert_content_at(content: &ArchiveContent, address: SocketAddr) {
    for (tag, expected) in &content.tags {
        let reply = http::get(address, &format!("/v2/{TO}/manifests/{tag}"));
        assert_eq!(digest(&reply.body), *expected, "{tag}: {}", reply.text());
    }
    for tag in ["v1", "v2", "multi"] {
        let found = check::at_registry(address, &format!("{TO}:{tag}"));
        assert_eq!(found.manifest, content.tags[tag]);
        let children = if tag == "multi" { PLATFORMS.len() } else { 0 };
        assert_eq!(found.children.len(), children);
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

    /// Mirrors a registry to `local_reference`, stops it, and mirrors from there to another
    /// registry.
    fn mirror_through(&self, local_reference: &str) -> ArchiveContent {
        let mut source = Server::start(&self.scratch.folder("source"));
        let content = push_content(source.address());
        let from = format!("{}/{FROM}", source.address());
        self.mirror(&from, local_reference).succeeded();

        // A second run reads no manifest or blob and changes nothing.
        let relay = Relay::start(source.address(), RelayFault::None);
        let from = format!("{}/{FROM}", relay.address());
        let outcome = self.mirror(&from, local_reference).succeeded();
        let requests = relay.requests();
        let is_read = |request: &&crate::support::request_parser::ObservedRequest| {
            request.reads_blob()
                || (request.method == "GET" && request.target.contains("/manifests/"))
        };
        assert_eq!(
            requests.iter().find(is_read).map(ToString::to_string),
            None,
            "{outcome}"
        );
        source.stop();

        let target = Server::start(&self.scratch.folder("target"));
        let to = format!("{}/{TO}", target.address());
        self.mirror(local_reference, &to).succeeded();
        assert_content_at(&content, target.address());
        content
    }
}

/// Checks a layout: every blob has its digest and every tag is complete. Returns the tags.
fn check_layout(folder: &Path) -> BTreeMap<String, String> {
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
    let mut pending = Vec::new();
    let index: Value = serde_json::from_slice(index).expect("an index");
    for entry in index["manifests"].as_array().expect("a list") {
        let digest = entry["digest"].as_str().expect("a digest").to_owned();
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str();
        tags.extend(name.map(|name| (name.to_owned(), digest.clone())));
        pending.push(digest);
    }
    while let Some(reference) = pending.pop() {
        let bytes = blobs
            .get(&reference)
            .unwrap_or_else(|| panic!("{reference} is missing"));
        let manifest: Value = serde_json::from_slice(bytes).expect("a manifest");
        let digest_of =
            |descriptor: &Value| descriptor["digest"].as_str().expect("a digest").to_owned();
        let list = |name: &str| manifest[name].as_array().cloned().unwrap_or_default();
        pending.extend(list("manifests").iter().map(digest_of));
        let config = (!manifest["config"].is_null()).then(|| manifest["config"].clone());
        for blob in list("layers").iter().chain(&config) {
            assert!(blobs.contains_key(&digest_of(blob)), "{blob} is missing");
        }
    }
    tags
}

/// Starts a source with one image. It stalls after this many bytes of each blob.
fn stalled_source(bytes: usize) -> (Upstream, Image) {
    let upstream = Upstream::start();
    let layer = layer("large", noise(5, 3_000_000));
    let image = Image::new(vec![layer]);
    upstream.put(FROM, "v1", &image);
    upstream.configure(|settings| settings.pause_blob_at = Some(bytes));
    (upstream, image)
}
