//! The files of a source by name, whether it is a folder, an archive or a stream. Names are keys of
//! a map, never paths outside the source.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest};
use serde::de::DeserializeOwned;

use super::archive::tar_reader;
use crate::disk::{self, System};
use crate::image::{Error, Slice};

/// The most links that are followed.
const MAX_LINK_HOPS: usize = 8;

/// The entries of an archive, or the files of a folder.
#[derive(Debug)]
pub(crate) struct SourceFiles {
    source_name: String,
    entries: FileBackend,
}

#[derive(Debug)]
enum FileBackend {
    Map(HashMap<String, FileEntry>),
    /// A folder, in which files are looked up when they are needed: a layout of many images has
    /// more files than one image needs.
    Folder(PathBuf),
}

/// An entry.
#[derive(Debug)]
enum FileEntry {
    File(FileContent),
    Link(String),
}

/// The bytes of a file, or only their digest if they were skipped.
#[derive(Debug, Clone)]
pub(crate) enum FileContent {
    /// The bytes can be read.
    Available(Slice),
    /// The bytes were skipped, because the target has them.
    Skipped {
        /// The digest of the bytes, according to the name if that is a digest.
        digest: Digest,
        /// The number of bytes.
        len: u64,
    },
}

impl FileContent {
    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Available(slice) => slice.len(),
            Self::Skipped { len, .. } => *len,
        }
    }
}

impl SourceFiles {
    /// Returns an empty set of entries; `from` names the source in errors.
    pub(super) fn empty(from: &str) -> Self {
        Self {
            source_name: from.to_owned(),
            entries: FileBackend::Map(HashMap::new()),
        }
    }

    /// Returns the files in a folder.
    pub(crate) fn folder(path: PathBuf) -> Self {
        Self {
            source_name: format!("the OCI layout {}", path.display()),
            entries: FileBackend::Folder(path),
        }
    }

    /// Returns the name of the source in errors.
    pub(crate) fn source_name(&self) -> &str {
        &self.source_name
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Returns an error for a duplicate name: readers differ in which of the two entries they take.
    pub(super) fn add_file(&mut self, name: String, stored: FileContent) -> Result<(), Error> {
        self.insert(name, FileEntry::File(stored))
    }

    /// Adds a link to `target`.
    ///
    /// # Errors
    /// Returns an error for a duplicate name.
    pub(super) fn add_link(&mut self, name: String, target: String) -> Result<(), Error> {
        self.insert(name, FileEntry::Link(target))
    }

    fn insert(&mut self, name: String, entry: FileEntry) -> Result<(), Error> {
        let FileBackend::Map(map) = &mut self.entries else {
            return Err(self.malformed("entries cannot be added to a folder"));
        };
        if map.contains_key(&name) {
            return Err(self.malformed(format!("two entries have the name {name}")));
        }
        map.insert(name, entry);
        Ok(())
    }

    /// Returns the added files with their names, in no particular order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &FileContent)> {
        let map = match &self.entries {
            FileBackend::Map(map) => Some(map),
            FileBackend::Folder(_) => None,
        };
        let entries = map.into_iter().flatten();
        entries.filter_map(|(name, entry)| match entry {
            FileEntry::File(stored) => Some((name.as_str(), stored)),
            FileEntry::Link(_) => None,
        })
    }

