//! Folders that are private to the current user. On Windows these are the folders in the user's
//! profile, which other users cannot enter; the permissions of single folders are not read.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::env_path;
use crate::disk::user_paths::default_cache_folder;

/// How the user makes the cache usable.
pub(crate) const PRIVATE_FOLDER_ADVICE: &str =
    "Set XDG_CACHE_HOME to a folder in your profile, or unset it";

/// Creates a folder and its missing parents. In the profile, they are for this user only.
///
/// # Errors
/// Fails if the folder cannot be created.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}

/// Checks that a folder is in the profile of this user, after junctions and links are followed. A
/// folder that is missing or cannot be reached passes, since nothing can be read from it.
///
/// # Errors
/// Returns the reason as text.
pub(crate) fn check_own_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let Ok(found) = std::fs::metadata(folder) else {
        return Ok(());
    };
    if !found.is_dir() {
        return Err(format!("{shown} is not a folder"));
    }
    let is_in_profile = folder.canonicalize().is_ok_and(|folder| {
        let mut profiles = ["LOCALAPPDATA", "USERPROFILE"]
            .into_iter()
            .filter_map(env_path);
        profiles.any(|profile| {
            let profile = profile.canonicalize();
            profile.is_ok_and(|profile| folder.starts_with(profile))
        })
    });
    if is_in_profile {
        Ok(())
    } else {
        Err(format!(
            "{shown} is not in your profile, so other users may write to it"
        ))
    }
}

/// Returns a folder of this user for data that can be lost, and creates it if needed: the default cache,
/// or one below the folder for temporary files, which is often in the user's profile, too.
///
/// # Errors
/// Returns the reason as text if the folder cannot be created, or is not in the profile.
pub(crate) fn create_user_folder(shared: &Path) -> Result<PathBuf, String> {
    let in_profile = default_cache_folder().ok_or_else(|| "there is no profile".to_owned());
    in_profile
        .and_then(create_own_folder)
        .or_else(|_| create_own_folder(shared.join("imgsync")))
}

fn create_own_folder(folder: PathBuf) -> Result<PathBuf, String> {
    let created = create_private_folder(&folder);
    created.map_err(|error| format!("cannot create the folder {}: {error}", folder.display()))?;
    check_own_folder(&folder).map(|()| folder)
}

/// Returns whether only this user can read and write a file. [`check_own_folder`] has checked the
/// folder, whose permissions the file has.
pub(crate) fn is_private_file(_found: &Metadata) -> bool {
    true
}
