//! The current work of a command: the tasks and transfers that run, the bytes that are still
//! to be sent, and how fast they move.
//!
//! This module reads no clock and prints nothing. Start reading at [`Progress`].

mod rate;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use imgsync_oci::Digest;

use super::{PlannedSize, TransferVerb};
use crate::text::{format_bytes, format_estimate};
use rate::RateWindow;

/// The first offset of a blob that follows within this time was reached before the blob was added.
const MIN_FIRST_MOVE: Duration = Duration::from_millis(20);

/// The state of a command, as far as it is shown.
#[derive(Debug)]
pub(super) struct Progress {
    verb: TransferVerb,
    tasks: Vec<RunningTask>,
    next_task: u64,
    blobs: Vec<RunningBlob>,
    totals: TransferTotals,
    /// Whether the totals were known before the first byte. Otherwise they grow with each blob that
    /// starts.
    is_planned: bool,
    rate: Option<RateWindow>,
}

/// Work other than a transfer, for example the compression of a layer.
#[derive(Debug)]
pub(super) struct RunningTask {
    id: u64,
    /// The participle and the object, for example `compressing layer 3dce3ae6275d`.
    pub(super) text: String,
    /// The number of bytes to process, if it is known.
    pub(super) size: Option<u64>,
    pub(super) position: u64,
    pub(super) start: Instant,
}

/// A blob that is being transferred.
#[derive(Debug)]
pub(super) struct RunningBlob {
    digest: Digest,
    pub(super) label: String,
    pub(super) size: u64,
    pub(super) offset: u64,
    /// When the blob was added; `None` once an offset was set.
    added_at: Option<Instant>,
}

/// The bytes of all transfers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct TransferTotals {
    /// The bytes of all blobs whose size is known.
    pub(super) size: u64,
    /// The bytes of the layers that must be compressed before their size is known.
    pub(super) uncompressed: u64,
    /// The bytes of the blobs that are complete.
    finished: u64,
}

/// How the transfers go at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// No blob is being transferred, or the rate cannot be told yet.
    Unknown,
    /// At this rate in bytes per second, and with this time left, if it can be told.
    Moving(u64, Option<Duration>),
    /// Nothing has moved for this time.
    Stalled(Duration),
    /// All bytes are sent, and the registry has not confirmed all blobs.
    Finishing,
}

impl Progress {
    /// Creates the state of a command that has not begun to do anything.
    pub(super) fn new(verb: TransferVerb) -> Self {
        Self {
            verb,
            tasks: Vec::new(),
            next_task: 0,
            blobs: Vec::new(),
            totals: TransferTotals::default(),
            is_planned: false,
            rate: None,
        }
    }

    /// Sets what will be transferred.
    #[cfg(test)]
    pub(super) fn plan(&mut self, planned: &[PlannedSize]) {
        self.start_plan();
        planned.iter().for_each(|size| self.plan_blob(*size));
    }

    /// Forgets earlier transfers. What will be transferred is planned next.
    pub(super) fn start_plan(&mut self) {
        self.forget_transfers();
        self.is_planned = true;
    }

    /// Adds a blob that will be transferred.
    pub(super) fn plan_blob(&mut self, size: PlannedSize) {
        let (sum, bytes) = match size {
            PlannedSize::Exact(bytes) => (&mut self.totals.size, bytes),
            PlannedSize::Uncompressed(bytes) => (&mut self.totals.uncompressed, bytes),
        };
        *sum = sum.saturating_add(bytes);
    }

    /// Forgets all transfers.
    pub(super) fn forget_transfers(&mut self) {
        self.blobs.clear();
        self.totals = TransferTotals::default();
        self.is_planned = false;
        self.rate = None;
    }

    /// Replaces the size of a planned layer by that of its blob.
    pub(super) fn record_compressed(&mut self, uncompressed: u64, size: u64) {
        let totals = &mut self.totals;
        totals.uncompressed = totals.uncompressed.saturating_sub(uncompressed);
        totals.size = totals.size.saturating_add(size);
    }

    /// Removes a planned blob that need not be transferred.
    pub(super) fn skip_blob(&mut self, size: u64) {
        if self.is_planned {
            self.totals.size = self.totals.size.saturating_sub(size);
        }
    }

    /// Adds a task, and returns its ID.
    pub(super) fn start_task(&mut self, text: String, size: Option<u64>, now: Instant) -> u64 {
        let id = self.next_task;
        self.next_task += 1;
        self.tasks.push(RunningTask {
            id,
            text,
            size,
            position: 0,
            start: now,
        });
        id
    }

