//! Which file is the configuration, and its text.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the stock registry's images have theirs, 2.x and 3.x, and where ours may be.
const PLACES: &[&str] = &[
    "/etc/docker/registry/config.yml",
    "/etc/distribution/config.yml",
    "/etc/imgsync/config.yml",
];
/// Says which file to use.
const VARIABLE: &str = "REGISTRY_CONFIGURATION_PATH";
const MAX_BYTES: u64 = 1024 * 1024;

/// Which file is the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// This one; it must be there.
    File(PathBuf),
    /// None: the defaults, the environment and the arguments are all.
    Nothing,
}

impl Source {
    /// The file that was named as an argument; else the one that the environment names; else, where
    /// `is_searched`, the first one that stands in a usual place.
    pub fn find(named: Option<PathBuf>, variables: &[(String, String)], is_searched: bool) -> Self {
        Self::choose(named, variables, is_searched, Path::exists)
    }

    fn choose(
        named: Option<PathBuf>,
        variables: &[(String, String)],
        is_searched: bool,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        let variable = variables
            .iter()
            .find(|(name, value)| name == VARIABLE && !value.is_empty());
        let usual = || PLACES.iter().map(PathBuf::from).find(|path| exists(path));
        named
            .or_else(|| variable.map(|(_, value)| value.into()))
            .or_else(|| is_searched.then(usual).flatten())
            .map_or(Self::Nothing, Self::File)
    }

    /// The file's name and text.
    ///
    /// # Errors
    /// It cannot be read, is larger than 1 MiB, or is not text.
    pub fn read(&self) -> Result<Option<(String, String)>, Unreadable> {
        let Self::File(path) = self else {
            return Ok(None);
        };
        let read = || {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
                return Err(io::Error::other("larger than 1 MiB"));
            }
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(source) => Err(Unreadable {
                path: path.clone(),
                source,
            }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Nothing => f.write_str("no configuration file"),
        }
    }
}

/// A configuration file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration {path:?}: {source}")]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What a file looks like from outside. Another one means that it may have other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    place: (u64, u64),
    bytes: u64,
    changed: [(i64, i64); 2],
}

impl Stamp {
    /// Looks at a file, at the end of all links to it.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            place: (found.dev(), found.ino()),
            bytes: found.size(),
            changed: [
                (found.mtime(), found.mtime_nsec()),
                (found.ctime(), found.ctime_nsec()),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_file() {
        let variables = |path: &str| vec![(VARIABLE.to_owned(), path.to_owned())];
        let find = |named: Option<&str>, path: &str, is_searched, there: &'static str| {
            let exists = |path: &Path| path == Path::new(there);
            Source::choose(named.map(Into::into), &variables(path), is_searched, exists)
        };
        let file = |path: &str| Source::File(path.into());
        assert_eq!(find(Some("a"), "b", true, PLACES[0]), file("a"));
        assert_eq!(find(None, "b", false, PLACES[0]), file("b"));
        assert_eq!(find(None, "", true, PLACES[0]), file(PLACES[0]));
        assert_eq!(find(None, "", true, PLACES[1]), file(PLACES[1]));
        assert_eq!(find(None, "", false, PLACES[0]), Source::Nothing);
        assert_eq!(find(None, "", true, "nowhere"), Source::Nothing);
    }

    #[test]
    fn what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Source::File(folder.path().into()).read().is_err());
        let path = folder.path().join("config.yml");
        let error = Source::File(path.clone()).read().unwrap_err();
        assert!(error.to_string().contains("config.yml"), "{error}");
        std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert!(Source::File(path.clone()).read().is_err());
        std::fs::write(&path, "version: 0.1").unwrap();
        let (name, text) = Source::File(path).read().unwrap().unwrap();
        assert!(name.ends_with("config.yml") && text == "version: 0.1");
    }
}
