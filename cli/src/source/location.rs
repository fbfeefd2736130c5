//! The word that is typed for an image, parsed once.

use std::path::{Path, PathBuf};

use imgsync_oci::LocalName;

use super::Error;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the Docker daemon, by name, or by ID or its beginning.
    Daemon(LocalName, Option<imgsync_oci::Digest>),
    /// In an archive of `docker save`'s kind.
    DockerArchive(PathBuf, Selector),
    /// In an OCI image layout: a folder.
    OciLayout(PathBuf, Selector),
    /// In an OCI image layout: a tar of the folder.
    OciArchive(PathBuf, Selector),
    /// In a file or folder whose content tells its kind.
    Path(PathBuf),
    /// In an archive that comes on standard input.
    StandardInput,
}

/// Which of a source's images is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    Only,
    /// The one of this name or tag.
    Named(String),
    /// The one at this place, counted from 0.
    At(usize),
}

impl Location {
    /// Parses what was typed; looks at the file system to tell a path from a name.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(word: &str) -> Result<Self, Error> {
        let _: &Path = word.as_ref();
        todo!()
    }
}
