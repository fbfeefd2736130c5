//! Keeps open upload sessions on disk, so that a later push resumes an upload that was killed or
//! suspended.
//!
//! There is one file for each blob and repository, and its name is a hash of both, so a session is
//! only ever resumed for the bytes that it was opened for. The file is locked while its blob is
//! being uploaded. Two pushes therefore never send the same blob at the same time: the second one
//! waits, and then finds the blob at the registry.
//!
//! This module sends no requests, and a disk that cannot keep a journal never makes a push fail.
//! Start reading at [`Journal`].

use std::convert::Infallible;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use imgsync_oci::client::upload::UploadSession;
use imgsync_oci::{Digest, Registry, Repository};

use crate::disk::{LockedFile, create_private_folder, parent, write_all_at};

/// The age after which a session is deleted. The stock registry purges sessions after a week, and
/// no registry is known to keep them longer.
const MAX_SESSION_AGE: Duration = Duration::from_secs(8 * 24 * 3600);
/// An upper bound for the size of a saved session.
const MAX_SESSION_BYTES: u64 = 64 * 1024;

/// The open upload sessions of one user.
#[derive(Debug, Clone)]
pub struct Journal {
    /// The cache folder, whose other records the uploads need too.
    pub(super) cache: PathBuf,
    folder: PathBuf,
    /// The URL scheme of the registry. A session that was opened over HTTP is not resumed over
    /// HTTPS, and the reverse.
    scheme: &'static str,
}

/// The locked journal entry of one blob, or one that stores nothing.
#[derive(Debug, Default)]
pub(super) struct JournalEntry {
    locked: Option<LockedFile>,
}

impl Journal {
    /// Opens the journal in a cache folder, and deletes entries that are too old to be of use.
    pub fn new(cache: &Path, scheme: &'static str) -> Self {
        let folder = cache.join("uploads");
        clear_old(&folder);
        Self {
            cache: cache.to_owned(),
            folder,
            scheme,
        }
    }

    /// Returns the path of a blob's entry. `blob` is a name for its bytes: its digest, or of a layer
    /// that this tool compresses the format and the diffID.
    pub(super) fn path(&self, registry: &Registry, repository: &Repository, blob: &str) -> PathBuf {
        let scheme = self.scheme;
        let name = format!("{scheme} {registry} {repository} {blob}");
        self.folder.join(Digest::of(name.as_bytes()).hex())
    }
}

/// Returns the time of the last write to an entry, if there is one at this path. The push that
/// uploads the blob writes after every chunk, and regularly while it waits
/// ([`JournalEntry::keep_alive`]).
pub(super) fn last_written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

impl JournalEntry {
    /// Locks the entry at a path. Returns `None` while another push is uploading the blob. If the
    /// disk cannot keep a journal, returns an entry that stores nothing: the push works, but a
    /// later one starts again.
    pub(super) fn try_lock(path: &Path) -> Option<Self> {
        // The URL of a session may be all that is needed to write to the session, so the folder and
        // the file are private.
        let created = create_private_folder(parent(path));
        match created.and_then(|()| LockedFile::try_open_private(path)) {
            Ok(None) => None,
            opened => Some(Self {
                locked: opened.ok().flatten(),
            }),
        }
    }