    /// Returns whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.files().next().is_none()
    }

    /// Returns whether the name exists.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.entries {
            FileBackend::Map(map) => map.contains_key(name),
            FileBackend::Folder(folder) => {
                disk::path_below(folder, name, System::CURRENT).is_some_and(|path| path.exists())
            }
        }
    }

    /// Returns the content of a name, following links.
    ///
    /// # Errors
    /// Returns an error if the name does not exist, is no file, or leads out of the source, or if
    /// links form a cycle.
    pub(super) fn find(&self, name: &str) -> Result<FileContent, Error> {
        let is_unsafe = || Error::UnsafeName {
            from: self.source_name.clone(),
            name: name.to_owned(),
        };
        let mut key = tar_reader::entry_key(name.as_bytes()).ok_or_else(is_unsafe)?;
        let map = match &self.entries {
            FileBackend::Folder(folder) => {
                let path = disk::path_below(folder, &key, System::CURRENT);
                return self.file(path.ok_or_else(is_unsafe)?, name);
            }
            FileBackend::Map(map) => map,
        };
        for _ in 0..MAX_LINK_HOPS {
            match map.get(&key) {
                Some(FileEntry::File(stored)) => return Ok(stored.clone()),
                Some(FileEntry::Link(target)) => key.clone_from(target),
                None => return Err(self.missing(name)),
            }
        }
        Err(self.malformed(format!("the links from {name} form a cycle")))
    }

    fn file(&self, path: PathBuf, name: &str) -> Result<FileContent, Error> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {
                Ok(FileContent::Available(Slice::whole(path, metadata.len())))
            }
            Ok(_) => Err(self.malformed(format!("{name} is not a file"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.missing(name)),
            Err(error) => Err(self.read_error(error)),
        }
    }

    /// Reads the content of a name into memory.
    ///
    /// # Errors
    /// Fails as [`SourceFiles::find`] does, or if the content is larger than `limit` or was
    /// skipped.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Bytes, Error> {
        match self.find(name)? {
            FileContent::Available(slice) if slice.len() <= limit => {
                slice.read_all().map_err(|error| self.read_error(error))
            }
            FileContent::Available(slice) => {
                let what = format!("{name}, of {} bytes,", slice.len());
                let limit = format!("{limit} bytes");
                Err(Error::too_large(&self.source_name, what, limit))
            }
            FileContent::Skipped { .. } => Err(self.missing(name)),
        }
    }

    /// Reads the JSON under a name.
    ///
    /// # Errors
    /// Fails as [`SourceFiles::read`] does, or if the JSON is invalid.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, limit: u64) -> Result<T, Error> {
        let bytes = self.read(name, limit)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.malformed(format!("{name} cannot be read: {error}")))
    }

    /// Returns the content of a blob in an OCI layout.
    ///
    /// # Errors
    /// Fails as [`SourceFiles::find`] does.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<FileContent, Error> {
        self.find(&blob_path(digest))
    }

    /// Returns the bytes of a blob in an OCI layout.
    ///
    /// # Errors
    /// Fails as [`SourceFiles::find`] does, and with [`Error::Malformed`] for another size than the
    /// descriptor's.
    pub(super) fn sized_blob(&self, descriptor: &Descriptor) -> Result<FileContent, Error> {
        let stored = self.blob(&descriptor.digest)?;
        self.check_size(descriptor, stored.len())?;
        Ok(stored)
    }

    /// Checks the size of a blob against its descriptor.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub(super) fn check_size(&self, descriptor: &Descriptor, len: u64) -> Result<(), Error> {
        let Descriptor { digest, size, .. } = descriptor;
        if len == *size {
            return Ok(());
        }
        let reason = format!("the blob {digest} has {len} bytes, but should have {size}");
        Err(self.malformed(reason))
    }

    /// Reads a small blob of an OCI layout and verifies its digest.
    ///
    /// # Errors
    /// Fails as [`SourceFiles::read`] does, and with [`Error::DigestMismatch`].
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let name = blob_path(digest);
        let bytes = self.read(&name, limit)?;
        let found = Digest::of_with(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(Error::mismatch(&self.source_name, &name, digest, found));
        }
        Ok(bytes)
    }

    /// Returns the error for invalid content.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::malformed(&self.source_name, reason)
    }

    /// Returns the error for a missing part.
    pub(super) fn missing(&self, what: &str) -> Error {
        Error::missing(&self.source_name, what)
    }

    /// Returns the error for an image that does not exist; `names` are those that do.
    pub(super) fn no_image<'a>(
        &self,
        requested: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Error {
        Error::ImageNotFound {
            from: self.source_name.clone(),
            requested: requested.to_owned(),
            names: names.map(str::to_owned).collect(),
        }
    }

    /// Returns the error for several images of which none was selected.
    pub(super) fn ambiguous<'a>(&self, names: impl Iterator<Item = &'a str>) -> Error {
        Error::Ambiguous {
            from: self.source_name.clone(),
            names: names.map(str::to_owned).collect(),
        }
    }

    /// Returns the error for a failed read.
    pub(super) fn read_error(&self, source: io::Error) -> Error {
        Error::read(&self.source_name, source)
    }
}

/// Returns the path of a blob in an OCI layout (OCI image-spec, "Image Layout").
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// Returns the digest that is the name of a blob in an OCI layout; `None` for other names.
pub(super) fn blob_digest(name: &str) -> Option<Digest> {
    let digest = name.strip_prefix("blobs/")?.replacen('/', ":", 1);
    digest.parse().ok()
}

/// Returns the digest in the name of a layer as podman writes it. Other programs use such names for
/// other digests, so the bytes need not have this one.
pub(super) fn layer_digest(name: &str) -> Option<Digest> {
    let hex = name.strip_suffix(".tar")?;
    format!("sha256:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> FileContent {
        FileContent::Available(Slice::memory(Bytes::from_static(b"{}")))
    }

    #[test]
    fn links_are_followed_inside_and_not_for_ever() {
        let mut contents = SourceFiles::empty("the test");
        contents.add_file("a".into(), stored()).unwrap();
        contents.add_link("b".into(), "a".into()).unwrap();
        contents.add_link("c".into(), "b".into()).unwrap();
        contents.add_link("x".into(), "y".into()).unwrap();
        contents.add_link("y".into(), "x".into()).unwrap();
        contents.add_link("z".into(), "nowhere".into()).unwrap();
        assert_eq!(&contents.read("./c", 10).unwrap()[..], b"{}");
        assert!(matches!(contents.find("x"), Err(Error::Malformed { .. })));
        assert!(matches!(contents.find("z"), Err(Error::Missing { .. })));
        assert!(matches!(
            contents.find("../a"),
            Err(Error::UnsafeName { .. })
        ));
        assert!(matches!(contents.read("a", 1), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_name_stands_once() {
        let mut contents = SourceFiles::empty("the test");
        contents.add_file("a".into(), stored()).unwrap();
        assert!(matches!(
            contents.add_file("a".into(), stored()),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            contents.add_link("a".into(), "b".into()),
            Err(Error::Malformed { .. })
        ));
    }

    #[test]
    fn a_folder_is_read_by_the_same_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"1").unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let contents = SourceFiles::folder(folder.path().to_owned());
        assert_eq!(&contents.read("a", 10).unwrap()[..], b"1");
        assert!(matches!(contents.find("b"), Err(Error::Missing { .. })));
        assert!(matches!(contents.find("d"), Err(Error::Malformed { .. })));
        assert!(matches!(
            contents.find("../a"),
            Err(Error::UnsafeName { .. })
        ));
    }

    #[test]
    fn names_that_state_digests() {
        let hex = "0".repeat(64);
        let stated = |name: &str| {
            let (blob, layer) = (blob_digest(name), layer_digest(name));
            blob.map(|_| true).or(layer.map(|_| false))
        };
        assert_eq!(stated(&format!("blobs/sha256/{hex}")), Some(true));
        assert_eq!(stated(&format!("{hex}.tar")), Some(false));
        for name in [
            format!("{hex}.json"),
            format!("{hex}/layer.tar"),
            "blobs/sha256/x".into(),
        ] {
            assert_eq!(stated(&name), None, "{name}");
        }
    }
}
