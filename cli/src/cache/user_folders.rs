//! The folders of the current user.

use std::path::PathBuf;

use crate::disk;
use crate::exit::{Failure, FailureKind};

/// The folders that imgsync writes to.
#[derive(Debug, Clone)]
pub struct UserFolders {
    /// The folder for data that can be lost at any time, such as cache entries and the spool.
    pub cache: PathBuf,
}

impl UserFolders {
    /// Returns the folders set by the environment: below `XDG_CACHE_HOME`, else below `HOME`, else a
    /// private folder in the system's folder for temporary files.
    ///
    /// # Errors
    /// In the last case, fails if the folder cannot be created or belongs to another user.
    pub fn from_environment() -> Result<Self, Failure> {
        let cache = match disk::xdg_folder("XDG_CACHE_HOME", ".cache") {
            Some(base) => {
                let cache = base.join("imgsync");
                // Errors are ignored here; the first write to the folder reports them.
                let _ = disk::create_private_folder(&cache);
                cache
            }
            None => disk::create_user_folder(&std::env::temp_dir()).map_err(|what| {
                let hint = "set HOME, or set XDG_CACHE_HOME to a folder that only you can write to";
                Failure::new(FailureKind::Usage, what).with_hint(hint)
            })?,
        };
        Ok(Self { cache })
    }
}
