//! The folders of the current user.

use std::path::{Path, PathBuf};

use super::{SigningKey, VerifiedBlobs};
use crate::disk::{self, System};
use crate::exit::{Failure, FailureKind};

/// The folders that imgsync writes to.
#[derive(Debug, Clone)]
pub struct UserFolders {
    /// The folder for data that can be lost at any time, such as cache entries and the spool. It
    /// belongs to this user, and nobody else can write to it.
    pub cache: PathBuf,
    /// Why another folder is used than the environment names, to be shown to the user.
    pub warning: Option<String>,
}

impl UserFolders {
    /// Returns the folders set by the environment: below `XDG_CACHE_HOME`, else in the home folder
    /// or the profile, else a private folder in the system's folder for temporary files. The latter is
    /// used as well if somebody else can write to the folder that the environment names; on Windows,
    /// the default folder in the profile is used then, if possible.
    ///
    /// # Errors
    /// In the last two cases, fails if the folder cannot be created or belongs to another user.
    pub fn from_environment() -> Result<Self, Failure> {
        let Some(cache) = disk::cache_folder() else {
            let cache = temporary_folder()?;
            let warning = None;
            return Ok(Self { cache, warning });
        };
        // Errors are ignored here; the first write to the folder reports them.
        let _ = disk::create_private_folder(&cache);
        let Err(reason) = disk::check_own_folder(&cache) else {
            let warning = None;
            return Ok(Self { cache, warning });
        };
        let folder = temporary_folder()?;
        let warning = format!(
            "the cache in {} is not used, because {reason}; {} is used instead. {}",
            cache.display(),
            folder.display(),
            disk::PRIVATE_FOLDER_ADVICE
        );
        Ok(Self {
            cache: folder,
            warning: Some(warning),
        })
    }

    /// Opens the signed entries of the cache. The key that signs them is below `XDG_STATE_HOME`, else
    /// in the home folder or the profile, else in the private folder for temporary files.
    pub fn verified_blobs(&self) -> VerifiedBlobs {
        let folder = disk::state_folder().or_else(|| temporary_folder().ok());
        let key = folder.as_deref().and_then(SigningKey::load);
        VerifiedBlobs::new(&self.cache, key)
    }
}

fn temporary_folder() -> Result<PathBuf, Failure> {
    let shared: &Path = &std::env::temp_dir();
    disk::create_user_folder(shared).map_err(|reason| no_private_folder(reason, System::CURRENT))
}

/// Returns the failure for a cache that no folder can hold, with what passes the check of the system.
fn no_private_folder(reason: String, system: System) -> Failure {
    Failure::new(FailureKind::Usage, reason).with_hint(match system {
        System::Unix | System::MacOs => {
            "set HOME, or set XDG_CACHE_HOME to a folder that only you can write to"
        }
        System::Windows => {
            "set USERPROFILE to the folder of your profile, and XDG_CACHE_HOME to a folder in it"
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_a_folder_that_the_system_accepts() {
        let hint = |system| no_private_folder("it failed".to_owned(), system).hint;
        assert!(hint(System::Unix).unwrap().contains("HOME, or"));
        let on_windows = hint(System::Windows).unwrap();
        assert!(on_windows.contains("your profile"), "{on_windows}");
    }
}
