//! What a source holds: one map of names to bytes, whether it was a folder, a file or a stream.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use imgsync_oci::{Descriptor, Digest};
use serde::de::DeserializeOwned;

use super::archive::tar_reader;
use crate::image::{Error, Slice};

/// How many links may lead to one another.
const MAX_LINK_HOPS: usize = 8;

/// The entries of an archive, or a folder.
#[derive(Debug)]
pub(crate) struct SourceFiles {
    source_name: String,
    entries: FileBackend,
}

#[derive(Debug)]
enum FileBackend {
    Map(HashMap<String, FileEntry>),
    /// Looked into when asked: a layout shared by many images has more files than one needs.
    Folder(PathBuf),
}

/// What is under a name.
#[derive(Debug)]
enum FileEntry {
    File(FileContent),
    Link(String),
}

/// The bytes of a file, or their digest where nobody needed them.
#[derive(Debug, Clone)]
pub(crate) enum FileContent {
    /// They can be read.
    Available(Slice),
    /// They were left out, for the target has them.
    Skipped {
        /// Their digest; where the name is one, as the name says.
        digest: Digest,
        /// Their number.
        len: u64,
    },
}

impl FileContent {
    /// The number of bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Available(slice) => slice.len(),
            Self::Skipped { len, .. } => *len,
        }
    }
}

impl SourceFiles {
    /// No entries yet; `from` names the source in errors.
    pub(super) fn empty(from: &str) -> Self {
        Self {
            source_name: from.to_owned(),
            entries: FileBackend::Map(HashMap::new()),
        }
    }

    /// The files below a folder.
    pub(crate) fn folder(path: PathBuf) -> Self {
        Self {
            source_name: format!("the OCI layout {}", path.display()),
            entries: FileBackend::Folder(path),
        }
    }

    /// What errors call the source.
    pub(crate) fn source_name(&self) -> &str {
        &self.source_name
    }

    /// Notes a file.
    ///
    /// # Errors
    /// The name is taken: which of the two is meant depends on the reader, so neither is.
    pub(super) fn add_file(&mut self, name: String, stored: FileContent) -> Result<(), Error> {
        self.insert(name, FileEntry::File(stored))
    }

    /// Notes another name for `target`.
    ///
    /// # Errors
    /// The name is taken.
    pub(super) fn add_link(&mut self, name: String, target: String) -> Result<(), Error> {
        self.insert(name, FileEntry::Link(target))
    }

