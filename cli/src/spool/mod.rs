//! Where bytes wait that do not fit in memory and come only once, and where they outlive a push
//! that was killed.
//!
//! Three rooms below one folder, and in each one file an entry, named by a digest. So concurrent
//! pushes share what is the same and never disturb each other: an entry is written under a name of
//! its own ([`Draft`]) and then renamed; whoever uses one has it open, and holds a shared lock that
//! keeps it from being cleared away. What is found is a hint like all else in the cache: it is read
//! to its end, and counts if its digests are right ([`Spool::bytes`], [`Spool::packed`]).
//!
//! An image's entries go when its push has succeeded; what is left of others goes after a week, or
//! when the room is needed.

mod disk_space;
mod draft;
mod entry;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imgsync_oci::Digest;

use crate::compress;

pub use draft::Draft;
pub use entry::SpooledLayer;

/// How long an entry waits for the next run.
const MAX_SPOOL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an entry holds, and what its name is the digest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolKind {
    /// Bytes as the source has them, by their own digest.
    Bytes,
    /// A layer packed in [`compress::FORMAT`], by its diffID.
    Compressed,
    /// What an export consisted of, by what was asked for.
    Exports,
}

impl SpoolKind {
    const ALL: [Self; 3] = [Self::Bytes, Self::Compressed, Self::Exports];

    fn folder(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Compressed => compress::FORMAT,
            Self::Exports => "exports",
        }
    }
}

/// A folder for spool files.
#[derive(Debug, Clone)]
pub struct Spool {
    folder: PathBuf,
    is_persistent: bool,
}

impl Spool {
    /// A spool in `folder`, which must exist. Its files have no names, so that the kernel takes
    /// them back however the process ends.
    pub fn temporary(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            is_persistent: false,
        }
    }

    /// A spool in `folder`, which must exist, that keeps its entries for the next run. What has
    /// waited too long there is cleared away.
    pub fn persistent(folder: &Path) -> Self {
        // An image may have more layers than a process is given open files at first.
        disk_space::raise_open_file_limit();
        let spool = Self {
            folder: folder.to_owned(),
            is_persistent: true,
        };
        spool.remove_expired();
        spool
    }

    /// The folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A new empty file to be written.
    ///
    /// # Errors
    /// The folder is missing, full, or not ours to write.
    pub fn create_draft(&self) -> io::Result<Draft> {
        Draft::new(self)
    }

    /// Sees to it that the disk has room for so many bytes more: leftovers of other images go
    /// first, the oldest before the others.
    ///
    /// # Errors
    /// [`NoRoom`], in an error of kind [`io::ErrorKind::StorageFull`].
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        disk_space::reserve(self, bytes)
    }

    /// The size of a packed layer that some run has kept here, in bytes. It is not read: whoever
    /// only wants to tell what there is changes nothing by that. A damaged one counts too.
    pub fn compressed_size(&self, diff_id: &Digest) -> Option<u64> {
        let data = std::fs::metadata(self.path(SpoolKind::Compressed, diff_id)).ok()?;
        let age = data.modified().ok()?.elapsed().unwrap_or_default();
        (data.is_file() && age <= MAX_SPOOL_AGE).then_some(data.len())
    }

    /// Takes entries away, also while others read them.
    pub fn remove<'a>(&self, room: SpoolKind, digests: impl IntoIterator<Item = &'a Digest>) {
        if self.is_persistent {
            for digest in digests {
                // Gone already is as good.
                let _ = std::fs::remove_file(self.path(room, digest));
            }
        }
    }

    fn path(&self, room: SpoolKind, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        self.folder.join(room.folder()).join(name)
    }

    /// An entry, open, and its size in bytes. From now on nobody clears it away.
    fn open(&self, room: SpoolKind, digest: &Digest) -> Option<(Arc<File>, u64)> {
        if !self.is_persistent {
            return None;
        }
        let file = File::open(self.path(room, digest)).ok()?;
        let data = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        // Without a lock or a fresh date it may be cleared away too soon, and is made again.
        let _ = file.try_lock_shared();
        let _ = file.set_modified(SystemTime::now());
        Some((Arc::new(file), data.len()))
    }

    /// Makes the folder of a room, for this user alone: layers may hold secrets.
    fn create_folder(&self, room: SpoolKind) -> io::Result<()> {
        let folder = self.folder.join(room.folder());
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    fn remove_expired(&self) {
        for leftover in disk_space::list_leftovers(self) {
            if leftover.is_draft || leftover.age() > MAX_SPOOL_AGE {
                leftover.remove_if_unused();
            }
        }
    }
}

impl Default for Spool {
    /// A fleeting one in the system's folder for temporary files (`TMPDIR`, else `/tmp`).
    fn default() -> Self {
        Self::temporary(&std::env::temp_dir())
    }
}

#[cfg(test)]
mod tests;
