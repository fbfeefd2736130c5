//! The entries of a queue that are not on the disk.
//!
//! Pulls wait here to be sent or to be written together, and everything waits here while the disk
//! cannot be written. This module does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::entry::QueueEntry;

/// The most entries in memory.
const MAX_ENTRIES: usize = 1000;
/// The most bytes of their texts.
const MAX_BYTES: usize = 1024 * 1024;

/// Entries in memory. All of them are newer than those on the disk.
pub(super) struct MemoryEntries {
    entries: VecDeque<QueueEntry>,
    bytes: usize,
    next_number: u64,
}

/// Entries that were removed because there were too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct DroppedEntries {
    pub(super) count: u64,
    /// The number of the last one.
    pub(super) last: u64,
}

impl MemoryEntries {
    /// Returns no entries. The first one will have the number after `last`.
    pub(super) fn after(last: u64) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            next_number: last + 1,
        }
    }

    /// Returns the number of the last entry that was added.
    pub(super) fn last_number(&self) -> u64 {
        self.next_number - 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether a further entry may be added that gives way to others.
    pub(super) fn has_room(&self, text: &str) -> bool {
        self.entries.len() < MAX_ENTRIES && self.bytes + text.len() <= MAX_BYTES
    }

    /// Adds an entry, and returns its number.
    pub(super) fn add(&mut self, text: Arc<str>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += text.len();
        self.entries.push_back(QueueEntry { number, text });
        number
    }

    /// Removes the oldest entries as long as there are too many; returns `None` if there are not.
    pub(super) fn drop_excess(&mut self) -> Option<DroppedEntries> {
        let mut dropped = None;
        while self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES {
            let last = self.pop()?.number;
            let count = dropped.map_or(0, |dropped: DroppedEntries| dropped.count) + 1;
            dropped = Some(DroppedEntries { count, last });
        }
        dropped
    }

    /// Removes the entries up to a number.
    pub(super) fn remove_up_to(&mut self, number: u64) {
        while self.first().is_some_and(|entry| entry.number <= number) {
            self.pop();
        }
    }

    pub(super) fn first(&self) -> Option<&QueueEntry> {
        self.entries.front()
    }

    fn pop(&mut self) -> Option<QueueEntry> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.text.len();
        Some(entry)
    }

    /// Takes all entries out.
    pub(super) fn take(&mut self) -> VecDeque<QueueEntry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }

    /// Puts back entries that [`MemoryEntries::take`] returned, before those that were added since.
    pub(super) fn put_back(&mut self, mut entries: VecDeque<QueueEntry>) {
        self.bytes += entries.iter().map(|entry| entry.text.len()).sum::<usize>();
        entries.append(&mut self.entries);
        self.entries = entries;
    }
}
