//! Checks the bytes of blobs and manifests against their digests.

use std::io;
use std::time::{Duration, Instant};

use imgsync_oci::{Digest, Hasher};

use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::finding::{CheckEvent, Finding, Repair};
use super::{Check, CheckResult};
use crate::store::{ObjectKey, ObjectReader};

/// How much is read at a time.
pub(super) const READ_BYTES: usize = 1024 * 1024;
/// For how long a gentle check works before it pauses for as long.
const MIN_WORK: Duration = Duration::from_millis(20);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The result of reading a blob.
enum BlobState {
    Intact,
    Damaged,
    Unreadable(io::Error),
}

impl Check<'_> {
    /// Reads a blob or manifest whole.
    pub(super) fn check_blob(&mut self, digest: &Digest) -> CheckResult<()> {
        let store = &self.registry.store;
        let (reader, size) = match store.open_object(ObjectKey::Blob(digest)) {
            Ok(Some(opened)) => opened,
            // Removed meanwhile.
            Ok(None) => return Ok(()),
            Err(error) => {
                let error = error.to_string();
                return self.add_finding(Finding::Unreadable { error });
            }
        };
        self.stats.blobs += 1;
        let state = self.read_blob(digest, &reader)?;
        if matches!(state, BlobState::Intact) {
            return Ok(());
        }
        let Some(repair) = self.quarantine_current(digest, &reader)? else {
            // Pushed again or removed meanwhile.
            return Ok(());
        };
        if repair != Repair::Quarantined {
            self.damaged.insert(digest_prefix(digest));
        }
        let digest = digest.clone();
        self.add_finding(match state {
            BlobState::Unreadable(error) => Finding::UnreadableBlob {
                digest,
                error: error.to_string(),
                repair,
            },
            BlobState::Damaged | BlobState::Intact => Finding::DamagedBlob {
                digest,
                size,
                repair,
            },
        })
    }

    fn read_blob(&mut self, digest: &Digest, reader: &ObjectReader) -> CheckResult<BlobState> {
        let (mut hasher, mut offset) = (Hasher::new(digest.algorithm()), 0);
        loop {
            let started_at = Instant::now();
            let read = match reader.read_into(offset, &mut self.buffer) {
                Ok(read) => read,
                Err(error) => return Ok(BlobState::Unreadable(error)),
            };
            hasher.update(&self.buffer[..read]);
            self.pause_after(started_at.elapsed());
            offset += read as u64;
            self.stats.bytes += read as u64;
            let stats = self.stats;
            self.send(CheckEvent::Progress(&stats))?;
            if read < self.buffer.len() {
                break;
            }
        }
        if hasher.finish() == *digest {
            Ok(BlobState::Intact)
        } else {
            Ok(BlobState::Damaged)
        }
    }

    /// Leaves the disk and the processor to others for as long as a gentle check has used them.
    fn pause_after(&mut self, work: Duration) {
        self.busy += work;
        if self.options.is_gentle && self.busy >= MIN_WORK {
            std::thread::sleep(std::mem::take(&mut self.busy).min(MAX_PAUSE));
        }
    }

    /// Moves the bytes of a blob to the quarantine, if damage is repaired. Returns `None` if they are
    /// not the ones that were read.
    fn quarantine_current(&self, digest: &Digest, reader: &ObjectReader) -> Result<Option<Repair>> {
        let store = &self.registry.store;
        let _lock = self.registry.lock_digests([digest.clone()]);
        if !store.is_current(ObjectKey::Blob(digest), reader)? {
            return Ok(None);
        }
        if !self.options.repairs {
            return Ok(Some(Repair::None));
        }
        Ok(Some(match store.quarantine_blob(digest) {
            Ok(()) => Repair::Quarantined,
            Err(error) => Repair::Failed(error.to_string()),
        }))
    }
}
