//! The folders that belong to a user.

use std::path::PathBuf;

use crate::disk;
use crate::exit::{Failure, FailureKind};

/// The folders that imgsync writes to.
#[derive(Debug, Clone)]
pub struct UserFolders {
    /// What may be lost at any time: known layers, spooled ones.
    pub cache: PathBuf,
}

impl UserFolders {
    /// The folders that the environment names: `XDG_CACHE_HOME` if it is absolute (XDG Base
    /// Directory Specification, "Basics"), else `HOME`, else a folder of this user alone in the
    /// system's folder for temporary files.
    ///
    /// # Errors
    /// In the last case, a folder there that cannot be made, or that is somebody else's.
    pub fn from_environment() -> Result<Self, Failure> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let xdg = set("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache"));
        let base = xdg.filter(|path| path.is_absolute()).or_else(home);
        let cache = match base {
            Some(base) => {
                let cache = base.join("imgsync");
                // Where it cannot be made, whoever needs it says so.
                let _ = disk::create_private_folder(&cache);
                cache
            }
            None => disk::create_user_folder(&std::env::temp_dir()).map_err(|what| {
                Failure::new(FailureKind::Usage, what)
                    .with_hint("set HOME, or XDG_CACHE_HOME to a folder of your own")
            })?,
        };
        Ok(Self { cache })
    }
}
