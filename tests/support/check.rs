//! Whether an image arrived as it should: every digest, every size, every diffID.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::bytes::{digest, unpacked};
use super::http;

/// What a registry or folder was found to hold.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The manifest's digest.
    pub manifest: String,
    /// The config's digest; of an index, the last child's.
    pub config: String,
    /// All blobs with their sizes in bytes: per image the config, then the layers.
    pub blobs: Vec<(String, u64)>,
    /// The diffIDs, as found from the layers' bytes.
    pub diff_ids: Vec<String>,
    /// An index's children, all of them.
    pub children: Vec<String>,
}

impl StoredImage {
    /// The size of all blobs together in bytes, each counted once.
    pub fn size(&self) -> u64 {
        let mut blobs = self.blobs.clone();
        blobs.sort();
        blobs.dedup();
        blobs.iter().map(|(_, size)| size).sum()
    }
}

/// Where the parts of an image come from.
struct Parts<'a> {
    manifest: &'a dyn Fn(&str) -> Vec<u8>,
    blob: &'a dyn Fn(&str) -> Vec<u8>,
}

/// Reads `repository:tag` back from a registry and panics unless all of it is right.
pub fn at_registry(address: SocketAddr, name: &str) -> StoredImage {
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let get = |kind: &str, reference: &str| {
        let target = format!("/v2/{repository}/{kind}/{reference}");
        let reply = http::get(address, &target);
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply
    };
    let top = get("manifests", tag);
    let announced = top.header("docker-content-digest");
    assert_eq!(announced, Some(&*digest(&top.body)), "{name}");
    let parts = Parts {
        manifest: &|digest| get("manifests", digest).body,
        blob: &|digest| get("blobs", digest).body,
    };
    parts.check(&top.body)
}

/// Reads a folder that skopeo wrote (`dir:`) and panics unless all of it is right.
pub fn in_folder(folder: &Path) -> StoredImage {
    let read = |name: String| {
        std::fs::read(folder.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let parts = Parts {
        manifest: &|digest| read(hex(digest) + ".manifest.json"),
        blob: &|digest| read(hex(digest)),
    };
    parts.check(&read("manifest.json".to_owned()))
}

impl Parts<'_> {
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
            let bytes = part(self.manifest, child);
            let found = self.check(&bytes);
            all.config = found.config;
            all.blobs.extend(found.blobs);
            all.diff_ids.extend(found.diff_ids);
            all.children.push(found.manifest);
        }
        all
    }

    fn image(&self, manifest: &[u8], json: &Value) -> StoredImage {
        let config = part(self.blob, &json["config"]);
        let listed: Value = serde_json::from_slice(&config).expect("a config");
        let mut blobs = vec![(digest(&config), config.len() as u64)];
        let mut diff_ids = Vec::new();
        for layer in json["layers"].as_array().expect("layers") {
            let blob = part(self.blob, layer);
            diff_ids.push(digest(&unpacked(&blob)));
            blobs.push((digest(&blob), blob.len() as u64));
        }
        let expected = serde_json::json!(diff_ids);
        assert_eq!(
            listed["rootfs"]["diff_ids"], expected,
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

/// The bytes that a descriptor names.
fn part(get: &dyn Fn(&str) -> Vec<u8>, descriptor: &Value) -> Vec<u8> {
    let named = descriptor["digest"].as_str().expect("a digest");
    let bytes = get(named);
    assert_eq!(digest(&bytes), named);
    assert_eq!(descriptor["size"], bytes.len(), "the size of {named}");
    bytes
}
