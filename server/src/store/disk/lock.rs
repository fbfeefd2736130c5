//! Locks files and folders against other processes.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

/// A file lock, released on drop.
pub(in crate::store) struct FileLock {
    _file: fs::File,
}

/// Retries for two seconds, because two processes release the lock soon: a server that is just
/// exiting, and a child process that has inherited the file and is about to execute a program.
pub(super) fn lock_file(file: fs::File) -> io::Result<Option<FileLock>> {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
    const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);
    let started_at = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(FileLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) if started_at.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(LOCK_RETRY_DELAY);
            }
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}
