//! Everything below an index.

use std::collections::HashSet;

use imgsync_oci::{Digest, Manifest};

use super::{add_blob, check_layers, read_manifest};
use crate::image::{Error, ImageBlobs, ImageGraph, ManifestBytes};
use crate::transports::files::SourceFiles;

/// How deep indexes may lie in one another.
const MAX_INDEX_DEPTH: usize = 4;
/// The most manifests below one index, and the most bytes of all of them together.
const MAX_MANIFESTS: usize = 1000;
const MAX_TOTAL_MANIFEST_BYTES: usize = 32 * 1024 * 1024;

/// Everything below an index, or below one manifest.
pub(super) fn read_graph(
    contents: &SourceFiles,
    root: &Digest,
    media_type: Option<&str>,
) -> Result<(ImageGraph, ImageBlobs), Error> {
    let mut walk = GraphWalk::new(contents, root);
    walk.visit(root, media_type, 0)?;
    Ok(walk.finish())
}

/// A walk from an index down, children before parents.
pub(super) struct GraphWalk<'a> {
    contents: &'a SourceFiles,
    graph: ImageGraph,
    blobs: ImageBlobs,
    seen_manifests: HashSet<Digest>,
    seen_blobs: HashSet<Digest>,
    /// Bytes of all manifests.
    manifest_bytes: usize,
}

impl<'a> GraphWalk<'a> {
    /// Begins at `root`, which is entered next.
    pub(super) fn new(contents: &'a SourceFiles, root: &Digest) -> Self {
        Self {
            contents,
            graph: ImageGraph {
                root: root.clone(),
                manifests: Vec::new(),
                blobs: Vec::new(),
            },
            blobs: ImageBlobs::default(),
            seen_manifests: HashSet::new(),
            seen_blobs: HashSet::new(),
            manifest_bytes: 0,
        }
    }

    fn visit(
        &mut self,
        digest: &Digest,
        media_type: Option<&str>,
        depth: usize,
    ) -> Result<(), Error> {
        let (own, parsed) = read_manifest(self.contents, digest, media_type)?;
        self.add_manifest(own, &parsed, depth)
    }

    /// Takes in a manifest or index, and all below it.
    ///
    /// # Errors
    /// A part is missing or damaged, or there is too much.
    pub(super) fn add_manifest(
        &mut self,
        own: ManifestBytes,
        parsed: &Manifest,
        depth: usize,
    ) -> Result<(), Error> {
        self.manifest_bytes += own.bytes.len();
        if depth > MAX_INDEX_DEPTH
            || self.graph.manifests.len() >= MAX_MANIFESTS
            || self.manifest_bytes > MAX_TOTAL_MANIFEST_BYTES
        {
            return Err(Error::TooLarge {
                from: self.contents.source_name().to_owned(),
                what: "the image's index".to_owned(),
                limit: format!("{MAX_MANIFESTS} manifests, {MAX_INDEX_DEPTH} levels"),
            });
        }
        if let Manifest::Image { layers, .. } = parsed {
            check_layers(self.contents, layers)?;
        }
        let children = parsed.children();
        for child in children.manifests {
            if self.seen_manifests.insert(child.digest.clone()) {
                self.visit(&child.digest, Some(&child.media_type), depth + 1)?;
            }
        }
        for child in children.blobs {
            if self.seen_blobs.insert(child.digest.clone()) {
                add_blob(self.contents, &child, &mut self.blobs)?;
                self.graph.blobs.push(child);
            }
        }
        self.graph.manifests.push(own);
        Ok(())
    }

    /// What was found.
    pub(super) fn finish(self) -> (ImageGraph, ImageBlobs) {
        (self.graph, self.blobs)
    }
}
