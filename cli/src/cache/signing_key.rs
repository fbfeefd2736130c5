//! The secret key of a user that signs cache entries.
//!
//! The key is not in the cache folder: somebody who can write to the cache, such as another CI job
//! that shares it, cannot sign entries. Start reading at [`SigningKey::load`].

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::{hmac, rand};

use crate::disk;

/// The name of the file with the key.
const FILE_NAME: &str = "cache-key";
const KEY_BYTES: usize = 32;

/// The key of this user, for HMAC with SHA-256.
#[derive(Clone)]
pub struct SigningKey(Arc<hmac::Key>);

impl SigningKey {
    /// Loads the key from a folder, or creates it. Returns `None` if there is no key that only this
    /// user can read and write, and none can be created.
    pub fn load(folder: &Path) -> Option<Self> {
        disk::create_private_folder(folder).ok()?;
        disk::check_own_folder(folder).ok()?;
        let path = folder.join(FILE_NAME);
        let bytes = read(&path).or_else(|| {
            create(folder, &path);
            // Another process may have created the file at the same time.
            read(&path)
        })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        Some(Self(Arc::new(key)))
    }

    /// Returns the signature of a text, in hexadecimal.
    pub fn sign(&self, text: &str) -> String {
        let tag = hmac::sign(&self.0, text.as_bytes());
        let digits = tag.as_ref().iter();
        digits.map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Option<[u8; KEY_BYTES]> {
    let found = std::fs::symlink_metadata(path).ok()?;
    if !found.is_file() || !disk::is_private_file(&found) {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    bytes.try_into().ok()
}

/// Creates a key. Errors are ignored: without a key, nothing in the cache is trusted.
fn create(folder: &Path, path: &Path) {
    let mut bytes = [0; KEY_BYTES];
    // The temporary file is private, and gets its name only after it is complete.
    if rand::fill(&mut bytes).is_ok()
        && let Ok(mut file) = tempfile::NamedTempFile::new_in(folder)
        && file.write_all(&bytes).is_ok()
        && file.as_file().sync_all().is_ok()
    {
        let _ = file.persist_noclobber(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_key_is_created_once_and_is_private() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("imgsync");
        let sign = || Some(SigningKey::load(&folder)?.sign("text"));
        let first = sign().unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(sign().as_ref(), Some(&first));
        assert_ne!(SigningKey::load(state.path()).unwrap().sign("text"), first);
        let path = folder.join(FILE_NAME);
        let set_mode = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        set_mode(0o644);
        assert_eq!(sign(), None);
        set_mode(0o600);
        std::fs::write(&path, "short").unwrap();
        assert_eq!(sign(), None);
        std::fs::remove_file(&path).unwrap();
        assert!(sign().is_some_and(|other| other != first));
        assert!(SigningKey::load(&path).is_none());
    }
}
