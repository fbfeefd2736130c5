//! OCI image layouts: an `index.json` names manifests, and blobs lie under their digests
//! (OCI image-spec, "Image Layout").

mod chosen;
mod entry;
mod graph;
mod single;

use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest};

use super::contents::{Contents, Stored};
use super::{
    Blobs, Content, Error, Image, MAX_LAYERS, MAX_METADATA_BYTES, ManifestBytes, Platforms,
    Selector, config, platform,
};
use chosen::chosen;
use entry::root;
use graph::graph;
use single::single;

/// The file that makes a folder or an archive one of this kind.
pub(super) const INDEX: &str = "index.json";

/// The image that `selector` means.
///
/// # Errors
/// There is none, or several; a part of it is missing or damaged.
pub(super) fn image(
    contents: &Contents,
    selector: &Selector,
    platforms: &Platforms,
) -> Result<(Image, Blobs), Error> {
    let (root, name) = root(contents, selector)?;
    let (content, blobs, remarks) =
        content(contents, &root.digest, Some(&root.media_type), platforms)?;
    Ok((
        Image {
            name,
            content,
            remarks,
        },
        blobs,
    ))
}

/// Whether the layout says more than `manifest.json` beside it: an index, or layers as a registry
/// has them. Docker from 25 on puts a made-up manifest of raw layers beside its own, which at
/// times lacked some.
///
/// # Errors
/// [`Error::Ambiguous`].
pub(super) fn is_authoritative(contents: &Contents) -> Result<bool, Error> {
    let root = match root(contents, &Selector::Only) {
        Ok((root, _)) => root,
        Err(error @ Error::Ambiguous { .. }) => return Err(error),
        Err(_) => return Ok(false),
    };
    let Ok((_, manifest)) = manifest(contents, &root.digest, Some(&root.media_type)) else {
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

/// A manifest of the layout, read and parsed.
fn manifest(
    contents: &Contents,
    digest: &Digest,
    media_type: Option<&str>,
) -> Result<(ManifestBytes, Manifest), Error> {
    let bytes = contents.read_blob(digest, MAX_METADATA_BYTES)?;
    let (media_type, manifest) = Manifest::parse(&bytes, media_type)
        .map_err(|error| contents.malformed(format!("the manifest {digest}: {error}")))?;
    let digest = digest.clone();
    Ok((
        ManifestBytes {
            media_type,
            digest,
            bytes,
        },
        manifest,
    ))
}

/// The content below a manifest or index, its bytes, and what the user should hear.
///
/// Where an index names platforms that are not there, as an image pulled for one platform does,
/// and exactly one is whole, then that one is the image: so does `docker push`. Where platforms
/// are asked for, only those go.
///
/// # Errors
/// A part is missing, damaged, or contradicts another.
pub(super) fn content(
    contents: &Contents,
    digest: &Digest,
    media_type: Option<&str>,
    platforms: &Platforms,
) -> Result<(Content, Blobs, Vec<String>), Error> {
    let children = match manifest(contents, digest, media_type)? {
        (own, Manifest::Image { config, layers, .. }) => {
            let (single, blobs) = single(contents, own, &config, &layers)?;
            let config = single.config.bytes.as_ref();
            let there = config.and_then(|config| config::platform(config));
            platforms.check(contents.from(), there)?;
            return Ok((Content::Single(single), blobs, Vec::new()));
        }
        (own, Manifest::Index { manifests, .. }) if !platforms.is_empty() => {
            return chosen(contents, &own, &manifests, platforms);
        }
        (_, Manifest::Index { manifests, .. }) => manifests,
    };
    let missing = match graph(contents, digest, media_type) {
        Ok((graph, blobs)) => return Ok((Content::Graph(graph), blobs, Vec::new())),
        Err(error @ Error::Missing { .. }) => error,
        Err(error) => return Err(error),
    };
    let is_whole = |it: &&Descriptor| {
        !is_attestation(it) && graph(contents, &it.digest, Some(&it.media_type)).is_ok()
    };
    let whole: Vec<_> = children.iter().filter(is_whole).collect();
    let [only] = whole[..] else {
        return Err(missing);
    };
    let (own, Manifest::Image { config, layers, .. }) =
        manifest(contents, &only.digest, Some(&only.media_type))?
    else {
        return Err(missing);
    };
    let (single, blobs) = single(contents, own, &config, &layers)?;
    let platform = match &only.platform {
        Some(platform) => platform::text(platform),
        None => only.digest.to_string(),
    };
    let remark = format!("only {platform} of the image's index is here; it goes without the index");
    Ok((Content::Single(single), blobs, vec![remark]))
}

/// Whether an index's entry speaks about another one instead of being an image (BuildKit's mark).
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotation("vnd.docker.reference.type").is_some()
}

/// Finds a blob and notes where it is.
fn blob(contents: &Contents, descriptor: &Descriptor, blobs: &mut Blobs) -> Result<(), Error> {
    let stored = contents.blob(&descriptor.digest)?;
    check_size(contents, descriptor, stored.len())?;
    match stored {
        Stored::Here(slice) => blobs.insert(descriptor.digest.clone(), slice),
        Stored::Elsewhere { .. } => {}
    }
    Ok(())
}

fn check_layers(contents: &Contents, layers: &[Descriptor]) -> Result<(), Error> {
    if layers.len() > MAX_LAYERS {
        return Err(Error::TooLarge {
            from: contents.from().to_owned(),
            what: format!("an image of {} layers", layers.len()),
            limit: format!("{MAX_LAYERS} layers"),
        });
    }
    Ok(())
}

fn check_size(contents: &Contents, descriptor: &Descriptor, len: u64) -> Result<(), Error> {
    if len != descriptor.size {
        let Descriptor { digest, size, .. } = descriptor;
        let reason = format!("the blob {digest} has {len} bytes, and should have {size}");
        return Err(contents.malformed(reason));
    }
    Ok(())
}
