//! Builds every storage path; no other module does.
//!
//! The tree below `docker/` has the layout of the stock registry (distribution,
//! `registry/storage/paths.go`). Files of our own are below `imgsync/`, on the same volume, so that
//! they can be renamed into the tree. All names here are frozen. Start reading at [`StorePaths`].

mod keys;
mod layout;
mod own;

use std::path::{Path, PathBuf};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository, Tag};

pub(crate) use self::keys::{DerivedKey, DerivedLogKey, LinkKind, MarkKey, ObjectKey};
pub(super) use self::layout::{LayoutEntry, LayoutFolder};

/// The end of the names of ingest state files.
pub(super) const STATE_SUFFIX: &str = ".json";

/// The paths below one storage folder.
#[derive(Debug, Clone)]
pub(super) struct StorePaths {
    stock_root: PathBuf,
    own_root: PathBuf,
    scheduler_state: PathBuf,
}

impl StorePaths {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            stock_root: root.join("docker/registry/v2"),
            own_root: root.join("imgsync"),
            scheduler_state: root.join("scheduler-state.json"),
        }
    }

    pub(super) fn object(&self, key: ObjectKey<'_>) -> PathBuf {
        match key {
            ObjectKey::Blob(digest) => {
                let blobs = self
                    .stock_root
                    .join("blobs")
                    .join(digest.algorithm().as_str());
                blobs
                    .join(&digest.hex()[..2])
                    .join(digest.hex())
                    .join("data")
            }
            ObjectKey::LayerLink(repository, digest) => {
                link_path(self.repository(repository).join("_layers"), digest)
            }
            ObjectKey::RevisionLink(repository, digest) => {
                link_path(self.manifests(repository).join("revisions"), digest)
            }
            ObjectKey::TagCurrent(repository, tag) => {
                self.tag(repository, tag).join("current/link")
            }
            ObjectKey::TagIndex(repository, tag, digest) => {
                link_path(self.tag(repository, tag).join("index"), digest)
            }
        }
    }

    /// Returns the folders of the layout in which every push creates files or folders.
    pub(super) fn top_folders(&self) -> [PathBuf; 4] {
        let blobs = self.stock_root.join("blobs");
        let sha256 = blobs.join("sha256");
        [self.stock_root.clone(), blobs, sha256, self.repositories()]
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.stock_root.join("repositories")
    }

    fn repository(&self, repository: &Repository) -> PathBuf {
        self.repositories().join(repository.as_str())
    }

    /// Returns the folders with a repository's manifests, blobs and upload sessions.
    pub(super) fn repository_parts(&self, repository: &Repository) -> [PathBuf; 3] {
        let folder = self.repository(repository);
        [
            self.manifests(repository),
            self.layers_below(&folder),
            self.uploads_below(&folder),
        ]
    }

    /// Returns all folders of a repository that are empty once it has no content, the inner ones
    /// first, with the folders around it.
    pub(super) fn repository_folders(&self, repository: &Repository) -> Vec<PathBuf> {
        let mut folders = self.manifest_folders(repository);
        folders.extend(self.link_folders(repository, LinkKind::Layers));
        folders.extend(self.repository_parts(repository));
        let top = self.repositories();
        let own = self.repository(repository);
        let around = own.ancestors().take_while(|folder| *folder != top);
        folders.extend(around.map(Path::to_owned));
        folders
    }

    /// Returns the folders with a repository's tags and links to manifests, the inner ones first.
    pub(super) fn manifest_folders(&self, repository: &Repository) -> Vec<PathBuf> {
        let mut folders = vec![self.tags(repository)];
        folders.extend(self.link_folders(repository, LinkKind::Revisions));
        folders
    }

    fn link_folders(&self, repository: &Repository, links: LinkKind) -> [PathBuf; 3] {
        let folder = self.links(repository, links);
        [folder.join("sha256"), folder.join("sha512"), folder]
    }

    /// Returns the folder with a repository's manifests. Its existence makes the repository exist.
    pub(super) fn manifests(&self, repository: &Repository) -> PathBuf {
        self.manifests_below(&self.repository(repository))
    }

    /// Returns the folder with the manifests of the repository in `folder`.
    pub(super) fn manifests_below(&self, folder: &Path) -> PathBuf {
        folder.join("_manifests")
    }

    pub(super) fn tags(&self, repository: &Repository) -> PathBuf {
        self.manifests(repository).join("tags")
    }

    /// Returns the path of the current link of a tag, below the folder of the tags.
    pub(super) fn current_link_below(tag: &str) -> PathBuf {
        Path::new(tag).join("current/link")
    }

    /// Returns the folder of a tag, with its current link and its history.
    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.tags(repository).join(tag.as_str())
    }

    /// Returns the folder of an upload session.
    pub(super) fn upload(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.uploads(repository).join(id.to_string())
    }

    /// Returns the folder with a repository's upload sessions.
    pub(super) fn uploads(&self, repository: &Repository) -> PathBuf {
        self.uploads_below(&self.repository(repository))
    }

    /// Returns the folder with the upload sessions of the repository in `folder`.
    pub(super) fn uploads_below(&self, folder: &Path) -> PathBuf {
        folder.join("_uploads")
    }

    /// Returns the data file of an upload session.
    pub(super) fn upload_data(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.upload(repository, id).join("data")
    }

    /// Returns the file with the time when a session was opened. The stock registry's purge reads
    /// this file.
    pub(super) fn upload_started(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.upload(repository, id).join("startedat")
    }

    /// Returns the folder with a repository's links: a folder per algorithm, and in it one per
    /// digest.
    pub(super) fn links(&self, repository: &Repository, links: LinkKind) -> PathBuf {
        match links {
            LinkKind::Layers => self.layers_below(&self.repository(repository)),
            LinkKind::Revisions => self.manifests(repository).join("revisions"),
        }
    }

    /// Returns the folder with the links to blobs of the repository in `folder`.
    pub(super) fn layers_below(&self, folder: &Path) -> PathBuf {
        folder.join("_layers")
    }

    /// Returns the file in which a stock registry lists its cached content
    /// (distribution, `registry/proxy/scheduler`).
    pub(super) fn scheduler_state(&self) -> PathBuf {
        self.scheduler_state.clone()
    }

    /// Returns the folder with the history of a tag: the links to the manifests that it points or
    /// pointed at.
    pub(super) fn tag_history(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.tag(repository, tag).join("index")
    }

    /// Returns the folder with the bytes of all blobs: a folder per algorithm, in it one for the
    /// first two characters of the hash, and in it one per digest.
    pub(super) fn blobs(&self) -> PathBuf {
        self.stock_root.join("blobs")
    }

    /// Returns the folder in which the stock registry stores everything.
    pub(super) fn stock_root(&self) -> &Path {
        &self.stock_root
    }
}

