//! The file of a record: its lock, its size limit, and its errors.
//!
//! This module does not interpret the content. Start reading at [`read`].

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::format::{self, FORMAT_VERSION, RecordFile, RecordLine};
use crate::disk::{self, LockedFile};
use crate::exit::{Failure, FailureKind};

/// The largest record in bytes.
const MAX_RECORD_BYTES: u64 = 64 * 1024 * 1024;

/// Locks a record, and creates the folder of the record if needed. Returns `None` if the user may
/// not write there.
///
/// # Errors
/// Fails while another process has the lock.
pub(super) fn lock(path: &Path) -> Result<Option<LockedFile>, Failure> {
    // The lock has a file of its own, because the file of the record is replaced.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    let locked = disk::create_private_folder(disk::parent(path))
        .and_then(|()| LockedFile::try_open_with(Path::new(&lock_path), &options));
    match locked {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => {
            let shown = path.display();
            let what = format!("another imgsync mirror is using the record {shown}");
            let hint = "wait until the other run has ended, then run the same command again";
            Err(Failure::new(FailureKind::Source, what).with_hint(hint))
        }
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Ok(None),
            _ => Err(unusable(path, &error)),
        },
    }
}

/// Reads a record; a missing or empty file is an empty record.
///
/// # Errors
/// Fails if the file cannot be read, is too large, or is not a record.
pub(super) fn read(path: &Path) -> Result<RecordFile, Failure> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let mut file = file.take(MAX_RECORD_BYTES + 1);
            let read = file.read_to_end(&mut bytes);
            read.map_err(|error| unusable(path, &error))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(path, &error)),
    }
    if bytes.len() as u64 > MAX_RECORD_BYTES {
        return Err(invalid(path, "it is too large"));
    }
    // A CI job may create an empty file before the first run.
    if bytes.is_empty() {
        return Ok(RecordFile::default());
    }
    let record = format::parse(&bytes).map_err(|error| invalid(path, &error.to_string()))?;
    if record.version != FORMAT_VERSION {
        return Err(invalid(path, "a newer imgsync wrote it"));
    }
    Ok(record)
}

/// Appends a line to the file. The line is on the disk when this returns.
pub(super) fn append_line(file: &mut File, line: &RecordLine) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()
}

/// Replaces the file in one step, and returns the new file for further lines.
///
/// # Errors
/// Fails if the file cannot be written.
pub(super) fn replace(path: &Path, record: &RecordFile) -> Result<File, Failure> {
    let json = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    let replaced = json.and_then(|mut bytes| {
        bytes.push(b'\n');
        disk::replace_synced(path, &bytes)
    });
    replaced.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("cannot use the record {}: {error}", path.display());
    let hint = "name another file for the record with --state FILE";
    Failure::new(FailureKind::Source, what).with_hint(hint)
}

fn invalid(path: &Path, reason: &str) -> Failure {
    let what = format!("{} is not a valid record: {reason}", path.display());
    let hint = "delete the file to start a new record; tags that were copied before are then never \
                pruned";
    Failure::new(FailureKind::Source, what).with_hint(hint)
}
