//! Selects some platforms of an index.

use std::collections::HashSet;

use imgsync_oci::manifest::Platform;
use imgsync_oci::{Descriptor, Manifest};
use serde_json::Value;

use super::content::{read_graph, read_graph_below};
use super::{ReadContent, read_content, read_manifest};
use crate::image::limits::MAX_METADATA_BYTES;
use crate::image::{Error, ImageContent, Platforms, VerifiedManifest, config, is_attestation};
use crate::transports::files::SourceFiles;

/// Reads the content for some platforms of an index: for one platform the image itself, unchanged;
/// for several a smaller index with those images and their attestations.
pub(super) fn select_platforms(
    contents: &SourceFiles,
    index_manifest: &VerifiedManifest,
    children: &[Descriptor],
    platforms: &Platforms,
) -> Result<ReadContent, Error> {
    let is_present = |(_, child): &(usize, &Descriptor)| {
        !matches!(read_graph(contents, child), Err(Error::Missing { .. }))
    };
    let present = children.iter().enumerate().filter(is_present);
    let (attestations, images): (Vec<_>, Vec<_>) =
        present.partition(|(_, child)| is_attestation(child));
    let available = images.iter().map(|(_, image)| platform_of(contents, image));
    let available: Vec<_> = available.collect();
    let chosen = platforms.choose(contents.source_name(), &available)?;
    if let [position] = chosen[..] {
        let (all, (_, image)) = (Platforms::default(), images[position]);
        let media_type = Some(&*image.media_type);
        let read = read_content(contents, &image.digest, media_type, &all);
        let (content, blobs, mut notes) = read?;
        notes.push(format!(
            "{platforms} is pushed as one image, without the index"
        ));
        return Ok((content, blobs, notes));
    }
    let chosen: Vec<_> = chosen.iter().map(|position| images[*position]).collect();
    let is_about_chosen = |(_, attestation): &&(usize, &Descriptor)| {
        let subject = attestation.annotation("vnd.docker.reference.digest");
        let mut digests = chosen.iter().map(|(_, image)| image.digest.to_string());
        subject.is_some_and(|subject| digests.any(|digest| digest == subject))
    };
    let attestations = attestations.iter().filter(is_about_chosen);
    let kept: HashSet<_> = chosen
        .iter()
        .chain(attestations)
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
    let parsed = index.content();
    let parsed =
        parsed.map_err(|error| contents.malformed(format!("the index of {platforms}: {error}")))?;
    let (graph, blobs) = read_graph_below(contents, index, parsed)?;
    Ok((ImageContent::Graph(graph), blobs, notes))
}

/// Returns the platform of an entry: from the entry itself, otherwise from the config of the image.
pub(super) fn platform_of(contents: &SourceFiles, entry: &Descriptor) -> Option<Platform> {
    if let Some(platform) = &entry.platform {
        return Some(platform.clone());
    }
    match read_manifest(contents, &entry.digest, Some(&entry.media_type)) {
        Ok((_, Manifest::Image { config, .. })) => config::platform(
            &contents
                .read_blob(&config.digest, MAX_METADATA_BYTES)
                .ok()?,
        ),
        _ => None,
    }
}

/// Returns an index without the entries that are not kept; everything else stays.
fn restrict_index(
    contents: &SourceFiles,
    index_manifest: &VerifiedManifest,
    kept: &HashSet<usize>,
) -> Result<VerifiedManifest, Error> {
    let mut index: Value = serde_json::from_slice(&index_manifest.bytes)
        .map_err(|error| contents.malformed(format!("the index: {error}")))?;
    if let Some(entries) = index["manifests"].as_array_mut() {
        let mut positions = 0..;
        entries.retain(|_| {
            positions
                .next()
                .is_some_and(|position| kept.contains(&position))
        });
    }
    Ok(VerifiedManifest::new(
        &index_manifest.media_type,
        index.to_string(),
    ))
}
