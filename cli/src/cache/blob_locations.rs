//! In which repositories of a registry this user's earlier runs saw a blob: whence it may be linked
//! instead of being sent. A few names a blob; only ever a hint, for the registry decides.

use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, Registry, Repository};

use super::entry;

/// The most repositories that are remembered of one blob.
const MAX_REPOSITORIES_PER_BLOB: usize = 4;
/// More than so many names have, in bytes.
const MAX_LOCATION_ENTRY_BYTES: u64 = 4 * 1024;

/// The repositories of `registry` that held the blob, the last one first.
pub fn lookup(folder: &Path, registry: &Registry, blob: &Digest) -> Vec<Repository> {
    let Some(text) = entry::read(&path(folder, registry, blob), MAX_LOCATION_ENTRY_BYTES) else {
        return Vec::new();
    };
    let names = text.lines().filter_map(|line| line.parse().ok());
    names.take(MAX_REPOSITORIES_PER_BLOB).collect()
}

/// Keeps that `repository` holds the blob, as far as the disk can. Of two runs that do so at the same
/// time one may be lost.
pub fn remember(folder: &Path, registry: &Registry, blob: &Digest, repository: &Repository) {
    let known = lookup(folder, registry, blob);
    if known.first() == Some(repository) {
        return;
    }
    let others = known.iter().filter(|other| *other != repository);
    let names = std::iter::once(repository)
        .chain(others)
        .take(MAX_REPOSITORIES_PER_BLOB);
    let lines: String = names.map(|name| format!("{name}\n")).collect();
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
    fn the_last_few_repositories_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let registry: Registry = "a:5000".parse().unwrap();
        let blob = Digest::of(b"blob");
        let places = || lookup(folder.path(), &registry, &blob);
        assert_eq!(places(), []);
        let names = ["a", "b", "c", "a", "d", "e"].map(|name| name.parse().unwrap());
        for name in &names {
            remember(folder.path(), &registry, &blob, name);
        }
        let last = ["e", "d", "a", "c"].map(|name| name.parse().unwrap());
        assert_eq!(places(), last);
        assert_eq!(lookup(folder.path(), &"b:5000".parse().unwrap(), &blob), []);
        let path = path(folder.path(), &registry, &blob);
        std::fs::write(path, "../x\nteam/app\n").unwrap();
        assert_eq!(places(), ["team/app".parse().unwrap()]);
    }
}
