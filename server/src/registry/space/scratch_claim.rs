//! The room that is claimed for temporary files.

use super::super::Registry;
use super::super::error::Result;

/// Room on the disk for temporary files. What was not written is released on drop.
pub(in crate::registry) struct ScratchClaim {
    registry: Registry,
    /// The bytes that are claimed and not written yet.
    unwritten: u64,
}

impl ScratchClaim {
    /// Creates a claim of nothing.
    pub(in crate::registry) fn new(registry: &Registry) -> Self {
        Self {
            registry: registry.clone(),
            unwritten: 0,
        }
    }

    /// Claims `bytes` more bytes, if there is also room for `planned` bytes that are claimed later.
    /// Nothing is removed to make room.
    ///
    /// # Errors
    /// [`Error::NoSpace`](super::super::error::Error::NoSpace);
    /// [`Error::Store`](super::super::error::Error::Store).
    pub(in crate::registry) fn extend(&mut self, bytes: u64, planned: u64) -> Result<()> {
        let mut ledger = self.registry.space.ledger();
        let disk = self.registry.disk_room(&ledger)?;
        let claimed = ledger.claim_scratch(bytes, planned, &disk);
        drop(ledger);
        claimed.map_err(|shortage| self.registry.no_space(shortage))?;
        self.unwritten += bytes;
        Ok(())
    }

    /// Returns how many bytes are claimed and not written yet.
    pub(in crate::registry) fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Records that `bytes` bytes were written.
    pub(in crate::registry) fn release(&mut self, bytes: u64) {
        let bytes = bytes.min(self.unwritten);
        self.unwritten -= bytes;
        self.registry.space.ledger().release_scratch(bytes);
    }
}

impl Drop for ScratchClaim {
    fn drop(&mut self) {
        self.release(self.unwritten);
    }
}
