//! Tells which files and folders belong to the layout of the stock registry.
//!
//! Nothing here reads the disk. Start reading at [`LayoutFolder::entry`].

use imgsync_oci::{Algorithm, Digest, Repository, Tag};

/// A folder of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum LayoutFolder {
    /// The folder with everything.
    Top,
    /// The folder with the bytes of all blobs.
    Blobs,
    /// The folder with the blobs of an algorithm.
    BlobAlgorithm(Algorithm),
    /// The folder with the blobs whose hash begins with two characters.
    BlobPrefix(Algorithm, String),
    /// The folder of a blob.
    Blob(Digest),
    /// A part of the names of repositories, with a slash at its end; empty for the top.
    Names(String),
    /// The folder with the manifests and tags of a repository.
    Manifests,
    /// The folder with the tags of a repository.
    Tags,
    /// The folder of a tag.
    Tag,
    /// A folder with links, by algorithm.
    Links,
    /// A folder with the links of an algorithm.
    LinkAlgorithm(Algorithm),
    /// The folder of a link.
    Link,
}

/// An entry of a folder of the layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum LayoutEntry {
    Folder(LayoutFolder),
    /// A link.
    Link,
    /// The bytes of a blob.
    Blob(Digest),
    /// Something whose content is not part of the layout: upload sessions, and signatures of old
    /// stock registries.
    Other,
    /// Nothing that a registry writes.
    Foreign,
}

impl LayoutFolder {
    /// Returns what an entry of this folder is.
    pub(in crate::store) fn entry(&self, name: &str, is_folder: bool) -> LayoutEntry {
        let found = if is_folder {
            self.subfolder(name)
        } else {
            self.file(name)
        };
        found.unwrap_or(LayoutEntry::Foreign)
    }

    fn file(&self, name: &str) -> Option<LayoutEntry> {
        match (self, name) {
            (Self::Blob(digest), "data") => Some(LayoutEntry::Blob(digest.clone())),
            (Self::Link, "link") => Some(LayoutEntry::Link),
            _ => None,
        }
    }

    fn subfolder(&self, name: &str) -> Option<LayoutEntry> {
        let digest = |algorithm: Algorithm| {
            let text = format!("{}:{name}", algorithm.as_str());
            text.parse::<Digest>().ok()
        };
        Some(LayoutEntry::Folder(match (self, name) {
            (Self::Top, "blobs") => Self::Blobs,
            (Self::Top, "repositories") => Self::Names(String::new()),
            (Self::Blobs, _) => Self::BlobAlgorithm(algorithm(name)?),
            (Self::BlobAlgorithm(algorithm), _) => {
                let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                let is_prefix = name.len() == 2 && name.bytes().all(is_hex);
                is_prefix.then(|| Self::BlobPrefix(*algorithm, name.to_owned()))?
            }
            (Self::BlobPrefix(algorithm, prefix), _) => {
                Self::Blob(digest(*algorithm).filter(|_| name.starts_with(prefix))?)
            }
            (Self::Names(prefix), "_layers") if !prefix.is_empty() => Self::Links,
            (Self::Names(prefix), "_manifests") if !prefix.is_empty() => Self::Manifests,
            (Self::Names(prefix), "_uploads") if !prefix.is_empty() => {
                return Some(LayoutEntry::Other);
            }
            (Self::Names(prefix), _) => {
                let repository = format!("{prefix}{name}").parse::<Repository>().ok()?;
                Self::Names(format!("{repository}/"))
            }
            (Self::Manifests, "revisions") => Self::Links,
            (Self::Manifests, "tags") => Self::Tags,
            (Self::Tags, _) => name.parse::<Tag>().ok().map(|_| Self::Tag)?,
            (Self::Tag, "current") => Self::Link,
            (Self::Tag, "index") => Self::Links,
            (Self::Links, _) => Self::LinkAlgorithm(algorithm(name)?),
            (Self::LinkAlgorithm(algorithm), _) => digest(*algorithm).map(|_| Self::Link)?,
            (Self::Link, "signatures") => return Some(LayoutEntry::Other),
            _ => return None,
        }))
    }
}

fn algorithm(name: &str) -> Option<Algorithm> {
    let algorithms = [Algorithm::Sha256, Algorithm::Sha512];
    algorithms
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is at a path, of which only the last part may be a file.
    fn at(path: &str) -> LayoutEntry {
        let is_file = path.ends_with("data") || path.ends_with("link") || path.contains(".tmp");
        let parts: Vec<&str> = path.split('/').collect();
        let mut folder = LayoutFolder::Top;
        for (number, part) in parts.iter().enumerate() {
            let is_last = number + 1 == parts.len();
            match folder.entry(part, !(is_last && is_file)) {
                LayoutEntry::Folder(next) if !is_last => folder = next,
                entry => return entry,
            }
        }
        unreachable!("no path")
    }

    #[test]
    fn entries_of_the_layout_are_known_and_others_are_foreign() {
        let digest = Digest::of(b"");
        let (hex, long) = (digest.hex(), Digest::of_with(Algorithm::Sha512, b""));
        let blob = format!("blobs/sha256/e3/{hex}/data");
        assert_eq!(at(&blob), LayoutEntry::Blob(digest.clone()));
        for link in [
            format!("repositories/a/b/_layers/sha256/{hex}/link"),
            format!("repositories/a/_layers/sha512/{}/link", long.hex()),
            format!("repositories/a/_manifests/revisions/sha256/{hex}/link"),
            "repositories/a/_manifests/tags/v1/current/link".to_owned(),
            format!("repositories/a/_manifests/tags/v1/index/sha256/{hex}/link"),
        ] {
            assert_eq!(at(&link), LayoutEntry::Link, "{link}");
        }
        for other in [
            "repositories/a/_uploads".to_owned(),
            format!("repositories/a/_manifests/revisions/sha256/{hex}/signatures"),
        ] {
            assert_eq!(at(&other), LayoutEntry::Other, "{other}");
        }
        for foreign in [
            "other".to_owned(),
            "blobs/md5".to_owned(),
            "blobs/sha256/e".to_owned(),
            format!("blobs/sha256/e4/{hex}"),
            format!("blobs/sha256/e3/{}", &hex[1..]),
            format!("blobs/sha256/e3/{}", hex.to_uppercase()),
            format!("blobs/sha256/e3/{hex}/data.tmp"),
            format!("blobs/sha256/e3/{hex}/folder"),
            "repositories/_layers".to_owned(),
            "repositories/A".to_owned(),
            "repositories/a/_other".to_owned(),
            "repositories/a/link".to_owned(),
            "repositories/a/_manifests/tags/-v1".to_owned(),
            format!("repositories/a/_layers/sha256/{hex}/link.tmp"),
        ] {
            assert_eq!(at(&foreign), LayoutEntry::Foreign, "{foreign}");
        }
    }
}
