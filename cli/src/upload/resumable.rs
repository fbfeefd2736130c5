//! Finds out how much of the blobs of a push an interrupted one has sent, for a dry run. Asks the
//! registry, and changes nothing.

use imgsync_oci::Digest;

use super::RepositoryWriter;
use super::journal::JournalEntry;
use super::outgoing_blob::journal_name;

impl RepositoryWriter {
    /// Returns how many bytes of these layers, by diffID or blob, are in sessions that an earlier push
    /// has left open and that the registry still has. An upload that another push continues does not
    /// count, and neither does a session that cannot be asked for.
    pub async fn resumable_bytes(&self, layers: impl IntoIterator<Item = &Digest>) -> u64 {
        let mut bytes = 0_u64;
        for layer in layers {
            for name in [journal_name(layer), layer.to_string()] {
                bytes = bytes.saturating_add(self.session_offset(&name).await);
            }
        }
        bytes
    }

    async fn session_offset(&self, journal_name: &str) -> u64 {
        let path = self.journal_path(journal_name);
        // Locking an entry that does not exist would create it.
        let entry = path.exists().then(|| JournalEntry::try_lock(&path));
        let Some(mut session) = entry.flatten().and_then(|mut entry| entry.session()) else {
            return 0;
        };
        if !self.client.is_upload_to(&session, &self.repository) {
            return 0;
        }
        match self.client.sync_upload_offset(&mut session).await {
            Ok(true) => session.offset(),
            Ok(false) | Err(_) => 0,
        }
    }
}
