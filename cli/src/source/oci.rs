//! OCI image layouts: an `index.json` names manifests, and blobs lie under their digests
//! (OCI image-spec, "Image Layout").

use std::collections::HashSet;

use imgsync_oci::manifest::Platform;
use imgsync_oci::media::{self, Compression};
use imgsync_oci::{Descriptor, Digest, LocalName, Manifest};

use super::contents::{Contents, Stored};
use super::slice::Slice;
use super::{
    Blobs, Config, Content, Error, Graph, Image, Layer, MAX_LAYERS, MAX_METADATA_BYTES,
    ManifestBytes, Origin, Platforms, Selector, Single, config, name, platform,
};

/// The file that makes a folder or an archive one of this kind.
pub(super) const INDEX: &str = "index.json";
/// How deep indexes may lie in one another.
const MAX_DEPTH: usize = 4;
/// The most manifests below one index, and the most bytes of all of them together.
const MAX_MANIFESTS: usize = 1000;
const MAX_MANIFESTS_BYTES: usize = 32 * 1024 * 1024;

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

/// The entry of `index.json` that is meant, and the image's name.
fn root(
    contents: &Contents,
    selector: &Selector,
) -> Result<(Descriptor, Option<LocalName>), Error> {
    let bytes = contents.read(INDEX, MAX_METADATA_BYTES)?;
    let (_, index) = Manifest::parse(&bytes, None)
        .map_err(|error| contents.malformed(format!("{INDEX}: {error}")))?;
    let Manifest::Index { manifests, .. } = index else {
        return Err(contents.malformed(format!("{INDEX} is no index")));
    };
    let names = || {
        manifests
            .iter()
            .filter_map(label)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let from = || contents.from().to_owned();
    let not_there = |wanted: String| Error::NotThere {
        from: from(),
        wanted,
        names: names(),
    };
    let chosen = match selector {
        Selector::At(place) => manifests
            .get(*place)
            .ok_or_else(|| not_there(format!("@{place}")))?,
        Selector::Named(wanted) => {
            let labels: Vec<_> = manifests.iter().map(|it| label(it).unwrap_or("")).collect();
            let tagged = |it: &&Descriptor| it.annotation(REF_NAME) == Some(wanted);
            match manifests.iter().find(tagged) {
                Some(exact) => exact,
                None => match name::choose(wanted, labels.into_iter()) {
                    Some(place) => &manifests[place],
                    None => return Err(not_there(wanted.clone())),
                },
            }
        }
        Selector::Only => {
            // One image may be there under several names, and referrers without any.
            let one = |all: &[&Descriptor]| {
                all.first()
                    .is_some_and(|first| all.iter().all(|it| it.digest == first.digest))
            };
            let all: Vec<_> = manifests.iter().collect();
            let named: Vec<_> = manifests.iter().filter(|it| label(it).is_some()).collect();
            if all.is_empty() {
                return Err(contents.missing("any image"));
            } else if one(&all) {
                all[0]
            } else if one(&named) {
                named[0]
            } else {
                return Err(Error::Ambiguous {
                    from: from(),
                    names: names(),
                });
            }
        }
    };
    // A bare tag is no name.
    let full = label(chosen).filter(|label| label.contains(['/', ':']));
    Ok((chosen.clone(), full.and_then(name::familiar)))
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What an entry of `index.json` is called: containerd writes the whole name beside the tag.
fn label(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation("io.containerd.image.name")
        .or_else(|| entry.annotation(REF_NAME))
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

/// What an index holds for some platforms: of one the image itself, its bytes unchanged; of
/// several an index that names only them, and what is attested of them.
fn chosen(
    contents: &Contents,
    own: &ManifestBytes,
    children: &[Descriptor],
    platforms: &Platforms,
) -> Result<(Content, Blobs, Vec<String>), Error> {
    let is_there = |it: &Descriptor| {
        let graph = graph(contents, &it.digest, Some(&it.media_type));
        !matches!(graph, Err(Error::Missing { .. }))
    };
    let (attestations, images): (Vec<_>, Vec<_>) = children
        .iter()
        .enumerate()
        .filter(|(_, it)| is_there(it))
        .partition(|(_, it)| is_attestation(it));
    let there: Vec<_> = images
        .iter()
        .map(|(_, it)| platform_of(contents, it))
        .collect();
    let places = platforms.choose(contents.from(), &there)?;
    if let [place] = places[..] {
        let (_, only) = images[place];
        let all = Platforms::default();
        let (content, blobs, mut remarks) =
            content(contents, &only.digest, Some(&only.media_type), &all)?;
        remarks.push(format!("{platforms} goes as one image, without the index"));
        return Ok((content, blobs, remarks));
    }
    let chosen: Vec<_> = places.iter().map(|place| images[*place]).collect();
    let is_about_chosen = |(_, it): &&(usize, &Descriptor)| {
        let subject = it.annotation("vnd.docker.reference.digest");
        let mut digests = chosen.iter().map(|(_, it)| it.digest.to_string());
        subject.is_some_and(|subject| digests.any(|digest| digest == subject))
    };
    let about = attestations.iter().filter(is_about_chosen);
    let kept: HashSet<_> = chosen.iter().chain(about).map(|(at, _)| *at).collect();
    let mut remarks = Vec::new();
    let index = if kept.len() == children.len() {
        own.clone()
    } else {
        remarks.push(format!(
            "the index is written anew for {platforms}, so its digest is another one"
        ));
        restricted(contents, own, &kept)?
    };
    let (_, parsed) = Manifest::parse(&index.bytes, Some(&index.media_type))
        .map_err(|error| contents.malformed(format!("the index of {platforms}: {error}")))?;
    let mut walk = Walk::new(contents, &index.digest);
    walk.enter(index, &parsed, 0)?;
    Ok((Content::Graph(walk.graph), walk.blobs, remarks))
}

/// The platform of an index's entry: as the entry says, else as the image's config does.
fn platform_of(contents: &Contents, entry: &Descriptor) -> Option<Platform> {
    if let Some(platform) = &entry.platform {
        return Some(platform.clone());
    }
    match manifest(contents, &entry.digest, Some(&entry.media_type)) {
        Ok((_, Manifest::Image { config, .. })) => {
            let config = contents.read_blob(&config.digest, MAX_METADATA_BYTES);
            config.ok().and_then(|config| config::platform(&config))
        }
        Ok((_, Manifest::Index { .. })) | Err(_) => None,
    }
}

/// An index without the entries that are not kept; whatever else it says stays.
fn restricted(
    contents: &Contents,
    own: &ManifestBytes,
    kept: &HashSet<usize>,
) -> Result<ManifestBytes, Error> {
    let broken = |error: serde_json::Error| contents.malformed(format!("the index: {error}"));
    let mut index: serde_json::Value = serde_json::from_slice(&own.bytes).map_err(broken)?;
    if let Some(entries) = index["manifests"].as_array_mut() {
        let mut at = 0..;
        entries.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
    }
    let bytes = serde_json::to_vec(&index).map_err(broken)?;
    Ok(ManifestBytes::new(&own.media_type, bytes))
}

/// Whether an index's entry speaks about another one instead of being an image (BuildKit's mark).
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotation("vnd.docker.reference.type").is_some()
}

/// One image: raw layers are told from those that go as they are.
fn single(
    contents: &Contents,
    own: ManifestBytes,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<(Single, Blobs), Error> {
    check_layers(contents, layers)?;
    let mut blobs = Blobs::default();
    let bytes = contents.read_blob(&config.digest, MAX_METADATA_BYTES)?;
    check_size(contents, config, bytes.len() as u64)?;
    blobs.insert(config.digest.clone(), Slice::memory(bytes.clone()));
    let diff_ids = if media::is_image_config(&config.media_type) {
        let diff_ids = config::diff_ids(&bytes).map_err(|reason| contents.malformed(reason))?;
        if diff_ids.len() != layers.len() {
            let (layers, diff_ids) = (layers.len(), diff_ids.len());
            let reason = format!("the manifest has {layers} layers, the config {diff_ids}");
            return Err(contents.malformed(reason));
        }
        diff_ids.into_iter().map(Some).collect()
    } else {
        vec![None; layers.len()]
    };
    let mut sorted = Vec::with_capacity(layers.len());
    for (descriptor, diff_id) in layers.iter().zip(diff_ids) {
        if !descriptor.is_foreign() {
            blob(contents, descriptor, &mut blobs)?;
        }
        sorted.push(match diff_id {
            Some(diff_id) if is_raw(descriptor) => {
                if diff_id != descriptor.digest {
                    return Err(Error::Mismatch {
                        from: contents.from().to_owned(),
                        what: "an uncompressed layer".to_owned(),
                        expected: diff_id,
                        found: descriptor.digest.clone(),
                    });
                }
                let size = Some(descriptor.size);
                Layer::Raw { diff_id, size }
            }
            diff_id => {
                let descriptor = descriptor.clone();
                Layer::Ready {
                    descriptor,
                    diff_id,
                }
            }
        });
    }
    let has_raw = sorted
        .iter()
        .any(|layer| matches!(layer, Layer::Raw { .. }));
    let single = Single {
        config: Config {
            media_type: config.media_type.clone(),
            digest: config.digest.clone(),
            bytes: Some(bytes),
        },
        layers: sorted,
        origin: if has_raw {
            Origin::Edited(own)
        } else {
            Origin::Kept(own)
        },
    };
    Ok((single, blobs))
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

/// Everything below an index, or below one manifest.
fn graph(
    contents: &Contents,
    root: &Digest,
    media_type: Option<&str>,
) -> Result<(Graph, Blobs), Error> {
    let mut walk = Walk::new(contents, root);
    walk.visit(root, media_type, 0)?;
    Ok((walk.graph, walk.blobs))
}

struct Walk<'a> {
    contents: &'a Contents,
    graph: Graph,
    blobs: Blobs,
    seen_manifests: HashSet<Digest>,
    seen_blobs: HashSet<Digest>,
    /// Bytes of all manifests.
    bytes: usize,
}

impl<'a> Walk<'a> {
    fn new(contents: &'a Contents, root: &Digest) -> Self {
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

    fn enter(&mut self, own: ManifestBytes, parsed: &Manifest, depth: usize) -> Result<(), Error> {
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
