//! Reads an image back and checks every digest, size and diffID.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::bytes::{digest, unpacked};
use super::http;

/// An image or index as it is stored in a registry or a folder.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The digest of the manifest.
    pub manifest: String,
    /// The digest of the config. For an index, of the last child's config.
    pub config: String,
    /// All blobs with their sizes in bytes. For each image: the config, then the layers.
    pub blobs: Vec<(String, u64)>,
    /// The diffIDs, computed from the data of the layers.
    pub diff_ids: Vec<String>,
    /// The digests of the children of an index.
    pub children: Vec<String>,
}

impl StoredImage {
    /// Returns the total size of all distinct blobs in bytes.
    pub fn size(&self) -> u64 {
        let mut blobs = self.blobs.clone();
        blobs.sort();
        blobs.dedup();
        blobs.iter().map(|(_, size)| size).sum()
    }
}

/// Reads manifests and blobs by their digests.
struct ImageReader<'a> {
    manifest: &'a dyn Fn(&str) -> Vec<u8>,
    blob: &'a dyn Fn(&str) -> Vec<u8>,
}

/// Reads the image `repository:tag` from a registry. Panics if anything in it is wrong.
pub fn at_registry(address: SocketAddr, name: &str) -> StoredImage {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let get = |kind: &str, reference: &str| {
        let target = format!("/v2/{repository}/{kind}/{reference}");
        let response = http::get(address, &target);
        assert_eq!(response.status, 200, "{target}: {}", response.text());
        response
    };
    let top = get("manifests", tag);
    let header = top.header("docker-content-digest");
    assert_eq!(header, Some(&*digest(&top.body)), "{name}");
    let reader = ImageReader {
        manifest: &|digest| get("manifests", digest).body,
        blob: &|digest| get("blobs", digest).body,
    };
    reader.check(&top.body)
}

/// Reads the image from a folder that skopeo wrote (`dir:`). Panics if anything in it is wrong.
pub fn in_folder(folder: &Path) -> StoredImage {
    let read = |name: String| {
        std::fs::read(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let reader = ImageReader {
        manifest: &|digest| read(hex(digest) + ".manifest.json"),
        blob: &|digest| read(hex(digest)),
    };
    reader.check(&read("manifest.json".to_owned()))
}

impl ImageReader<'_> {
    fn check(&self, manifest: &[u8]) -> StoredImage {
        let json: Value = serde_json::from_slice(manifest).expect("a manifest");
        match json["manifests"].as_array() {
            Some(children) => self.index(manifest, children),
            None => self.image(manifest, &json),
        }
    }

    fn index(&self, manifest: &[u8], children: &[Value]) -> StoredImage {
        let mut all = StoredImage {
            manifest: digest(manifest),
            config: String::new(),
            blobs: Vec::new(),
            diff_ids: Vec::new(),
            children: Vec::new(),
        };
        for child in children {
            let bytes = read_descriptor(self.manifest, child);
            let found = self.check(&bytes);
            all.config = found.config;
            all.blobs.extend(found.blobs);
            all.diff_ids.extend(found.diff_ids);
            all.children.push(found.manifest);
        }
        all
    }

    fn image(&self, manifest: &[u8], json: &Value) -> StoredImage {
        let config = read_descriptor(self.blob, &json["config"]);
        let parsed: Value = serde_json::from_slice(&config).expect("a config");
        let mut blobs = vec![(digest(&config), config.len() as u64)];
        let mut diff_ids = Vec::new();
        for layer in json["layers"].as_array().expect("layers") {
            let blob = read_descriptor(self.blob, layer);
            diff_ids.push(digest(&unpacked(&blob)));
            blobs.push((digest(&blob), blob.len() as u64));
        }
        let expected = serde_json::json!(diff_ids);
        assert_eq!(
            parsed["rootfs"]["diff_ids"], expected,
            "the layers' diffIDs"
        );
        StoredImage {
            manifest: digest(manifest),
            config: digest(&config),
            blobs,
            diff_ids,
            children: Vec::new(),
        }
    }
}

/// Reads the content of a descriptor, and checks its digest and size.
fn read_descriptor(get: &dyn Fn(&str) -> Vec<u8>, descriptor: &Value) -> Vec<u8> {
    let expected = descriptor["digest"].as_str().expect("a digest");
    let bytes = get(expected);
    assert_eq!(digest(&bytes), expected);
    assert_eq!(descriptor["size"], bytes.len(), "the size of {expected}");
    bytes
}
