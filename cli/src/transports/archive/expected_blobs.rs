//! When enough of an OCI layout has passed by: a stream of it need not be read to its end.

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Descriptor, Digest, Manifest};

use crate::image::limits::MAX_METADATA_BYTES;
use crate::transports::SkipLayer;
use crate::transports::files::{FileContent, SourceFiles, blob_path};

/// The most blobs that are waited for by name; past that the stream is read to its end.
const MAX_EXPECTED_BLOBS: usize = 20_000;

/// What is still to come of everything below one manifest or index.
#[derive(Debug)]
pub(crate) struct ExpectedBlobs {
    /// Blobs that have been named and did not come yet; of a manifest its media type.
    expected: HashMap<Digest, ExpectedBlob>,
    /// Blobs that were named, and that nobody needs.
    skipped: Vec<Descriptor>,
    /// Manifests that were read.
    read_manifests: HashSet<Digest>,
    named_count: usize,
}

#[derive(Debug)]
enum ExpectedBlob {
    Manifest(Option<String>),
    Blob,
}

impl ExpectedBlobs {
    /// Everything below the manifest or index `root`.
    pub(in crate::transports) fn new(root: &Digest, media_type: Option<&str>) -> Self {
        let awaited = ExpectedBlob::Manifest(media_type.map(str::to_owned));
        Self {
            expected: HashMap::from([(root.clone(), awaited)]),
            skipped: Vec::new(),
            read_manifests: HashSet::new(),
            named_count: 1,
        }
    }

    /// Takes in that the blob `digest` has come. Yields whether nothing is missing any more: then
    /// what was named and is not needed stands in `contents` as that.
    pub(super) fn record_arrival(
        &mut self,
        digest: &Digest,
        contents: &mut SourceFiles,
        unneeded: &mut SkipLayer,
    ) -> bool {
        let mut came = vec![digest.clone()];
        while let Some(digest) = came.pop() {
            let media_type = match self.expected.remove(&digest) {
                Some(ExpectedBlob::Manifest(media_type)) => media_type,
                Some(ExpectedBlob::Blob) | None => continue,
            };
            self.read_manifests.insert(digest.clone());
            let bytes = contents.read_blob(&digest, MAX_METADATA_BYTES);
            let parsed = bytes.map(|bytes| Manifest::parse(&bytes, media_type.as_deref()));
            let Ok(Ok((_, manifest))) = parsed else {
                // Whoever reads it at the end says what is wrong.
                return false;
            };
            let children = manifest.children();
            let manifests = children.manifests.into_iter();
            let manifests =
                manifests.map(|it| (ExpectedBlob::Manifest(Some(it.media_type.clone())), it));
            let blobs = children
                .blobs
                .into_iter()
                .map(|it| (ExpectedBlob::Blob, it));
            for (awaited, child) in manifests.chain(blobs) {
                self.named_count += 1;
                if self.read_manifests.contains(&child.digest)
                    || self.named_count > MAX_EXPECTED_BLOBS
                {
                    continue;
                }
                let is_here = contents.blob(&child.digest).is_ok();
                let is_blob = matches!(awaited, ExpectedBlob::Blob);
                let is_large = child.size > MAX_METADATA_BYTES;
                if !is_here && is_blob && is_large && unneeded(&child.digest, Some(child.size)) {
                    self.skipped.push(child);
                    continue;
                }
                if is_here {
                    came.push(child.digest.clone());
                }
                self.expected.insert(child.digest, awaited);
            }
        }
        self.expected.is_empty()
            && self.named_count <= MAX_EXPECTED_BLOBS
            && self.skipped.drain(..).all(|child| {
                let (digest, len) = (child.digest, child.size);
                let name = blob_path(&digest);
                // It may have come by after all.
                contents.has(&name)
                    || contents
                        .add_file(name, FileContent::Skipped { digest, len })
                        .is_ok()
            })
    }
}
