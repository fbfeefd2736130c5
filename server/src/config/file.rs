//! Which file is the configuration, and its text.

use std::fmt;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the stock registry's images have theirs, 2.x and 3.x, and where ours may be.
const DEFAULT_CONFIG_PATHS: &[&str] = &[
    "/etc/docker/registry/config.yml",
    "/etc/distribution/config.yml",
    "/etc/imgsync/config.yml",
];
/// Says which file to use.
const CONFIG_PATH_VARIABLE: &str = "REGISTRY_CONFIGURATION_PATH";
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// Which file is the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// This one; it must be there.
    File(PathBuf),
    /// None: the defaults, the environment and the arguments are all.
    NoFile,
}

impl ConfigSource {
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
            .find(|(name, value)| name == CONFIG_PATH_VARIABLE && !value.is_empty());
        let usual = || {
            DEFAULT_CONFIG_PATHS
                .iter()
                .map(PathBuf::from)
                .find(|path| exists(path))
        };
        named
            .or_else(|| variable.map(|(_, value)| value.into()))
            .or_else(|| is_searched.then(usual).flatten())
            .map_or(Self::NoFile, Self::File)
    }

    /// The file's name and text.
    ///
    /// # Errors
    /// It cannot be read, is larger than 1 MiB, or is not text.
    pub fn read(&self) -> Result<Option<(String, String)>, ReadConfigError> {
        let Self::File(path) = self else {
            return Ok(None);
        };
        let read = || {
            let mut text = String::new();
            let file = std::fs::File::open(path)?;
            if file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_CONFIG_BYTES
            {
                return Err(io::Error::other("larger than 1 MiB"));
            }
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(source) => Err(ReadConfigError {
                path: path.clone(),
                source,
            }),
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::NoFile => f.write_str("no configuration file"),
        }
    }
}

/// A configuration file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration {path:?}: {source}")]
pub struct ReadConfigError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// What a file looks like from outside. Another one means that it may have other content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    inode: (u64, u64),
    size: u64,
    times: [(i64, i64); 2],
}

impl FileStamp {
    /// Looks at a file, at the end of all links to it.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            size: found.size(),
            times: [
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
        let variables = |path: &str| vec![(CONFIG_PATH_VARIABLE.to_owned(), path.to_owned())];
        let find = |named: Option<&str>, path: &str, is_searched, there: &'static str| {
            let exists = |path: &Path| path == Path::new(there);
            ConfigSource::choose(named.map(Into::into), &variables(path), is_searched, exists)
        };
        let file = |path: &str| ConfigSource::File(path.into());
        assert_eq!(
            find(Some("a"), "b", true, DEFAULT_CONFIG_PATHS[0]),
            file("a")
        );
        assert_eq!(find(None, "b", false, DEFAULT_CONFIG_PATHS[0]), file("b"));
        assert_eq!(
            find(None, "", true, DEFAULT_CONFIG_PATHS[0]),
            file(DEFAULT_CONFIG_PATHS[0])
        );
        assert_eq!(
            find(None, "", true, DEFAULT_CONFIG_PATHS[1]),
            file(DEFAULT_CONFIG_PATHS[1])
        );
        assert_eq!(
            find(None, "", false, DEFAULT_CONFIG_PATHS[0]),
            ConfigSource::NoFile
        );
        assert_eq!(find(None, "", true, "nowhere"), ConfigSource::NoFile);
    }

    #[test]
    fn what_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(ConfigSource::File(folder.path().into()).read().is_err());
        let path = folder.path().join("config.yml");
        let error = ConfigSource::File(path.clone()).read().unwrap_err();
        assert!(error.to_string().contains("config.yml"), "{error}");
        std::fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
        assert!(ConfigSource::File(path.clone()).read().is_err());
        std::fs::write(&path, "version: 0.1").unwrap();
        let (name, text) = ConfigSource::File(path).read().unwrap().unwrap();
        assert!(name.ends_with("config.yml") && text == "version: 0.1");
    }
}
