//! Makes room before an upload is refused.
//!
//! Start reading at [`Registry::relieve`].

use std::time::{Duration, Instant};

use super::super::Registry;
use super::super::error::Result;
use super::{SpaceShortage, lock};
use crate::store::Walk;
use crate::wall_clock::{self, unix_now};

/// How long to wait after a search for abandoned uploads.
const ABANDONED_SEARCH_INTERVAL: Duration = Duration::from_secs(10);

/// The remedies of a shortage. The steps that lose the least come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReliefStep {
    /// Count again what a quota counts, if something was removed since.
    Recount,
    /// Evict cached images, which can be fetched again.
    EvictCache,
    /// Empty the trash.
    EmptyTrash,
    /// Cancel upload sessions that nobody continues.
    CancelAbandonedUploads,
}

/// All steps, in their order.
pub(super) const STEPS: &[ReliefStep] = &[
    ReliefStep::Recount,
    ReliefStep::EvictCache,
    ReliefStep::EmptyTrash,
    ReliefStep::CancelAbandonedUploads,
];

impl Registry {
    /// Takes a step against a shortage. Returns false if it cannot help.
    pub(super) fn relieve(&self, step: ReliefStep, shortage: &SpaceShortage) -> Result<bool> {
        match (step, shortage) {
            (ReliefStep::Recount, SpaceShortage::Quota { .. }) => self.count_again(),
            (ReliefStep::CancelAbandonedUploads, _) => self.cancel_abandoned(),
            (ReliefStep::EvictCache, SpaceShortage::Disk { lacking, .. }) => {
                Ok(self.evict_for_upload(*lacking))
            }
            (ReliefStep::EmptyTrash, SpaceShortage::Disk { lacking, .. }) => {
                self.empty_trash(*lacking)
            }
            _ => Ok(false),
        }
    }

    /// Evicts cached images until `lacking` more bytes are free, if possible. A failure is only
    /// logged, because the other steps may help.
    fn evict_for_upload(&self, lacking: u64) -> bool {
        let Some(limits) = lock(&self.space.limits).cache else {
            return false;
        };
        if let Err(error) = self.evict_from_disk(lacking, &limits, unix_now()) {
            tracing::warn!(%error, "cannot evict cached images for an upload");
        }
        true
    }

    /// Deletes parts of the trash, the oldest first, until `lacking` more bytes are free. Returns
    /// false, and keeps the trash, if it has less bytes than that.
    fn empty_trash(&self, lacking: u64) -> Result<bool> {
        let parts = self.store.trash_parts()?;
        let mut trashed = 0;
        for part in &parts {
            trashed += self.store.trash_part_len(*part, &Walk::unbounded())?;
        }
        if trashed < lacking {
            return Ok(false);
        }
        let wanted = self.store.disk_space()?.free.saturating_add(lacking);
        let mut is_emptied = false;
        for part in parts {
            if self.store.disk_space()?.free >= wanted {
                break;
            }
            tracing::info!("the disk is nearly full: emptying a part of the trash for an upload");
            self.store.delete_trash_part(part)?;
            is_emptied = true;
        }
        Ok(is_emptied)
    }

    /// Cancels abandoned upload sessions. Returns false if there were none.
    fn cancel_abandoned(&self) -> Result<bool> {
        let mut last = lock(&self.space.last_relief);
        if last.is_some_and(|time| time.elapsed() < ABANDONED_SEARCH_INTERVAL) {
            return Ok(false);
        }
        *last = Some(Instant::now());
        let cancelled = self.cancel_all_abandoned_uploads(wall_clock::now())?;
        Ok(cancelled > 0)
    }
}
