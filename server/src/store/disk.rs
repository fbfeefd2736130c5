//! The only place that calls the filesystem.
//!
//! Tests record and fail what goes through here: that is how crashes and full disks are tried.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The filesystem.
#[derive(Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    hook: Option<ChangeHook>,
}

/// Sees every change before it is made, and may fail it.
#[cfg(test)]
pub(super) type ChangeHook =
    std::sync::Arc<dyn Fn(&DiskChange<'_>) -> io::Result<()> + Send + Sync>;

/// A change to the disk, as the tests see it.
#[derive(Debug)]
#[allow(dead_code, reason = "read by taps only")]
pub(super) enum DiskChange<'a> {
    MakeFolder(&'a Path),
    Create(&'a Path),
    Write {
        path: &'a Path,
        offset: u64,
        bytes: &'a [u8],
    },
    Sync(&'a Path),
    Truncate {
        path: &'a Path,
        len: u64,
    },
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    SyncFolder(&'a Path),
    Unlink(&'a Path),
    RemoveFolder(&'a Path),
}

impl Disk {
    #[cfg(test)]
    pub(super) fn with_hook(tap: ChangeHook) -> Self {
        Self { hook: Some(tap) }
    }

    #[cfg(test)]
    fn permit(&self, change: &DiskChange<'_>) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |tap| tap(change))
    }

    #[cfg(not(test))]
    fn permit(&self, _change: &DiskChange<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Makes one folder; false where it was there already.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<bool> {
        self.permit(&DiskChange::MakeFolder(path))?;
        match fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// A new file, to write to and read from; it must not exist yet.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.permit(&DiskChange::Create(path))?;
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(self.wrap(file, path))
    }

    /// A file to write to and read from; `None` where there is none.
    pub(super) fn open(&self, path: &Path) -> io::Result<Option<DiskFile>> {
        let file = none_if_not_found(fs::File::options().read(true).write(true).open(path))?;
        Ok(file.map(|file| self.wrap(file, path)))
    }

    /// A file to read from; `None` where there is none.
    pub(super) fn open_to_read(&self, path: &Path) -> io::Result<Option<DiskFile>> {
        let file = none_if_not_found(fs::File::open(path))?;
        Ok(file.map(|file| self.wrap(file, path)))
    }

    fn wrap(&self, file: fs::File, path: &Path) -> DiskFile {
        DiskFile {
            file,
            path: path.to_owned(),
            disk: self.clone(),
        }
    }

    /// Moves a file, over whatever stood there.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.permit(&DiskChange::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Makes a folder's list of names durable.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.permit(&DiskChange::SyncFolder(path))?;
        fs::File::open(path)?.sync_all()
    }

    /// Removes a file, if it is there.
    pub(super) fn unlink(&self, path: &Path) -> io::Result<()> {
        self.permit(&DiskChange::Unlink(path))?;
        none_if_not_found(fs::remove_file(path)).map(|_| ())
    }

    /// Removes an empty folder, if it is there.
    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.permit(&DiskChange::RemoveFolder(path))?;
        none_if_not_found(fs::remove_dir(path)).map(|_| ())
    }

    /// A file's length in bytes; `None` where there is no such file.
    pub(super) fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let found = none_if_not_found(fs::metadata(path))?;
        Ok(found.filter(fs::Metadata::is_file).map(|found| found.len()))
    }

    /// When a file or folder was last changed; `None` where there is none.
    pub(super) fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        none_if_not_found(fs::metadata(path).and_then(|found| found.modified()))
    }

    /// Says of a file that it was last changed at a moment, if there is such a file.
    pub(super) fn touch(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let file = none_if_not_found(fs::File::options().write(true).open(path))?;
        file.map_or(Ok(()), |file| file.set_modified(time))
    }

    /// Whether there is such a folder.
    pub(super) fn is_folder(&self, path: &Path) -> io::Result<bool> {
        Ok(none_if_not_found(fs::metadata(path))?.is_some_and(|found| found.is_dir()))
    }

    /// The names in a folder, in no order, each with whether it is a folder; `None` where there is
    /// no such folder. Names that are not UTF-8 are nobody's we know.
    pub(super) fn list(&self, path: &Path) -> io::Result<Option<Vec<(String, bool)>>> {
        let Some(entries) = none_if_not_found(fs::read_dir(path))? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.file_type()?.is_dir()));
            }
        }
        Ok(Some(names))
    }

    /// Shows the names in a folder one after the other, in no order, each with whether it is a
    /// folder, until `look` breaks off; nothing where there is no such folder. Holds no list.
    pub(super) fn for_each_entry(
        &self,
        path: &Path,
        look: &mut dyn FnMut(&str, bool) -> ControlFlow<()>,
    ) -> io::Result<()> {
        for entry in none_if_not_found(fs::read_dir(path))?.into_iter().flatten() {
            let entry = entry?;
            let is_folder = entry.file_type()?.is_dir();
            if let Some(name) = entry.file_name().to_str()
                && look(name, is_folder).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// Takes the lock of a file, made where it is missing; `None` where another process has it, and
    /// still has it after a moment: one that is just ending lets go, and so does a program that is
    /// just starting in its place (until then it has its parent's open files).
    pub(super) fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
        const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);
        let began = Instant::now();
        let file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(FileLock { _file: file })),
                Err(fs::TryLockError::WouldBlock) if began.elapsed() < LOCK_TIMEOUT => {
                    std::thread::sleep(LOCK_RETRY_DELAY);
                }
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// What stays the same for as long as nobody writes to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// A lock, held until it is dropped.
pub(super) struct FileLock {
    _file: fs::File,
}

/// An open file.
pub(super) struct DiskFile {
    file: fs::File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    /// Returns the path at which the file was opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes` from `offset` on.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let change = DiskChange::Write {
            path: &self.path,
            offset,
            bytes,
        };
        let permitted = self.disk.permit(&change);
        #[cfg(test)]
        if permitted.is_err() {
            // What a full disk does: some of it is written.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
        }
        permitted?;
        self.file.write_all_at(bytes, offset)
    }

    /// Makes the content durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.permit(&DiskChange::Sync(&self.path))?;
        self.file.sync_data()
    }

    /// Cuts off what lies beyond `len` bytes.
    pub(super) fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.permit(&DiskChange::Truncate {
            path: &self.path,
            len,
        })?;
        self.file.set_len(len)
    }

    /// The length in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|found| found.len())
    }

    /// What tells this file, as it is now, from others and from itself once it was written to.
    pub(super) fn identity(&self) -> io::Result<FileIdentity> {
        let found = self.file.metadata()?;
        Ok(FileIdentity {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Whether the file stands at a path, and not another one.
    pub(super) fn is_at(&self, path: &Path) -> io::Result<bool> {
        let (own, there) = (
            self.file.metadata()?,
            none_if_not_found(fs::metadata(path))?,
        );
        Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
    }

    /// Reads up to `len` bytes from `offset` on; fewer only where the file ends.
    pub(super) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = self.read_into(offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads from `offset` on until `bytes` is full; yields how many were read, fewer only where
    /// the file ends.
    pub(super) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match self.file.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// `None` for what is not there, or lies below something that is no folder.
fn none_if_not_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
