//! Tests how layers that are sent as they are are verified: once for each blob, beside the upload,
//! and not at all with `--no-verify`.

use sha2::{Digest as _, Sha256, Sha512};

use crate::support::archive::{Entry, write_folder};
use crate::support::bytes::mixed;
use crate::support::prelude::*;
use crate::support::store;

const EXIT_SOURCE: i32 = 3;
const EXIT_TARGET: i32 = 4;

/// Two empty servers, and a layout with an image of two layers.
struct VerificationFixture {
    first: Server,
    second: Server,
    imgsync: Imgsync,
    image: Image,
    layout: PathBuf,
    /// Dropped last: the servers must have stopped before their folders are deleted.
    scratch: Scratch,
}

impl VerificationFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let image = Image::new(vec![
            layer("base", mixed(1, 600_000)),
            layer("app", mixed(2, 300_000)),
        ]);
        let layout = scratch.path("layout");
        write_folder(&image.oci_layout("v1"), &layout);
        Self {
            first: Server::start(&scratch.folder("first")),
            second: Server::start(&scratch.folder("second")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            image,
            layout,
            scratch,
        }
    }

    fn push(&self, server: &Server, options: &[&str]) -> Outcome {
        let remote = format!("{}/app:v1", server.address());
        let layout = self.layout.to_str().expect("a path in UTF-8");
        self.imgsync.push_with(options, layout, &remote)
    }

    /// Writes a layout of the same layers whose config lists another diffID for the last one.
    fn write_layout_with_wrong_diff_id(&self) {
        let mut image = Image::new(self.image.layers.clone());
        image.config = image::config(
            &[digest(&image.layers[0]), digest(b"something else")],
            "a lie",
        );
        std::fs::remove_dir_all(&self.layout).expect("the layout");
        write_folder(&image.oci_layout("v1"), &self.layout);
    }

    /// Changes one byte of the last layer on the disk.
    fn damage_last_layer(&self) {
        let path = self
            .layout
            .join(image::blob_name(&self.image.compressed()[1]));
        let mut bytes = std::fs::read(&path).expect("the layer");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("the layer");
    }

    /// Returns the diffID that the cache has for a blob.
    fn verified_diff_id(&self, blob: &[u8]) -> Option<String> {
        let hex = digest(blob).replace("sha256:", "");
        let folder = self.scratch.path("home/cache/imgsync/verified/sha256");
        let text = std::fs::read_to_string(folder.join(hex)).ok()?;
        Some(text.split(' ').next()?.to_owned())
    }
}

/// Panics if the server has a blob.
fn assert_no_blobs(server: &Server) {
    let files = store::list_files(server.root());
    assert!(
        !files.iter().any(|file| file.contains("/blobs/")),
        "{files:#?}"
    );
}

#[test]
fn the_digest_of_a_verified_layer_is_still_checked() {
    let fixture = VerificationFixture::new();
    fixture.push(&fixture.first, &[]).succeeded();
    let blobs = fixture.image.compressed();
    for (blob, layer) in blobs.iter().zip(&fixture.image.layers) {
        assert_eq!(fixture.verified_diff_id(blob), Some(digest(layer)));
    }
    fixture.damage_last_layer();
    let words = ["error: source", &digest(&blobs[1])];
    fixture
        .push(&fixture.second, &[])
        .failed(EXIT_SOURCE, &words);
    assert_no_blobs(&fixture.second);
}

#[test]
fn a_verified_layer_does_not_excuse_a_wrong_config() {
    let fixture = VerificationFixture::new();
    fixture.push(&fixture.first, &[]).succeeded();
    fixture.write_layout_with_wrong_diff_id();
    let words = ["error: source", "diffid", &digest(&fixture.image.layers[1])];
    fixture
        .push(&fixture.second, &[])
        .failed(EXIT_SOURCE, &words);
    assert_no_blobs(&fixture.second);
}

