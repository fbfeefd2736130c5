//! The files of an image, from those of its layers, and what differs between two of them. No I/O.
//!
//! Start reading at [`FileTree::add_layer`] and [`compare_trees`].

use std::collections::{BTreeMap, HashMap, HashSet};

use imgsync_oci::delta::{DeltaError, FileKind, IndexedFile, LayerIndex};

/// The most files of an image that are compared. They are held in memory.
const MAX_FILES: usize = 400_000;
/// The most bytes of their paths and links.
const MAX_PATH_BYTES: usize = 48 * 1024 * 1024;
/// The start of the name of a file that deletes another one of a lower layer (OCI image-spec,
/// "Whiteouts").
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of a file that deletes everything in its folder of lower layers.
const OPAQUE_WHITEOUT: &[u8] = b".wh..wh..opq";

/// The files of an image by their paths. Several have the same path only where their headers have a
/// part of the path.
#[derive(Debug, Clone, Default)]
pub(super) struct FileTree {
    files: BTreeMap<Vec<u8>, Vec<FileFacts>>,
}

/// What is known about a file besides its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub(super) is_path_partial: bool,
    pub(super) kind: FileKind,
    pub(super) size: u64,
    pub(super) mode: u64,
    pub(super) owner: (u64, u64),
    pub(super) modified_at: u64,
    pub(super) link: Vec<u8>,
    content: u64,
    has_unhashed_content: bool,
}

/// Why the files of an image are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeError {
    Invalid(String),
    TooManyFiles,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileStatus {
    Added,
    Removed,
    /// The content, the kind or the target of a link is another one.
    Changed,
    /// The content is the same, and the permissions or the owner are not.
    Attributes,
    /// The size is the same, but not the time, and parts have no hash.
    Unknown,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileChange<'a> {
    pub(super) status: FileStatus,
    pub(super) path: &'a [u8],
    pub(super) old: Option<&'a FileFacts>,
    pub(super) new: Option<&'a FileFacts>,
}

/// The differences of two trees.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TreeChanges<'a> {
    /// In the order of their paths.
    pub(super) changes: Vec<FileChange<'a>>,
    /// The number of files that differ in their time only.
    pub(super) touched: usize,
}

