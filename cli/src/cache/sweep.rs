//! Deletes old cache entries once a day: those that have not been used for long, and the oldest
//! ones of a folder with too many.
//!
//! This module does not touch the spool. Start reading at [`sweep`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The folders of the cache that hold entries.
const ENTRY_FOLDERS: [&str; 3] = ["layers", "places", "hosts"];
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
    let mark = cache.join(LAST_SWEEP_FILE);
    let done = mark.metadata().and_then(|data| data.modified());
    let is_done = done.is_ok_and(|done| done.elapsed().is_ok_and(|age| age < SWEEP_INTERVAL));
    // The file is written first, so that only one of several concurrent runs does the work.
    let is_marked = || File::create(&mark).and_then(|file| file.set_modified(SystemTime::now()));
    if !is_done && is_marked().is_ok() {
        for room in ENTRY_FOLDERS {
            remove_old_entries(&cache.join(room), MAX_ENTRIES_PER_FOLDER);
        }
    }
}

/// Deletes entries that are too old, and the oldest ones beyond `most`.
fn remove_old_entries(room: &Path, most: usize) {
    let (mut entries, folders) = list_entries(room);
    entries.sort_by_key(|(used, _)| *used);
    let too_many = entries.len().saturating_sub(most);
    for (position, (used, path)) in entries.iter().enumerate() {
        let is_old = used.elapsed().is_ok_and(|age| age > MAX_ENTRY_AGE);
        if is_old || position < too_many {
            // Another run may have deleted the entry already.
            let _ = std::fs::remove_file(path);
        }
    }
    for folder in folders.iter().rev() {
        // Removes only empty folders.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Lists the files below a folder with the time of their last use, and the folders, parents before
/// children.
fn list_entries(room: &Path) -> (Vec<(SystemTime, PathBuf)>, Vec<PathBuf>) {
    let mut files = Vec::new();
    let mut folders = Vec::new();
    let mut open = vec![(room.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            // Does not follow symbolic links.
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() && depth < MAX_FOLDER_DEPTH {
                folders.push(entry.path());
                open.push((entry.path(), depth + 1));
            } else if data.is_file() {
                let used = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((used, entry.path()));
            }
        }
    }
    (files, folders)
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
    fn what_nobody_used_for_long_goes_once_a_day() {
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
    fn of_too_many_the_oldest_go() {
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
    fn a_cache_that_is_not_there_is_no_error() {
        let cache = tempfile::tempdir().unwrap();
        sweep(&cache.path().join("not there"));
    }
}
