//! Deletes old cache entries once a day: those that have not been used for long, and the oldest
//! ones of a folder with too many.
//!
//! This module does not touch the spool. Start reading at [`sweep`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folders of the cache that hold entries.
const ENTRY_FOLDERS: [&str; 5] = ["layers", "verified", "places", "hosts", "manifests"];
/// The time without use after which an entry is deleted.
const MAX_ENTRY_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The largest number of entries in a folder. Each takes a block of the disk, usually 4 KiB.
const MAX_ENTRIES_PER_FOLDER: usize = 20_000;
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The file whose modification time is that of the last sweep.
const LAST_SWEEP_FILE: &str = ".swept";
/// The largest depth of nested folders with entries.
const MAX_FOLDER_DEPTH: usize = 3;

/// Deletes entries that are too old or too many, unless that was done within the last day.
pub fn sweep(cache: &Path) {
    let marker = cache.join(LAST_SWEEP_FILE);
    let last_sweep = marker.metadata().and_then(|data| data.modified());
    if last_sweep.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < SWEEP_INTERVAL)) {
        return;
    }
    // The file is written first, so that only one of several concurrent runs does the work.
    let marked = File::create(&marker).and_then(|file| file.set_modified(SystemTime::now()));
    if marked.is_ok() {
        for folder in ENTRY_FOLDERS {
            remove_old_entries(&cache.join(folder), MAX_ENTRIES_PER_FOLDER);
        }
    }
}

/// Deletes entries that are too old, and the oldest ones beyond `max_entries`.
fn remove_old_entries(folder: &Path, max_entries: usize) {
    let (mut entries, mut folders) = (Vec::new(), Vec::new());
    list_entries(folder, MAX_FOLDER_DEPTH, &mut entries, &mut folders);
    entries.sort();
    let excess = entries.len().saturating_sub(max_entries);
    for (position, (used, path)) in entries.iter().enumerate() {
        let is_old = used.elapsed().is_ok_and(|age| age > MAX_ENTRY_AGE);
        if is_old || position < excess {
            // Another run may have deleted the entry already.
            let _ = std::fs::remove_file(path);
        }
    }
    for folder in folders {
        // Removes only empty folders.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Adds the files below a folder with the time of their last use, and the folders, children before
/// parents. Does not follow symbolic links.
fn list_entries(
    folder: &Path,
    max_depth: usize,
    files: &mut Vec<(SystemTime, PathBuf)>,
    folders: &mut Vec<PathBuf>,
) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(data) = entry.metadata() else { continue };
        if data.is_file() {
            let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((used, entry.path()));
        } else if data.is_dir() && max_depth > 0 {
            list_entries(&entry.path(), max_depth - 1, files, folders);
            folders.push(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry;
    use super::*;

    /// Writes an entry that was last used the given number of days ago.
    fn put(path: &Path, days: u64) {
        entry::write(path, "x");
        let used = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        File::open(path).unwrap().set_modified(used).unwrap();
    }

    #[test]
    fn unused_entries_are_deleted_once_a_day() {
        let cache = tempfile::tempdir().unwrap();
        let [old, new, used] = ["a/sha256/1", "b/sha256/2", "b/sha256/3"]
            .map(|name| cache.path().join("places").join(name));
        put(&old, 91);
        put(&used, 91);
        put(&new, 89);
        assert_eq!(entry::read(&used, 1).as_deref(), Some("x"));
        let elsewhere = cache.path().join("spool/bytes/1");
        put(&elsewhere, 1000);
        sweep(cache.path());
        assert!(!old.exists() && new.exists() && used.exists() && elsewhere.exists());
        assert!(!cache.path().join("places/a").exists());
        put(&old, 91);
        sweep(cache.path());
        assert!(old.exists());
        put(&cache.path().join(LAST_SWEEP_FILE), 1);
        sweep(cache.path());
        assert!(!old.exists());
    }

    #[test]
    fn the_oldest_of_too_many_entries_are_deleted() {
        let cache = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..5)
            .map(|day| cache.path().join(day.to_string()))
            .collect();
        for (path, days) in names.iter().zip(0..) {
            put(path, days);
        }
        remove_old_entries(cache.path(), 2);
        let left: Vec<bool> = names.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [true, true, false, false, false]);
    }

    #[test]
    fn a_missing_cache_is_no_error() {
        let cache = tempfile::tempdir().unwrap();
        sweep(&cache.path().join("not there"));
    }
}
