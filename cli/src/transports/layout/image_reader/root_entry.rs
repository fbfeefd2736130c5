//! Which entry of a layout's `index.json` is meant.

use imgsync_oci::{Descriptor, LocalName, Manifest};

use super::OCI_INDEX_FILE;
use crate::image::{Error, ImageSelector, name};
use crate::transports::files::SourceFiles;
use crate::transports::source::MAX_METADATA_BYTES;

/// The entry of `index.json` that is meant, and the image's name.
pub(super) fn select_root(
    contents: &SourceFiles,
    selector: &ImageSelector,
) -> Result<(Descriptor, Option<LocalName>), Error> {
    let bytes = contents.read(OCI_INDEX_FILE, MAX_METADATA_BYTES)?;
    let (_, index) = Manifest::parse(&bytes, None)
        .map_err(|error| contents.malformed(format!("{OCI_INDEX_FILE}: {error}")))?;
    let Manifest::Index { manifests, .. } = index else {
        return Err(contents.malformed(format!("{OCI_INDEX_FILE} is no index")));
    };
    let names = || {
        manifests
            .iter()
            .filter_map(label)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let from = || contents.source_name().to_owned();
    let not_there = |wanted: String| Error::ImageNotFound {
        from: from(),
        wanted,
        names: names(),
    };
    let chosen = match selector {
        ImageSelector::Position(place) => manifests
            .get(*place)
            .ok_or_else(|| not_there(format!("@{place}")))?,
        ImageSelector::Named(wanted) => {
            let labels: Vec<_> = manifests.iter().map(|it| label(it).unwrap_or("")).collect();
            let tagged = |it: &&Descriptor| it.annotation(REF_NAME_ANNOTATION) == Some(wanted);
            match manifests.iter().find(tagged) {
                Some(exact) => exact,
                None => match name::choose(wanted, labels.into_iter()) {
                    Some(place) => &manifests[place],
                    None => return Err(not_there(wanted.clone())),
                },
            }
        }
        ImageSelector::Only => {
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

const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// What an entry of `index.json` is called: containerd writes the whole name beside the tag.
fn label(entry: &Descriptor) -> Option<&str> {
    entry
        .annotation("io.containerd.image.name")
        .or_else(|| entry.annotation(REF_NAME_ANNOTATION))
}
