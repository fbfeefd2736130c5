//! Secrets, and where they come from.

use std::fmt;
use std::path::PathBuf;

/// A secret text; its `Debug` output hides the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

/// The source of a password or another secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// The secret itself.
    Inline(Secret),
    /// A file that contains the secret; a line end after it is ignored.
    File(PathBuf),
}

impl SecretSource {
    /// Returns the file with the secret, if there is one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }
}
