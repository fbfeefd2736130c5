//! Puts content into a registry just as a test wants it: blobs and manifests by hand, and what
//! images of several platforms and their signatures look like.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::bytes::digest;
use super::http;
use super::image::Image;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A repository of a registry.
#[derive(Clone, Copy)]
pub struct RemoteRepository<'a> {
    pub address: SocketAddr,
    pub repository: &'a str,
}

impl RemoteRepository<'_> {
    /// Puts a blob; yields its digest.
    pub fn push_blob(&self, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        let start = format!("/v2/{}/blobs/uploads/", self.repository);
        let open = http::send(self.address, "POST", &start, &[], b"");
        assert_eq!(open.status, 202, "{start}: {}", open.text());
        let location = open.header("location").expect("a Location");
        let at = location.find("/v2/").expect("a path of the API");
        let (path, query) = location[at..]
            .split_once('?')
            .unwrap_or((&location[at..], ""));
        let target = format!("{path}?{query}&digest={digest}");
        let target = target.replace("?&", "?");
        let kind = [("Content-Type", "application/octet-stream")];
        let put = http::send(self.address, "PUT", &target, &kind, bytes);
        assert_eq!(put.status, 201, "{target}: {}", put.text());
        digest
    }

    /// Puts a manifest under a tag or its digest; yields its digest.
    pub fn push_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> String {
        let target = format!("/v2/{}/manifests/{reference}", self.repository);
        let kind = [("Content-Type", media_type)];
        let put = http::send(self.address, "PUT", &target, &kind, bytes);
        assert_eq!(put.status, 201, "{target}: {}", put.text());
        digest(bytes)
    }

    /// Puts an image under a tag, or by its digest alone; yields its manifest.
    pub fn push_image(&self, tag: Option<&str>, image: &Image) -> Vec<u8> {
        let layers = image.compressed();
        for blob in layers.iter().chain([&image.config]) {
            self.push_blob(blob);
        }
        let manifest = image.oci_manifest(&layers);
        let own = digest(&manifest);
        self.push_manifest(tag.unwrap_or(&own), OCI_MANIFEST, &manifest);
        manifest
    }

    /// Puts what speaks about another manifest, as signatures do: an artifact with one small blob.
    /// With a tag it is found by that, else by its subject. Yields its manifest.
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
        let own = digest(&bytes);
        self.push_manifest(tag.unwrap_or(&own), OCI_MANIFEST, &bytes);
        bytes
    }
}

/// The list of referrers that a registry without one is given, under this tag.
pub fn referrers_tag(subject: &[u8], referrers: &[&[u8]]) -> (String, Vec<u8>) {
    let listed = referrers
        .iter()
        .map(|bytes| descriptor(OCI_MANIFEST, bytes));
    let list = json!({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": listed.collect::<Vec<_>>(),
    });
    (
        digest(subject).replace(':', "-"),
        list.to_string().into_bytes(),
    )
}

/// An index of images, each for a platform `os/architecture`.
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

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}
