//! What hangs together in a store of blobs: what a manifest needs, and who speaks about it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest, Manifest, media, referrers};

use super::LayoutIndex;
use crate::transports::VerifiedManifest;

/// How deep indexes may lie in one another.
const MAX_INDEX_DEPTH: usize = 4;
/// The most manifests and blobs that one walk looks at.
const MAX_VISITED_BLOBS: usize = 200_000;

/// Blobs under their digests. Whoever reads one checks it.
pub(crate) trait BlobStore {
    /// The number of bytes of a blob; `None` where it is not there.
    fn size(&self, digest: &Digest) -> Option<u64>;

    /// The bytes of a manifest, found to match the digest; `None` where it is not there, does not
    /// match, or is too large to be one.
    fn manifest_bytes(&self, digest: &Digest) -> Option<Bytes>;
}

/// A manifest, verified; one that makes no sense counts as absent.
pub(crate) fn read_manifest(
    blobs: &dyn BlobStore,
    digest: &Digest,
    declared: Option<&str>,
) -> Option<VerifiedManifest> {
    read(blobs, digest, declared).map(|(held, _)| held)
}

fn read(
    blobs: &dyn BlobStore,
    digest: &Digest,
    declared: Option<&str>,
) -> Option<(VerifiedManifest, Manifest)> {
    let bytes = blobs.manifest_bytes(digest)?;
    let declared = declared.filter(|media_type| !media_type.is_empty());
    let (media_type, manifest) = Manifest::parse(&bytes, declared).ok()?;
    let digest = digest.clone();
    let held = VerifiedManifest {
        digest,
        media_type,
        bytes,
    };
    Some((held, manifest))
}

/// Whether a manifest is there with everything that it needs, each as long as it should be.
pub(crate) fn is_complete(
    blobs: &dyn BlobStore,
    digest: &Digest,
    media_type: Option<&str>,
) -> bool {
    let mut seen = HashSet::new();
    is_complete_below(blobs, digest, media_type, 0, &mut seen)
}

fn is_complete_below(
    blobs: &dyn BlobStore,
    digest: &Digest,
    media_type: Option<&str>,
    depth: usize,
    seen: &mut HashSet<Digest>,
) -> bool {
    if !seen.insert(digest.clone()) {
        return true;
    }
    if depth > MAX_INDEX_DEPTH || seen.len() > MAX_VISITED_BLOBS {
        return false;
    }
    let Some((_, manifest)) = read(blobs, digest, media_type) else {
        return false;
    };
    let children = manifest.children();
    let is_there = |blob: &Descriptor| blobs.size(&blob.digest) == Some(blob.size);
    children.blobs.iter().all(is_there)
        && children.manifests.iter().all(|child| {
            is_complete_below(
                blobs,
                &child.digest,
                Some(&child.media_type),
                depth + 1,
                seen,
            )
        })
}

/// All that is there of what the entries of an index need, each once, children before parents.
pub(crate) fn reachable_digests(blobs: &dyn BlobStore, index: &LayoutIndex) -> Vec<Digest> {
    let mut walk = ReachableWalk {
        blobs,
        seen: HashSet::new(),
        found: Vec::new(),
    };
    for entry in index.entries() {
        walk.visit(entry, 0);
    }
    walk.found
}

struct ReachableWalk<'a> {
    blobs: &'a dyn BlobStore,
    seen: HashSet<Digest>,
    found: Vec<Digest>,
}

impl ReachableWalk<'_> {
    fn visit(&mut self, entry: &Descriptor, depth: usize) {
        if depth > MAX_INDEX_DEPTH || self.seen.len() > MAX_VISITED_BLOBS {
            return;
        }
        if !self.seen.insert(entry.digest.clone()) || self.blobs.size(&entry.digest).is_none() {
            return;
        }
        if let Some((_, manifest)) = read(self.blobs, &entry.digest, Some(&entry.media_type)) {
            let children = manifest.children();
            for child in &children.manifests {
                self.visit(child, depth + 1);
            }
            for blob in &children.blobs {
                let is_new = self.seen.insert(blob.digest.clone());
                if is_new && self.blobs.size(&blob.digest).is_some() {
                    self.found.push(blob.digest.clone());
                }
            }
        }
        self.found.push(entry.digest.clone());
    }
}

/// Who speaks about whom, by `subject`: of all manifests that an index lists, and of those below
/// them. What is not there, or makes no sense, speaks about nothing.
pub(crate) fn referrers_by_subject(
    blobs: &dyn BlobStore,
    index: &LayoutIndex,
) -> HashMap<Digest, Vec<Descriptor>> {
    let mut about: HashMap<Digest, Vec<Descriptor>> = HashMap::new();
    let mut seen = HashSet::new();
    let mut open: Vec<_> = index.entries().map(|entry| (entry.clone(), 0)).collect();
    open.reverse();
    while let Some((entry, depth)) = open.pop() {
        if depth > MAX_INDEX_DEPTH
            || seen.len() > MAX_VISITED_BLOBS
            || !seen.insert(entry.digest.clone())
        {
            continue;
        }
        // The list of a registry without the referrers API names types that are not the manifest's
        // own, and one that is not there at all is no reason to stop.
        let declared = media::MANIFEST_TYPES.contains(&&*entry.media_type);
        let declared = declared.then_some(&*entry.media_type);
        let Some((held, manifest)) = read(blobs, &entry.digest, declared) else {
            continue;
        };
        if let Ok(Some((subject, _))) = referrers::parse_referrer(&held.bytes, &held.digest) {
            let size = held.bytes.len() as u64;
            let referrer = Descriptor::new(&held.media_type, held.digest, size);
            about.entry(subject).or_default().push(referrer);
        }
        let children = manifest.children().manifests.into_iter();
        open.extend(children.rev().map(|child| (child, depth + 1)));
    }
    about
}