/// A layer is verified with the algorithm of its digest.
#[test]
fn a_layer_with_a_sha512_digest_is_verified() {
    let fixture = VerificationFixture::new();
    let name = write_layout_with_sha512(&fixture);
    fixture.push(&fixture.first, &[]).succeeded();
    let target = format!("/v2/app/blobs/sha512:{name}");
    let stored = http::get(fixture.first.address(), &target);
    assert_eq!(stored.status, 200, "{}", stored.text());
    assert_eq!(stored.body, fixture.image.compressed()[1]);

    let path = fixture.layout.join("blobs/sha512").join(&name);
    let mut bytes = std::fs::read(&path).expect("the layer");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("the layer");
    let outcome = fixture.push(&fixture.second, &[]);
    outcome.failed(EXIT_SOURCE, &["error: source"]);
    assert_no_blobs(&fixture.second);
}

/// Writes a layout whose last layer has a SHA-512 digest. Returns the digest without its algorithm.
fn write_layout_with_sha512(fixture: &VerificationFixture) -> String {
    let blobs = fixture.image.compressed();
    let hash = Sha512::digest(&blobs[1]);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = String::from_utf8(fixture.image.oci_manifest(&blobs)).expect("JSON");
    let manifest = manifest.replace(&digest(&blobs[1]), &format!("sha512:{hex}"));
    let mut entries = image::layout(
        manifest.as_bytes(),
        [&blobs[0], &fixture.image.config],
        "v1",
    );
    entries.push(Entry::new(format!("blobs/sha512/{hex}"), blobs[1].clone()));
    std::fs::remove_dir_all(&fixture.layout).expect("the layout");
    write_folder(&entries, &fixture.layout);
    hex
}

/// The cache is believed: a layer is decompressed only at its first push.
#[test]
fn a_verified_layer_is_not_decompressed_again() {
    let fixture = VerificationFixture::new();
    fixture.push(&fixture.first, &[]).succeeded();
    let blob = digest(&fixture.image.compressed()[1]);
    let folder = fixture.scratch.path("home/cache/imgsync/verified/sha256");
    let path = folder.join(blob.replace("sha256:", ""));
    let statement = format!("{} gzip", digest(b"something else"));
    fixture.write_layout_with_wrong_diff_id();
    let words = ["the image is damaged at its source"];
    std::fs::write(&path, format!("{statement} {}\n", "0".repeat(64))).expect("the entry");
    fixture
        .push(&fixture.second, &[])
        .failed(EXIT_SOURCE, &words);

    let key = fixture.scratch.path("home/.local/state/imgsync/cache-key");
    let key = std::fs::read(key).expect("the key");
    let signature = sign(&key, &format!("imgsync verified {blob} {statement}"));
    std::fs::write(&path, format!("{statement} {signature}\n")).expect("the entry");
    fixture.push(&fixture.second, &[]).succeeded();
}

/// Returns the HMAC with SHA-256 (RFC 2104) in hexadecimal. The key has 32 bytes.
fn sign(key: &[u8], text: &str) -> String {
    let padded = |byte: u8| {
        let key = key.iter().map(move |bits| bits ^ byte);
        key.chain(std::iter::repeat_n(byte, 32))
            .collect::<Vec<u8>>()
    };
    let inner = Sha256::digest([padded(0x36), text.into()].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn without_verification_only_the_registry_checks_the_digests() {
    let fixture = VerificationFixture::new();
    fixture.push(&fixture.first, &["--no-verify"]).succeeded();
    let found = check::at_registry(fixture.first.address(), "app:v1");
    assert_eq!(found.config, fixture.image.id());
    for blob in fixture.image.compressed() {
        assert_eq!(fixture.verified_diff_id(&blob), None);
    }
    fixture.damage_last_layer();
    let words = ["error: target"];
    fixture
        .push(&fixture.second, &["--no-verify"])
        .failed(EXIT_TARGET, &words);
    let tag = http::get(fixture.second.address(), "/v2/app/manifests/v1");
    assert_eq!(tag.status, 404);
    fixture.write_layout_with_wrong_diff_id();
    fixture.push(&fixture.second, &["--no-verify"]).succeeded();
}