/// Returns a file name for a digest. [`digest_from_file_name`] is the inverse.
pub(super) fn digest_to_file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// Returns the digest for which [`digest_to_file_name`] returned a name; `None` for other names.
pub(super) fn digest_from_file_name(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

fn link_path(folder: PathBuf, digest: &Digest) -> PathBuf {
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
        let paths = StorePaths::new(Path::new("/r"));
        let digest = Digest::of(b"");
        let (repository, tag) = ("a/b".parse().unwrap(), "v1".parse().unwrap());
        let hex = digest.hex();
        let path = |key| paths.object(key).to_str().unwrap().to_owned();
        let v2 = "/r/docker/registry/v2";
        assert_eq!(
            path(ObjectKey::Blob(&digest)),
            format!("{v2}/blobs/sha256/e3/{hex}/data")
        );
        let repo = format!("{v2}/repositories/a/b");
        assert_eq!(
            path(ObjectKey::LayerLink(&repository, &digest)),
            format!("{repo}/_layers/sha256/{hex}/link")
        );
        assert_eq!(
            path(ObjectKey::RevisionLink(&repository, &digest)),
            format!("{repo}/_manifests/revisions/sha256/{hex}/link")
        );
        assert_eq!(
            path(ObjectKey::TagCurrent(&repository, &tag)),
            format!("{repo}/_manifests/tags/v1/current/link")
        );
        assert_eq!(
            path(ObjectKey::TagIndex(&repository, &tag, &digest)),
            format!("{repo}/_manifests/tags/v1/index/sha256/{hex}/link")
        );
    }
}
