//! Finds and reads the configuration file. This is the only module of `config` that does I/O.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::bounded_file;

/// Where the configuration file is searched: the paths of the stock registry's images (2.x, 3.x),
/// then our own.
const DEFAULT_CONFIG_PATHS: &[&str] = &[
    "/etc/docker/registry/config.yml",
    "/etc/distribution/config.yml",
    "/etc/imgsync/config.yml",
];
/// The environment variable with the path of the configuration file.
const CONFIG_PATH_VARIABLE: &str = "REGISTRY_CONFIGURATION_PATH";
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// The source of the configuration, beside environment variables and options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSource {
    /// This file; it must exist.
    File(PathBuf),
    /// No file: only defaults, environment variables and options.
    NoFile,
}

impl ConfigSource {
    /// Returns the file given as an argument; else the file that `REGISTRY_CONFIGURATION_PATH`
    /// names; else, with `is_searched`, the first default path that exists.
    pub fn find(
        argument: Option<PathBuf>,
        variables: &[(String, String)],
        is_searched: bool,
    ) -> Self {
        Self::choose(argument, variables, is_searched, Path::exists)
    }

    fn choose(
        argument: Option<PathBuf>,
        variables: &[(String, String)],
        is_searched: bool,
        exists: impl Fn(&Path) -> bool,
    ) -> Self {
        let variable = variables
            .iter()
            .find(|(name, value)| name == CONFIG_PATH_VARIABLE && !value.is_empty());
        let default_path = || {
            DEFAULT_CONFIG_PATHS
                .iter()
                .map(PathBuf::from)
                .find(|path| exists(path))
        };
        argument
            .or_else(|| variable.map(|(_, value)| value.into()))
            .or_else(|| is_searched.then(default_path).flatten())
            .map_or(Self::NoFile, Self::File)
    }

    /// Reads the file, which may be a pipe. Returns its path and its text, or `None` without a
    /// file.
    ///
    /// # Errors
    /// When the file cannot be read, is larger than 1 MiB, or is not UTF-8.
    pub fn read(&self) -> Result<Option<(String, String)>, ReadConfigError> {
        self.read_with(bounded_file::read_file_or_pipe)
    }

    /// Reads the file again while the server runs. As [`ConfigSource::read`], but does not wait for
    /// a program that writes to a pipe.
    ///
    /// # Errors
    /// As [`ConfigSource::read`]; also when the file is a named pipe.
    pub fn read_again(&self) -> Result<Option<(String, String)>, ReadConfigError> {
        self.read_with(bounded_file::read)
    }

    fn read_with(
        &self,
        read: impl Fn(&Path, u64) -> io::Result<Vec<u8>>,
    ) -> Result<Option<(String, String)>, ReadConfigError> {
        let Self::File(path) = self else {
            return Ok(None);
        };
        let text = read(path, MAX_CONFIG_BYTES)
            .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
        let text = text.map_err(|source| ReadConfigError {
            path: path.clone(),
            source,
        })?;
        Ok(Some((path.display().to_string(), text)))
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

/// The configuration file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the configuration file {path:?}: {source}")]
pub struct ReadConfigError {
    /// The file.
    pub path: PathBuf,
    /// The error of the operating system.
    pub source: io::Error,
}

/// The metadata of a file by which a change is noticed: inode, size and times. A different stamp
/// means that the content may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    inode: (u64, u64),
    size: u64,
    times: [(i64, i64); 2],
}

impl FileStamp {
    /// Returns the stamp of a file, following symbolic links; `None` when the file cannot be accessed.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            times: [
                (metadata.mtime(), metadata.mtime_nsec()),
                (metadata.ctime(), metadata.ctime_nsec()),
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argument_then_variable_then_default_path() {
        let variables = |path: &str| vec![(CONFIG_PATH_VARIABLE.to_owned(), path.to_owned())];
        let find = |argument: Option<&str>, path: &str, is_searched, existing: &'static str| {
            let exists = |path: &Path| path == Path::new(existing);
            ConfigSource::choose(
                argument.map(Into::into),
                &variables(path),
                is_searched,
                exists,
            )
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
    fn unreadable_and_large_files_are_errors() {
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
