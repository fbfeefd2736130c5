//! The paths of our own files, below `imgsync/`.

use std::path::{Path, PathBuf};

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, Repository};

use super::{
    DerivedKey, DerivedLogKey, LinkKind, MarkKey, STATE_SUFFIX, StorePaths, digest_to_file_name,
};

impl StorePaths {
    /// Returns the files with what was derived from the manifests of a repository.
    pub(in crate::store) fn derived_files(&self, repository: &Repository) -> [PathBuf; 2] {
        [
            self.derived_log(DerivedLogKey::Manifests(repository)),
            self.untagged_since(repository),
        ]
    }

    /// Returns the state file of an upload session.
    pub(in crate::store) fn upload_state(&self, id: UploadId) -> PathBuf {
        self.upload_states().join(format!("{id}{STATE_SUFFIX}"))
    }

    /// Returns the folder with the state files of all upload sessions.
    pub(in crate::store) fn upload_states(&self) -> PathBuf {
        self.own_root.join("uploads")
    }

    pub(in crate::store) fn derived(&self, key: DerivedKey<'_>) -> PathBuf {
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

    pub(in crate::store) fn derived_log(&self, key: DerivedLogKey<'_>) -> PathBuf {
        match key {
            DerivedLogKey::Manifests(repository) => self
                .derived_repository(repository)
                .join("_manifest-index-1"),
            DerivedLogKey::BlobLinks(byte) => self.own_root.join(format!("links-1/{byte:02x}")),
        }
    }

    /// Returns the folder with the layer records: one file per blob, below a folder for the
    /// algorithm and one for the first two characters of the digest.
    pub(in crate::store) fn layer_records(&self) -> PathBuf {
        self.own_root.join("diffids/blobs")
    }

    /// Returns the folder with the blobs of a diffID, one file each.
    pub(in crate::store) fn diff_id_blobs(&self, diff_id: &Digest) -> PathBuf {
        self.own_root
            .join("diffids/layers")
            .join(sharded_path(diff_id))
    }

    /// Returns the folder with all folders of [`StorePaths::config_manifests`]. Between the two is
    /// a folder for the first two characters of the name. Only earlier versions wrote it.
    pub(in crate::store) fn all_config_manifests(&self) -> PathBuf {
        self.own_root.join("diffids/configs")
    }

    /// Returns the folder with a repository's manifests of one config, one file each.
    pub(in crate::store) fn config_manifests(
        &self,
        repository: &Repository,
        config: &Digest,
    ) -> PathBuf {
        let key = Digest::of(format!("{repository} {config}").as_bytes());
        let start = &key.hex()[..2];
        self.all_config_manifests().join(start).join(key.hex())
    }

    fn derived_repository(&self, repository: &Repository) -> PathBuf {
        self.own_root.join("repositories").join(repository.as_str())
    }

    /// Returns the file that says since when manifests of a repository have no tag.
    pub(in crate::store) fn untagged_since(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_untagged-1")
    }

    /// Returns the file that says when manifests of a repository were pulled.
    pub(in crate::store) fn pull_days(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_pulls-1")
    }

    /// Returns the file that says what retention remembers.
    pub(in crate::store) fn retention_state(&self) -> PathBuf {
        self.own_root.join("retention-1")
    }

    /// Returns the file about the last garbage collection.
    pub(in crate::store) fn last_collection(&self) -> PathBuf {
        self.own_root.join("collection-1")
    }

    /// Returns the file that says how much space was used in the last weeks.
    pub(in crate::store) fn disk_history(&self) -> PathBuf {
        self.own_root.join("disk-history-1")
    }

    /// Returns the file in which earlier versions listed the manifests that they had read.
    pub(in crate::store) fn examined(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_examined")
    }

    /// Returns the folder in which earlier versions stored the referrers of manifests.
    pub(in crate::store) fn subjects(&self, repository: &Repository) -> PathBuf {
        self.derived_repository(repository).join("_referrers")
    }

    pub(in crate::store) fn mark(&self, mark: MarkKey<'_>) -> PathBuf {
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
    pub(in crate::store) fn link_marks(&self, repository: &Repository, links: LinkKind) -> PathBuf {
        self.repository_marks(repository).join(match links {
            LinkKind::Layers => "layers",
            LinkKind::Revisions => "revisions",
        })
    }

    /// Returns the folder with the marks of a repository's tags, one file each.
    pub(in crate::store) fn tag_marks(&self, repository: &Repository) -> PathBuf {
        self.repository_marks(repository).join("tags")
    }

    /// Returns the folder with all marks of a repository.
    pub(in crate::store) fn repository_marks(&self, repository: &Repository) -> PathBuf {
        self.marks_below(&self.marked_repositories().join(repository.as_str()))
    }

    /// Returns the folder with the marks of the repository in `folder`.
    pub(in crate::store) fn marks_below(&self, folder: &Path) -> PathBuf {
        folder.join("_marks")
    }

    /// Returns the folder with the marks of all repositories.
    pub(in crate::store) fn marked_repositories(&self) -> PathBuf {
        self.cache().join("repositories")
    }

    /// Returns the data file of a blob that is being fetched.
    pub(in crate::store) fn cache_fill_data(&self, digest: &Digest) -> PathBuf {
        self.cache_fills().join(digest_to_file_name(digest))
    }

    /// Returns the state file of a blob that is being fetched.
    pub(in crate::store) fn cache_fill_state(&self, digest: &Digest) -> PathBuf {
        self.cache_fills()
            .join(format!("{}{STATE_SUFFIX}", digest_to_file_name(digest)))
    }

    /// Returns the folder with the data and state files of all fetches.
    pub(in crate::store) fn cache_fills(&self) -> PathBuf {
        self.cache().join("filling")
    }

    /// Returns the file with the digests of the blobs that are being evicted.
    pub(in crate::store) fn pending_evictions(&self) -> PathBuf {
        self.cache().join("going")
    }

    /// Returns the file whose existence says that a stock registry's cache was imported.
    pub(in crate::store) fn import_done(&self) -> PathBuf {
        self.cache().join("imported")
    }

    fn cache(&self) -> PathBuf {
        self.own_root.join("cache")
    }

    /// Returns the folder for temporary files.
    pub(in crate::store) fn temporary(&self) -> PathBuf {
        self.own_root.join("tmp")
    }

    /// Returns the folder with all parts of the trash.
    pub(in crate::store) fn trash(&self) -> PathBuf {
        self.own_root.join("trash-1")
    }

    /// Returns the folder of a part of the trash.
    pub(in crate::store) fn trash_part(&self, part: u64) -> PathBuf {
        self.trash().join(part.to_string())
    }

    /// Returns the file that lists what was moved to a part of the trash.
    pub(in crate::store) fn trash_log(&self, part: u64) -> PathBuf {
        self.trash_part(part).join("log")
    }

    /// Returns the file with the bytes of a blob in a part of the trash.
    pub(in crate::store) fn trash_blob(&self, part: u64, digest: &Digest) -> PathBuf {
        self.trash_part(part).join(digest_to_file_name(digest))
    }

    /// Returns the file of a damaged blob in the quarantine. `number` tells apart several files of one
    /// blob.
    pub(in crate::store) fn quarantined_blob(&self, digest: &Digest, number: u32) -> PathBuf {
        let mut name = digest_to_file_name(digest);
        if number > 0 {
            name.push_str(&format!(".{number}"));
        }
        self.own_root.join("quarantine-1").join(name)
    }

    /// Returns the folder with the queues of events.
    pub(in crate::store) fn event_queues(&self) -> PathBuf {
        self.own_root.join("events-1")
    }

    /// Returns the folder of a queue of events.
    pub(in crate::store) fn event_queue(&self, name: &str) -> PathBuf {
        self.event_queues().join(name)
    }

    /// Returns the file that makes a folder a backup, and says whether the backup is complete.
    pub(in crate::store) fn backup_state(&self) -> PathBuf {
        self.own_root.join("backup-1")
    }

    /// Returns the folder with all files of our own.
    pub(in crate::store) fn own_root(&self) -> &Path {
        &self.own_root
    }

    /// Returns the socket through which commands reach the server that uses the storage folder.
    pub(in crate::store) fn control_socket(&self) -> PathBuf {
        self.own_root.join("control-1")
    }

    /// Returns the file that a server locks while it uses the storage folder.
    pub(in crate::store) fn lock_file(&self) -> PathBuf {
        self.own_root.join("lock")
    }
}

/// Returns a path of three parts for a digest, so that no folder gets very large.
fn sharded_path(digest: &Digest) -> PathBuf {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    [algorithm, &hex[..2], hex].iter().collect()
}
