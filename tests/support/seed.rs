//! Pushes test content to a registry with plain HTTP requests: blobs, images, multi-platform
//! indexes, and signatures.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bytes::digest;
use super::http;
use super::image::Image;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository in a registry.
#[derive(Clone, Copy)]
pub struct RemoteRepository<'a> {
    pub address: SocketAddr,
    pub repository: &'a str,
}

impl RemoteRepository<'_> {
    /// Pushes a blob, and returns its digest.
    pub fn push_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let start = format!("/v2/{}/blobs/uploads/", self.repository);
        let opened = http::send(self.address, "POST", &start, &[], b"");
        assert_eq!(opened.status, 202, "{start}: {}", opened.text());
        let location = opened.header("location").expect("a Location");
        let path_start = location.find("/v2/").expect("a path of the API");
        let target = &location[path_start..];
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let target = format!("{path}?{query}&digest={digest}");
        let target = target.replace("?&", "?");
        let content_type = [("Content-Type", "application/octet-stream")];
        let put = http::send(self.address, "PUT", &target, &content_type, bytes);
        assert_eq!(put.status, 201, "{target}: {}", put.text());
        digest
    }

    /// Pushes a manifest by a tag or by its digest, and returns the digest.
    pub fn push_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        let target = format!("/v2/{}/manifests/{reference}", self.repository);
        let content_type = [("Content-Type", media_type)];
        let put = http::send(self.address, "PUT", &target, &content_type, bytes);
        assert_eq!(put.status, 201, "{target}: {}", put.text());
        digest(bytes)
    }

    /// Pushes an image with a tag, or only by its digest, and returns the manifest.
    pub fn push_image(&self, tag: Option<&str>, image: &Image) -> Vec<u8> {
        let layers = image.compressed();
        for blob in layers.iter().chain([&image.config]) {
            self.push_blob(blob);
        }
        let manifest = image.oci_manifest(&layers);
        let own_digest = digest(&manifest);
        self.push_manifest(tag.unwrap_or(&own_digest), OCI_MANIFEST, &manifest);
        manifest
    }

    /// Pushes an artifact with one small blob, such as a signature of `subject`, and returns the
    /// manifest. With a tag, the manifest has no `subject` field: clients find the artifact by the
    /// tag.
    pub fn push_artifact(&self, tag: Option<&str>, subject: &[u8], content: &[u8]) -> Vec<u8> {
        self.push_blob(b"{}");
        self.push_blob(content);
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.signature",
            "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
            "layers": [descriptor("application/vnd.example.signature", content)],
        });
        if tag.is_none() {
            manifest["subject"] = descriptor(OCI_MANIFEST, subject);
        }
        let bytes = manifest.to_string().into_bytes();
        let own_digest = digest(&bytes);
        self.push_manifest(tag.unwrap_or(&own_digest), OCI_MANIFEST, &bytes);
        bytes
    }
}

/// Returns the tag and the index for a registry without the referrers API (the referrers tag schema
/// of the distribution spec).
pub fn referrers_tag(subject: &[u8], referrers: &[&[u8]]) -> (String, Vec<u8>) {
    let descriptors = referrers
        .iter()
        .map(|bytes| descriptor(OCI_MANIFEST, bytes));
    let index = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": descriptors.collect::<Vec<_>>(),
    });
    (
        digest(subject).replace(':', "-"),
        index.to_string().into_bytes(),
    )
}

/// Returns an index of images, each with its platform (`os/architecture`).
pub fn index(images: &[(&str, &[u8])]) -> Vec<u8> {
    let children = images.iter().map(|(platform, manifest)| {
        let (os, architecture) = platform.split_once('/').expect("os/architecture");
        let mut child = descriptor(OCI_MANIFEST, manifest);
        child["platform"] = json!({"architecture": architecture, "os": os});
        child
    });
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": children.collect::<Vec<_>>(),
    })
    .to_string()
    .into_bytes()
}

/// Returns an index of images, as [`index`] does, with an attestation of one of them.
pub fn index_with_attestation(
    images: &[(&str, &[u8])],
    attestation: &[u8],
    subject: &[u8],
) -> Vec<u8> {
    let mut index: Value = serde_json::from_slice(&index(images)).expect("an index");
    let mut entry = descriptor(OCI_MANIFEST, attestation);
    entry["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    entry["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": digest(subject),
    });
    let entries = index["manifests"].as_array_mut().expect("a list");
    entries.push(entry);
    index.to_string().into_bytes()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}
