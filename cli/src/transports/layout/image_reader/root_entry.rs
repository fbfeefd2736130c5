//! Selects an entry of a layout's `index.json`.

use imgsync_oci::{Descriptor, LocalName};

use super::content::read_manifest;
use super::platform_selection::platform_of;
use crate::image::{Error, ImageSelector, Platforms, is_attestation, name, platform};
use crate::transports::files::SourceFiles;
use crate::transports::layout::LayoutIndex;
use crate::transports::layout::index::{IMAGE_NAME_ANNOTATION, REF_NAME_ANNOTATION};
use crate::transports::layout::read_index;

/// Returns the entry that `selector` names, and the name of the image. Without a selector, the
/// entry of the only image, or of the only image for the requested platform.
pub(super) fn select_root(
    contents: &SourceFiles,
    selector: &ImageSelector,
    platforms: &Platforms,
) -> Result<(Descriptor, Option<LocalName>), Error> {
    let index = read_index(contents)?;
    let entries: Vec<_> = index.entries().collect();
    let labels = entries.iter().filter_map(|entry| label(entry));
    let chosen = match selector {
        ImageSelector::Position(position) => entries
            .get(*position)
            .copied()
            .ok_or_else(|| contents.no_image(&format!("@{position}"), labels))?,
        ImageSelector::Named(requested) => {
            let all = entries.iter().map(|entry| label(entry).unwrap_or(""));
            let alike = || Some(entries[name::choose(requested, all)?]);
            let found = index.find_named(requested).or_else(alike);
            found.ok_or_else(|| contents.no_image(requested, labels))?
        }
        ImageSelector::Only if entries.is_empty() => return Err(contents.missing("any image")),
        ImageSelector::Only => select_only(contents, &index, platforms)?,
    };
    // A tag alone is no name.
    let full_name = label(chosen).filter(|label| label.contains(['/', ':']));
    Ok((chosen.clone(), full_name.and_then(name::familiar)))
}

/// Returns the entry of the only image. One image may have several names. If there are several
/// images, their platforms decide.
fn select_only<'a>(
    contents: &SourceFiles,
    index: &'a LayoutIndex,
    platforms: &Platforms,
) -> Result<&'a Descriptor, Error> {
    let named = index.entries().filter(|entry| label(entry).is_some());
    let images = || index.entries().filter(|entry| !is_attestation(entry));
    let only = only_image(index.entries())
        .or_else(|| only_image(named))
        .or_else(|| only_image(images()));
    if let Some(only) = only {
        return Ok(only);
    }
    let images: Vec<_> = images()
        .filter(|entry| !is_referrer(contents, entry))
        .collect();
    if let Some(only) = only_image(images.iter().copied()) {
        return Ok(only);
    }
    let available: Vec<_> = images
        .iter()
        .map(|image| platform_of(contents, image))
        .collect();
    if !platforms.is_empty()
        && let [position] = platforms.choose(contents.source_name(), &available)?[..]
    {
        return Ok(images[position]);
    }
    let shown = index.entries().enumerate().filter_map(|(position, entry)| {
        let image = images
            .iter()
            .position(|image| std::ptr::eq(*image, entry))?;
        if let Some(label) = label(entry) {
            return Some(label.to_owned());
        }
        let platform = available[image].as_ref().map(platform::text);
        let platform = platform.map_or(String::new(), |text| format!(" ({text})"));
        Some(format!("@{position}{platform}"))
    });
    let shown: Vec<String> = shown.collect();
    Err(contents.ambiguous(shown.iter().map(String::as_str)))
}

/// Returns whether an entry is a manifest with a subject, such as a signature.
fn is_referrer(contents: &SourceFiles, entry: &Descriptor) -> bool {
    let manifest = read_manifest(contents, &entry.digest, Some(&entry.media_type));
    manifest.is_ok_and(|(_, manifest)| manifest.subject().is_some())
}

/// Returns the first entry, if all have its digest.
fn only_image<'a>(mut entries: impl Iterator<Item = &'a Descriptor>) -> Option<&'a Descriptor> {
    let first = entries.next()?;
    entries
        .all(|entry| entry.digest == first.digest)
        .then_some(first)
}

/// Returns the name of an entry. containerd writes the full name beside the tag.
fn label(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation(IMAGE_NAME_ANNOTATION)
        .or_else(|| entry.annotation(REF_NAME_ANNOTATION))
}
