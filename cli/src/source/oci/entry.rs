//! Which entry of a layout's `index.json` is meant.

use imgsync_oci::{Descriptor, LocalName, Manifest};

use super::super::contents::Contents;
use super::super::{Error, MAX_METADATA_BYTES, Selector, name};
use super::INDEX;

/// The entry of `index.json` that is meant, and the image's name.
pub(super) fn root(
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
