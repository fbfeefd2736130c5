//! Iterates over the entries of folders.
//!
//! No iterator keeps a list in memory, because folders can be large. Start reading at
//! [`Store::parsed_entries`].

use std::ffi::OsStr;
use std::iter;
use std::path::Path;

use imgsync_oci::Digest;

use super::Store;
use super::disk::FolderEntry;
use super::error::Result;
use super::paths::digest_from_file_name;

impl Store {
    /// Iterates over the entries of the folders that are `depth` levels below a folder.
    pub(super) fn entries_below(
        &self,
        folder: &Path,
        depth: usize,
    ) -> Box<dyn Iterator<Item = Result<FolderEntry>> + '_> {
        let entries = self.disk.entries(folder);
        if depth == 0 {
            return Box::new(entries);
        }
        Box::new(entries.flat_map(move |entry| match entry {
            Ok(entry) if entry.is_folder => self.entries_below(&entry.path(), depth - 1),
            Ok(_) => Box::new(iter::empty()),
            Err(error) => Box::new(iter::once(Err(error))),
        }))
    }

    /// Iterates over the names in a folder that `parse` accepts. `parse` is called with a name and
    /// whether it names a folder.
    pub(super) fn parsed_entries<T, P: Fn(&str, bool) -> Option<T>>(
        &self,
        folder: &Path,
        parse: P,
    ) -> impl Iterator<Item = Result<T>> + use<T, P> {
        let parse = move |entry: FolderEntry| parse(&entry.name, entry.is_folder);
        let entries = self.disk.entries(folder);
        entries.filter_map(move |entry| entry.map(&parse).transpose())
    }

    /// Iterates over the digests in a folder whose files are named after digests.
    pub(super) fn digest_files(
        &self,
        folder: &Path,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        self.parsed_entries(folder, |name, _| digest_from_file_name(name))
    }
}

/// Returns the digest of an entry below `folder`: the first subfolder names the algorithm, the entry
/// itself the hash.
pub(super) fn entry_digest(folder: &Path, entry: &FolderEntry) -> Option<Digest> {
    let path = entry.path();
    let mut names = path.strip_prefix(folder).ok()?.iter();
    let algorithm = names.next().and_then(OsStr::to_str)?;
    format!("{algorithm}:{}", entry.name).parse().ok()
}
