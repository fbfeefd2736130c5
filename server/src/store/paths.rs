//! Builds every storage path; no other module does.
//!
//! The tree below `docker/` has the layout of the stock registry (distribution,
//! `registry/storage/paths.go`). Files of our own are below `imgsync/`, on the same volume, so that
//! they can be renamed into the tree. All names here are frozen. Start reading at [`StorePaths`].

mod layout;

use std::path::{Path, PathBuf};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository, Tag};

pub(super) use self::layout::{LayoutEntry, LayoutFolder};

/// Names an object: a blob, or a link.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObjectKey<'a> {
    /// The bytes of a blob or a manifest.
    Blob(&'a Digest),
    /// The link that makes a repository hold a blob.
    LayerLink(&'a Repository, &'a Digest),
    /// The link that makes a repository hold a manifest.
    RevisionLink(&'a Repository, &'a Digest),
    /// The link from a tag to its manifest.
    TagCurrent(&'a Repository, &'a Tag),
    /// The link from a tag to a manifest that it points or pointed at.
    TagIndex(&'a Repository, &'a Tag, &'a Digest),
}

/// Names a mark. A mark says that a link or tag of a repository came from an upstream; one without
/// a mark was pushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MarkKey<'a> {
    /// The mark of a link to a blob.
    Layer(&'a Repository, &'a Digest),
    /// The mark of a link to a manifest.
    Revision(&'a Repository, &'a Digest),
    /// The mark of a tag.
    Tag(&'a Repository, &'a Tag),
}

/// The kinds of links that a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkKind {
    /// Links to blobs.
    Layers,
    /// Links to manifests.
    Revisions,
}

