//! Images for the tests of sources and targets.

use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, Reference, Tag, media};
use serde_json::{Value, json};

use super::{CopyTarget, ManifestRole, VerifiedManifest};
use crate::exit::Failure;
use crate::image::Slice;
use crate::report::{self, Report, Verbosity};
use crate::upload::{BlobSource, PendingBlob, UploadOutcome};

/// A manifest with its blobs.
pub(super) struct SampleImage {
    pub(super) blobs: Vec<Bytes>,
    pub(super) manifest: VerifiedManifest,
}

pub(super) fn quiet() -> Arc<dyn Report> {
    report::new(Verbosity::Quiet, false, report::TransferVerb::Send)
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(super) fn tagged(text: &str) -> ManifestRole {
    ManifestRole::Tagged(tag(text))
}

pub(super) fn tag_reference(text: &str) -> Reference {
    Reference::Tag(tag(text))
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

fn build_manifest(media_type: &str, manifest: &Value) -> VerifiedManifest {
    let bytes = Bytes::from(manifest.to_string());
    VerifiedManifest {
        digest: Digest::of(&bytes),
        media_type: media_type.to_owned(),
        bytes,
    }
}

/// An image with one layer.
pub(super) fn image(layer: &[u8]) -> SampleImage {
    referrer_image(layer, None)
}

/// An image with one layer, which may have another manifest as its subject.
pub(super) fn referrer_image(layer: &[u8], subject: Option<&VerifiedManifest>) -> SampleImage {
    let diff_id = Digest::of(layer);
    let config = json!({"os": "linux", "architecture": "amd64",
                        "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = config.to_string().into_bytes();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
    });
    if let Some(subject) = subject {
        manifest["subject"] = json!(descriptor(media::OCI_MANIFEST, &subject.bytes));
        manifest["artifactType"] = "application/x-test".into();
    }
    SampleImage {
        blobs: vec![config.into(), layer.to_vec().into()],
        manifest: build_manifest(media::OCI_MANIFEST, &manifest),
    }
}

/// An index of these images.
pub(super) fn index(children: &[&SampleImage]) -> VerifiedManifest {
    let entry =
        |child: &&SampleImage| json!(descriptor(media::OCI_MANIFEST, &child.manifest.bytes));
    let manifests: Vec<_> = children.iter().map(entry).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
    build_manifest(media::OCI_INDEX, &manifest)
}

/// A blob to copy, with the digest and size of `claimed`, whose source has `bytes`.
pub(super) fn pending_blob(claimed: &[u8], bytes: &[u8]) -> PendingBlob {
    PendingBlob {
        digest: Digest::of(claimed),
        size: claimed.len() as u64,
        label: "a blob".to_owned(),
        source: BlobSource::Local(Slice::memory(bytes.to_vec().into())),
        mount: None,
        is_known_missing: false,
    }
}

pub(super) async fn put_blob(
    target: &dyn CopyTarget,
    bytes: &[u8],
) -> Result<UploadOutcome, Failure> {
    target.put_blob(&pending_blob(bytes, bytes), &quiet()).await
}

/// Puts the blobs of an image, then its manifest.
pub(super) async fn put(target: &dyn CopyTarget, sample: &SampleImage, role: &ManifestRole) {
    for blob in &sample.blobs {
        put_blob(target, blob).await.unwrap();
    }
    target.put_manifest(&sample.manifest, role).await.unwrap();
}

pub(super) async fn digest_at(target: &dyn CopyTarget, text: &str) -> Option<Digest> {
    let head = target.head_manifest(&tag_reference(text)).await.unwrap();
    head.map(|head| head.digest)
}
