//! Reads and writes single cache entries.
//!
//! Each entry is a small file of its own that is replaced in one step, so that concurrent runs do
//! not disturb each other. The modification time of the file is the time of its last use. This
//! module does not interpret the text. Start reading at [`read`].

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use crate::disk;

/// Returns the text of an entry, at most `max_bytes` bytes of it, and marks the entry as used.
/// Returns `None` if there is no entry or if it is not UTF-8 text.
pub fn read(path: &Path, max_bytes: u64) -> Option<String> {
    let file = disk::open_to_use(path).ok()?;
    // If the time cannot be set, the entry is deleted too early and written again later.
    let _ = file.set_modified(SystemTime::now());
    let mut text = String::new();
    file.take(max_bytes).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Writes an entry. Errors are ignored, because a missing entry only costs a later run time.
pub fn write(path: &Path, text: &str) {
    let _ = std::fs::create_dir_all(disk::parent(path))
        .and_then(|()| disk::replace_unsynced(path, text.as_bytes()));
}
