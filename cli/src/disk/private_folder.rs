//! Folders that are private to the current user.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Creates a folder and its missing parents, for this user only. An existing folder keeps its
/// permissions.
///
/// # Errors
/// Fails if the folder cannot be created.
pub(crate) fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
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
    fn a_private_folder_is_for_its_user_only() {
        let home = tempfile::tempdir().unwrap();
        let cache = home.path().join(".cache/imgsync");
        create_private_folder(&cache).unwrap();
        let mode = std::fs::metadata(&cache).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
