//! Reads the images of an OCI layout for `push`: an `index.json` names manifests, and blobs are
//! files named by their digests (OCI image-spec, "Image Layout"). Start at [`read_image`].

mod graph;
mod platform_selection;
mod root_entry;
mod single;

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest};

use crate::image::limits::{MAX_LAYERS, MAX_METADATA_BYTES};
use crate::image::{
    Error, Image, ImageBlobs, ImageContent, ImageSelector, Platforms, VerifiedManifest, config,
    is_attestation, platform,
};
use crate::transports::files::{FileContent, SourceFiles};
use graph::read_graph;
use platform_selection::select_platforms;
use root_entry::select_root;
use single::read_single;

/// Reads the image that `selector` names.
///
/// # Errors
/// Returns an error if there is none, or several, or if a part of it is missing or damaged.
pub(crate) fn read_image(
    contents: &SourceFiles,
    selector: &ImageSelector,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let (root, name) = select_root(contents, selector)?;
    let (content, blobs, notes) =
        read_content(contents, &root.digest, Some(&root.media_type), platforms)?;
    Ok((
        Image {
            name,
            content,
            notes,
        },
        blobs,
    ))
}

/// Returns whether the layout says more than the `manifest.json` beside it: it has an index, or
/// compressed layers. Docker since version 25 adds a generated manifest of uncompressed layers, in
/// which some versions omitted layers.
///
/// # Errors
/// Returns [`Error::Ambiguous`].
pub(crate) fn is_authoritative(contents: &SourceFiles) -> Result<bool, Error> {
    let root = match select_root(contents, &ImageSelector::Only) {
        Ok((root, _)) => root,
        Err(error @ Error::Ambiguous { .. }) => return Err(error),
        Err(_) => return Ok(false),
    };
    let Ok((_, manifest)) = read_manifest(contents, &root.digest, Some(&root.media_type)) else {
        return Ok(false);
    };
    Ok(match manifest {
        Manifest::Index { .. } => true,
        Manifest::Image { layers, .. } => layers.iter().any(|layer| !is_raw(layer)),
    })
}

fn is_raw(layer: &Descriptor) -> bool {
    Compression::of_media_type(&layer.media_type) == Some(Compression::None)
}

/// Reads and parses a manifest.
fn read_manifest(
    contents: &SourceFiles,
    digest: &Digest,
    media_type: Option<&str>,
) -> Result<(VerifiedManifest, Manifest), Error> {
    let bytes = contents.read_blob(digest, MAX_METADATA_BYTES)?;
    let (media_type, manifest) = Manifest::parse(&bytes, media_type)
        .map_err(|error| contents.malformed(format!("the manifest {digest}: {error}")))?;
    let digest = digest.clone();
    Ok((
        VerifiedManifest {
            media_type,
            digest,
            bytes,
        },
        manifest,
    ))
}

/// Reads the content below a manifest or index, with its bytes and notes for the user.
///
/// An index may name platforms that are missing, as after pulling an image for one platform. If
/// exactly one platform is complete, it is the image, as for `docker push`. If platforms are
/// requested, only those are read.
///
/// # Errors
/// Returns an error if a part is missing, damaged, or contradicts another.
pub(crate) fn read_content(
    contents: &SourceFiles,
    digest: &Digest,
    media_type: Option<&str>,
    platforms: &Platforms,
) -> Result<(ImageContent, ImageBlobs, Vec<String>), Error> {
    let children = match read_manifest(contents, digest, media_type)? {
        (root, Manifest::Image { config, layers, .. }) => {
            let (single, blobs) = read_single(contents, root, &config, &layers)?;
            let config = single.config.bytes.as_ref();
            let there = config.and_then(|config| config::platform(config));
            platforms.check(contents.source_name(), there)?;
            return Ok((ImageContent::Single(single), blobs, Vec::new()));
        }
        (root, Manifest::Index { manifests, .. }) if !platforms.is_empty() => {
            return select_platforms(contents, &root, &manifests, platforms);
        }
        (_, Manifest::Index { manifests, .. }) => manifests,
    };
    let missing = match read_graph(contents, digest, media_type) {
        Ok((graph, blobs)) => return Ok((ImageContent::Graph(graph), blobs, Vec::new())),
        Err(error @ Error::Missing { .. }) => error,
        Err(error) => return Err(error),
    };
    let is_whole = |it: &&Descriptor| {
        !is_attestation(it) && read_graph(contents, &it.digest, Some(&it.media_type)).is_ok()
    };
    let whole: Vec<_> = children.iter().filter(is_whole).collect();
    let [only] = whole[..] else {
        return Err(missing);
    };
    let (root, Manifest::Image { config, layers, .. }) =
        read_manifest(contents, &only.digest, Some(&only.media_type))?
    else {
        return Err(missing);
    };
    let (single, blobs) = read_single(contents, root, &config, &layers)?;
    let platform = match &only.platform {
        Some(platform) => platform::text(platform),
        None => only.digest.to_string(),
    };
    let note = format!("only {platform} of the index is present; it is pushed without the index");
    Ok((ImageContent::Single(single), blobs, vec![note]))
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

fn check_layers(contents: &SourceFiles, layers: &[Descriptor]) -> Result<(), Error> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::TooLarge {
            from: contents.source_name().to_owned(),
            what: format!("an image of {} layers", layers.len()),
            limit: format!("{MAX_LAYERS} layers"),
        });
    }
    Ok(())
}
