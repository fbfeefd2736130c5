//! The folder of a layout that is written to, and the paths in it.

use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::Digest;
use serde_json::Value;

use super::LayoutIndex;
use super::walk::{OCI_INDEX_FILE, read_index};
use crate::disk::{self, LockedFile};
use crate::transports::files::{SourceFiles, blob_path};

/// The file that marks a folder as a layout.
pub(in crate::transports) const OCI_LAYOUT_FILE: &str = "oci-layout";
/// The content of that file (OCI image-spec, "Image Layout").
pub(in crate::transports) const OCI_LAYOUT_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The folder of imgsync's own files: partial blobs, temporary files and the lock.
const WORK_FOLDER: &str = ".imgsync";

/// A layout's folder, which may not exist yet.
#[derive(Debug)]
pub(crate) struct LayoutFolder {
    root: PathBuf,
    /// A reader of the files in the folder.
    pub(super) files: SourceFiles,
    /// Serializes changes of the index within this process.
    pub(super) index_lock: tokio::sync::Mutex<()>,
}

impl LayoutFolder {
    /// Checks what is at `root`: a layout, an empty folder or nothing.
    ///
    /// # Errors
    /// Returns a message if something else is there.
    pub(super) fn new(root: &Path) -> Result<Self, String> {
        let shown = root.display();
        let folder = Self {
            root: root.to_owned(),
            files: SourceFiles::folder(root.to_owned()),
            index_lock: tokio::sync::Mutex::default(),
        };
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder),
            Err(error) => return Err(format!("{shown}: {error}")),
        };
        let layout = root.join(OCI_LAYOUT_FILE);
        match disk::file_size(&layout).map_err(|error| error.to_string())? {
            Some(size) if size < 4096 => {
                let bytes = std::fs::read(&layout).map_err(|error| error.to_string())?;
                let content: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                let version = content["imageLayoutVersion"].as_str().unwrap_or_default();
                if !version.starts_with("1.") {
                    return Err(format!("{shown} is a layout of version {version:?}"));
                }
            }
            Some(_) => {
                return Err(format!(
                    "{} is not a valid oci-layout file",
                    layout.display()
                ));
            }
            None => {
                let mut names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
                // A run that is killed at the start leaves only these folders.
                if names.any(|name| name != WORK_FOLDER && name != "blobs") {
                    return Err(format!("{shown} is not empty and has no OCI layout"));
                }
            }
        }
        Ok(folder)
    }

    /// Creates the folders of a layout that do not exist.
    ///
    /// # Errors
    /// Returns the error of the file system, or an error if one of them is a symbolic link.
    pub(super) fn make(&self) -> io::Result<()> {
        let missing = self.root.ancestors().take_while(|folder| !folder.exists());
        let missing: Vec<_> = missing.map(disk::parent).collect();
        std::fs::create_dir_all(&self.root).map_err(|error| disk::with_path(&self.root, &error))?;
        for parent in missing {
            disk::sync_folder(parent)?;
        }
        disk::create_folder(&self.work_folder())?;
        disk::create_folder(&self.root.join("blobs"))
    }

    /// Returns the folder of imgsync's own files.
    pub(super) fn work_folder(&self) -> PathBuf {
        self.root.join(WORK_FOLDER)
    }

    /// Returns the path of a complete blob, and creates the folder that it is in.
    ///
    /// # Errors
    /// Fails as [`LayoutFolder::make`] does.
    pub(super) fn prepare_blob_path(&self, digest: &Digest) -> io::Result<PathBuf> {
        let path = self.root.join(blob_path(digest));
        disk::create_folder(disk::parent(&path))?;
        Ok(path)
    }

    /// Returns the path of a partial blob.
    pub(super) fn partial_path(&self, digest: &Digest) -> PathBuf {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        self.work_folder().join(format!("{algorithm}-{hex}.part"))
    }

    /// Returns the size of a complete blob in bytes; `None` if it is missing.
    ///
    /// # Errors
    /// Returns an error if the path is no regular file.
    pub(super) fn checked_blob_size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        disk::file_size(&self.root.join(blob_path(digest)))
    }

    /// Returns the current index; an empty one if there is none.
    ///
    /// # Errors
    /// Returns a message if it is invalid or no regular file.
    pub(super) fn read_index(&self) -> Result<LayoutIndex, String> {
        match disk::file_size(&self.root.join(OCI_INDEX_FILE)) {
            Ok(Some(_)) => read_index(&self.files).map_err(|error| error.to_string()),
            Ok(None) => Ok(LayoutIndex::default()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Replaces the index, and creates the file that marks the folder as a layout.
    ///
    /// # Errors
    /// Returns the error of the file system; the old index is unchanged then.
    pub(super) fn write_index(&self, index: &LayoutIndex, _lock: &LockedFile) -> io::Result<()> {
        let temporary = self.work_folder().join("index.part");
        let layout = self.root.join(OCI_LAYOUT_FILE);
        if disk::file_size(&layout)?.is_none() {
            disk::replace_file(&layout, OCI_LAYOUT_CONTENT, &temporary)?;
        }
        let path = self.root.join(OCI_INDEX_FILE);
        disk::replace_file(&path, &index.to_bytes(), &temporary)
    }

    /// Waits for the lock of the index.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) async fn lock(&self) -> io::Result<LockedFile> {
        LockedFile::open_waiting(&self.work_folder().join("lock")).await
    }

    /// Removes imgsync's own folder, unless it has partial blobs or another process uses it.
    pub(super) fn remove_work_folder(&self) {
        if let Ok(Some(lock)) = LockedFile::try_open(&self.work_folder().join("lock")) {
            // Left-over files do no harm, and a folder with partial blobs is not removed.
            let _ = std::fs::remove_file(self.work_folder().join("index.part"));
            let _ = lock.remove();
            let _ = std::fs::remove_dir(self.work_folder());
        }
    }
}
