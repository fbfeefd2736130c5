//! The files in the spool's folder that name the traces of pushes, so that the next run removes what a
//! killed one left. Start reading at [`remove_leftovers`].

use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::names::TraceNames;
use crate::disk::{LockedFile, create_private_folder};
use crate::spool::Spool;
use crate::transports::daemon::client::DaemonClient;

/// The folder with one file for each push.
const FOLDER: &str = "loopback";
/// The largest file that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 1024;
/// The most leftovers that one run removes.
const MAX_LEFTOVERS: usize = 16;
/// The age of a record below which the engine may still be creating what it names, although the
/// push that asked for it was killed.
const MAX_PENDING_AGE: Duration = Duration::from_secs(10);

/// Writes the record of a push, and locks it.
pub(super) fn write_record(spool: &Spool, port: u16, tag: &str) -> std::io::Result<LockedFile> {
    let folder = spool.folder().join(FOLDER);
    create_private_folder(&folder)?;
    let record = LockedFile::try_open_private(&folder.join(tag))?;
    let mut record = record.ok_or(std::io::ErrorKind::WouldBlock)?;
    record
        .file
        .write_all(format!("{port} {tag}\n").as_bytes())?;
    Ok(record)
}

/// Removes what pushes left that were killed. Errors are ignored: the next run tries again.
pub(in crate::transports::daemon) async fn remove_leftovers(engine: &DaemonClient, spool: &Spool) {
    let folder = std::fs::read_dir(spool.folder().join(FOLDER));
    let paths = folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for path in paths.take(MAX_LEFTOVERS).collect::<Vec<PathBuf>>() {
        // The record of a push that still runs is locked.
        let Ok(Some(mut record)) = LockedFile::try_open_private(&path) else {
            continue;
        };
        let mut text = String::new();
        let read = (&mut record.file)
            .take(MAX_RECORD_BYTES)
            .read_to_string(&mut text);
        let is_removed = match TraceNames::parse(&text).filter(|_| read.is_ok()) {
            Some(names) => remove_leftover(engine, &names, &record).await,
            // The push was killed before it left anything.
            None => true,
        };
        if is_removed {
            let _ = record.remove();
        }
    }
}

/// Removes the tag and the container that a killed push left, or that the engine is still creating
/// for it. Returns whether neither is left, nor can still appear.
async fn remove_leftover(engine: &DaemonClient, names: &TraceNames, record: &LockedFile) -> bool {
    let written = record.file.metadata().and_then(|data| data.modified());
    let age = written.map(|time| time.elapsed().unwrap_or_default());
    if age.is_ok_and(|age| age < MAX_PENDING_AGE) {
        names.remove_pending(engine).await;
        // A later run looks once more.
        return false;
    }
    names.remove(engine).await
}
