//! Where everything lies: the only place that builds a storage path.
//!
//! The tree below `docker/` is the stock registry's own (distribution, `registry/storage/paths.go`);
//! what we need beyond it lies below `imgsync/`, on the same volume so that renames work.

use std::path::{Path, PathBuf};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository, Tag};

/// The name of something small, or of a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    /// A blob's bytes, those of manifests among them.
    Blob(&'a Digest),
    /// Says that a repository holds a blob.
    Layer(&'a Repository, &'a Digest),
    /// Says that a repository holds a manifest.
    Revision(&'a Repository, &'a Digest),
    /// Says what a tag points at.
    TagCurrent(&'a Repository, &'a Tag),
    /// Says what a tag points at or once did.
    TagIndex(&'a Repository, &'a Tag, &'a Digest),
}

/// Draws the paths below one root.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    stock: PathBuf,
    own: PathBuf,
}

impl Keys {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            stock: root.join("docker/registry/v2"),
            own: root.join("imgsync"),
        }
    }

    pub(super) fn path(&self, key: Key<'_>) -> PathBuf {
        match key {
            Key::Blob(digest) => {
                let blobs = self.stock.join("blobs").join(digest.algorithm().as_str());
                blobs
                    .join(&digest.hex()[..2])
                    .join(digest.hex())
                    .join("data")
            }
            Key::Layer(repository, digest) => {
                link(self.repository(repository).join("_layers"), digest)
            }
            Key::Revision(repository, digest) => {
                link(self.manifests(repository).join("revisions"), digest)
            }
            Key::TagCurrent(repository, tag) => self
                .tags(repository)
                .join(tag.as_str())
                .join("current/link"),
            Key::TagIndex(repository, tag, digest) => link(
                self.tags(repository).join(tag.as_str()).join("index"),
                digest,
            ),
        }
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.stock.join("repositories")
    }

    fn repository(&self, repository: &Repository) -> PathBuf {
        self.repositories().join(repository.as_str())
    }

    /// The folder that makes a folder a repository.
    pub(super) fn manifests(&self, repository: &Repository) -> PathBuf {
        self.manifests_below(&self.repository(repository))
    }

    /// The same, of a folder found below [`Keys::repositories`].
    pub(super) fn manifests_below(&self, folder: &Path) -> PathBuf {
        folder.join("_manifests")
    }

    pub(super) fn tags(&self, repository: &Repository) -> PathBuf {
        self.manifests(repository).join("tags")
    }

    /// An upload session's folder.
    pub(super) fn upload(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.repository(repository)
            .join("_uploads")
            .join(id.to_string())
    }

    /// The bytes that a session holds.
    pub(super) fn upload_data(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.upload(repository, id).join("data")
    }

    /// When a session began; the stock registry's purge reads it.
    pub(super) fn upload_started(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.upload(repository, id).join("startedat")
    }

    /// What we know about a session beyond its bytes.
    pub(super) fn upload_state(&self, id: UploadId) -> PathBuf {
        self.own.join("uploads").join(format!("{id}.json"))
    }

    /// Files in the making.
    pub(super) fn temporary(&self) -> PathBuf {
        self.own.join("tmp")
    }

    /// Held by the one server that uses the folder.
    pub(super) fn lock(&self) -> PathBuf {
        self.own.join("lock")
    }
}

fn link(folder: PathBuf, digest: &Digest) -> PathBuf {
    folder
        .join(digest.algorithm().as_str())
        .join(digest.hex())
        .join("link")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_the_stock_registrys() {
        let keys = Keys::new(Path::new("/r"));
        let digest = Digest::of(b"");
        let (repository, tag) = ("a/b".parse().unwrap(), "v1".parse().unwrap());
        let hex = digest.hex();
        let at = |key| keys.path(key).to_str().unwrap().to_owned();
        let v2 = "/r/docker/registry/v2";
        assert_eq!(
            at(Key::Blob(&digest)),
            format!("{v2}/blobs/sha256/e3/{hex}/data")
        );
        let repo = format!("{v2}/repositories/a/b");
        assert_eq!(
            at(Key::Layer(&repository, &digest)),
            format!("{repo}/_layers/sha256/{hex}/link")
        );
        assert_eq!(
            at(Key::Revision(&repository, &digest)),
            format!("{repo}/_manifests/revisions/sha256/{hex}/link")
        );
        assert_eq!(
            at(Key::TagCurrent(&repository, &tag)),
            format!("{repo}/_manifests/tags/v1/current/link")
        );
        assert_eq!(
            at(Key::TagIndex(&repository, &tag, &digest)),
            format!("{repo}/_manifests/tags/v1/index/sha256/{hex}/link")
        );
    }
}
