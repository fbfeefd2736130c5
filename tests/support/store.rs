//! What a registry's folder holds, to compare before and after.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Every file below a root with its size in bytes, and every empty folder. Upload sessions are left
/// out, and what the server computes for itself in the background from what it holds.
pub fn list_files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let mut empty = true;
        // The server may remove what it no longer needs meanwhile.
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            empty = false;
            let path = entry.expect("an entry of the store").path();
            let name = path.strip_prefix(root).expect("a path below the root");
            let derived = name.starts_with("imgsync/") && !name.starts_with("imgsync/tmp");
            if name.ends_with("_uploads") || derived {
                continue;
            }
            if path.is_dir() {
                open.push(path);
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

/// The file that holds a blob's bytes.
pub fn blob_path(root: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    let blobs = root.join("docker/registry/v2/blobs");
    blobs.join(algorithm).join(&hex[..2]).join(hex).join("data")
}

/// Panics with what differs unless the folder holds what it did: soon, for a server whose client
/// has gone may still be tidying up.
pub fn assert_unchanged(before: &BTreeSet<String>, root: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let after = list_files(root);
        let gone: Vec<_> = before.difference(&after).collect();
        let new: Vec<_> = after.difference(before).collect();
        if gone.is_empty() && new.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the store has changed\ngone: {gone:#?}\nnew: {new:#?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The upload sessions that are open below a root, by their folders.
pub fn upload_sessions(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let holds_sessions = folder.ends_with("_uploads");
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the store").path();
            match (holds_sessions, path.is_dir()) {
                (true, _) => found.push(path),
                (false, true) => open.push(path),
                (false, false) => {}
            }
        }
    }
    found
}
