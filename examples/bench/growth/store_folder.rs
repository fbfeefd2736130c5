//! Writes storage folders in the layout of the stock registry, without a server. This is many times
//! faster than pushes.
//!
//! Start reading at [`StoreFolder`]. What the benchmark writes with it is in `content.rs`.

use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::Digest;

/// A storage folder that is being generated. Threads can share it.
pub(crate) struct StoreFolder {
    /// The folder `docker/registry/v2` (distribution, `registry/storage/paths.go`).
    top: PathBuf,
}

impl StoreFolder {
    /// Names a folder for which a registry has `root` as its root folder.
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            top: root.join("docker/registry/v2"),
        }
    }

    /// Stores a blob, and links it in no repository.
    pub(crate) fn add_blob(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let folder = self.top.join("blobs").join(digest.algorithm().as_str());
        let folder = folder.join(&digest.hex()[..2]).join(digest.hex());
        write(&folder, "data", bytes)?;
        Ok(digest)
    }

    /// Links a blob in a repository.
    pub(crate) fn link_blob(&self, repository: &str, digest: &Digest) -> io::Result<()> {
        link(&self.repository(repository).join("_layers"), digest)
    }

    /// Stores a manifest in a repository. Its blobs must be stored and linked too.
    pub(crate) fn add_manifest(&self, repository: &str, bytes: &[u8]) -> io::Result<Digest> {
        let digest = self.add_blob(bytes)?;
        let manifests = self.repository(repository).join("_manifests");
        link(&manifests.join("revisions"), &digest)?;
        // The folder of tags exists in a stock registry even if no manifest has a tag.
        std::fs::create_dir_all(manifests.join("tags"))?;
        Ok(digest)
    }

    /// Points a tag at a manifest of the repository.
    pub(crate) fn add_tag(&self, repository: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        let folder = self.repository(repository).join("_manifests/tags");
        let folder = folder.join(tag);
        link(&folder.join("index"), digest)?;
        let target = digest.to_string();
        write(&folder.join("current"), "link", target.as_bytes())
    }

    fn repository(&self, repository: &str) -> PathBuf {
        self.top.join("repositories").join(repository)
    }
}

fn link(folder: &Path, digest: &Digest) -> io::Result<()> {
    let folder = folder.join(digest.algorithm().as_str()).join(digest.hex());
    write(&folder, "link", digest.to_string().as_bytes())
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), bytes)
}