    /// Returns the session that was open when the last push of this blob ended.
    pub(super) fn session(&mut self) -> Option<UploadSession> {
        let file = &mut self.locked.as_mut()?.file;
        let mut text = String::new();
        file.rewind().ok()?;
        file.take(MAX_SESSION_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Saves the session for a later push. Overwrites the last session in one write, padded with
    /// blanks to its length, so that a kill leaves one of the two. An error is ignored: a later
    /// push starts again.
    pub(super) fn save(&mut self, session: &UploadSession) {
        let (Some(LockedFile { file, .. }), Ok(mut text)) =
            (&self.locked, serde_json::to_string(session))
        else {
            return;
        };
        let before = file.metadata().map_or(0, |metadata| metadata.len());
        let before = usize::try_from(before.min(MAX_SESSION_BYTES)).unwrap_or_default();
        while text.len() < before {
            text.push(' ');
        }
        let _ = write_all_at(file, text.as_bytes(), 0);
    }

    /// Touches the file regularly, so that pushes that wait for the lock see that its holder is
    /// running. The returned future never ends.
    pub(super) fn keep_alive(
        &self,
        interval: Duration,
    ) -> impl Future<Output = Infallible> + use<> {
        let locked = self.locked.as_ref();
        let file = locked.and_then(|locked| locked.file.try_clone().ok());
        async move {
            loop {
                tokio::time::sleep(interval).await;
                if let Some(file) = &file {
                    let _ = file.set_modified(SystemTime::now());
                }
            }
        }
    }

    /// Deletes the saved session and keeps the lock, because the blob is still being uploaded.
    pub(super) fn clear_session(&self) {
        if let Some(locked) = &self.locked {
            let _ = locked.file.set_len(0);
        }
    }

    /// Deletes the entry, because there is no session any more. A push that waits for the lock then
    /// creates a new file.
    pub(super) fn remove(self) {
        if let Some(locked) = self.locked {
            let _ = locked.remove();
        }
    }
}

fn clear_old(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let age = last_written(&path).and_then(|written| written.elapsed().ok());
        if age.is_some_and(|age| age > MAX_SESSION_AGE)
            && let Ok(Some(locked)) = LockedFile::try_open_private(&path)
        {
            let _ = locked.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_session_is_found_again_for_its_blob_and_repository_only() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path(), "http");
        let registry: Registry = "a:5000".parse().unwrap();
        let (one, other): (Repository, Repository) = ("a".parse().unwrap(), "b".parse().unwrap());
        let digest = Digest::of(b"x").to_string();
        let session: UploadSession = serde_json::from_value(serde_json::json!({
            "location": "http://a:5000/v2/a/blobs/uploads/1", "offset": 5,
            "chunk_min": null, "chunk_max": null, "scopes": [],
        }))
        .unwrap();
        let lock = |journal: &Journal, repository| {
            JournalEntry::try_lock(&journal.path(&registry, repository, &digest))
        };
        let mut entry = lock(&journal, &one).unwrap();
        let path = journal.path(&registry, &one, &digest);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(lock(&journal, &one).is_none());
        entry.save(&session);
        entry.clear_session();
        assert!(lock(&journal, &one).is_none());
        assert_eq!(entry.session(), None);
        entry.save(&session);
        drop(entry);
        assert_eq!(lock(&journal, &one).unwrap().session(), Some(session));
        assert_eq!(lock(&journal, &other).unwrap().session(), None);
        let encrypted = Journal::new(folder.path(), "https");
        assert_eq!(lock(&encrypted, &one).unwrap().session(), None);
        lock(&journal, &one).unwrap().remove();
        assert_eq!(lock(&journal, &one).unwrap().session(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_push_sees_that_the_holder_is_running() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path(), "http");
        let registry: Registry = "a:5000".parse().unwrap();
        let (repository, digest): (Repository, _) =
            ("a".parse().unwrap(), Digest::of(b"x").to_string());
        let path = journal.path(&registry, &repository, &digest);
        let entry = JournalEntry::try_lock(&path).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(last_written(&path), Some(SystemTime::UNIX_EPOCH));
        let alive = entry.keep_alive(Duration::from_secs(1));
        let waited = tokio::time::timeout(Duration::from_secs(2), alive);
        waited.await.unwrap_err();
        assert_ne!(last_written(&path), Some(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_disk_that_keeps_nothing_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let journal = Journal::new(file.path(), "http");
        let registry: Registry = "a:5000".parse().unwrap();
        let repository: Repository = "a".parse().unwrap();
        let path = journal.path(&registry, &repository, "x");
        let mut entry = JournalEntry::try_lock(&path).unwrap();
        assert_eq!(entry.session(), None);
        entry.remove();
    }
}
