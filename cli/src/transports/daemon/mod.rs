//! Images in a Docker or podman daemon, over its HTTP API, as source and as target.
//!
//! One or two small requests describe an image. An export transfers every layer, so it is requested only
//! when bytes are needed, and by the image's ID, because the name may have moved meanwhile. Where
//! the daemon has containerd's store, `content` reads single blobs instead. Start at [`DaemonImage`]
//! and [`DaemonTarget`].

mod address;
mod archive_stream;
mod attestations;
mod buildkit;
mod chunk_reader;
mod classic;
mod cleanup;
mod client;
mod connect;
mod containerd;
mod content;
mod context;
mod engine_settings;
mod environment;
pub(crate) mod export_listing;
mod find;
mod grpc;
mod local_socket;
mod loopback;
mod platform_image;
mod related;
mod request;
mod responses;
mod ssh;
mod state;
mod tags;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod unpacked_layer;

use std::fmt;

use imgsync_oci::{Digest, LocalName};

use super::{LayerPacking, SkipLayer};
use crate::image::{
    EngineKind, Error, Image, ImageBlobs, ImageContent, Layer, Platforms, SingleImage,
};
use crate::report::ProgressTask;
use crate::spool::{Spool, SpoolKind};
use crate::text::format_count;
pub use address::DaemonAddress;
use client::{ApiVersion, DaemonClient};
pub use engine_settings::ask_insecure_registries;
pub use find::find_at;
use loopback::EngineTraces;
pub use related::RelatedImage;
pub use ssh::SshDestination;
pub use tags::find_tags;
pub use target::DaemonTarget;
pub use tls::TlsFolder;

/// An image in a daemon, as described before any export.
#[derive(Debug, Clone)]
pub struct DaemonImage {
    engine: DaemonClient,
    /// The name in the daemon, with the tag.
    pub name: Option<LocalName>,
    /// The other names in the daemon, if the request named none of them, but an image ID or a digest.
    pub alternatives: Vec<LocalName>,
    /// The diffIDs, lowest layer first; of a multi-platform image, those of the daemon's own
    /// platform.
    pub diff_ids: Vec<Digest>,
    /// The image store of the daemon.
    pub store: ImageStore,
    /// The repositories that the daemon knows the image from: `registry/repository@digest`,
    /// Docker's `RepoDigests`.
    pub repo_digests: Vec<String>,
    /// The registries that the daemon reaches without TLS verification: names, and networks such as
    /// `10.0.0.0/8`. `None` if the daemon was not asked, and for a daemon on another machine, whose
    /// settings do not apply here.
    pub insecure_registries: Option<Vec<String>>,
    /// The bytes of all layers, as the daemon counts them.
    size: Option<u64>,
    /// The requested platforms.
    platforms: Platforms,
    /// The digest of the manifest or index that is copied, if known.
    selected_root: Option<Digest>,
    api_version: Option<ApiVersion>,
    /// Whether the daemon is podman.
    is_podman: bool,
}

impl DaemonImage {
    /// Returns whether the daemon can pull layers in zstd: podman, and Docker since version 23, whose
    /// API has the version 1.42.
    pub fn unpacks_zstd(&self) -> bool {
        self.is_podman || self.api_version.is_some_and(|api| api >= ApiVersion(1, 42))
    }

    /// Returns which engine has the image.
    fn engine_kind(&self) -> EngineKind {
        if self.is_podman {
            EngineKind::Podman
        } else {
            EngineKind::Docker
        }
    }

    /// Removes from Docker what earlier pushes left there: they were killed, or the daemon was.
    pub(crate) async fn remove_leftovers(&self, spool: &Spool) {
        if !self.is_podman && matches!(self.store, ImageStore::Classic { .. }) {
            loopback::remove_leftovers(&self.engine, spool).await;
        }
    }
}

/// The image store of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageStore {
    /// Docker's classic store: the image ID is the digest of the config, and layers are exported as
    /// uncompressed tars.
    Classic {
        /// The digest of the config.
        config: Digest,
    },
    /// containerd's image store: the image ID is the digest of the manifest or index. The blobs are
    /// as a registry has them, but known only after the export.
    Containerd {
        /// The digest of the manifest or index.
        root: Digest,
        /// The media type; daemons before version 28 do not report it.
        media_type: Option<String>,
    },
}

/// An image that was read from a daemon.
#[derive(Debug)]
pub struct ReadImage {
    /// The image, with the bytes of its config.
    pub image: Image,
    /// The bytes of what was read, without the layers that were compressed while they were read.
    pub blobs: ImageBlobs,
    traces: Option<EngineTraces>,
}

