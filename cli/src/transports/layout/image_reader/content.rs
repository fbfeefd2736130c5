//! Reads the content below a manifest: one image, or everything below an index.

use imgsync_oci::graph::{self, GraphLimits, GraphWalk, PendingManifest, Visit, WalkError};
use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, Manifest};

use crate::image::limits::{
    MAX_INDEX_DEPTH, MAX_MANIFESTS, MAX_METADATA_BYTES, MAX_TOTAL_MANIFEST_BYTES, check_layer_count,
};
use crate::image::{
    Error, ImageBlobs, ImageConfig, ImageGraph, Layer, ManifestOrigin, SingleImage, Slice,
    VerifiedManifest, config,
};
use crate::transports::files::{FileContent, SourceFiles};

/// Reads and parses a manifest.
pub(super) fn read_manifest(
    contents: &SourceFiles,
    digest: &Digest,
    media_type: Option<&str>,
) -> Result<(VerifiedManifest, Manifest), Error> {
    let bytes = contents.read_blob(digest, MAX_METADATA_BYTES)?;
    VerifiedManifest::parse(digest.clone(), bytes, media_type)
        .map_err(|error| contents.malformed(format!("the manifest {digest}: {error}")))
}

/// Reads the manifest or index of a descriptor and everything below it.
///
/// # Errors
/// Returns an error if a manifest or blob is missing or damaged, or if there are too many.
pub(super) fn read_graph(
    contents: &SourceFiles,
    root: &Descriptor,
) -> Result<(ImageGraph, ImageBlobs), Error> {
    let (root, parsed) = read_manifest(contents, &root.digest, Some(&root.media_type))?;
    read_graph_below(contents, root, parsed)
}

/// Reads everything below a manifest or index that need not be in the layout itself.
///
/// # Errors
/// Fails as [`read_graph`] does.
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
    let mut graph = ImageGraph {
        root: root.digest.clone(),
        manifests: Vec::new(),
        blobs: Vec::new(),
    };
    walk.add_root(Descriptor::new(&root.media_type, root.digest.clone(), 0));
    let mut root = Some((root, parsed));
    let mut blobs = ImageBlobs::default();
    let fetch = |pending: &PendingManifest| {
        let entry = pending.descriptor();
        let (manifest, parsed) = match root.take() {
            Some(root) => root,
            None => read_manifest(contents, &entry.digest, Some(&entry.media_type))?,
        };
        if let Manifest::Image { layers, .. } = &parsed {
            check_layer_count(contents.source_name(), layers.len())?;
        }
        for blob in &parsed.children().blobs {
            add_blob(contents, blob, &mut blobs)?;
        }
        Ok(Some(Visit::new(&parsed, manifest.bytes.len(), manifest)))
    };
    graph::walk(&mut walk, fetch).map_err(|error| match error {
        WalkError::Fetch(error) => error,
        WalkError::Limit(_) => {
            let limit = format!("{MAX_MANIFESTS} manifests, {MAX_INDEX_DEPTH} levels");
            Error::too_large(contents.source_name(), "the image's index", limit)
        }
    })?;
    for node in walk.finish() {
        graph.blobs.extend(node.blobs);
        graph.manifests.push(node.value);
    }
    Ok((graph, blobs))
}

/// Reads an image of one config and its layers. Uncompressed layers will be compressed; the others
/// are pushed unchanged.
pub(super) fn read_single(
    contents: &SourceFiles,
    manifest: VerifiedManifest,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<(SingleImage, ImageBlobs), Error> {
    check_layer_count(contents.source_name(), layers.len())?;
    let mut blobs = ImageBlobs::default();
    let bytes = contents.read_blob(&config.digest, MAX_METADATA_BYTES)?;
    contents.check_size(config, bytes.len() as u64)?;
    blobs.insert(config.digest.clone(), Slice::memory(bytes.clone()));
    let diff_ids = if media::is_image_config(&config.media_type) {
        let diff_ids = config::diff_ids(&bytes).map_err(|reason| contents.malformed(reason))?;
        if diff_ids.len() != layers.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            let reason = format!("the manifest has {layers} layers, but the config has {diff_ids}");
            return Err(contents.malformed(reason));
        }
        diff_ids.into_iter().map(Some).collect()
    } else {
        vec![None; layers.len()]
    };
    let mut image_layers = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if !descriptor.is_foreign() {
            add_blob(contents, descriptor, &mut blobs)?;
        }
        image_layers.push(layer(contents, descriptor, diff_id)?);
    }
    let has_raw = image_layers
        .iter()
        .any(|layer| matches!(layer, Layer::Raw { .. }));
    let single = SingleImage {
        config: ImageConfig {
            media_type: config.media_type.clone(),
            digest: config.digest.clone(),
            bytes: Some(bytes),
        },
        layers: image_layers,
        origin: if has_raw {
            ManifestOrigin::Edited(manifest)
        } else {
            ManifestOrigin::Original(manifest)
        },
    };
    Ok((single, blobs))
}

/// Returns the layer of a descriptor, whose diffID the config may state.
fn layer(
    contents: &SourceFiles,
    descriptor: &Descriptor,
    diff_id: Option<Digest>,
) -> Result<Layer, Error> {
    let Descriptor { digest, size, .. } = descriptor;
    match diff_id {
        Some(diff_id) if is_raw(descriptor) && diff_id == *digest => Ok(Layer::Raw {
            diff_id,
            size: Some(*size),
        }),
        Some(diff_id) if is_raw(descriptor) => {
            let (from, found) = (contents.source_name(), digest.clone());
            Err(Error::mismatch(
                from,
                "an uncompressed layer",
                &diff_id,
                found,
            ))
        }
        diff_id => Ok(Layer::Blob {
            descriptor: descriptor.clone(),
            diff_id,
        }),
    }
}

/// Returns whether a layer is an uncompressed tar.
pub(super) fn is_raw(layer: &Descriptor) -> bool {
    Compression::of_media_type(&layer.media_type) == Some(Compression::None)
}

/// Adds a blob, checking its size.
fn add_blob(
    contents: &SourceFiles,
    descriptor: &Descriptor,
    blobs: &mut ImageBlobs,
) -> Result<(), Error> {
    if let FileContent::Available(slice) = contents.sized_blob(descriptor)? {
        blobs.insert(descriptor.digest.clone(), slice);
    }
    Ok(())
}
