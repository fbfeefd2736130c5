//! Finds the images of two sides that are compared with each other: those of the same platform.

use imgsync_oci::manifest::Platform;

use super::Side;
use crate::commands::contents::{RemoteImage, UnreadManifest};
use crate::exit::Failure;
use crate::image::{Platforms, platform};

/// The images of one platform.
pub(super) struct ImagePair<'a> {
    pub(super) platform: Option<&'a str>,
    pub(super) old: Option<&'a RemoteImage>,
    pub(super) new: Option<&'a RemoteImage>,
}

impl ImagePair<'_> {
    /// Returns whether both sides have the same image.
    pub(super) fn is_same(&self) -> bool {
        match (self.old, self.new) {
            (Some(old), Some(new)) => old.digest == new.digest,
            _ => false,
        }
    }
}

/// Returns the images in pairs, in the order of the new side; images that only the old side has come
/// last.
///
/// # Errors
/// Fails if no side has the requested platform.
pub(super) fn pair_images<'a>(
    old: &'a Side,
    new: &'a Side,
    requested: Option<&Platform>,
) -> Result<Vec<ImagePair<'a>>, Failure> {
    let is_single = !old.contents.is_index && !new.contents.is_index && requested.is_none();
    if let ([a], [b], true) = (&*old.contents.images, &*new.contents.images, is_single) {
        // Two images of different platforms are compared, too, and so are other artifacts.
        return Ok(vec![ImagePair {
            platform: b.platform.as_deref(),
            old: Some(a),
            new: Some(b),
        }]);
    }
    let mut before = images_of(old, requested);
    let mut pairs = Vec::new();
    for image in images_of(new, requested) {
        let same = before.iter().position(|old| old.platform == image.platform);
        pairs.push(ImagePair {
            platform: image.platform.as_deref(),
            old: same.map(|position| before.remove(position)),
            new: Some(image),
        });
    }
    pairs.extend(before.into_iter().map(|image| ImagePair {
        platform: image.platform.as_deref(),
        old: Some(image),
        new: None,
    }));
    match requested {
        Some(requested) if pairs.is_empty() => {
            let (text, old, new) = (platform::text(requested), &old.name, &new.name);
            let what = format!("neither {old} nor {new} has an image for {text}");
            let hint = format!("list the platforms with imgsync inspect {new}");
            Err(Failure::target(what).with_hint(hint))
        }
        _ => Ok(pairs),
    }
}

/// Returns the images that can be run. Attestations are left out.
fn images_of<'a>(side: &'a Side, requested: Option<&Platform>) -> Vec<&'a RemoteImage> {
    let images = side.contents.images.iter();
    let Some(requested) = requested else {
        // Nested indexes have no platform, and can have images.
        let is_shown = |image: &&RemoteImage| {
            image.platform.is_some() || image.unread == Some(UnreadManifest::NestedIndex)
        };
        return images.filter(is_shown).collect();
    };
    let images: Vec<_> = images.filter(|image| image.platform.is_some()).collect();
    let parse = |image: &&RemoteImage| image.platform.as_deref().and_then(platform::platform);
    let available: Vec<_> = images.iter().map(parse).collect();
    let requested: Platforms = [requested.clone()].into_iter().collect();
    let positions = requested.matching(&available).into_iter();
    positions.map(|position| images[position]).collect()
}
