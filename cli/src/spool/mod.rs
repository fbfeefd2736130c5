//! Stores bytes on disk that do not fit in memory and can be read only once, and keeps them for the
//! next run if a push is killed.
//!
//! The spool has a folder for each [`SpoolKind`], with one file for each entry, named by a digest. Concurrent pushes share equal entries and do not disturb each other: an entry is
//! written under a temporary name ([`Draft`]) and then renamed, and each reader holds a shared lock
//! that keeps the entry from being deleted. An entry is read to the end and used only if its
//! digests are right ([`Spool::find_bytes`], [`Spool::find_compressed`]).
//!
//! The entries of an image are removed after a successful push, except compressed layers from which
//! the next push can make deltas ([`Spool::keep_layers`]). Those that remain are deleted after a week
//! without use, or when the space is needed. This module does not decide what to spool. Start reading at
//! [`Spool`].

mod deltas;
mod disk_space;
mod draft;
mod entry;
mod kept;
mod layer_draft;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use imgsync_oci::{Digest, delta};

use crate::compress;
use crate::disk;

pub use draft::Draft;
pub use entry::SpooledLayer;
pub use layer_draft::{GrowingLayer, Growth, LayerDraft};

/// The age after which an entry is deleted.
const MAX_SPOOL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// The prefix of the name of a file that is still being written.
const DRAFT_PREFIX: &str = ".draft-";

/// The kinds of entries, with the digest that is used as the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolKind {
    /// Bytes as stored at the source, named by their own digest.
    Bytes,
    /// A layer compressed in [`compress::FORMAT_NAME`], named by its diffID.
    Compressed,
    /// The list of the parts of an image export, named by the digest of the request.
    Exports,
    /// A delta of a layer, named by the diffID and the blobs that it is based on.
    Deltas,
}

impl SpoolKind {
    const ALL: [Self; 4] = [Self::Bytes, Self::Compressed, Self::Exports, Self::Deltas];

    fn folder(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Compressed => compress::FORMAT_NAME,
            Self::Exports => "exports",
            Self::Deltas => delta::FORMAT_NAME,
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
    /// Creates a spool in `folder`, which must exist, whose files have no names. The kernel frees
    /// them when the process ends, even if it is killed.
    pub fn temporary(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            is_persistent: false,
        }
    }

    /// Opens a spool in `folder`, which must exist, that keeps its entries for the next run.
    /// Deletes entries that are too old.
    pub fn persistent(folder: &Path) -> Self {
        // An image may have more layers than the default limit for open files.
        disk::raise_open_file_limit();
        let spool = Self {
            folder: folder.to_owned(),
            is_persistent: true,
        };
        for leftover in spool.list_leftovers() {
            if leftover.is_draft || leftover.age() > MAX_SPOOL_AGE {
                disk::remove_if_unused(&leftover.path);
            }
        }
        spool
    }

    /// Returns the folder, for messages.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the size in bytes of an entry that an earlier run has kept. The entry is neither read
    /// nor marked as used, so it may be damaged.
    pub fn entry_size(&self, kind: SpoolKind, digest: &Digest) -> Option<u64> {
        let data = std::fs::metadata(self.path(kind, digest)).ok()?;
        let age = data.modified().ok()?.elapsed().unwrap_or_default();
        (data.is_file() && age <= MAX_SPOOL_AGE).then_some(data.len())
    }

    /// Removes entries. Open readers can still read them to the end.
    pub fn remove<'a>(&self, kind: SpoolKind, digests: impl IntoIterator<Item = &'a Digest>) {
        if self.is_persistent {
            for digest in digests {
                // Another run may have removed the entry already.
                let _ = std::fs::remove_file(self.path(kind, digest));
            }
        }
    }

    fn path(&self, kind: SpoolKind, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm().as_str(), digest.hex());
        self.folder.join(kind.folder()).join(name)
    }

    /// Opens an entry, and returns it with its size in bytes. A shared lock keeps clean-up from
    /// deleting the entry while it is open.
    fn open(&self, kind: SpoolKind, digest: &Digest) -> Option<(Arc<File>, u64)> {
        self.open_path(&self.path(kind, digest))
    }

    fn open_path(&self, path: &Path) -> Option<(Arc<File>, u64)> {
        if !self.is_persistent {
            return None;
        }
        let file = disk::open_to_use(path).ok()?;
        let data = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        disk::mark_in_use(&file);
        // If the time cannot be set, the entry may be deleted too early and is created again later.
        let _ = file.set_modified(SystemTime::now());
        Some((Arc::new(file), data.len()))
    }

    /// Creates the folder of a kind for this user only, because layers may hold secrets.
    fn create_folder(&self, kind: SpoolKind) -> io::Result<()> {
        disk::create_private_folder(&self.folder.join(kind.folder()))
    }
}

impl Default for Spool {
    /// Returns a temporary spool in the system's folder for temporary files (`TMPDIR`, else
    /// `/tmp`).
    fn default() -> Self {
        Self::temporary(&std::env::temp_dir())
    }
}

#[cfg(test)]
mod tests;
