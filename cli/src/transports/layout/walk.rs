//! Reads the index and the blobs of an existing layout, folder or archive, and walks over its
//! manifests: which blobs they need, and which refer to which.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use imgsync_oci::graph::{self, GraphLimits, GraphWalk, PendingManifest, Visit};
use imgsync_oci::manifest::Children;
use imgsync_oci::{Descriptor, Digest, MAX_MANIFEST_BYTES, Manifest, media, referrers};

use super::LayoutIndex;
use crate::image::Error;
use crate::image::limits::MAX_INDEX_DEPTH;
use crate::transports::VerifiedManifest;
use crate::transports::files::{FileContent, SourceFiles};

/// The file that lists the images of a layout.
pub(in crate::transports) const OCI_INDEX_FILE: &str = "index.json";
/// The largest `index.json` that is read, in bytes: some ten thousand entries.
const MAX_INDEX_BYTES: u64 = 8 * 1024 * 1024;
/// The bounds of a walk over a layout, which may hold tens of thousands of images.
const LIMITS: GraphLimits = GraphLimits {
    max_depth: MAX_INDEX_DEPTH,
    max_manifests: 200_000,
    max_bytes: u64::MAX,
    max_descriptors: 1_000_000,
};

/// A store of blobs by digest.
pub(crate) trait BlobStore {
    /// Returns the size of a blob in bytes; `None` if it is missing. The content is not checked.
    fn blob_size(&self, digest: &Digest) -> Option<u64>;

    /// Returns the verified bytes of a manifest; `None` if it is missing, does not match its
    /// digest, or is too large for a manifest.
    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes>;
}

impl BlobStore for SourceFiles {
    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        match self.blob(digest) {
            Ok(FileContent::Available(slice)) => Some(slice.len()),
            _ => None,
        }
    }

    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes> {
        self.read_blob(digest, MAX_MANIFEST_BYTES as u64).ok()
    }
}

/// Reads the index of a layout.
///
/// # Errors
/// Returns an error if it is missing or invalid.
pub(crate) fn read_index(contents: &SourceFiles) -> Result<LayoutIndex, Error> {
    let bytes = contents.read(OCI_INDEX_FILE, MAX_INDEX_BYTES)?;
    LayoutIndex::parse(&bytes)
        .map_err(|reason| contents.malformed(format!("{OCI_INDEX_FILE}: {reason}")))
}

/// Returns a verified manifest with its content; an invalid one counts as absent.
pub(crate) fn read_manifest(
    blobs: &dyn BlobStore,
    digest: &Digest,
    declared: Option<&str>,
) -> Option<(VerifiedManifest, Manifest)> {
    let bytes = blobs.manifest_bytes(digest)?;
    let declared = declared.filter(|media_type| !media_type.is_empty());
    VerifiedManifest::parse(digest.clone(), bytes, declared).ok()
}

/// Returns a manifest that is present with all child manifests, and with all blobs in their right
/// sizes.
pub(crate) fn read_complete(
    blobs: &dyn BlobStore,
    digest: &Digest,
    media_type: Option<&str>,
) -> Option<VerifiedManifest> {
    let mut walk = GraphWalk::new(LIMITS);
    let media_type = media_type.unwrap_or_default();
    walk.add_root(Descriptor::new(media_type, digest.clone(), 0));
    let fetch = |pending: &PendingManifest| {
        let entry = pending.descriptor();
        let (_, parsed) = read_manifest(blobs, &entry.digest, Some(&entry.media_type)).ok_or(())?;
        let mut visit = Visit::new(&parsed, 0, ());
        let is_present = |blob: Descriptor| blobs.blob_size(&blob.digest) == Some(blob.size);
        let is_complete = visit.children.blobs.drain(..).all(is_present);
        is_complete.then_some(Some(visit)).ok_or(())
    };
    graph::walk(&mut walk, fetch).ok()?;
    read_manifest(blobs, digest, Some(media_type)).map(|(manifest, _)| manifest)
}

/// Walks over everything below the entries of an index that `visit` returns. What exceeds a bound
/// is left out.
fn walk_index<T>(
    index: &LayoutIndex,
    mut visit: impl FnMut(&Descriptor) -> Option<Visit<T>>,
) -> GraphWalk<T> {
    let mut walk = GraphWalk::new(LIMITS);
    for entry in index.entries() {
        walk.add_root(entry.clone());
    }
    while let Some(pending) = walk.next() {
        if let Some(visited) = visit(pending.descriptor()) {
            let _ = walk.add(&pending, visited);
        }
    }
    walk
}

/// Returns the digests of all present manifests and blobs below the entries of an index, each once,
/// children before parents.
pub(crate) fn reachable_digests(blobs: &dyn BlobStore, index: &LayoutIndex) -> Vec<Digest> {
    let walk = walk_index(index, |entry| {
        blobs.blob_size(&entry.digest)?;
        // An entry that is no manifest is kept as it is.
        let mut children = Children::default();
        if let Some((_, manifest)) = read_manifest(blobs, &entry.digest, Some(&entry.media_type)) {
            children = manifest.children();
            let is_present = |blob: &Descriptor| blobs.blob_size(&blob.digest).is_some();
            children.blobs.retain(is_present);
        }
        Some(Visit {
            children,
            bytes: 0,
            value: (),
        })
    });
    let nodes = walk.finish().into_iter();
    let digests = nodes.flat_map(|node| {
        let blobs = node.blobs.into_iter().map(|blob| blob.digest);
        blobs.chain([node.digest])
    });
    // An artifact can name a manifest among its layers.
    let mut seen = HashSet::new();
    let digests = digests.filter(|digest| seen.insert(digest.clone()));
    digests.collect()
}

/// Returns the referrers of each subject: of all manifests that an index lists, and of those below
/// them. A missing or invalid manifest refers to nothing.
pub(crate) fn referrers_by_subject(
    blobs: &dyn BlobStore,
    index: &LayoutIndex,
) -> HashMap<Digest, Vec<Descriptor>> {
    let mut by_subject: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
    walk_index(index, |entry| {
        // The list of a registry without the referrers API may declare artifact types, which are
        // no types of manifests.
        let declared = media::MANIFEST_TYPES.contains(&&*entry.media_type);
        let declared = declared.then_some(&*entry.media_type);
        let (verified, manifest) = read_manifest(blobs, &entry.digest, declared)?;
        let referrer = referrers::parse_referrer(&verified.bytes, &verified.digest);
        if let Ok(Some((subject, _))) = referrer {
            let size = verified.bytes.len() as u64;
            let referrer = Descriptor::new(&verified.media_type, verified.digest, size);
            by_subject.entry(subject).or_default().push(referrer);
        }
        let mut visit = Visit::new(&manifest, 0, ());
        visit.children.blobs.clear();
        Some(visit)
    });
    by_subject
}
