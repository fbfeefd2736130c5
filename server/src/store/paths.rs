//! Where everything lies: the only place that builds a storage path.
//!
//! The tree below `docker/` is the stock registry's own (distribution, `registry/storage/paths.go`);
//! what we need beyond it lies below `imgsync/`, on the same volume so that renames work.

use std::path::{Path, PathBuf};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository, Tag};

/// The name of something small, or of a blob.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObjectKey<'a> {
    /// A blob's bytes, those of manifests among them.
    Blob(&'a Digest),
    /// Says that a repository holds a blob.
    LayerLink(&'a Repository, &'a Digest),
    /// Says that a repository holds a manifest.
    RevisionLink(&'a Repository, &'a Digest),
    /// Says what a tag points at.
    TagCurrent(&'a Repository, &'a Tag),
    /// Says what a tag points at or once did.
    TagIndex(&'a Repository, &'a Tag, &'a Digest),
}

/// The name of a mark: it says that what a repository links to came from an upstream. What has
/// none was pushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MarkKey<'a> {
    /// Of the link to a blob.
    Layer(&'a Repository, &'a Digest),
    /// Of the link to a manifest.
    Revision(&'a Repository, &'a Digest),
    /// Of a tag.
    Tag(&'a Repository, &'a Tag),
}

/// Which of a repository's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// To blobs.
    Layers,
    /// To manifests.
    Revisions,
}

