//! Images for the tests of the ends.

use std::sync::Arc;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, Reference, Tag, media};
use serde_json::{Value, json};

use super::{Held, Role, Target};
use crate::exit::Failure;
use crate::report::{self, Report, Voice};
use crate::source::Slice;
use crate::transfer::{Body, Moved, Outgoing};

/// A manifest with its blobs.
pub(super) struct Sample {
    pub(super) blobs: Vec<Bytes>,
    pub(super) held: Held,
}

pub(super) fn quiet() -> Arc<dyn Report> {
    report::new(Voice::Quiet, false, report::Verb::Send)
}

pub(super) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(super) fn tagged(text: &str) -> Role {
    Role::Tagged(tag(text))
}

pub(super) fn at(text: &str) -> Reference {
    Reference::Tag(tag(text))
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

fn held(media_type: &str, manifest: &Value) -> Held {
    let bytes = Bytes::from(manifest.to_string());
    Held {
        digest: Digest::of(&bytes),
        media_type: media_type.to_owned(),
        bytes,
    }
}

/// An image with one layer.
pub(super) fn image(layer: &[u8]) -> Sample {
    about(layer, None)
}

/// What speaks about another manifest.
pub(super) fn about(layer: &[u8], subject: Option<&Held>) -> Sample {
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
    Sample {
        blobs: vec![config.into(), layer.to_vec().into()],
        held: held(media::OCI_MANIFEST, &manifest),
    }
}

/// An index over these.
pub(super) fn index(children: &[&Sample]) -> Held {
    let entry = |it: &&Sample| json!(descriptor(media::OCI_MANIFEST, &it.held.bytes));
    let manifests: Vec<_> = children.iter().map(entry).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
    held(media::OCI_INDEX, &manifest)
}

/// A blob as it is sent; `claimed` is what it goes by.
pub(super) fn outgoing(claimed: &[u8], bytes: &[u8]) -> Outgoing {
    Outgoing {
        digest: Digest::of(claimed),
        size: claimed.len() as u64,
        label: "a blob".to_owned(),
        body: Body::Here(Slice::memory(bytes.to_vec().into())),
        mount: None,
    }
}

pub(super) async fn put_blob(target: &dyn Target, bytes: &[u8]) -> Result<Moved, Failure> {
    target.put_blob(&outgoing(bytes, bytes), &quiet()).await
}

/// Puts an image as the engine does.
pub(super) async fn put(target: &dyn Target, sample: &Sample, role: &Role) {
    for blob in &sample.blobs {
        put_blob(target, blob).await.unwrap();
    }
    target.put_manifest(&sample.held, role).await.unwrap();
}

pub(super) async fn digest_at(target: &dyn Target, text: &str) -> Option<Digest> {
    let head = target.head(&at(text)).await.unwrap();
    head.map(|head| head.digest)
}
