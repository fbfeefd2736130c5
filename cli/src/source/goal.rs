//! When enough of an OCI layout has passed by: a stream of it need not be read to its end.

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Descriptor, Digest, Manifest};

use super::contents::{Contents, Stored, blob_name};
use super::{MAX_METADATA_BYTES, Unneeded};

/// The most blobs that are waited for by name; past that the stream is read to its end.
const MOST: usize = 20_000;

/// What is still to come of everything below one manifest or index.
#[derive(Debug)]
pub(super) struct Goal {
    /// Blobs that have been named and did not come yet; of a manifest its media type.
    open: HashMap<Digest, Awaited>,
    /// Blobs that were named, and that nobody needs.
    unneeded: Vec<Descriptor>,
    /// Manifests that were read.
    read: HashSet<Digest>,
    named: usize,
}

#[derive(Debug)]
enum Awaited {
    Manifest(Option<String>),
    Blob,
}

impl Goal {
    /// Everything below the manifest or index `root`.
    pub(super) fn new(root: &Digest, media_type: Option<&str>) -> Self {
        let awaited = Awaited::Manifest(media_type.map(str::to_owned));
        Self {
            open: HashMap::from([(root.clone(), awaited)]),
            unneeded: Vec::new(),
            read: HashSet::new(),
            named: 1,
        }
    }

    /// Takes in that the blob `digest` has come. Yields whether nothing is missing any more: then
    /// what was named and is not needed stands in `contents` as that.
    pub(super) fn is_reached_with(
        &mut self,
        digest: &Digest,
        contents: &mut Contents,
        unneeded: &mut Unneeded,
    ) -> bool {
        let mut came = vec![digest.clone()];
        while let Some(digest) = came.pop() {
            let media_type = match self.open.remove(&digest) {
                Some(Awaited::Manifest(media_type)) => media_type,
                Some(Awaited::Blob) | None => continue,
            };
            self.read.insert(digest.clone());
            let bytes = contents.read_blob(&digest, MAX_METADATA_BYTES);
            let parsed = bytes.map(|bytes| Manifest::parse(&bytes, media_type.as_deref()));
            let Ok(Ok((_, manifest))) = parsed else {
                // Whoever reads it at the end says what is wrong.
                return false;
            };
            let children = manifest.children();
            let manifests = children.manifests.into_iter();
            let manifests =
                manifests.map(|it| (Awaited::Manifest(Some(it.media_type.clone())), it));
            let blobs = children.blobs.into_iter().map(|it| (Awaited::Blob, it));
            for (awaited, child) in manifests.chain(blobs) {
                self.named += 1;
                if self.read.contains(&child.digest) || self.named > MOST {
                    continue;
                }
                let is_here = contents.blob(&child.digest).is_ok();
                let is_blob = matches!(awaited, Awaited::Blob);
                let is_large = child.size > MAX_METADATA_BYTES;
                if !is_here && is_blob && is_large && unneeded(&child.digest, Some(child.size)) {
                    self.unneeded.push(child);
                    continue;
                }
                if is_here {
                    came.push(child.digest.clone());
                }
                self.open.insert(child.digest, awaited);
            }
        }
        self.open.is_empty()
            && self.named <= MOST
            && self.unneeded.drain(..).all(|child| {
                let (digest, len) = (child.digest, child.size);
                let name = blob_name(&digest);
                // It may have come by after all.
                contents.has(&name)
                    || contents
                        .store(name, Stored::Elsewhere { digest, len })
                        .is_ok()
            })
    }
}
