//! The settings of a push.

use imgsync_oci::{Registry, RemoteName, Repository, Tag};

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
    /// Further tags for the image.
    pub tags: Vec<Tag>,
    /// How to connect and log in to the registry.
    pub access: RegistryAccess,
    /// Whether to only show what would be done.
    pub is_dry_run: bool,
    /// Whether to use what other images at the target claim about their layers.
    pub reuse: bool,
    /// Limits for uploads.
    pub transfer_options: TransferOptions,
    /// The number of threads that compress.
    pub threads: usize,
    /// The folders of this user.
    pub folders: UserFolders,
}

/// The repository and tag that an image goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// The registry.
    pub registry: Registry,
    /// The repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
}

impl std::fmt::Display for PushTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}:{}", self.registry, self.repository, self.tag)
    }
}
