//! What happens in the registry, as receivers are told.
//!
//! This module does no I/O. Start reading at [`RegistryChange`].

use imgsync_oci::endpoint::RepositoryOperation;
use imgsync_oci::{Descriptor, Digest, Endpoint, Reference, Repository, Tag};

/// The media type of blobs in events, as in the stock registry.
pub(super) const BLOB_MEDIA_TYPE: &str = "application/octet-stream";

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeAction {
    /// A blob or manifest was stored.
    Push,
    /// A blob or manifest is sent to a client.
    Pull,
    /// A blob was linked from another repository.
    Mount,
    /// A tag, manifest, blob or repository was deleted.
    Delete,
}

impl ChangeAction {
    /// Returns the name of the action in events.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Pull => "pull",
            Self::Mount => "mount",
            Self::Delete => "delete",
        }
    }
}

/// A change of a repository, or a read of its content.
#[derive(Debug, Clone)]
pub(crate) struct RegistryChange {
    pub(super) action: ChangeAction,
    pub(super) repository: Repository,
    pub(super) content: Option<ChangedContent>,
    /// The digest that was deleted.
    pub(super) deleted: Option<Digest>,
    /// The tag that was pushed, pulled or deleted.
    pub(super) tag: Option<Tag>,
    /// The repository from which a blob was mounted.
    pub(super) mounted_from: Option<Repository>,
    /// The descriptors in a manifest, if they are to be sent.
    pub(super) references: Vec<Descriptor>,
}

/// A blob or manifest that was pushed, pulled or mounted.
#[derive(Debug, Clone)]
pub(super) struct ChangedContent {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    /// The size in bytes.
    pub(super) size: u64,
    /// The path of its URL, with the digest.
    pub(super) path: String,
}

impl RegistryChange {
    /// Returns the push or pull of a blob with a size in bytes.
    pub(crate) fn blob(
        action: ChangeAction,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Self {
        let operation = RepositoryOperation::GetBlob {
            digest: digest.clone(),
        };
        let content = ChangedContent {
            media_type: BLOB_MEDIA_TYPE.to_owned(),
            digest: digest.clone(),
            size,
            path: Endpoint::within(repository, operation).path(),
        };
        Self::new(action, repository, Some(content))
    }

    /// Returns the mount of a blob with a size in bytes; `from` is the repository that the client
    /// named.
    pub(crate) fn mount(
        repository: &Repository,
        digest: &Digest,
        size: u64,
        from: Option<&Repository>,
    ) -> Self {
        Self {
            mounted_from: from.cloned(),
            ..Self::blob(ChangeAction::Mount, repository, digest, size)
        }
    }

    /// Returns the push or pull of a manifest with a size in bytes.
    pub(crate) fn manifest(
        action: ChangeAction,
        repository: &Repository,
        digest: &Digest,
        media_type: &str,
        size: usize,
    ) -> Self {
        let operation = RepositoryOperation::GetManifest {
            reference: Reference::Digest(digest.clone()),
        };
        let content = ChangedContent {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size: size as u64,
            path: Endpoint::within(repository, operation).path(),
        };
        Self::new(action, repository, Some(content))
    }

    /// Returns the deletion of a blob or a manifest.
    pub(crate) fn deleted(repository: &Repository, digest: &Digest) -> Self {
        Self {
            deleted: Some(digest.clone()),
            ..Self::new(ChangeAction::Delete, repository, None)
        }
    }

    /// Returns the deletion of a repository with all its tags and manifests.
    pub(crate) fn deleted_repository(repository: &Repository) -> Self {
        Self::new(ChangeAction::Delete, repository, None)
    }

    /// Returns the deletion of a tag.
    pub(crate) fn deleted_tag(repository: &Repository, tag: &Tag) -> Self {
        Self::new(ChangeAction::Delete, repository, None).with_tag(tag)
    }

    fn new(action: ChangeAction, repository: &Repository, content: Option<ChangedContent>) -> Self {
        Self {
            action,
            repository: repository.clone(),
            content,
            deleted: None,
            tag: None,
            mounted_from: None,
            references: Vec::new(),
        }
    }

    /// Adds the tag by which a client refers to the content.
    pub(crate) fn with_tag(mut self, tag: &Tag) -> Self {
        self.tag = Some(tag.clone());
        self
    }

    /// Adds the descriptors in a manifest.
    pub(crate) fn with_references(mut self, references: Vec<Descriptor>) -> Self {
        self.references = references;
        self
    }
}

/// The request that caused a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// The id in the access log.
    pub(crate) id: String,
    /// The address of the client, with its port if it is known.
    pub(crate) address: Option<String>,
    /// The `Host` header.
    pub(crate) host: String,
    /// The method.
    pub(crate) method: String,
    /// The `User-Agent` header.
    pub(crate) user_agent: String,
    /// The user who logged in.
    pub(crate) user: Option<String>,
    /// The URL of this server, as the client reaches it, without a slash at the end.
    pub(crate) base_url: String,
}
