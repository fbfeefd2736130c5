//! Loads images into containerd's image store: only the blobs that the store lacks, but with the
//! whole index and the attestations, so that the image has the same ID as after `docker pull`.
//!
//! The image is loaded under a staged name first. Docker 26 deletes the name of an image that it
//! cannot unpack, and Docker 28 lets the name refer to such an image; the image that had the
//! requested name would be lost.

use std::collections::HashSet;

use imgsync_oci::{Descriptor, Digest};

use super::staged_image::StagedImage;
use super::{DaemonTarget, MAX_LOAD_ATTEMPTS, PreparedImage, target_failure};
use crate::report::Report;
use crate::transports::Result;
use crate::transports::daemon::content::{ContentError, stored_blobs};
use crate::transports::daemon::platform_image::PlatformImage;
use crate::transports::daemon::responses::{ImageInspect, LoadOutcome};
use crate::transports::daemon::state::distinct;

impl DaemonTarget {
    /// Returns whether an image of this ID in the store has the platform of `image`: an index may be
    /// there with another one.
    pub(super) async fn has_platform(
        &self,
        existing: &ImageInspect,
        image: &PlatformImage,
    ) -> bool {
        if image.indexes.is_empty() {
            return true;
        }
        let own = [&image.manifest.digest, &image.config.digest];
        let layers = image.layers.iter().map(|layer| &layer.digest);
        let needed: Vec<_> = own.into_iter().chain(layers).cloned().collect();
        match stored_blobs(&self.engine, &needed).await {
            Ok(stored) => needed.iter().all(|digest| stored.contains(digest)),
            // The daemon describes one of the platforms that it has.
            Err(_) => image.platform.as_ref().is_some_and(|platform| {
                (&*platform.os, &*platform.architecture) == (&*existing.os, &*existing.architecture)
            }),
        }
    }

    /// Returns the blobs of an image that the store lacks, each once. If the store cannot be read,
    /// these are all blobs, and a note tells why.
    pub(super) async fn missing_blobs<'a>(
        &self,
        image: &'a PlatformImage,
    ) -> (Vec<&'a Descriptor>, Option<String>) {
        let blobs: Vec<_> = distinct(image.blobs()).collect();
        let digests: Vec<_> = blobs.iter().map(|blob| blob.digest.clone()).collect();
        match stored_blobs(&self.engine, &digests).await {
            Ok(stored) => {
                let is_missing = |blob: &&Descriptor| !stored.contains(&blob.digest);
                (blobs.into_iter().filter(is_missing).collect(), None)
            }
            Err(error) => (blobs, Some(all_blobs_note(&error))),
        }
    }

    /// Loads the image and gives it its name. Returns the bytes of the blobs that were sent, and a
    /// note if the store cannot be read.
    ///
    /// # Errors
    /// Returns the error of the source or the target; the name is unchanged then.
    pub(super) async fn load_missing(
        &self,
        prepared: &PreparedImage<'_>,
        report: &dyn Report,
    ) -> Result<(u64, Option<String>)> {
        let state = prepared.state;
        let (repository, tag, id) = (&state.repository_name, &state.tag, state.id());
        let staged = StagedImage::new(&self.engine, id, &format!("{repository}:{tag}"));
        let (mut sent, mut rejection) = (0, String::new());
        let mut left_out = HashSet::new();
        for attempt in 0..MAX_LOAD_ATTEMPTS {
            let digests = prepared.blobs.iter().map(|blob| blob.digest.clone());
            let stored = stored_blobs(&self.engine, &digests.collect::<Vec<Digest>>()).await;
            let note = stored.as_ref().err().map(all_blobs_note);
            let stored = stored.unwrap_or_default();
            // A blob that the store had may be deleted before the image refers to it.
            if attempt > 0 && stored.is_superset(&left_out) {
                break;
            }
            left_out = stored;
            let missing = prepared.blobs.iter();
            let missing = missing.filter(|blob| !left_out.contains(&blob.digest));
            let missing: Vec<_> = missing.cloned().collect();
            let name = staged.repository_and_tag();
            let (bytes, outcome) = self.try_load(prepared, &missing, name, report).await?;
            sent += bytes;
            match outcome {
                LoadOutcome::Rejected(message) => rejection = message,
                LoadOutcome::Loaded => {
                    let published = staged.publish(id, repository, tag).await;
                    published.map_err(target_failure)?;
                    return Ok((sent, note));
                }
            }
        }
        Err(self.rejected(&rejection))
    }
}

fn all_blobs_note(error: &ContentError) -> String {
    format!("sending all layers, because Docker does not tell which it has: {error}")
}
