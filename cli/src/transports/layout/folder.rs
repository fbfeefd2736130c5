//! The folder of a layout that is written to, and where everything lies in it.

use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

use super::LayoutIndex;
use super::store::{OCI_INDEX_FILE, read_index};
use crate::disk::{self, LockedFile};
use crate::transports::files::{SourceFiles, blob_path};

/// The file that makes a folder a layout.
pub(in crate::transports) const OCI_LAYOUT_FILE: &str = "oci-layout";
/// What stands in it (OCI image-spec, "Image Layout").
pub(in crate::transports) const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Ours: parts of blobs, files on their way, the lock. Nothing of a layout's own.
const WORK_FOLDER: &str = ".imgsync";

/// A layout's folder; it need not be there yet.
#[derive(Debug, Clone)]
pub(super) struct LayoutFolder {
    root: PathBuf,
}

impl LayoutFolder {
    /// Looks at what is under `root`: a layout, an empty folder or nothing.
    ///
    /// # Errors
    /// Something else is there, in words.
    pub(super) fn new(root: &Path) -> Result<Self, String> {
        let shown = root.display();
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { root: root.into() });
            }
            Err(error) => return Err(format!("{shown}: {error}")),
        };
        let layout = root.join(OCI_LAYOUT_FILE);
        let is_layout = disk::file_size(&layout).map_err(|error| error.to_string())?;
        match is_layout {
            Some(size) if size < 4096 => {
                let bytes = std::fs::read(&layout).map_err(|error| error.to_string())?;
                let version = serde_json::from_slice::<serde_json::Value>(&bytes);
                let version = version.unwrap_or_default();
                let version = version["imageLayoutVersion"].as_str().unwrap_or_default();
                if !version.starts_with("1.") {
                    return Err(format!("{shown} is a layout of version {version:?}"));
                }
            }
            Some(_) => return Err(format!("{} is no layout's", layout.display())),
            None => {
                let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
                // A run that was killed at its very beginning leaves no more than folders.
                if names.any(|name| name != WORK_FOLDER && name != "blobs") {
                    return Err(format!("{shown} holds something, and no OCI layout"));
                }
            }
        }
        Ok(Self { root: root.into() })
    }

    /// Makes the folders that a layout has, where they are not there.
    ///
    /// # Errors
    /// The system's; one is a link to elsewhere.
    pub(super) fn make(&self) -> io::Result<()> {
        let missing = self.root.ancestors().take_while(|it| !it.exists());
        let missing: Vec<_> = missing.map(disk::parent).collect();
        std::fs::create_dir_all(&self.root).map_err(|error| disk::with_path(&self.root, &error))?;
        for parent in missing {
            disk::sync_folder(parent)?;
        }
        disk::create_folder(&self.work_folder())?;
        disk::create_folder(&self.root.join("blobs"))
    }

    /// The folder of what is ours.
    pub(super) fn work_folder(&self) -> PathBuf {
        self.root.join(WORK_FOLDER)
    }

    /// Where a blob lies when it is whole; its folder is made.
    ///
    /// # Errors
    /// As [`Folder::make`].
    pub(super) fn prepare_blob_path(&self, digest: &Digest) -> io::Result<PathBuf> {
        let path = self.path(digest);
        disk::create_folder(disk::parent(&path))?;
        Ok(path)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_path(digest))
    }

    /// Where a blob lies while it is not whole.
    pub(super) fn partial_path(&self, digest: &Digest) -> PathBuf {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        self.work_folder().join(format!("{algorithm}-{hex}.part"))
    }

    /// The number of bytes of a blob that is whole.
    ///
    /// # Errors
    /// Something else has its name.
    pub(super) fn blob_size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        disk::file_size(&self.path(digest))
    }

    /// What is there, to be read.
    pub(super) fn files(&self) -> SourceFiles {
        SourceFiles::folder(self.root.clone())
    }

    /// The index as it is now; an empty one where there is none.
    ///
    /// # Errors
    /// It makes no sense, or is no plain file.
    pub(super) fn read_index(&self) -> Result<LayoutIndex, String> {
        match disk::file_size(&self.root.join(OCI_INDEX_FILE)) {
            Ok(Some(_)) => read_index(&self.files()).map_err(|error| error.to_string()),
            Ok(None) => Ok(LayoutIndex::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Puts another index in place of the one that is there, and beside it the file that makes the
    /// folder a layout.
    ///
    /// # Errors
    /// The system's; then the old one is there.
    pub(super) fn write_index(&self, index: &LayoutIndex, _lock: &LockedFile) -> io::Result<()> {
        let temporary = self.work_folder().join("index.part");
        let layout = self.root.join(OCI_LAYOUT_FILE);
        if disk::file_size(&layout)?.is_none() {
            disk::replace_file(&layout, OCI_LAYOUT_CONTENT, &temporary)?;
        }
        disk::replace_file(
            &self.root.join(OCI_INDEX_FILE),
            &index.to_bytes(),
            &temporary,
        )
    }

    /// Waits for the right to change the index.
    ///
    /// # Errors
    /// The system's.
    pub(super) async fn lock(&self) -> io::Result<LockedFile> {
        LockedFile::open_waiting(&self.work_folder().join("lock")).await
    }

    /// Takes away what is ours, if nothing of it is wanted any more: no part of a blob is there,
    /// and nobody else writes.
    pub(super) fn remove_work_folder(&self) {
        if let Ok(Some(lock)) = LockedFile::try_open(&self.work_folder().join("lock")) {
            // None of it is any trouble to the layout, and a folder that is not empty stays.
            let _ = std::fs::remove_file(self.work_folder().join("index.part"));
            let _ = lock.remove();
            let _ = std::fs::remove_dir(self.work_folder());
        }
    }
}