/// The name of something small that we derived, and can derive again.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DerivedKey<'a> {
    /// What was found out about a blob as a layer.
    LayerRecord(&'a Digest),
    /// Says that a diffID is that of a blob: diffID, blob.
    DiffIdBlob(&'a Digest, &'a Digest),
    /// Says that a repository has a manifest over a config: repository, config, manifest.
    ConfigManifest(&'a Repository, &'a Digest, &'a Digest),
    /// Says that a manifest speaks about another one: repository, subject, referrer.
    Referrer(&'a Repository, &'a Digest, &'a Digest),
    /// The manifests of a repository that were looked at for all this.
    ExaminedManifests(&'a Repository),
}

/// How the name of a session's state ends.
pub(super) const STATE_SUFFIX: &str = ".json";

/// Draws the paths below one root.
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

    pub(super) fn repositories(&self) -> PathBuf {
        self.stock_root.join("repositories")
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

    /// What a tag points at, and what it once did.
    pub(super) fn tag(&self, repository: &Repository, tag: &Tag) -> PathBuf {
        self.tags(repository).join(tag.as_str())
    }

    /// An upload session's folder.
    pub(super) fn upload(&self, repository: &Repository, id: UploadId) -> PathBuf {
        self.uploads(repository).join(id.to_string())
    }

    /// The folder with a repository's upload sessions.
    pub(super) fn uploads(&self, repository: &Repository) -> PathBuf {
        self.uploads_below(&self.repository(repository))
    }

    /// The same, of a folder found below [`Keys::repositories`].
    pub(super) fn uploads_below(&self, folder: &Path) -> PathBuf {
        folder.join("_uploads")
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
        self.upload_states().join(format!("{id}{STATE_SUFFIX}"))
    }

    /// The folder of [`Keys::upload_state`].
    pub(super) fn upload_states(&self) -> PathBuf {
        self.own_root.join("uploads")
    }

    pub(super) fn derived(&self, key: DerivedKey<'_>) -> PathBuf {
        match key {
            DerivedKey::LayerRecord(digest) => self.layer_records().join(sharded_path(digest)),
            DerivedKey::DiffIdBlob(diff_id, blob) => {
                self.diff_id_blobs(diff_id).join(digest_to_file_name(blob))
            }
            DerivedKey::ConfigManifest(repository, config, manifest) => self
                .config_manifests(repository, config)
                .join(digest_to_file_name(manifest)),
            DerivedKey::Referrer(repository, subject, referrer) => self
                .referrers(repository, subject)
                .join(digest_to_file_name(referrer)),
            DerivedKey::ExaminedManifests(repository) => {
                self.derived_repository(repository).join("_examined")
            }
        }
    }

    /// One file a blob, below two folders: algorithm, and the start of the name.
    pub(super) fn layer_records(&self) -> PathBuf {
        self.own_root.join("diffids/blobs")
    }

    /// The blobs that a diffID is of, one file each.
    pub(super) fn diff_id_blobs(&self, diff_id: &Digest) -> PathBuf {
        self.own_root
            .join("diffids/layers")
            .join(sharded_path(diff_id))
    }

    /// Below this are the folders of [`Keys::configured`], below one folder: the start of the name.
    pub(super) fn all_config_manifests(&self) -> PathBuf {
        self.own_root.join("diffids/configs")
    }

    /// The manifests of one repository over one config, one file each.
    pub(super) fn config_manifests(&self, repository: &Repository, config: &Digest) -> PathBuf {
        let both = Digest::of(format!("{repository} {config}").as_bytes());
        let start = &both.hex()[..2];
        self.all_config_manifests().join(start).join(both.hex())
    }

    fn derived_repository(&self, repository: &Repository) -> PathBuf {
        self.own_root.join("repositories").join(repository.as_str())
    }

    /// Below this are the folders of [`Keys::referrers`].
    pub(super) fn subjects(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_referrers")
    }

    /// The manifests of a repository that speak about one, a file each.
    pub(super) fn referrers(&self, repository: &Repository, subject: &Digest) -> PathBuf {
        self.subjects(repository).join(digest_to_file_name(subject))
    }

    /// Where a repository's blobs, or its manifests, are named: folders by algorithm, and in them
    /// by digest.
    pub(super) fn links(&self, repository: &Repository, links: LinkKind) -> PathBuf {
        match links {
            LinkKind::Layers => self.layers_below(&self.repository(repository)),
            LinkKind::Revisions => self.manifests(repository).join("revisions"),
        }
    }

    /// The folder in which a repository's blobs are named, whose own folder was found below
    /// [`Keys::repositories`].
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

    /// The marks of a repository's links, one file each.
    pub(super) fn link_marks(&self, repository: &Repository, links: LinkKind) -> PathBuf {
        self.repository_marks(repository).join(match links {
            LinkKind::Layers => "layers",
            LinkKind::Revisions => "revisions",
        })
    }

    /// The marks of a repository's tags, one file each.
    pub(super) fn tag_marks(&self, repository: &Repository) -> PathBuf {
        self.repository_marks(repository).join("tags")
    }

    /// The folder with all marks of a repository.
    pub(super) fn repository_marks(&self, repository: &Repository) -> PathBuf {
        self.marks_below(&self.marked_repositories().join(repository.as_str()))
    }

    /// The same, of a folder found below [`Keys::marked`].
    pub(super) fn marks_below(&self, folder: &Path) -> PathBuf {
        folder.join("_marks")
    }

    /// Below this are the marks of all repositories.
    pub(super) fn marked_repositories(&self) -> PathBuf {
        self.cache().join("repositories")
    }

    /// What arrived so far of a blob that is fetched.
    pub(super) fn cache_fill_data(&self, digest: &Digest) -> PathBuf {
        self.cache_fills().join(digest_to_file_name(digest))
    }

    /// How much of that is durable, and its hash.
    pub(super) fn cache_fill_state(&self, digest: &Digest) -> PathBuf {
        self.cache_fills()
            .join(format!("{}{STATE_SUFFIX}", digest_to_file_name(digest)))
    }

    /// The folder of both.
    pub(super) fn cache_fills(&self) -> PathBuf {
        self.cache().join("filling")
    }

    /// The digests whose bytes are being evicted.
    pub(super) fn pending_evictions(&self) -> PathBuf {
        self.cache().join("going")
    }

    /// Says that what a stock registry had cached was marked.
    pub(super) fn import_done(&self) -> PathBuf {
        self.cache().join("imported")
    }

    /// What a stock registry notes about what it cached
    /// (distribution, `registry/proxy/scheduler`).
    pub(super) fn scheduler_state(&self) -> PathBuf {
        self.scheduler_state.clone()
    }

    fn cache(&self) -> PathBuf {
        self.own_root.join("cache")
    }

    /// Files in the making.
    pub(super) fn temporary(&self) -> PathBuf {
        self.own_root.join("tmp")
    }

    /// Held by the one server that uses the folder.
    pub(super) fn lock_file(&self) -> PathBuf {
        self.own_root.join("lock")
    }
}

/// A digest as three parts of a path: no folder gets very large.
fn sharded_path(digest: &Digest) -> PathBuf {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    [algorithm, &hex[..2], hex].iter().collect()
}

/// A digest as one name; [`unflat`] reads it back.
pub(super) fn digest_to_file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().as_str(), digest.hex())
}

/// Reads what [`flat`] wrote; `None` for anything else.
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
        let keys = StorePaths::new(Path::new("/r"));
        let digest = Digest::of(b"");
        let (repository, tag) = ("a/b".parse().unwrap(), "v1".parse().unwrap());
        let hex = digest.hex();
        let at = |key| keys.object(key).to_str().unwrap().to_owned();
        let v2 = "/r/docker/registry/v2";
        assert_eq!(
            at(ObjectKey::Blob(&digest)),
            format!("{v2}/blobs/sha256/e3/{hex}/data")
        );
        let repo = format!("{v2}/repositories/a/b");
        assert_eq!(
            at(ObjectKey::LayerLink(&repository, &digest)),
            format!("{repo}/_layers/sha256/{hex}/link")
        );
        assert_eq!(
            at(ObjectKey::RevisionLink(&repository, &digest)),
            format!("{repo}/_manifests/revisions/sha256/{hex}/link")
        );
        assert_eq!(
            at(ObjectKey::TagCurrent(&repository, &tag)),
            format!("{repo}/_manifests/tags/v1/current/link")
        );
        assert_eq!(
            at(ObjectKey::TagIndex(&repository, &tag, &digest)),
            format!("{repo}/_manifests/tags/v1/index/sha256/{hex}/link")
        );
    }
}
