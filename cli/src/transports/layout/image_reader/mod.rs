//! Reads the images of an OCI layout for `push`: an `index.json` names manifests, and blobs are
//! files named by their digests (OCI image-spec, "Image Layout"). Start at [`read_image`].

mod content;
mod platform_selection;
mod root_entry;

use imgsync_oci::{Descriptor, Digest, Manifest};

use crate::image::{
    Error, Image, ImageBlobs, ImageContent, ImageSelector, Platforms, config, is_attestation,
    platform,
};
use crate::transports::files::SourceFiles;
use content::{is_raw, read_graph, read_graph_below, read_manifest, read_single};
use platform_selection::select_platforms;
use root_entry::select_root;

/// The content of an image, its bytes, and notes for the user.
pub(crate) type ReadContent = (ImageContent, ImageBlobs, Vec<String>);

/// Reads the image that `selector` names.
///
/// # Errors
/// Returns an error if there is none, or several, or if a part of it is missing or damaged.
pub(crate) fn read_image(
    contents: &SourceFiles,
    selector: &ImageSelector,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let (root, name) = select_root(contents, selector, platforms)?;
    let media_type = Some(&*root.media_type);
    let (content, blobs, notes) = read_content(contents, &root.digest, media_type, platforms)?;
    let image = Image {
        name,
        content,
        notes,
    };
    Ok((image, blobs))
}

/// Returns whether the layout says more than the `manifest.json` beside it: it has an index, or
/// compressed layers. Docker since version 25 adds a generated manifest of uncompressed layers, in
/// which some versions omitted layers.
///
/// # Errors
/// Returns [`Error::Ambiguous`], and [`Error::PlatformNotFound`] if several images have none of the
/// platforms.
pub(crate) fn is_authoritative(
    contents: &SourceFiles,
    platforms: &Platforms,
) -> Result<bool, Error> {
    let root = match select_root(contents, &ImageSelector::Only, platforms) {
        Ok((root, _)) => root,
        Err(error @ (Error::Ambiguous { .. } | Error::PlatformNotFound { .. })) => {
            return Err(error);
        }
        Err(_) => return Ok(false),
    };
    let manifest = read_manifest(contents, &root.digest, Some(&root.media_type));
    Ok(match manifest {
        Ok((_, Manifest::Index { .. })) => true,
        Ok((_, Manifest::Image { layers, .. })) => !layers.iter().all(is_raw),
        Err(_) => false,
    })
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
) -> Result<ReadContent, Error> {
    let (root, parsed) = read_manifest(contents, digest, media_type)?;
    let children = match &parsed {
        Manifest::Index { manifests, .. } => manifests.clone(),
        Manifest::Image { config, layers, .. } => {
            let (single, blobs) = read_single(contents, root, config, layers)?;
            let own = single.config.bytes.as_deref().and_then(config::platform);
            platforms.check(contents.source_name(), own)?;
            return Ok((ImageContent::Single(single), blobs, Vec::new()));
        }
    };
    if !platforms.is_empty() {
        return select_platforms(contents, &root, &children, platforms);
    }
    match read_graph_below(contents, root, parsed) {
        Ok((graph, blobs)) => Ok((ImageContent::Graph(graph), blobs, Vec::new())),
        Err(missing @ Error::Missing { .. }) => {
            read_only_complete(contents, &children)?.ok_or(missing)
        }
        Err(error) => Err(error),
    }
}

/// Reads the only complete image of an index; `None` if there are none or several.
fn read_only_complete(
    contents: &SourceFiles,
    children: &[Descriptor],
) -> Result<Option<ReadContent>, Error> {
    let is_complete =
        |child: &&Descriptor| !is_attestation(child) && read_graph(contents, child).is_ok();
    let complete: Vec<_> = children.iter().filter(is_complete).collect();
    let [only] = complete[..] else {
        return Ok(None);
    };
    let (manifest, Manifest::Image { config, layers, .. }) =
        read_manifest(contents, &only.digest, Some(&only.media_type))?
    else {
        return Ok(None);
    };
    let (single, blobs) = read_single(contents, manifest, &config, &layers)?;
    let platform = only.platform.as_ref().map(platform::text);
    let platform = platform.unwrap_or_else(|| only.digest.to_string());
    let note = format!("only {platform} of the index is present; it is pushed without the index");
    Ok(Some((ImageContent::Single(single), blobs, vec![note])))
}
