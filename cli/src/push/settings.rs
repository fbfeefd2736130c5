//! What a push is told.

use imgsync_oci::{Registry, RemoteName, Repository, Tag};

use crate::cache::UserFolders;
use crate::login::RegistryAccess;
use crate::transports::ImageRequest;
use crate::upload::TransferOptions;

/// Everything that a push needs to know.
#[derive(Debug, Clone)]
pub struct PushSettings {
    /// The image.
    pub image: ImageRequest,
    /// Where it goes.
    pub remote: RemoteName,
    /// Further tags that the image gets.
    pub tags: Vec<Tag>,
    /// How the registry is reached, and as whom.
    pub access: RegistryAccess,
    /// Whether to tell only what would be done.
    pub is_dry_run: bool,
    /// Whether what other images at the target say of their layers counts.
    pub reuse: bool,
    /// How the line is used.
    pub transfer_options: TransferOptions,
    /// How many threads compress.
    pub threads: usize,
    /// The folders of this user.
    pub folders: UserFolders,
}

/// A repository and tag at a registry: where an image goes.
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
