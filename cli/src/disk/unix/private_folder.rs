//! Folders that are private to the current user.

use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How the user makes the cache usable.
pub(crate) const PRIVATE_FOLDER_ADVICE: &str =
    "Delete the cache, or make it private: chmod -R go-w";

/// Creates a folder and its missing parents, for this user only. An existing folder keeps its
/// permissions.
///
/// # Errors
/// Fails if the folder cannot be created.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The largest depth of the folders below a folder that [`check_own_folder`] looks at.
const MAX_CHECKED_DEPTH: usize = 3;

/// Checks that a folder and the folders in it belong to this user, and that nobody else can write
/// to them. Of a folder that nobody else can enter, only the folder itself is checked. A folder
/// that is missing or cannot be reached passes, since nothing can be read from it.
///
/// # Errors
/// Returns the reason as text.
pub(crate) fn check_own_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    let Ok(found) = std::fs::symlink_metadata(folder) else {
        return Ok(());
    };
    let user = rustix::process::getuid().as_raw();
    // Another user's link may lead to any of this user's folders.
    if found.is_symlink() && found.uid() != user {
        return Err(format!("{shown} is a symbolic link of another user"));
    }
    let Ok(found) = std::fs::metadata(folder) else {
        return Ok(());
    };
    check_folder(folder, &found, user)?;
    if found.mode() & 0o011 == 0 {
        return Ok(());
    }
    check_subfolders(folder, user, MAX_CHECKED_DEPTH)
}

fn check_folder(folder: &Path, found: &Metadata, user: u32) -> Result<(), String> {
    let shown = folder.display();
    if !found.is_dir() {
        return Err(format!("{shown} is not a folder"));
    }
    if found.uid() != user {
        return Err(format!("{shown} belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        let mode = found.mode() & 0o777;
        return Err(format!("other users can write to {shown} (mode {mode:o})"));
    }
    Ok(())
}

fn check_subfolders(folder: &Path, user: u32, max_depth: usize) -> Result<(), String> {
    if max_depth == 0 {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.is_symlink() && found.uid() != user {
            let shown = entry.path();
            return Err(format!("{} belongs to another user", shown.display()));
        }
        if found.is_dir() {
            check_folder(&entry.path(), &found, user)?;
            check_subfolders(&entry.path(), user, max_depth - 1)?;
        }
    }
    Ok(())
}

/// Returns this user's own folder below one that all users can write to, and creates it if needed.
///
/// # Errors
/// Returns the reason as text if the folder cannot be created, or if the name is taken by something
/// that another user owns or can write to.
pub(crate) fn create_user_folder(shared: &Path) -> Result<PathBuf, String> {
    let user = rustix::process::getuid().as_raw();
    let folder = shared.join(format!("imgsync-{user}"));
    let shown = folder.display();
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("cannot create the folder {shown}: {error}")),
    }
    let found = std::fs::symlink_metadata(&folder);
    let found = found.map_err(|error| format!("cannot read {shown}: {error}"))?;
    if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 {
        Ok(folder)
    } else {
        Err(format!(
            "{shown} is not a folder that only you can write to"
        ))
    }
}

/// Returns whether a file belongs to this user, and nobody else can read or write it.
pub(crate) fn is_private_file(found: &Metadata) -> bool {
    found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o077 == 0
}

#[cfg(test)]
mod tests {
    use crate::disk::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_below_a_shared_one_belongs_to_this_user() {
        let shared = tempfile::tempdir().unwrap();
        let own = create_user_folder(shared.path()).unwrap();
        let mode = || std::fs::metadata(&own).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o700);
        assert_eq!(create_user_folder(shared.path()).unwrap(), own);

        std::fs::set_permissions(&own, PermissionsExt::from_mode(0o777)).unwrap();
        create_user_folder(shared.path()).unwrap_err();
        std::fs::remove_dir(&own).unwrap();
        std::os::unix::fs::symlink(shared.path(), &own).unwrap();
        create_user_folder(shared.path()).unwrap_err();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_the_users_own() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join("imgsync");
        let layers = cache.join("layers/format");
        let set_mode = |path: &std::path::Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        check_own_folder(&cache).unwrap();
        std::fs::create_dir_all(&layers).unwrap();
        for (outer, inner, is_own) in [
            (0o755, 0o755, true),
            (0o777, 0o755, false),
            (0o775, 0o755, false),
            (0o755, 0o775, false),
            (0o755, 0o777, false),
            // Nobody else can enter the outer folder.
            (0o700, 0o775, true),
        ] {
            set_mode(&layers, inner);
            set_mode(&cache, outer);
            let checked = check_own_folder(&cache);
            assert_eq!(checked.is_ok(), is_own, "{outer:o} {inner:o}: {checked:?}");
        }
        // The user may keep the cache on another disk.
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&cache, &link).unwrap();
        check_own_folder(&link).unwrap();
        set_mode(&cache, 0o777);
        check_own_folder(&link).unwrap_err();
        std::fs::write(home.path().join("file"), "").unwrap();
        check_own_folder(&home.path().join("file")).unwrap_err();
        if rustix::process::getuid().is_root() {
            set_mode(&cache, 0o755);
            set_mode(&layers, 0o755);
            check_own_folder(&cache).unwrap();
            std::os::unix::fs::chown(&layers, Some(65534), None).unwrap();
            check_own_folder(&cache).unwrap_err();
            std::os::unix::fs::chown(&layers, Some(0), None).unwrap();
            std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
            check_own_folder(&link).unwrap_err();
        }
    }

    #[test]
    fn a_private_folder_is_for_its_user_only() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cache/imgsync");
        create_private_folder(&cache).unwrap();
        let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
