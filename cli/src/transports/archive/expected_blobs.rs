//! Decides when enough of a streamed OCI layout was read, so that the rest can be skipped.

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Descriptor, Digest, Manifest};

use crate::image::limits::MAX_METADATA_BYTES;
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, blob_path};

/// The most blobs that are tracked; with more, the stream is read to its end.
const MAX_EXPECTED_BLOBS: usize = 20_000;

/// The blobs below one manifest or index that are still to come.
#[derive(Debug)]
pub(crate) struct ExpectedBlobs {
    /// The blobs that were named and did not arrive yet; manifests with their media types.
    expected: HashMap<Digest, ExpectedBlob>,
    /// The blobs that were named and are not needed.
    skipped: Vec<Descriptor>,
    /// The manifests that were read.
    read_manifests: HashSet<Digest>,
    named_count: usize,
}

#[derive(Debug)]
enum ExpectedBlob {
    Manifest(Option<String>),
    Blob,
}

impl ExpectedBlobs {
    /// Expects everything below the manifest or index `root`.
    pub(in crate::transports) fn new(root: &Digest, media_type: Option<&str>) -> Self {
        let expected_blob = ExpectedBlob::Manifest(media_type.map(str::to_owned));
        Self {
            expected: HashMap::from([(root.clone(), expected_blob)]),
            skipped: Vec::new(),
            read_manifests: HashSet::new(),
            named_count: 1,
        }
    }

    /// Records the arrival of a blob. Returns whether everything has arrived; skipped blobs are
    /// then added to `contents` as such.
    pub(super) fn record_arrival(
        &mut self,
        digest: &Digest,
        contents: &mut SourceFiles,
        unneeded: &mut SkipLayer,
    ) -> bool {
        let mut arrived = vec![digest.clone()];
        while let Some(digest) = arrived.pop() {
            let Some(ExpectedBlob::Manifest(media_type)) = self.expected.remove(&digest) else {
                continue;
            };
            self.read_manifests.insert(digest.clone());
            let bytes = contents.read_blob(&digest, MAX_METADATA_BYTES);
            let parsed = bytes.map(|bytes| Manifest::parse(&bytes, media_type.as_deref()));
            let Ok(Ok((_, manifest))) = parsed else {
                // The reader of the image reports the error.
                return false;
            };
            let children = manifest.children();
            let manifests = children.manifests.into_iter().map(|child| {
                let media_type = Some(child.media_type.clone());
                (ExpectedBlob::Manifest(media_type), child)
            });
            let blobs = children.blobs.into_iter();
            let blobs = blobs.map(|child| (ExpectedBlob::Blob, child));
            for (expected_blob, child) in manifests.chain(blobs) {
                self.named_count += 1;
                if self.read_manifests.contains(&child.digest)
                    || self.named_count > MAX_EXPECTED_BLOBS
                {
                    continue;
                }
                let is_present = contents.blob(&child.digest).is_ok();
                let is_blob = matches!(expected_blob, ExpectedBlob::Blob);
                let is_large = child.size > MAX_METADATA_BYTES;
                if !is_present && is_blob && is_large && unneeded(&child.digest, Some(child.size)) {
                    self.skipped.push(child);
                    continue;
                }
                if is_present {
                    arrived.push(child.digest.clone());
                }
                self.expected.insert(child.digest, expected_blob);
            }
        }
        self.expected.is_empty()
            && self.named_count <= MAX_EXPECTED_BLOBS
            && self.skipped.drain(..).all(|child| {
                let (digest, len) = (child.digest, child.size);
                let name = blob_path(&digest);
                // The layer may have arrived nevertheless.
                contents.has(&name)
                    || contents
                        .add_file(name, FileContent::Skipped { digest, len })
                        .is_ok()
            })
    }
}
