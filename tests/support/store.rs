//! Reads the storage folder of a registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Returns every file below `root` with its size in bytes, and every empty folder. Omits upload
/// sessions, and data that the server derives from stored content in the background.
pub fn list_files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut empty = true;
        // The server may delete a folder at the same time.
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            empty = false;
            let path = entry.expect("an entry of the store").path();
            let name = path.strip_prefix(root).expect("a path below the root");
            let derived = name.starts_with("imgsync/") && !name.starts_with("imgsync/tmp");
            if name.ends_with("_uploads") || derived {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if let Ok(data) = path.metadata() {
                found.insert(format!("{} {}", name.display(), data.len()));
            }
        }
        if empty {
            let name = folder.strip_prefix(root).expect("a path below the root");
            found.insert(format!("{}/", name.display()));
        }
    }
    found
}

/// Returns the path of a blob's data.
pub fn blob_path(root: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    let blobs = root.join("docker/registry/v2/blobs");
    blobs.join(algorithm).join(&hex[..2]).join(hex).join("data")
}

/// Panics unless the folder contains the same files as before. Waits up to 30 seconds, because the
/// server cleans up after a client has disconnected.
pub fn assert_unchanged(before: &BTreeSet<String>, root: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let after = list_files(root);
        let removed: Vec<_> = before.difference(&after).collect();
        let added: Vec<_> = after.difference(before).collect();
        if removed.is_empty() && added.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the store has changed\nremoved: {removed:#?}\nadded: {added:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the folders of the folders upload sessions below `root`.
pub fn upload_sessions(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let holds_sessions = folder.ends_with("_uploads");
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the store").path();
            if holds_sessions {
                found.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}