impl ReadImage {
    /// Removes what the read has left in the daemon. Otherwise it is removed when this value is
    /// dropped, which blocks.
    pub async fn remove_traces(&mut self) {
        if let Some(traces) = self.traces.take() {
            traces.remove().await;
        }
    }
}

/// How the layers of an image are read from a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadMethod {
    /// Only those that are needed.
    SingleLayers {
        /// The engine.
        engine: EngineKind,
        /// The number of layers that are read.
        read: usize,
        /// The number of all layers.
        all: usize,
    },
    /// All of them, in an export.
    Export {
        /// The engine.
        engine: EngineKind,
        /// Why they cannot be read one by one, if known.
        reason: Option<String>,
    },
}

impl fmt::Display for ReadMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleLayers { engine, read, all } => {
                let all = format_count(*all, "layer", "layers");
                write!(
                    f,
                    "reading {read} of {all} from {engine}, which pushes them to imgsync"
                )
            }
            Self::Export {
                engine,
                reason: Some(reason),
            } => write!(f, "exporting the whole image from {engine}: {reason}"),
            Self::Export {
                engine,
                reason: None,
            } => write!(f, "exporting the whole image from {engine}"),
        }
    }
}

impl ImageStore {
    /// Returns the image ID.
    pub fn id(&self) -> &Digest {
        match self {
            Self::Classic { config } => config,
            Self::Containerd { root, .. } => root,
        }
    }
}

impl DaemonImage {
    /// Returns the digest of the manifest or index that is copied, if it is known before the
    /// export.
    pub fn selected_root(&self) -> Option<&Digest> {
        self.selected_root.as_ref()
    }

    /// Returns about how many bytes an export has, if the daemon tells.
    pub fn export_size(&self) -> Option<u64> {
        match &self.store {
            ImageStore::Classic { .. } => self.size,
            // The size has the unpacked layers, and the export their blobs.
            ImageStore::Containerd { .. } => None,
        }
    }

    /// Returns the image without its bytes; `None` if only the export tells (containerd's image
    /// store).
    pub fn image(&self) -> Option<Image> {
        let ImageStore::Classic { config } = &self.store else {
            return None;
        };
        let raw = |diff_id: &Digest| Layer::Raw {
            diff_id: diff_id.clone(),
            size: None,
        };
        let layers = self.diff_ids.iter().map(raw).collect();
        let single = SingleImage::without_manifest(config.clone(), None, layers);
        Some(self.with_content(ImageContent::Single(single)))
    }

    fn with_content(&self, content: ImageContent) -> Image {
        Image {
            name: self.name.clone(),
            content,
            notes: Vec::new(),
        }
    }

    /// Reads the image: only the layers that `unneeded` does not skip, if the daemon offers a way,
    /// otherwise all in an export. The layers are put into the spool; those of an export are compressed
    /// and given to `packing` where possible. If the spool has everything from an earlier run, nothing
    /// is read; otherwise `begin` is called before each attempt, and returns the task to show.
    ///
    /// # Errors
    /// Returns the daemon's errors, and those of a damaged archive.
    pub async fn read(
        &self,
        spool: &Spool,
        packing: LayerPacking,
        unneeded: SkipLayer,
        begin: impl FnMut(ReadMethod) -> ProgressTask,
    ) -> Result<ReadImage, Error> {
        match &self.store {
            ImageStore::Classic { config } => {
                let read = self.read_classic(config, spool, packing, unneeded, begin);
                let (single, blobs, traces) = read.await?;
                Ok(ReadImage {
                    image: self.with_content(ImageContent::Single(single)),
                    blobs,
                    traces,
                })
            }
            ImageStore::Containerd { root, media_type } => {
                let root = (root, media_type.as_deref());
                let exported = self.export_containerd(root, spool, unneeded, begin);
                let (content, blobs, notes) = exported.await?;
                let mut image = self.with_content(content);
                image.notes = notes;
                Ok(ReadImage {
                    image,
                    blobs,
                    traces: None,
                })
            }
        }
    }

    /// Removes this image from the spool, except compressed layers. Returns the digests of its parts,
    /// and the diffIDs. Blocks.
    pub fn forget(&self, spool: &Spool) -> Vec<Digest> {
        let mut digests = self.diff_ids.clone();
        match &self.store {
            ImageStore::Classic { config } => {
                spool.remove(SpoolKind::Bytes, self.diff_ids.iter().chain([config]));
            }
            ImageStore::Containerd { root, .. } => {
                let key = containerd::export_key(root, &self.platforms);
                digests.extend(export_listing::forget(spool, &key));
            }
        }
        digests
    }
}

/// Returns the name of an export in messages.
fn export_name(engine: &DaemonClient) -> String {
    let address = engine.address();
    format!("the export of {} at {address}", address.engine())
}
