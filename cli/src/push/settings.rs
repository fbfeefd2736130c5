//! The settings of a push.

use imgsync_oci::{RemoteName, Tag};

use crate::cache::UserFolders;
use crate::login::RegistryAccess;
use crate::transports::ImageRequest;
use crate::upload::TransferOptions;

/// The settings of a push, as the command line gives them.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// The image.
    pub image: ImageRequest,
    /// The target as typed, which need not name a repository.
    pub remote: RemoteName,
    /// Whether all local tags of the image are pushed.
    pub is_all_tags: bool,
    /// Further tags for the image.
    pub tags: Vec<Tag>,
    /// How to connect and log in to the registry.
    pub access: RegistryAccess,
    /// Whether to only show what would be done.
    pub is_dry_run: bool,
    /// Whether to use what images at the target claim about their layers, what the local engine
    /// recorded, and the cache.
    pub reuse: bool,
    /// Whether to use claims without verifying them.
    pub trust_registry: bool,
    /// Whether an uncompressed layer may be a blob in zstd, whatever the engine can unpack.
    pub reuses_zstd: bool,
    /// Whether layers that are sent as they are are verified.
    pub verifies: bool,
    /// Whether layers may be sent as deltas.
    pub uses_deltas: bool,
    /// The most bytes of compressed layers that stay in the spool for later deltas.
    pub max_kept_bytes: u64,
    /// Limits for uploads.
    pub transfer_options: TransferOptions,
    /// The number of threads that compress.
    pub threads: usize,
    /// The folders of this user.
    pub folders: UserFolders,
}
