//! What a source holds: one map of names to bytes, whether it was a folder, a file or a stream.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use imgsync_oci::Digest;
use serde::de::DeserializeOwned;

use super::slice::Slice;
use super::{Error, tarball};

/// How many links may lead to one another.
const MAX_HOPS: usize = 8;

/// The entries of an archive, or a folder.
#[derive(Debug)]
pub(crate) struct Contents {
    from: String,
    entries: Entries,
}

#[derive(Debug)]
enum Entries {
    Map(HashMap<String, Entry>),
    /// Looked into when asked: a layout shared by many images has more files than one needs.
    Folder(PathBuf),
}

/// What is under a name.
#[derive(Debug)]
enum Entry {
    Stored(Stored),
    Link(String),
}

/// The bytes of a file, or their digest where nobody needed them.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    /// They can be read.
    Here(Slice),
    /// They were left out, for the target has them.
    Elsewhere {
        /// Their digest; where the name is one, as the name says.
        digest: Digest,
        /// Their number.
        len: u64,
    },
}

impl Stored {
    /// The number of bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Here(slice) => slice.len(),
            Self::Elsewhere { len, .. } => *len,
        }
    }
}

impl Contents {
    /// No entries yet; `from` names the source in errors.
    pub(super) fn empty(from: &str) -> Self {
        Self {
            from: from.to_owned(),
            entries: Entries::Map(HashMap::new()),
        }
    }

    /// The files below a folder.
    pub(crate) fn folder(path: PathBuf) -> Self {
        Self {
            from: format!("the OCI layout {}", path.display()),
            entries: Entries::Folder(path),
        }
    }

    /// What errors call the source.
    pub(crate) fn from(&self) -> &str {
        &self.from
    }

    /// Notes a file.
    ///
    /// # Errors
    /// The name is taken: which of the two is meant depends on the reader, so neither is.
    pub(super) fn store(&mut self, name: String, stored: Stored) -> Result<(), Error> {
        self.insert(name, Entry::Stored(stored))
    }

    /// Notes another name for `target`.
    ///
    /// # Errors
    /// The name is taken.
    pub(super) fn link(&mut self, name: String, target: String) -> Result<(), Error> {
        self.insert(name, Entry::Link(target))
    }

    fn insert(&mut self, name: String, entry: Entry) -> Result<(), Error> {
        let Entries::Map(map) = &mut self.entries else {
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
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Stored)> {
        let map = match &self.entries {
            Entries::Map(map) => Some(map),
            Entries::Folder(_) => None,
        };
        map.into_iter()
            .flatten()
            .filter_map(|(name, entry)| match entry {
                Entry::Stored(stored) => Some((name.as_str(), stored)),
                Entry::Link(_) => None,
            })
    }

    /// Whether there is something under this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.entries {
            Entries::Map(map) => map.contains_key(name),
            Entries::Folder(folder) => folder.join(name).exists(),
        }
    }

    /// The bytes under a name, through links.
    ///
    /// # Errors
    /// There is nothing; links lead in a circle; the name leaves the source; it is no file.
    pub(super) fn find(&self, name: &str) -> Result<Stored, Error> {
        let mut key = tarball::key(name.as_bytes()).ok_or_else(|| Error::UnsafeName {
            from: self.from.clone(),
            name: name.to_owned(),
        })?;
        match &self.entries {
            Entries::Folder(folder) => self.file(folder.join(key), name),
            Entries::Map(map) => {
                for _ in 0..MAX_HOPS {
                    match map.get(&key) {
                        Some(Entry::Stored(stored)) => return Ok(stored.clone()),
                        Some(Entry::Link(target)) => key.clone_from(target),
                        None => return Err(self.missing(name)),
                    }
                }
                Err(self.malformed(format!("the links from {name} do not end")))
            }
        }
    }

    fn file(&self, path: PathBuf, name: &str) -> Result<Stored, Error> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {
                Ok(Stored::Here(Slice::whole(path, metadata.len())))
            }
            Ok(_) => Err(self.malformed(format!("{name} is no file"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.missing(name)),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// The bytes under a name, in memory.
    ///
    /// # Errors
    /// Those of [`Contents::find`]; they are more than `limit`, or were left out.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Bytes, Error> {
        match self.find(name)? {
            Stored::Here(slice) if slice.len() <= limit => {
                slice.bytes().map_err(|error| self.unreadable(error))
            }
            Stored::Here(slice) => Err(Error::TooLarge {
                from: self.from.clone(),
                what: format!("{name}, of {} bytes,", slice.len()),
                limit: format!("{limit} bytes"),
            }),
            Stored::Elsewhere { .. } => Err(self.missing(name)),
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
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Stored, Error> {
        self.find(&blob_name(digest))
    }

    /// The bytes of a small blob in an OCI layout, found to match their digest.
    ///
    /// # Errors
    /// Those of [`Contents::read`], and [`Error::Mismatch`].
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        let name = blob_name(digest);
        let bytes = self.read(&name, limit)?;
        let found = Digest::of_with(digest.algorithm(), &bytes);
        if found != *digest {
            return Err(Error::Mismatch {
                from: self.from.clone(),
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
            from: self.from.clone(),
            reason: reason.into(),
        }
    }

    /// The error for something that is not there.
    pub(super) fn missing(&self, what: &str) -> Error {
        Error::Missing {
            from: self.from.clone(),
            what: what.to_owned(),
        }
    }

    /// The error for a read that fails.
    pub(super) fn unreadable(&self, source: std::io::Error) -> Error {
        Error::Io {
            action: "read",
            from: self.from.clone(),
            source,
        }
    }
}

/// Where an OCI layout keeps a blob (OCI image-spec, "Image Layout").
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest that an entry's name states for its bytes, and whether every reader relies on it:
/// a layout's blobs are named by their digests; podman names layers so, others name otherwise.
pub(super) fn stated_digest(name: &str) -> Option<(Digest, bool)> {
    if let Some(blob) = name.strip_prefix("blobs/") {
        return Some((blob.replacen('/', ":", 1).parse().ok()?, true));
    }
    let hex = name.strip_suffix(".tar")?;
    Some((format!("sha256:{hex}").parse().ok()?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored::Here(Slice::memory(Bytes::from_static(b"{}")))
    }

    #[test]
    fn links_are_followed_inside_and_not_for_ever() {
        let mut contents = Contents::empty("the test");
        contents.store("a".into(), stored()).unwrap();
        contents.link("b".into(), "a".into()).unwrap();
        contents.link("c".into(), "b".into()).unwrap();
        contents.link("x".into(), "y".into()).unwrap();
        contents.link("y".into(), "x".into()).unwrap();
        contents.link("z".into(), "nowhere".into()).unwrap();
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
        let mut contents = Contents::empty("the test");
        contents.store("a".into(), stored()).unwrap();
        assert!(matches!(
            contents.store("a".into(), stored()),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            contents.link("a".into(), "b".into()),
            Err(Error::Malformed { .. })
        ));
    }

    #[test]
    fn a_folder_is_read_by_the_same_names() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"1").unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        let contents = Contents::folder(folder.path().to_owned());
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
        let stated = |name: &str| stated_digest(name).map(|(_, relied_on)| relied_on);
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
