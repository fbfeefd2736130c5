//! Images with known bytes, as docker-archive, OCI layout or compressed layers.

use serde_json::json;

use super::archive::{Entry, gzip, tar_of};
use super::bytes::digest;

/// The name of the config in the docker-archives.
pub const CONFIG: &str = "config.json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image with raw layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// The tars of the layers, lowest first.
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
}

/// Returns the tar of a layer with one file.
pub fn layer(name: &str, content: Vec<u8>) -> Vec<u8> {
    tar_of(&[Entry::new(name, content)])
}

/// Returns an image config with these diffIDs.
pub fn config(diff_ids: &[String], comment: &str) -> Vec<u8> {
    let history: Vec<_> = diff_ids
        .iter()
        .map(|_| json!({"created": "2023-11-14T22:13:20Z", "comment": comment}))
        .collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["/none"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
    .to_string()
    .into_bytes()
}

/// Returns the `manifest.json` of a docker-archive with one image.
pub fn archive_manifest(name: &str, layers: &[String]) -> Vec<u8> {
    json!([{"Config": CONFIG, "RepoTags": [name], "Layers": layers}])
        .to_string()
        .into_bytes()
}

impl Image {
    /// Creates an image of these layers, with a config.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let config = config(&diff_ids, "made by a test");
        Self { layers, config }
    }

    /// Returns the image ID in Docker's classic image store: the digest of the config.
    pub fn id(&self) -> String {
        digest(&self.config)
    }

    /// Returns the files of a docker-archive. The layers are first, in order, as `0.tar` and so on.
    pub fn docker_archive(&self, name: &str) -> Vec<Entry> {
        let names: Vec<_> = (0..self.layers.len()).map(|i| format!("{i}.tar")).collect();
        let layers = names.iter().zip(&self.layers);
        let mut entries: Vec<_> = layers
            .map(|(name, layer)| Entry::new(name.clone(), layer.clone()))
            .collect();
        entries.push(Entry::new(CONFIG, self.config.clone()));
        entries.push(Entry::new("manifest.json", archive_manifest(name, &names)));
        entries
    }

    /// Returns the layers compressed with gzip, as other tools push them.
    pub fn compressed(&self) -> Vec<Vec<u8>> {
        self.layers.iter().map(|layer| gzip(layer)).collect()
    }

    /// Returns the OCI manifest for the compressed layers.
    pub fn oci_manifest(&self, compressed: &[Vec<u8>]) -> Vec<u8> {
        let layers = compressed
            .iter()
            .map(|blob| descriptor(OCI_LAYER_GZIP, blob));
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &self.config),
            "layers": layers.collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes()
    }

    /// Returns the files of an OCI image layout with compressed layers.
    pub fn oci_layout(&self, tag: &str) -> Vec<Entry> {
        let layers = self.compressed();
        let manifest = self.oci_manifest(&layers);
        layout(&manifest, layers.iter().chain([&self.config]), tag)
    }
}

/// Returns the files of an OCI image layout with one tagged manifest and these blobs.
pub fn layout<'a>(
    manifest: &[u8],
    blobs: impl IntoIterator<Item = &'a Vec<u8>>,
    tag: &str,
) -> Vec<Entry> {
    let mut top = descriptor(OCI_MANIFEST, manifest);
    top["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [top]});
    let blob = |bytes: &[u8]| Entry::new(blob_name(bytes), bytes);
    let mut entries = vec![
        Entry::new("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        Entry::new("index.json", index.to_string()),
        blob(manifest),
    ];
    entries.extend(blobs.into_iter().map(|bytes| blob(bytes)));
    entries
}

/// Returns the path of a blob in an OCI image layout.
pub fn blob_name(bytes: &[u8]) -> String {
    format!("blobs/{}", digest(bytes).replace(':', "/"))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}
