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
    let names = || {
        let names = entries.iter().filter_map(|entry| label(entry));
        names.map(str::to_owned).collect()
    };
    let from = || contents.source_name().to_owned();
    let not_found = |wanted: String| Error::ImageNotFound {
        from: from(),
        wanted,
        names: names(),
    };
    let chosen = match selector {
        ImageSelector::Position(position) => entries
            .get(*position)
            .copied()
            .ok_or_else(|| not_found(format!("@{position}")))?,
        ImageSelector::Named(wanted) => {
            let labels = entries.iter().map(|entry| label(entry).unwrap_or(""));
            match index.find_named(wanted) {
                Some(exact) => exact,
                None => match name::choose(wanted, labels) {
                    Some(position) => entries[position],
                    None => return Err(not_found(wanted.clone())),
                },
            }
        }
        ImageSelector::Only => {
            // One image may have several names, and referrers have none.
            let one = |all: &[&Descriptor]| {
                all.first()
                    .is_some_and(|first| all.iter().all(|it| it.digest == first.digest))
            };
            let named = entries.iter().copied().filter(|it| label(it).is_some());
            let named: Vec<_> = named.collect();
            if entries.is_empty() {
                return Err(contents.missing("any image"));
            } else if one(&entries) {
                entries[0]
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
    // A tag alone is no name.
    let full = label(chosen).filter(|label| label.contains(['/', ':']));
    Ok((chosen.clone(), full.and_then(name::familiar)))
}

/// Returns the name of an entry. containerd writes the full name beside the tag.
fn label(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation(IMAGE_NAME_ANNOTATION)
        .or_else(|| entry.annotation(REF_NAME_ANNOTATION))
}
