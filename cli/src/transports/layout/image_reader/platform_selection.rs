//! Selects some platforms of an index.

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

/// Reads the content for some platforms of an index: for one platform the image itself, unchanged;
/// for several a smaller index with those images and their attestations.
pub(super) fn select_platforms(
    contents: &SourceFiles,
    index_manifest: &VerifiedManifest,
    children: &[Descriptor],
    platforms: &Platforms,
) -> Result<(ImageContent, ImageBlobs, Vec<String>), Error> {
    let is_present = |it: &Descriptor| {
        let graph = read_graph(contents, &it.digest, Some(&it.media_type));
        !matches!(graph, Err(Error::Missing { .. }))
    };
    let (attestations, images): (Vec<_>, Vec<_>) = children
        .iter()
        .enumerate()
        .filter(|(_, it)| is_present(it))
        .partition(|(_, it)| is_attestation(it));
    let available: Vec<_> = images
        .iter()
        .map(|(_, it)| platform_of(contents, it))
        .collect();
    let positions = platforms.choose(contents.source_name(), &available)?;
    if let [position] = positions[..] {
        let (_, only) = images[position];
        let all = Platforms::default();
        let (content, blobs, mut notes) =
            read_content(contents, &only.digest, Some(&only.media_type), &all)?;
        notes.push(format!(
            "{platforms} is pushed as one image, without the index"
        ));
        return Ok((content, blobs, notes));
    }
    let chosen: Vec<_> = positions.iter().map(|position| images[*position]).collect();
    let is_about_chosen = |(_, it): &&(usize, &Descriptor)| {
        let subject = it.annotation("vnd.docker.reference.digest");
        let mut digests = chosen.iter().map(|(_, it)| it.digest.to_string());
        subject.is_some_and(|subject| digests.any(|digest| digest == subject))
    };
    let kept_attestations = attestations.iter().filter(is_about_chosen);
    let kept: HashSet<_> = chosen
        .iter()
        .chain(kept_attestations)
        .map(|(at, _)| *at)
        .collect();
    let mut notes = Vec::new();
    let index = if kept.len() == children.len() {
        index_manifest.clone()
    } else {
        notes.push(format!(
            "the index is rewritten for {platforms}, so its digest changes"
        ));
        restrict_index(contents, index_manifest, &kept)?
    };
    let (_, parsed) = Manifest::parse(&index.bytes, Some(&index.media_type))
        .map_err(|error| contents.malformed(format!("the index of {platforms}: {error}")))?;
    let (graph, blobs) = read_graph_below(contents, index, parsed)?;
    Ok((ImageContent::Graph(graph), blobs, notes))
}

/// Returns the platform of an entry: from the entry itself, otherwise from the config of the image.
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

/// Returns an index without the entries that are not kept; everything else stays.
fn restrict_index(
    contents: &SourceFiles,
    index_manifest: &VerifiedManifest,
    kept: &HashSet<usize>,
) -> Result<VerifiedManifest, Error> {
    let broken = |error: serde_json::Error| contents.malformed(format!("the index: {error}"));
    let mut index: serde_json::Value =
        serde_json::from_slice(&index_manifest.bytes).map_err(broken)?;
    if let Some(entries) = index["manifests"].as_array_mut() {
        let mut at = 0..;
        entries.retain(|_| at.next().is_some_and(|at| kept.contains(&at)));
    }
    let bytes = serde_json::to_vec(&index).map_err(broken)?;
    Ok(VerifiedManifest::new(&index_manifest.media_type, bytes))
}
