//! Selects an entry of a layout's `index.json`.

use imgsync_oci::{Descriptor, LocalName};

use crate::image::{Error, ImageSelector, name};
use crate::transports::files::SourceFiles;
use crate::transports::layout::index::{IMAGE_NAME_ANNOTATION, REF_NAME_ANNOTATION};
use crate::transports::layout::read_index;

/// Returns the entry that `selector` names, and the name of the image.
pub(super) fn select_root(
    contents: &SourceFiles,
    selector: &ImageSelector,
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
        ImageSelector::Only => {
            // One image may have several names, and referrers have none.
            let named = entries
                .iter()
                .copied()
                .filter(|entry| label(entry).is_some());
            let only = only_image(entries.iter().copied()).or_else(|| only_image(named));
            only.ok_or_else(|| contents.ambiguous(labels))?
        }
    };
    // A tag alone is no name.
    let full_name = label(chosen).filter(|label| label.contains(['/', ':']));
    Ok((chosen.clone(), full_name.and_then(name::familiar)))
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