/// Names a derived file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DerivedKey<'a> {
    /// Whether a blob is a layer, and of which diffID.
    LayerRecord(&'a Digest),
    /// Records a blob of a diffID. Fields: diffID, blob.
    DiffIdBlob(&'a Digest, &'a Digest),
    /// The index of a layer, for delta uploads.
    LayerIndex(&'a Digest),
}

/// Names a derived log.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DerivedLogKey<'a> {
    /// Facts about the manifests of a repository.
    Manifests(&'a Repository),
    /// The links to blobs whose hash begins with this byte.
    BlobLinks(u8),
}

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

    /// Returns the files with what was derived from the manifests of a repository.
    pub(super) fn derived_files(&self, repository: &Repository) -> [PathBuf; 2] {
        [
            self.derived_log(DerivedLogKey::Manifests(repository)),
            self.untagged_since(repository),
        ]
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

    /// Returns the state file of an upload session.
    pub(super) fn upload_state(&self, id: UploadId) -> PathBuf {
        self.upload_states().join(format!("{id}{STATE_SUFFIX}"))
    }

    /// Returns the folder with the state files of all upload sessions.
    pub(super) fn upload_states(&self) -> PathBuf {
        self.own_root.join("uploads")
    }

    pub(super) fn derived(&self, key: DerivedKey<'_>) -> PathBuf {
        match key {
            DerivedKey::LayerRecord(digest) => self.layer_records().join(sharded_path(digest)),
            DerivedKey::DiffIdBlob(diff_id, blob) => {
                self.diff_id_blobs(diff_id).join(digest_to_file_name(blob))
            }
            DerivedKey::LayerIndex(digest) => {
                let folder = self.own_root.join("layer-indexes-1");
                folder.join(sharded_path(digest))
            }
        }
    }

    pub(super) fn derived_log(&self, key: DerivedLogKey<'_>) -> PathBuf {
        match key {
            DerivedLogKey::Manifests(repository) => self
                .derived_repository(repository)
                .join("_manifest-index-1"),
            DerivedLogKey::BlobLinks(byte) => self.own_root.join(format!("links-1/{byte:02x}")),
        }
    }

    /// Returns the folder with the layer records: one file per blob, below a folder for the
    /// algorithm and one for the first two characters of the digest.
    pub(super) fn layer_records(&self) -> PathBuf {
        self.own_root.join("diffids/blobs")
    }

    /// Returns the folder with the blobs of a diffID, one file each.
    pub(super) fn diff_id_blobs(&self, diff_id: &Digest) -> PathBuf {
        self.own_root
            .join("diffids/layers")
            .join(sharded_path(diff_id))
    }

    /// Returns the folder with all folders of [`StorePaths::config_manifests`]. Between the two is
    /// a folder for the first two characters of the name. Only earlier versions wrote it.
    pub(super) fn all_config_manifests(&self) -> PathBuf {
        self.own_root.join("diffids/configs")
    }

    /// Returns the folder with a repository's manifests of one config, one file each.
    pub(super) fn config_manifests(&self, repository: &Repository, config: &Digest) -> PathBuf {
        let key = Digest::of(format!("{repository} {config}").as_bytes());
        let start = &key.hex()[..2];
        self.all_config_manifests().join(start).join(key.hex())
    }

    fn derived_repository(&self, repository: &Repository) -> PathBuf {
        self.own_root.join("repositories").join(repository.as_str())
    }

    /// Returns the file that says since when manifests of a repository have no tag.
    pub(super) fn untagged_since(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_untagged-1")
    }

    /// Returns the file that says when manifests of a repository were pulled.
    pub(super) fn pull_days(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_pulls-1")
    }

    /// Returns the file that says what retention remembers.
    pub(super) fn retention_state(&self) -> PathBuf {
        self.own_root.join("retention-1")
    }

    /// Returns the file about the last garbage collection.
    pub(super) fn last_collection(&self) -> PathBuf {
        self.own_root.join("collection-1")
    }

    /// Returns the file in which earlier versions listed the manifests that they had read.
    pub(super) fn examined(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_examined")
    }

    /// Returns the folder in which earlier versions stored the referrers of manifests.
    pub(super) fn subjects(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_referrers")
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

    pub(super) fn mark(&self, mark: MarkKey<'_>) -> PathBuf {
        match mark {
            MarkKey::Layer(repository, digest) => self
                .link_marks(repository, LinkKind::Layers)
                .join(digest_to_file_name(digest)),
            MarkKey::Revision(repository, digest) => self
                .link_marks(repository, LinkKind::Revisions)
                .join(digest_to_file_name(digest)),
            MarkKey::Tag(repository, tag) => self.tag_marks(repository).join(tag.as_str()),
        }
    }

    /// Returns the folder with the marks of a repository's links, one file each.
    pub(super) fn link_marks(&self, repository: &Repository, links: LinkKind) -> PathBuf {
        self.repository_marks(repository).join(match links {
            LinkKind::Layers => "layers",
            LinkKind::Revisions => "revisions",
        })
    }

    /// Returns the folder with the marks of a repository's tags, one file each.
    pub(super) fn tag_marks(&self, repository: &Repository) -> PathBuf {
        self.repository_marks(repository).join("tags")
    }

    /// Returns the folder with all marks of a repository.
    pub(super) fn repository_marks(&self, repository: &Repository) -> PathBuf {
        self.marks_below(&self.marked_repositories().join(repository.as_str()))
    }

    /// Returns the folder with the marks of the repository in `folder`.
    pub(super) fn marks_below(&self, folder: &Path) -> PathBuf {
        folder.join("_marks")
    }

    /// Returns the folder with the marks of all repositories.
    pub(super) fn marked_repositories(&self) -> PathBuf {
        self.cache().join("repositories")
    }

    /// Returns the data file of a blob that is being fetched.
    pub(super) fn cache_fill_data(&self, digest: &Digest) -> PathBuf {
        self.cache_fills().join(digest_to_file_name(digest))
    }

    /// Returns the state file of a blob that is being fetched.
    pub(super) fn cache_fill_state(&self, digest: &Digest) -> PathBuf {
        self.cache_fills()
            .join(format!("{}{STATE_SUFFIX}", digest_to_file_name(digest)))
    }

    /// Returns the folder with the data and state files of all fetches.
    pub(super) fn cache_fills(&self) -> PathBuf {
        self.cache().join("filling")
    }

    /// Returns the file with the digests of the blobs that are being evicted.
    pub(super) fn pending_evictions(&self) -> PathBuf {
        self.cache().join("going")
    }

    /// Returns the file whose existence says that a stock registry's cache was imported.
    pub(super) fn import_done(&self) -> PathBuf {
        self.cache().join("imported")
    }

    /// Returns the file in which a stock registry lists its cached content
    /// (distribution, `registry/proxy/scheduler`).
    pub(super) fn scheduler_state(&self) -> PathBuf {
        self.scheduler_state.clone()
    }

    fn cache(&self) -> PathBuf {
        self.own_root.join("cache")
    }

    /// Returns the folder for temporary files.
    pub(super) fn temporary(&self) -> PathBuf {
        self.own_root.join("tmp")
    }

    /// Returns the folder with all parts of the trash.
    pub(super) fn trash(&self) -> PathBuf {
        self.own_root.join("trash-1")
    }

    /// Returns the folder of a part of the trash.
    pub(super) fn trash_part(&self, part: u64) -> PathBuf {
        self.trash().join(part.to_string())
    }

    /// Returns the file that lists what was moved to a part of the trash.
    pub(super) fn trash_log(&self, part: u64) -> PathBuf {
        self.trash_part(part).join("log")
    }

    /// Returns the file with the bytes of a blob in a part of the trash.
    pub(super) fn trash_blob(&self, part: u64, digest: &Digest) -> PathBuf {
        self.trash_part(part).join(digest_to_file_name(digest))
    }

    /// Returns the file of a damaged blob in the quarantine. `number` tells apart several files of one
    /// blob.
    pub(super) fn quarantined_blob(&self, digest: &Digest, number: u32) -> PathBuf {
        let mut name = digest_to_file_name(digest);
        if number > 0 {
            name.push_str(&format!(".{number}"));
        }
        self.own_root.join("quarantine-1").join(name)
    }

    /// Returns the file that makes a folder a backup, and says whether the backup is complete.
    pub(super) fn backup_state(&self) -> PathBuf {
        self.own_root.join("backup-1")
    }

    /// Returns the folder with all files of our own.
    pub(super) fn own_root(&self) -> &Path {
        &self.own_root
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

    /// Returns the socket through which commands reach the server that uses the storage folder.
    pub(super) fn control_socket(&self) -> PathBuf {
        self.own_root.join("control-1")
    }

    /// Returns the file that a server locks while it uses the storage folder.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.own_root.join("lock")
    }
}

/// Returns a path of three parts for a digest, so that no folder gets very large.
fn sharded_path(digest: &Digest) -> PathBuf {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    [algorithm, &hex[..2], hex].iter().collect()
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