    fn insert(&mut self, name: String, entry: FileEntry) -> Result<(), Error> {
        let FileBackend::Map(map) = &mut self.entries else {
            return Err(self.malformed("a folder takes no entries".to_owned()));
        };
        match map.entry(name) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(entry);
                Ok(())
            }
            std::collections::hash_map::Entry::Occupied(occupied) => {
                let reason = format!("two entries have the name {}", occupied.key());
                Err(self.malformed(reason))
            }
        }
    }

    /// The files that were noted, with their names, in no order.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &FileContent)> {
        let map = match &self.entries {
            FileBackend::Map(map) => Some(map),
            FileBackend::Folder(_) => None,
        };
        map.into_iter()
            .flatten()
            .filter_map(|(name, entry)| match entry {
                FileEntry::File(stored) => Some((name.as_str(), stored)),
                FileEntry::Link(_) => None,
            })
    }

    /// Whether there is something under this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.entries {
            FileBackend::Map(map) => map.contains_key(name),
            FileBackend::Folder(folder) => folder.join(name).exists(),
        }
    }

    /// The bytes under a name, through links.
    ///
    /// # Errors
    /// There is nothing; links lead in a circle; the name leaves the source; it is no file.
    pub(super) fn find(&self, name: &str) -> Result<FileContent, Error> {
        let mut key = tar_reader::entry_key(name.as_bytes()).ok_or_else(|| Error::UnsafeName {
            from: self.source_name.clone(),
            name: name.to_owned(),
        })?;
        match &self.entries {
            FileBackend::Folder(folder) => self.file(folder.join(key), name),
            FileBackend::Map(map) => {
                for _ in 0..MAX_LINK_HOPS {
                    match map.get(&key) {
                        Some(FileEntry::File(stored)) => return Ok(stored.clone()),
                        Some(FileEntry::Link(target)) => key.clone_from(target),
                        None => return Err(self.missing(name)),
                    }
                }
                Err(self.malformed(format!("the links from {name} do not end")))
            }
        }
    }

    fn file(&self, path: PathBuf, name: &str) -> Result<FileContent, Error> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {
                Ok(FileContent::Available(Slice::whole(path, metadata.len())))
            }
            Ok(_) => Err(self.malformed(format!("{name} is no file"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.missing(name)),
            Err(error) => Err(self.read_error(error)),
        }
    }

    /// The bytes under a name, in memory.
    ///
    /// # Errors
    /// Those of [`Contents::find`]; they are more than `limit`, or were left out.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Bytes, Error> {
        match self.find(name)? {
            FileContent::Available(slice) if slice.len() <= limit => {
                slice.read_all().map_err(|error| self.read_error(error))
            }
            FileContent::Available(slice) => Err(Error::TooLarge {
                from: self.source_name.clone(),
                what: format!("{name}, of {} bytes,", slice.len()),
                limit: format!("{limit} bytes"),
            }),
            FileContent::Skipped { .. } => Err(self.missing(name)),
        }
    }

    /// The JSON under a name.
    ///
    /// # Errors
    /// Those of [`Contents::read`]; it is not that JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str, limit: u64) -> Result<T, Error> {
        let bytes = self.read(name, limit)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.malformed(format!("{name} cannot be read: {error}")))
    }

    /// The bytes of a blob in an OCI layout, wherever they are.
    ///
    /// # Errors
    /// Those of [`Contents::find`].
    pub(crate) fn blob(&self, digest: &Digest) -> Result<FileContent, Error> {
        self.find(&blob_path(digest))
    }

    /// Returns the bytes of a blob in an OCI layout.
    ///
    /// # Errors
    /// Those of [`SourceFiles::find`], and [`Error::Malformed`] for another size than the
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
        if len != *size {
            let reason = format!("the blob {digest} has {len} bytes, and should have {size}");
            return Err(self.malformed(reason));
        }
        Ok(())
    }

    /// The bytes of a small blob in an OCI layout, found to match their digest.
    ///
    /// # Errors
    /// Those of [`Contents::read`], and [`Error::Mismatch`].
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let name = blob_path(digest);
        let bytes = self.read(&name, limit)?;
        let found = Digest::of_with(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(Error::DigestMismatch {
                from: self.source_name.clone(),
                what: name,
                expected: digest.clone(),
                found,
            });
        }
        Ok(bytes)
    }

    /// The error for content that makes no sense.
    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        Error::Malformed {
            from: self.source_name.clone(),
            reason: reason.into(),
        }
    }

    /// The error for something that is not there.
    pub(super) fn missing(&self, what: &str) -> Error {
        Error::Missing {
            from: self.source_name.clone(),
            what: what.to_owned(),
        }
    }

    /// The error for a read that fails.
    pub(super) fn read_error(&self, source: std::io::Error) -> Error {
        Error::Io {
            action: "read",
            from: self.source_name.clone(),
            source,
        }
    }
}

/// Where an OCI layout keeps a blob (OCI image-spec, "Image Layout").
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest that an entry's name states for its bytes, and whether every reader relies on it:
/// a layout's blobs are named by their digests; podman names layers so, others name otherwise.
pub(super) fn digest_from_name(name: &str) -> Option<(Digest, bool)> {
    if let Some(blob) = name.strip_prefix("blobs/") {
        return Some((blob.replacen('/', ":", 1).parse().ok()?, true));
    }
    let hex = name.strip_suffix(".tar")?;
    Some((format!("sha256:{hex}").parse().ok()?, false))
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
        let stated = |name: &str| digest_from_name(name).map(|(_, relied_on)| relied_on);
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
