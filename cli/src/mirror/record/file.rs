//! The record's file on the disk: locked, read with a limit, added to, and replaced in one step.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use super::format::{FORMAT_VERSION, RecordFile, RecordLine, parse};
use crate::exit::{Failure, FailureKind};

/// No record is larger, in bytes.
const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;
/// The folder that the file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Nothing, where the error says that nothing may be written there.
pub(super) fn none_if_unwritable<T>(
    path: &Path,
    error: &std::io::Error,
) -> Result<Option<T>, Failure> {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    match error.kind() {
        PermissionDenied | ReadOnlyFilesystem => Ok(None),
        _ => Err(broken(path, error)),
    }
}

/// The lock has a file of its own, since the record's is replaced.
pub(super) fn lock_file(path: &Path) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true).open(name)
}

/// Keeps other runs out.
pub(super) fn lock(path: &Path, file: File) -> Result<File, Failure> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let shown = path.display();
            let what = format!("another imgsync mirror is at work with the same record, {shown}");
            Err(Failure::new(FailureKind::Source, what)
                .with_hint("wait for it to end, then try again"))
        }
        Err(TryLockError::Error(error)) => Err(broken(path, &error)),
    }
}

/// What the file says; a file that is not there says nothing.
///
/// # Errors
/// It cannot be read, is larger than any, or makes no sense.
pub(super) fn read(path: &Path) -> Result<RecordFile, Failure> {
    let empty = RecordFile {
        version: FORMAT_VERSION,
        mirrors: BTreeMap::new(),
        subjects: BTreeMap::new(),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
        Err(error) => return Err(broken(path, &error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| broken(path, &error))?;
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        return Err(invalid(path, "it is too large"));
    }
    // A file that CI made before the first run.
    if bytes.is_empty() {
        return Ok(empty);
    }
    let book = parse(&bytes).map_err(|error| invalid(path, &error.to_string()))?;
    match book.version == FORMAT_VERSION {
        true => Ok(book),
        false => Err(invalid(path, "a newer imgsync wrote it")),
    }
}

/// Puts a line behind what is there, on the disk.
pub(super) fn append_line(file: &mut File, line: &RecordLine) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()
}

/// Puts a book in place of the file; yields it, at its end.
pub(super) fn replace(path: &Path, book: &RecordFile) -> std::io::Result<File> {
    let folder = folder_of(path);
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut bytes = serde_json::to_vec_pretty(book)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.as_file().sync_all()?;
    let file = file.persist(path)?;
    // A folder can be synced where it can be opened.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(file)
}

/// The failure where the file cannot be used.
pub(super) fn broken(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!(
        "the record of what was mirrored, {}, cannot be used: {error}",
        path.display()
    );
    Failure::new(FailureKind::Source, what).with_hint("--state FILE keeps it elsewhere")
}

fn invalid(path: &Path, why: &str) -> Failure {
    let what = format!(
        "the record of what was mirrored, {}, makes no sense: {why}",
        path.display()
    );
    let hint =
        "remove the file to begin anew: then nothing that was mirrored before is ever pruned";
    Failure::new(FailureKind::Source, what).with_hint(hint)
}