    /// Sets how many bytes of a task are processed.
    pub(super) fn update_task(&mut self, id: u64, position: u64) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.position = position;
        }
    }

    /// Removes a task.
    pub(super) fn finish_task(&mut self, id: u64) {
        self.tasks.retain(|task| task.id != id);
    }

    /// Adds a blob of which an earlier run has transferred `offset` bytes.
    pub(super) fn start_blob(&mut self, blob: (&Digest, String, u64), offset: u64, now: Instant) {
        let (digest, label, size) = blob;
        if self.blobs.is_empty() {
            self.rate = Some(RateWindow::new(now));
        }
        if !self.is_planned {
            self.totals.size = self.totals.size.saturating_add(size);
        }
        self.blobs.push(RunningBlob {
            digest: digest.clone(),
            label,
            size,
            offset,
            added_at: Some(now),
        });
    }

    /// Sets the offset of a blob. Bytes have moved if it is larger than before. It is smaller after
    /// an error.
    pub(super) fn update_blob(&mut self, digest: &Digest, offset: u64, now: Instant) {
        let blob = self.blobs.iter_mut().find(|blob| blob.digest == *digest);
        if let (Some(blob), Some(rate)) = (blob, &mut self.rate) {
            // Bytes that were sent before the blob had a digest have moved at an unknown rate.
            let is_known_late = blob
                .added_at
                .take()
                .is_some_and(|added_at| now.duration_since(added_at) < MIN_FIRST_MOVE);
            if offset > blob.offset && !is_known_late {
                rate.add(now, offset - blob.offset);
            }
            blob.offset = offset;
        }
    }

    /// Removes a blob that is complete, and returns its label and size.
    pub(super) fn finish_blob(&mut self, digest: &Digest) -> Option<(String, u64)> {
        let position = self.blobs.iter().position(|blob| blob.digest == *digest)?;
        let RunningBlob { label, size, .. } = self.blobs.remove(position);
        self.totals.finished = self.totals.finished.saturating_add(size);
        Some((label, size))
    }

    /// Returns whether there is anything to show.
    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || self.has_transfers()
    }

    /// Returns whether blobs are being transferred, or planned ones are left.
    pub(super) fn has_transfers(&self) -> bool {
        !self.blobs.is_empty() || self.position() < self.totals.size || self.totals.uncompressed > 0
    }

    pub(super) fn tasks(&self) -> &[RunningTask] {
        &self.tasks
    }

    pub(super) fn blobs(&self) -> &[RunningBlob] {
        &self.blobs
    }

    pub(super) fn totals(&self) -> TransferTotals {
        self.totals
    }

    /// Returns the bytes that are at the target, those of earlier runs included.
    pub(super) fn position(&self) -> u64 {
        let offsets = self.blobs.iter().map(|blob| blob.offset);
        offsets.fold(self.totals.finished, u64::saturating_add)
    }

    /// Returns how the transfers go.
    pub(super) fn pace(&self, now: Instant) -> Pace {
        let Some(rate) = self.rate.as_ref().filter(|_| !self.blobs.is_empty()) else {
            return Pace::Unknown;
        };
        let is_complete = |blob: &RunningBlob| blob.offset >= blob.size;
        if self.blobs.iter().all(is_complete) {
            let is_all = self.position() >= self.totals.size && self.totals.uncompressed == 0;
            let is_all = is_all && self.tasks.is_empty();
            return if is_all {
                Pace::Finishing
            } else {
                Pace::Unknown
            };
        }
        if let Some(pause) = rate.stall(now) {
            return Pace::Stalled(pause);
        }
        let Some(rate) = rate.rate(now) else {
            return Pace::Unknown;
        };
        let left = self.totals.size.saturating_sub(self.position());
        // The size of what is still to be compressed is not known.
        let is_known = rate > 0 && self.totals.uncompressed == 0;
        let time_left = is_known.then(|| Duration::from_secs(left.div_ceil(rate)));
        Pace::Moving(rate, time_left)
    }

    /// Describes the pace, and why the total may still grow.
    pub(super) fn pace_text(&self, now: Instant) -> String {
        let mut parts = Vec::new();
        match self.pace(now) {
            Pace::Unknown => {}
            Pace::Moving(rate, left) => {
                parts.push(format!("{}/s", format_bytes(rate)));
                parts.extend(left.map(|left| format!("{} left", format_estimate(left))));
            }
            Pace::Stalled(pause) => parts.push(format!("stalled for {}", format_estimate(pause))),
            Pace::Finishing => parts.push("waiting for the registry".to_owned()),
        }
        match self.totals.uncompressed {
            0 => {}
            bytes => parts.push(format!("{} still to compress", format_bytes(bytes))),
        }
        parts.join(", ")
    }

    /// Describes everything in one line; `None` if nothing is done.
    pub(super) fn line(&self, now: Instant) -> Option<String> {
        if self.has_transfers() {
            let (position, size) = (self.position(), self.totals.size);
            let moved = self.verb.moved();
            let bytes = format!(
                "{moved} {} of {}",
                format_bytes(position),
                format_bytes(size)
            );
            let pace = self.pace_text(now);
            let parts = [bytes, pace];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            return Some(parts.join(", "));
        }
        let RunningTask {
            text,
            size,
            position,
            start,
            ..
        } = self.tasks.first()?;
        let seconds = format_estimate(now.duration_since(*start));
        Some(match (size, position) {
            (_, 0) => format!("{text}: {seconds}"),
            (Some(size), position) if position <= size => {
                let (position, size) = (format_bytes(*position), format_bytes(*size));
                format!("{text}: {position} of {size}, {seconds}")
            }
            _ => format!("{text}: {}, {seconds}", format_bytes(*position)),
        })
    }
}
