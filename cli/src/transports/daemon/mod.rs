//! Images in a Docker daemon, by its HTTP API.
//!
//! Its facts cost two small requests at once. An export hands over everything, so it is asked for
//! only when bytes are needed, and by the image's ID: the name may have moved by then.

mod address;
mod archive_stream;
mod classic;
mod client;
mod containerd;
mod context;
pub(crate) mod export_listing;
mod find;
mod platform_image;
mod responses;
mod state;
mod target;
#[cfg(test)]
mod tests;

use imgsync_oci::{Digest, LocalName, media};

use super::SkipLayer;
use crate::image::{
    Error, Image, ImageBlobs, ImageConfig, ImageContent, Layer, ManifestOrigin, Platforms,
    SingleImage,
};
use crate::spool::{Spool, SpoolKind};
pub use address::DaemonAddress;
use client::ApiVersion;
pub(crate) use client::DaemonClient;
pub(crate) use client::load::{DaemonInfo, DaemonKind, LoadOutcome, StoredImage};
use containerd::ContainerdImage;
pub(super) use find::find;
pub use find::find_at;
pub use target::DaemonTarget;

/// What a daemon says of an image before any export.
#[derive(Debug, Clone)]
pub struct DaemonImage {
    engine: DaemonClient,
    /// Its name there, with the tag.
    pub name: Option<LocalName>,
    /// The digests of its layers' tars, lowest first; of a multi-platform image, those of the
    /// daemon's own platform.
    pub diff_ids: Vec<Digest>,
    /// How the daemon keeps it.
    pub store: ImageStore,
    /// Where the daemon knows the image to lie: `registry/repository@digest`, in Docker's words.
    pub repo_digests: Vec<String>,
    /// The registries that the daemon reaches without checks: names, and networks as
    /// `10.0.0.0/8`. `None` where it is not this machine's daemon: nobody else says what need not
    /// be checked here.
    pub insecure_registries: Option<Vec<String>>,
    /// How many bytes its layers hold, by the daemon's own count.
    size: Option<u64>,
    /// What was asked for.
    platforms: Platforms,
    /// The manifest or index that goes, where that is known.
    selected_root: Option<Digest>,
    api_version: Option<ApiVersion>,
}

/// How a daemon keeps its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStore {
    /// Unpacked: the image's ID is its config's digest, layers come as raw tars.
    Classic {
        /// The config's digest.
        config: Digest,
    },
    /// As a registry would (containerd's image store): the image's ID is its manifest's or
    /// index's digest; its blobs are known after export only.
    Containerd {
        /// The manifest's or index's digest.
        root: Digest,
        /// Its media type; daemons before version 28 do not say.
        media_type: Option<String>,
    },
}

impl DaemonImage {
    /// The digest of the manifest or index that goes, where it is known before any export.
    pub fn selected_root(&self) -> Option<&Digest> {
        self.selected_root.as_ref()
    }

    /// The image without its bytes; `None` where only the export tells (containerd's store).
    pub fn image(&self) -> Option<Image> {
        match &self.store {
            ImageStore::Containerd { .. } => None,
            ImageStore::Classic { config } => {
                let raw = |diff_id: &Digest| Layer::Raw {
                    diff_id: diff_id.clone(),
                    size: None,
                };
                Some(self.with_content(ImageContent::Single(SingleImage {
                    config: ImageConfig {
                        media_type: media::DOCKER_CONFIG.to_owned(),
                        digest: config.clone(),
                        bytes: None,
                    },
                    layers: self.diff_ids.iter().map(raw).collect(),
                    origin: ManifestOrigin::Generated,
                })))
            }
        }
    }

    fn with_content(&self, content: ImageContent) -> Image {
        Image {
            name: self.name.clone(),
            content,
            notes: Vec::new(),
        }
    }

    /// Exports the image: what `unneeded` does not refuse is put into the spool. The image now has
    /// its config's bytes. Where the spool holds all of it from an earlier run, the daemon is not
    /// asked; else `begin` is called first.
    ///
    /// # Errors
    /// The daemon's own, and all those of a damaged archive.
    pub async fn export(
        &self,
        spool: &Spool,
        unneeded: SkipLayer,
        begin: impl FnOnce(),
    ) -> Result<(Image, ImageBlobs), Error> {
        match &self.store {
            ImageStore::Classic { config } => {
                let single = self.export_classic(config, spool, unneeded, begin).await;
                let (single, blobs) = single?;
                Ok((self.with_content(ImageContent::Single(single)), blobs))
            }
            ImageStore::Containerd { root, media_type } => {
                let stored = ContainerdImage {
                    image: self,
                    root,
                    media_type: media_type.as_deref(),
                };
                let (content, blobs, remarks) = stored.export(spool, unneeded, begin).await?;
                let image = Image {
                    notes: remarks,
                    ..self.with_content(content)
                };
                Ok((image, blobs))
            }
        }
    }

    /// Takes what was kept of this image out of the spool. Blocks.
    pub fn forget(&self, spool: &Spool) {
        spool.remove(SpoolKind::Compressed, &self.diff_ids);
        match &self.store {
            ImageStore::Classic { config } => {
                spool.remove(SpoolKind::Bytes, self.diff_ids.iter().chain([config]));
            }
            ImageStore::Containerd { root, .. } => {
                export_listing::forget(spool, &containerd::export_key(root, &self.platforms));
            }
        }
    }
}

/// What an export is called in messages.
fn export_name(engine: &DaemonClient) -> String {
    format!("the export of the Docker daemon at {}", engine.address())
}
