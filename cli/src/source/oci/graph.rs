//! Everything below an index.

use std::collections::HashSet;

use imgsync_oci::{Digest, Manifest};

use super::super::contents::Contents;
use super::super::{Blobs, Error, Graph, ManifestBytes};
use super::{blob, check_layers, manifest};

/// How deep indexes may lie in one another.
const MAX_DEPTH: usize = 4;
/// The most manifests below one index, and the most bytes of all of them together.
const MAX_MANIFESTS: usize = 1000;
const MAX_MANIFESTS_BYTES: usize = 32 * 1024 * 1024;

/// Everything below an index, or below one manifest.
pub(super) fn graph(
    contents: &Contents,
    root: &Digest,
    media_type: Option<&str>,
) -> Result<(Graph, Blobs), Error> {
    let mut walk = Walk::new(contents, root);
    walk.visit(root, media_type, 0)?;
    Ok(walk.over())
}

/// A walk from an index down, children before parents.
pub(super) struct Walk<'a> {
    contents: &'a Contents,
    graph: Graph,
    blobs: Blobs,
    seen_manifests: HashSet<Digest>,
    seen_blobs: HashSet<Digest>,
    /// Bytes of all manifests.
    bytes: usize,
}

impl<'a> Walk<'a> {
    /// Begins at `root`, which is entered next.
    pub(super) fn new(contents: &'a Contents, root: &Digest) -> Self {
        Self {
            contents,
            graph: Graph {
                root: root.clone(),
                manifests: Vec::new(),
                blobs: Vec::new(),
            },
            blobs: Blobs::default(),
            seen_manifests: HashSet::new(),
            seen_blobs: HashSet::new(),
            bytes: 0,
        }
    }

    fn visit(
        &mut self,
        digest: &Digest,
        media_type: Option<&str>,
        depth: usize,
    ) -> Result<(), Error> {
        let (own, parsed) = manifest(self.contents, digest, media_type)?;
        self.enter(own, &parsed, depth)
    }

    /// Takes in a manifest or index, and all below it.
    ///
    /// # Errors
    /// A part is missing or damaged, or there is too much.
    pub(super) fn enter(
        &mut self,
        own: ManifestBytes,
        parsed: &Manifest,
        depth: usize,
    ) -> Result<(), Error> {
        self.bytes += own.bytes.len();
        if depth > MAX_DEPTH
            || self.graph.manifests.len() >= MAX_MANIFESTS
            || self.bytes > MAX_MANIFESTS_BYTES
        {
            return Err(Error::TooLarge {
                from: self.contents.from().to_owned(),
                what: "the image's index".to_owned(),
                limit: format!("{MAX_MANIFESTS} manifests, {MAX_DEPTH} levels"),
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
                blob(self.contents, &child, &mut self.blobs)?;
                self.graph.blobs.push(child);
            }
        }
        self.graph.manifests.push(own);
        Ok(())
    }

    /// What was found.
    pub(super) fn over(self) -> (Graph, Blobs) {
        (self.graph, self.blobs)
    }
}
