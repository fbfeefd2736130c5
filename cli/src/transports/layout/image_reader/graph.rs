//! Reads everything below an index.

use imgsync_oci::graph::{self, GraphLimits, GraphWalk, PendingManifest, Visit, WalkError};
use imgsync_oci::{Descriptor, Digest, Manifest};

use super::{add_blob, check_layers, read_manifest};
use crate::image::limits::MAX_INDEX_DEPTH;
use crate::image::{Error, ImageBlobs, ImageGraph, VerifiedManifest};
use crate::transports::files::SourceFiles;

/// The most manifests below one index, the index included.
const MAX_MANIFESTS: usize = 1000;
/// The most bytes of all manifests together.
const MAX_TOTAL_MANIFEST_BYTES: u64 = 32 * 1024 * 1024;

/// Reads a manifest or index and everything below it.
///
/// # Errors
/// Returns an error if a manifest or blob is missing or damaged, or if there are too many.
pub(super) fn read_graph(
    contents: &SourceFiles,
    root: &Digest,
    media_type: Option<&str>,
) -> Result<(ImageGraph, ImageBlobs), Error> {
    let (root, parsed) = read_manifest(contents, root, media_type)?;
    read_graph_below(contents, root, parsed)
}

/// Reads everything below a manifest or index that need not be in the layout itself.
///
/// # Errors
/// Those of [`read_graph`].
pub(super) fn read_graph_below(
    contents: &SourceFiles,
    root: VerifiedManifest,
    parsed: Manifest,
) -> Result<(ImageGraph, ImageBlobs), Error> {
    let mut walk = GraphWalk::new(GraphLimits {
        max_depth: MAX_INDEX_DEPTH,
        max_manifests: MAX_MANIFESTS,
        max_bytes: MAX_TOTAL_MANIFEST_BYTES,
        // The bytes of the manifests bound them.
        max_descriptors: usize::MAX,
    });
    let size = root.bytes.len() as u64;
    let root_digest = root.digest.clone();
    walk.add_root(Descriptor::new(&root.media_type, root_digest.clone(), size));
    let mut root = Some((root, parsed));
    let mut blobs = ImageBlobs::default();
    let fetch = |pending: &PendingManifest| {
        let Descriptor {
            digest, media_type, ..
        } = pending.descriptor();
        let (manifest, parsed) = match root.take() {
            Some(root) => root,
            None => read_manifest(contents, digest, Some(media_type))?,
        };
        if let Manifest::Image { layers, .. } = &parsed {
            check_layers(contents, layers)?;
        }
        for blob in &parsed.children().blobs {
            add_blob(contents, blob, &mut blobs)?;
        }
        Ok(Some(Visit::new(&parsed, manifest.bytes.len(), manifest)))
    };
    graph::walk(&mut walk, fetch).map_err(|error| match error {
        WalkError::Fetch(error) => error,
        WalkError::Limit(_) => Error::TooLarge {
            from: contents.source_name().to_owned(),
            what: "the image's index".to_owned(),
            limit: format!("{MAX_MANIFESTS} manifests, {MAX_INDEX_DEPTH} levels"),
        },
    })?;
    let mut graph = ImageGraph {
        root: root_digest,
        manifests: Vec::new(),
        blobs: Vec::new(),
    };
    for node in walk.finish() {
        graph.blobs.extend(node.blobs);
        graph.manifests.push(node.value);
    }
    Ok((graph, blobs))
}
