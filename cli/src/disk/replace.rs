//! Files and folders that other processes see complete or not at all.
//!
//! Most functions do not follow symbolic links at the last component of a path, because another
//! user may have created the link. Start reading at [`TemporaryFile`].

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::TempPath;

use super::{create_private_folder, platform, sync_folder, write_at};

/// The prefix of the names of temporary files that are renamed at once.
const TEMPORARY_PREFIX: &str = ".tmp";

/// A new file that gets its final name when it is complete. On Unix, only this user can read it (mode
/// 0600); on Windows, it has the permissions of its folder. Dropping it deletes its name; a kill leaves
/// a file with a temporary name.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    pub(crate) file: File,
    name: Option<TempPath>,
}

impl TemporaryFile {
    /// Creates a file in a folder, with a random name that begins with `prefix`.
    ///
    /// # Errors
    /// Fails if the folder is missing, full or not writable.
    pub(crate) fn named(folder: &Path, prefix: &str) -> io::Result<Self> {
        let named = tempfile::Builder::new()
            .prefix(prefix)
            .tempfile_in(folder)?;
        let (file, name) = named.into_parts();
        Ok(Self {
            file,
            name: Some(name),
        })
    }

    /// Creates a file without a name on the disk of a folder. The kernel frees the file when it is
    /// closed, even if the process is killed.
    ///
    /// # Errors
    /// Fails as [`TemporaryFile::named`] does.
    pub(crate) fn unnamed(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile_in(folder)?,
            name: None,
        })
    }

    /// Renames the file to `path`, and replaces what is there. Returns the open file also after an
    /// error, without a name. A file that was created without a name keeps none.
    pub(crate) fn rename(self, path: &Path) -> (File, io::Result<()>) {
        let renamed = match self.name {
            Some(name) => platform::persist(name, path),
            None => Ok(()),
        };
        (self.file, renamed)
    }
}

/// Replaces the content of a file in one step. After a crash of the system the file may be empty,
/// so this is for content that can be lost. The file has the permissions of a [`TemporaryFile`].
///
/// # Errors
/// Fails if the file cannot be written. The path then keeps its old content.
pub(crate) fn replace_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_temporary(path, bytes)?.rename(path).1
}

/// Replaces the content of a file in one step, and returns the open file, with the end of the
/// content as its position. The content and the name are on the disk when this returns. The file has
/// the permissions of a [`TemporaryFile`].
///
/// # Errors
/// Fails if the file cannot be written. The path then keeps its old content.
pub(crate) fn replace_synced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = write_temporary(path, bytes)?;
    temporary.file.sync_all()?;
    let (file, renamed) = temporary.rename(path);
    renamed?;
    sync_folder(parent(path))?;
    Ok(file)
}

/// Replaces the content of a file in one step. Follows a symbolic link, which stays. The content is on
/// the disk before the name.
///
/// On Unix, the file keeps its owner and its permissions, and only this user can read a new file and
/// the missing folders that are created for it. On Windows, they have the permissions of their folder.
///
/// # Errors
/// Fails if the file cannot be written. The path then keeps its old content.
pub(crate) fn replace_keeping_owner(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = platform::follow_link(path);
    create_private_folder(parent(&path))?;
    let temporary = write_temporary(&path, bytes)?;
    if let Ok(old) = std::fs::metadata(&path) {
        platform::copy_owner(&old, &temporary.file)?;
    }
    temporary.file.sync_all()?;
    temporary.rename(&path).1
}

/// Writes a temporary file in the folder of `path`.
fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<TemporaryFile> {
    let mut temporary = TemporaryFile::named(parent(path), TEMPORARY_PREFIX)?;
    temporary.file.write_all(bytes)?;
    Ok(temporary)
}

/// Returns the size in bytes of the regular file at a path, or `None` if nothing is there.
///
/// # Errors
/// Fails if the path is a symbolic link, a folder or a device, or if the file cannot be examined.
pub(crate) fn file_size(path: &Path) -> io::Result<Option<u64>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Err(refused(path, "is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Creates a folder, unless it exists.
///
/// # Errors
/// Fails if the path is something else, such as a symbolic link, or if the folder cannot be created.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Ok(()) => return sync_folder(parent(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(with_path(path, &error)),
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(refused(path, "is not a folder")),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Replaces the content of a file in one step, for folders in which no other names may appear:
/// writes `bytes` to `temporary`, which must be on the same file system and not in use by another
/// process, and renames that file to `path`. The content and the name are on the disk when this
/// returns.
///
/// # Errors
/// Fails if the disk is full or the files cannot be written. The path then keeps its old content.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], temporary: &Path) -> io::Result<()> {
    file_size(temporary)?;
    let replace = || -> io::Result<()> {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        rename_synced(&file, temporary, path)
    };
    replace().map_err(|error| with_path(path, &error))
}

/// Renames an open file from one path to another, and replaces what is there. The content and the
/// new name are on the disk when this returns.
pub(super) fn rename_synced(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    std::fs::rename(from, to)?;
    sync_folder(parent(to))
}

/// Returns the folder that contains a path.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes all bytes at an offset.
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match write_at(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Adds the path to the message of an error.
pub(crate) fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn refused(path: &Path, what: &str) -> io::Error {
    let text = format!("{} {what}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::path::Path;

    use crate::disk::*;

    #[test]
    fn links_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let (real, link) = (scratch.path().join("real"), scratch.path().join("link"));
        create_folder(&real).unwrap();
        create_folder(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(
            create_folder(&link).is_err() && file_size(&link).is_err() && file_size(&real).is_err()
        );
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(scratch.path().join("new"), &link).unwrap();
        assert!(LockedFile::try_open(&link).is_err());
        assert!(!scratch.path().join("new").exists());
        assert_eq!(file_size(&scratch.path().join("nothing")).unwrap(), None);
        // The symbolic link itself is replaced, and not the file that it points to.
        replace_file(&link, b"x", &scratch.path().join("part")).unwrap();
        assert_eq!(file_size(&link).unwrap(), Some(1));
    }

    #[test]
    fn a_replaced_file_keeps_its_link_and_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join(".docker");
        let (real, link) = (folder.join("real"), scratch.path().join("link"));
        let mode_of = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mode = || mode_of(&real);
        replace_keeping_owner(&real, b"old").unwrap();
        assert_eq!((mode_of(&folder), mode()), (0o700, 0o600));
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace_keeping_owner(&link, b"new").unwrap();
        assert!(link.is_symlink() && std::fs::read(&real).unwrap() == b"new");
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn bytes_at_an_offset_leave_the_position_of_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        file.seek(SeekFrom::Start(2)).unwrap();
        let mut buffer = [0; 3];
        assert_eq!(read_at(&file, &mut buffer, 7).unwrap(), 3);
        assert_eq!(&buffer, b"789");
        assert_eq!(read_at(&file, &mut buffer, 10).unwrap(), 0);
        write_all_at(&file, b"xyz", 8).unwrap();
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "234567xyz");
    }

    #[test]
    fn a_failed_replacement_leaves_no_temporary_file() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        replace_unsynced(&folder, b"x").unwrap_err();
        replace_synced(&folder, b"x").unwrap_err();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }
}