impl From<DeltaError> for TreeError {
    fn from(error: DeltaError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl FileTree {
    /// Puts a layer on top of the files so far.
    ///
    /// # Errors
    /// Fails if the index is invalid, or if there are too many files.
    pub(super) fn add_layer(&mut self, index: &LayerIndex) -> Result<(), TreeError> {
        let mut files = Vec::new();
        index.files(|file| {
            files.push(file);
            Ok::<(), TreeError>(())
        })?;
        self.add_files(files)
    }

    fn add_files(&mut self, mut files: Vec<IndexedFile>) -> Result<(), TreeError> {
        for file in &mut files {
            let root = file.path.len() - path_in_image(&file.path).len();
            file.path.drain(..root);
        }
        // Whiteouts delete what lower layers have, and nothing of their own layer.
        for file in &files {
            self.apply_whiteout(&file.path);
        }
        let mut own: BTreeMap<Vec<u8>, Vec<FileFacts>> = BTreeMap::new();
        for file in files {
            let (_, name) = split_path(&file.path);
            // The root itself has no name.
            if name.starts_with(WHITEOUT_PREFIX) || matches!(name, b"" | b".") {
                continue;
            }
            let (path, facts) = FileFacts::of(file);
            let same = own.entry(path).or_default();
            // In a tar, the last entry of a path counts. The path of all in the list is partial, or
            // there is only one.
            let is_partial = same.first().is_some_and(|other| other.is_path_partial);
            if !(is_partial && facts.is_path_partial) {
                same.clear();
            }
            same.push(facts);
        }
        for (path, facts) in own {
            if facts.iter().all(|file| file.kind != FileKind::Folder) {
                self.remove_below(&path);
            }
            let lower = self.files.entry(path).or_default();
            let is_ambiguous = lower.len() > 1 || facts.len() > 1;
            if is_ambiguous {
                let looks: HashSet<_> = facts.iter().map(FileFacts::look).collect();
                lower.retain(|file| !looks.contains(&file.look()));
                lower.extend(facts);
            } else {
                *lower = facts;
            }
        }
        let count: usize = self.files.values().map(Vec::len).sum();
        let links = self.files.values().flatten().map(|file| file.link.len());
        let bytes = self.files.keys().map(Vec::len).chain(links).sum::<usize>();
        if count > MAX_FILES || bytes > MAX_PATH_BYTES {
            return Err(TreeError::TooManyFiles);
        }
        Ok(())
    }

    fn apply_whiteout(&mut self, path: &[u8]) {
        let (folder, name) = split_path(path);
        if name == OPAQUE_WHITEOUT {
            match folder {
                b"" => self.files.clear(),
                _ => self.remove_below(folder),
            }
        } else if let Some(name) = name.strip_prefix(WHITEOUT_PREFIX) {
            let target = match folder {
                b"" => name.to_vec(),
                _ => [folder, b"/", name].concat(),
            };
            self.files.remove(&target);
            self.remove_below(&target);
        }
    }

    /// Removes everything below a folder.
    fn remove_below(&mut self, folder: &[u8]) {
        let prefix = [folder, b"/"].concat();
        let below = self.files.range(prefix.clone()..).map(|(path, _)| path);
        let below = below.take_while(|path| path.starts_with(&prefix));
        for path in below.cloned().collect::<Vec<_>>() {
            self.files.remove(&path);
        }
    }
}

/// Returns a path without the slashes and dots at its start: `/app` and `./app` are `app`.
fn path_in_image(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"/").or(path.strip_prefix(b"./")) {
        path = rest;
    }
    path
}

/// Returns the folder and the name; the folder of a path in the root is empty.
fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl FileFacts {
    fn of(file: IndexedFile) -> (Vec<u8>, Self) {
        let facts = Self {
            is_path_partial: file.is_path_partial,
            kind: file.kind,
            size: file.size,
            mode: file.mode,
            owner: file.owner,
            modified_at: file.modified_at,
            link: file.link,
            content: file.content,
            has_unhashed_content: file.has_unhashed_content,
        };
        (file.path, facts)
    }

    /// Returns the facts that are the same in two files of the same partial path that look like the
    /// same one.
    fn look(&self) -> (u8, u64, u64) {
        (self.kind as u8, self.size, self.content)
    }

    /// Returns how the file differs from an older version; `Ok(true)` if only the time does.
    fn compare(&self, old: &Self) -> Result<bool, FileStatus> {
        if self.look() != old.look() || self.link != old.link {
            return Err(FileStatus::Changed);
        }
        if (self.mode, self.owner) != (old.mode, old.owner) {
            return Err(FileStatus::Attributes);
        }
        let is_touched = self.modified_at != old.modified_at;
        if is_touched && self.has_unhashed_content {
            return Err(FileStatus::Unknown);
        }
        Ok(is_touched && self.kind != FileKind::Folder)
    }
}

/// Compares the files of two images.
pub(super) fn compare_trees<'a>(old: &'a FileTree, new: &'a FileTree) -> TreeChanges<'a> {
    let mut found = TreeChanges::default();
    let mut paths: Vec<&Vec<u8>> = old.files.keys().chain(new.files.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let files = |tree: &'a FileTree| tree.files.get(path).map_or(&[][..], |files| files);
        found.compare_path(path, files(old), files(new));
    }
    found
}

impl<'a> TreeChanges<'a> {
    fn compare_path(&mut self, path: &'a [u8], old: &'a [FileFacts], new: &'a [FileFacts]) {
        if let ([old], [new]) = (old, new) {
            self.compare_files(path, old, new);
            return;
        }
        // Several files have a path if their headers have a part of it only.
        let mut like: HashMap<_, Vec<usize>> = HashMap::new();
        for (position, file) in old.iter().enumerate().rev() {
            like.entry(file.look()).or_default().push(position);
        }
        let mut is_paired = vec![false; old.len()];
        let mut unpaired = Vec::new();
        for file in new {
            match like.get_mut(&file.look()).and_then(Vec::pop) {
                Some(position) => {
                    is_paired[position] = true;
                    self.compare_files(path, &old[position], file);
                }
                None => unpaired.push(file),
            }
        }
        let left = old.iter().zip(is_paired);
        let mut left = left
            .filter(|(_, is_paired)| !is_paired)
            .map(|(file, _)| file);
        for file in unpaired {
            match left.next() {
                Some(other) => self.compare_files(path, other, file),
                None => self.push(FileStatus::Added, path, None, Some(file)),
            }
        }
        for other in left {
            self.push(FileStatus::Removed, path, Some(other), None);
        }
    }

    fn compare_files(&mut self, path: &'a [u8], old: &'a FileFacts, new: &'a FileFacts) {
        match new.compare(old) {
            Ok(is_touched) => self.touched += usize::from(is_touched),
            Err(status) => self.push(status, path, Some(old), Some(new)),
        }
    }

    fn push(
        &mut self,
        status: FileStatus,
        path: &'a [u8],
        old: Option<&'a FileFacts>,
        new: Option<&'a FileFacts>,
    ) {
        self.changes.push(FileChange {
            status,
            path,
            old,
            new,
        });
    }
}

#[cfg(test)]
#[path = "file_tree_tests.rs"]
mod tests;
