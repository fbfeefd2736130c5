//! Keeps the manifest that an earlier push of this user put for an image, so that another tag of the
//! image gets the same manifest.
//!
//! An entry is only a hint: the registry may have deleted the manifest since, and the manifest must be
//! compared with the image. Start reading at [`lookup`].

use std::path::{Path, PathBuf};

use imgsync_oci::{Digest, Registry, Repository};

use super::entry;

/// The largest size of an entry in bytes.
const MAX_MANIFEST_ENTRY_BYTES: u64 = 1024;

/// Returns the digest of the manifest that the image with this config has in a repository.
pub fn lookup(
    folder: &Path,
    registry: &Registry,
    repository: &Repository,
    config: &Digest,
) -> Option<Digest> {
    let path = path(folder, registry, repository, config);
    let text = entry::read(&path, MAX_MANIFEST_ENTRY_BYTES)?;
    text.trim_end().parse().ok()
}

/// Records the manifest of the image with this config. Write errors are ignored.
pub fn remember(
    folder: &Path,
    registry: &Registry,
    repository: &Repository,
    config: &Digest,
    manifest: &Digest,
) {
    if lookup(folder, registry, repository, config).as_ref() != Some(manifest) {
        let path = path(folder, registry, repository, config);
        entry::write(&path, &format!("{manifest}\n"));
    }
}

fn path(folder: &Path, registry: &Registry, repository: &Repository, config: &Digest) -> PathBuf {
    let name = format!("{registry}/{repository}");
    folder
        .join("manifests")
        .join(Digest::of(name.as_bytes()).hex())
        .join(config.algorithm().as_str())
        .join(config.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_repository_has_its_own_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let registry: Registry = "a:5000".parse().unwrap();
        let (app, other) = ("app".parse().unwrap(), "other".parse().unwrap());
        let (config, manifest) = (Digest::of(b"config"), Digest::of(b"manifest"));
        let find = |repository| lookup(folder.path(), &registry, repository, &config);
        assert_eq!(find(&app), None);
        remember(folder.path(), &registry, &app, &config, &manifest);
        assert_eq!(find(&app), Some(manifest));
        assert_eq!(find(&other), None);
        std::fs::write(path(folder.path(), &registry, &app, &config), "../x\n").unwrap();
        assert_eq!(find(&app), None);
    }
}
