//! Keeps the repositories of a registry in which earlier runs of this user have seen a blob, so
//! that the blob can be mounted from there instead of being sent.
//!
//! An entry has a few repositories. It is only a hint: the registry may have deleted the blob
//! since. Start reading at [`lookup`].

use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, Registry, Repository};

use super::entry;

/// The largest number of repositories kept for one blob.
const MAX_REPOSITORIES_PER_BLOB: usize = 4;
/// The largest size of an entry in bytes.
const MAX_LOCATION_ENTRY_BYTES: u64 = 4 * 1024;

/// Returns the repositories of `registry` in which the blob was seen, the latest one first.
pub fn lookup(folder: &Path, registry: &Registry, blob: &Digest) -> Vec<Repository> {
    let Some(text) = entry::read(&path(folder, registry, blob), MAX_LOCATION_ENTRY_BYTES) else {
        return Vec::new();
    };
    let names = text.lines().filter_map(|line| line.parse().ok());
    names.take(MAX_REPOSITORIES_PER_BLOB).collect()
}

/// Records that `repository` has the blob. Write errors are ignored, and of two concurrent calls
/// for the same blob one may be lost.
pub fn remember(folder: &Path, registry: &Registry, blob: &Digest, repository: &Repository) {
    let mut repositories = lookup(folder, registry, blob);
    if repositories.first() == Some(repository) {
        return;
    }
    repositories.retain(|other| other != repository);
    repositories.insert(0, repository.clone());
    repositories.truncate(MAX_REPOSITORIES_PER_BLOB);
    let lines: String = repositories
        .iter()
        .map(|name| format!("{name}\n"))
        .collect();
    entry::write(&path(folder, registry, blob), &lines);
}

fn path(folder: &Path, registry: &Registry, blob: &Digest) -> PathBuf {
    folder
        .join("places")
        .join(Digest::of(registry.as_str().as_bytes()).hex())
        .join(blob.algorithm().as_str())
        .join(blob.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_repositories_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let registry: Registry = "a:5000".parse().unwrap();
        let blob = Digest::of(b"blob");
        let repositories = || lookup(folder.path(), &registry, &blob);
        assert_eq!(repositories(), []);
        let names = ["a", "b", "c", "a", "d", "e"].map(|name| name.parse().unwrap());
        for name in &names {
            remember(folder.path(), &registry, &blob, name);
        }
        let last = ["e", "d", "a", "c"].map(|name| name.parse().unwrap());
        assert_eq!(repositories(), last);
        assert_eq!(lookup(folder.path(), &"b:5000".parse().unwrap(), &blob), []);
        let path = path(folder.path(), &registry, &blob);
        std::fs::write(path, "../x\nteam/app\n").unwrap();
        assert_eq!(repositories(), ["team/app".parse().unwrap()]);
    }
}
