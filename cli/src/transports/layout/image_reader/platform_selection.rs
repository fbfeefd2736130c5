//! Some platforms of an index.

use std::collections::HashSet;

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Manifest};

use super::graph::{read_graph, read_graph_below};
use super::{read_content, read_manifest};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{
    Error, ImageBlobs, ImageContent, Platforms, VerifiedManifest, config, is_attestation,
};
use crate::transports::files::SourceFiles;

/// What an index holds for some platforms: of one the image itself, its bytes unchanged; of
/// several an index that names only them, and what is attested of them.
pub(super) fn select_platforms(
    contents: &SourceFiles,
    own: &VerifiedManifest,
    children: &[Descriptor],
    platforms: &Platforms,
) -> Result<(ImageContent, ImageBlobs, Vec<String>), Error> {
    let is_there = |it: &Descriptor| {
        let graph = read_graph(contents, &it.digest, Some(&it.media_type));
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
    let places = platforms.choose(contents.source_name(), &there)?;
    if let [place] = places[..] {
        let (_, only) = images[place];
        let all = Platforms::default();
        let (content, blobs, mut remarks) =
            read_content(contents, &only.digest, Some(&only.media_type), &all)?;
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
        restrict_index(contents, own, &kept)?
    };
    let (_, parsed) = Manifest::parse(&index.bytes, Some(&index.media_type))
        .map_err(|error| contents.malformed(format!("the index of {platforms}: {error}")))?;
    let (graph, blobs) = read_graph_below(contents, index, parsed)?;
    Ok((ImageContent::Graph(graph), blobs, remarks))
}

/// The platform of an index's entry: as the entry says, else as the image's config does.
fn platform_of(contents: &SourceFiles, entry: &Descriptor) -> Option<Platform> {
    if let Some(platform) = &entry.platform {
        return Some(platform.clone());
    }
    match read_manifest(contents, &entry.digest, Some(&entry.media_type)) {
        Ok((_, Manifest::Image { config, .. })) => {
            let config = contents.read_blob(&config.digest, MAX_METADATA_BYTES);
            config.ok().and_then(|config| config::platform(&config))
        }
        Ok((_, Manifest::Index { .. })) | Err(_) => None,
    }
}

/// An index without the entries that are not kept; whatever else it says stays.
fn restrict_index(
    contents: &SourceFiles,
    own: &VerifiedManifest,
    kept: &HashSet<usize>,
) -> Result<VerifiedManifest, Error> {
    let broken = |error: serde_json::Error| contents.malformed(format!("the index: {error}"));
    let mut index: serde_json::Value = serde_json::from_slice(&own.bytes).map_err(broken)?;
    if let Some(entries) = index["manifests"].as_array_mut() {
        let mut at = 0..;
        entries.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
    }
    let bytes = serde_json::to_vec(&index).map_err(broken)?;
    Ok(VerifiedManifest::new(&own.media_type, bytes))
}
