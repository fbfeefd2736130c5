//! What is known of an image and a daemon before anything is sent. Pure.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest, Tag};

use super::image::Image;
use crate::mirror::{Change, Copied};
use crate::source::daemon::Known;

/// What is known before anything is sent.
pub(super) struct Facts {
    pub(super) image: Image,
    /// The image's name in the daemon, and its tag.
    pub(super) name: String,
    pub(super) tag: Tag,
    /// What has that name now.
    pub(super) before: Option<Known>,
    /// The ID that the image has in this daemon, where it is there.
    pub(super) there: Option<Digest>,
}

impl Facts {
    /// What is known of the copy before it is made.
    pub(super) fn copied(&self) -> Copied {
        let before = self.before.as_ref().map(|known| known.id.clone());
        let change = match &self.there {
            None => Change::Image,
            Some(id) if before.as_ref() == Some(id) => Change::Nothing,
            Some(_) => Change::Tag,
        };
        let blobs = distinct(&self.image.layers).map(|layer| layer.size);
        Copied {
            source: self.image.root.clone(),
            digest: self.image.manifest.digest.clone(),
            before,
            change,
            sent: 0,
            saved: match change {
                Change::Tag => blobs.sum(),
                Change::Nothing | Change::Companions | Change::Image => 0,
            },
            linked: 0,
            companions: Vec::new(),
            referrers: 0,
            left_out: self.image.left_out.clone(),
            notes: Vec::new(),
        }
    }
}

/// Layers, each once.
pub(super) fn distinct(layers: &[Descriptor]) -> impl Iterator<Item = &Descriptor> {
    let mut seen = HashSet::new();
    layers.iter().filter(move |it| seen.insert(&it.digest))
}
