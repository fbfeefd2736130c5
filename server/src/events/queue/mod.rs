//! A queue of entries for one receiver: bounded, in order, and on the disk.
//!
//! An entry that must not be lost is durable when [`EventQueue::flush`] returns. Others wait in
//! memory, and are written together if they are not sent soon. While the disk cannot be written, all
//! entries wait in memory, and the oldest give way. Start reading at [`EventQueue`].

mod entry;
mod memory;
mod segments;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(super) use self::entry::{MAX_ENTRY_BYTES, QueueEntry};

use self::memory::MemoryEntries;
use self::segments::Segments;
use crate::store::{self, QueueFiles};

/// The most bytes of a queue on the disk. Beyond half of it, no further pulls are added.
const MAX_QUEUE_BYTES: u64 = if cfg!(test) { 10_000 } else { 64 * 1024 * 1024 };

/// Returns the key of an entry from its text. Of the entries with the same key, only the last one is
/// sent.
pub(super) type EntryKey = fn(&str) -> Option<String>;

/// Whether an entry may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Importance {
    /// The entry is lost only if the queue is full of others that must not be lost.
    Durable,
    /// The entry is not added if there are many others, and a crash can lose it.
    BestEffort,
}

/// The queue of one receiver.
pub(super) struct EventQueue {
    memory: Mutex<MemoryEntries>,
    /// Locked before `memory` if both are locked.
    disk: Mutex<Option<Segments>>,
    superseded: SupersededEntries,
    /// The size of the segments in bytes.
    disk_bytes: AtomicU64,
    /// The number of the last entry that was sent or given up.
    sent: AtomicU64,
    /// How many entries were lost.
    lost: AtomicU64,
    /// How many entries were added.
    added: AtomicU64,
    is_added: Notify,
}

impl EventQueue {
    /// Opens a queue. One that cannot be read is kept in memory only. Blocks on the disk.
    pub(super) fn open(name: &str, files: QueueFiles, key: Option<EntryKey>) -> Self {
        let superseded = SupersededEntries::new(key);
        // What waits on a disk that cannot be written would be sent again after each start.
        let files = Some(files).filter(QueueFiles::is_writable);
        let opened = files.map(|files| {
            let (mut segments, sent) = Segments::open(files)?;
            superseded.learn(&mut segments, sent)?;
            Ok::<_, store::Error>((segments, sent))
        });
        let opened = opened.transpose().unwrap_or_else(|error| {
            tracing::error!(
                "{name}: cannot read waiting events, so new ones are not stored: {error}"
            );
            None
        });
        let (mut segments, sent) =
            opened.map_or((None, 0), |(segments, sent)| (Some(segments), sent));
        warn_about_damage(segments.as_mut());
        let end = segments.as_ref().map_or(sent, Segments::end);
        let bytes = segments.as_ref().map_or(0, Segments::bytes);
        Self {
            memory: Mutex::new(MemoryEntries::after(end.max(sent))),
            disk: Mutex::new(segments),
            superseded,
            disk_bytes: bytes.into(),
            sent: sent.into(),
            lost: AtomicU64::default(),
            added: AtomicU64::default(),
            is_added: Notify::new(),
        }
    }

    /// Adds an entry. Does no I/O: one that must be durable is so after [`EventQueue::flush`].
    pub(super) fn add(&self, text: Arc<str>, importance: Importance) {
        let mut memory = self.lock_memory();
        self.added.fetch_add(1, Relaxed);
        let has_room =
            || memory.has_room(&text) && self.disk_bytes.load(Relaxed) < MAX_QUEUE_BYTES / 2;
        if importance == Importance::BestEffort && !has_room() {
            self.lost.fetch_add(1, Relaxed);
            return;
        }
        let key = self.superseded.key(&text);
        let number = memory.add(text);
        if let Some(key) = key {
            self.superseded.set_last(key, number);
        }
        drop(memory);
        self.is_added.notify_one();
    }

    /// Writes the entries in memory to the disk. With `is_synced`, all entries that were added before
    /// the call are durable when this returns without an error. Calls at the same time share a sync.
    ///
    /// # Errors
    /// The entries stay in memory then; if there are too many, the oldest are lost.
    pub(super) fn flush(&self, is_synced: bool) -> Result<(), store::Error> {
        let mut disk = self.lock_disk();
        let Some(segments) = disk.as_mut() else {
            self.drop_excess(0);
            return Ok(());
        };
        let taken = self.lock_memory().take();
        let sent = self.sent.load(Relaxed);
        let unsent = taken.iter().filter(|entry| entry.number > sent);
        if let Err(error) = segments.append(unsent, is_synced) {
            self.lock_memory().put_back(taken);
            self.drop_excess(segments.end());
            return Err(error);
        }
        while segments.bytes() > MAX_QUEUE_BYTES
            && let Some(last) = segments.remove_oldest()?
        {
            self.lose_up_to(last);
        }
        self.disk_bytes.store(segments.bytes(), Relaxed);
        Ok(())
    }

    /// Returns whether entries wait in memory.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.lock_memory().is_empty()
    }

    /// Removes the entries up to `done`, and returns the one after it. Blocks on the disk.
    ///
    /// # Errors
    /// The errors of the disk. Nothing is removed then, and no later entry is returned instead.
    pub(super) fn next(&self, done: u64) -> Result<Option<QueueEntry>, store::Error> {
        let mut disk = self.lock_disk();
        let mut sent = self.sent.fetch_max(done, Relaxed).max(done);
        let next = loop {
            let stored = disk.as_mut().map(|segments| segments.first_after(sent));
            let stored = stored.transpose()?.flatten();
            let mut memory = self.lock_memory();
            let end = disk.as_ref().map_or(0, Segments::end);
            warn_about_damage(disk.as_mut());
            if stored.is_none() && end > sent {
                // The rest of the segments is damaged.
                self.lose_up_to(end);
                sent = end;
            }
            memory.remove_up_to(sent);
            let next = stored.or_else(|| memory.first().cloned());
            let Some(entry) = next else {
                break None;
            };
            if !self.superseded.is_superseded(&entry) {
                break Some(entry);
            }
            sent = entry.number;
            self.sent.fetch_max(sent, Relaxed);
        };
        if let Some(segments) = disk.as_ref() {
            self.disk_bytes.store(segments.bytes(), Relaxed);
            if let Err(error) = segments.store_sent(sent) {
                // After a crash, some entries are sent again.
                tracing::debug!(%error, "cannot store which events were sent");
            }
        }
        self.superseded.forget_up_to(sent);
        Ok(next)
    }

    /// Waits until an entry is added. One that was added since the last call counts.
    pub(super) async fn wait(&self) {
        self.is_added.notified().await;
    }

    /// Returns how many entries wait.
    pub(super) fn waiting(&self) -> u64 {
        let last = self.lock_memory().last_number();
        last.saturating_sub(self.sent.load(Relaxed))
    }

    /// Returns how many entries were lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Returns how many entries were added since the start.
    pub(super) fn added(&self) -> u64 {
        self.added.load(Relaxed)
    }

    /// Removes the oldest entries in memory if there are too many. `end` is the number of the last
    /// entry on the disk.
    fn drop_excess(&self, end: u64) {
        let Some(dropped) = self.lock_memory().drop_excess() else {
            return;
        };
        if end > self.sent.load(Relaxed) {
            // The ones on the disk are older, and still to be sent. Until then, the number of those that
            // wait includes those that are dropped.
            self.lost.fetch_add(dropped.count, Relaxed);
        } else {
            self.lose_up_to(dropped.last);
        }
    }

    fn lose_up_to(&self, last: u64) {
        let sent = self.sent.fetch_max(last, Relaxed);
        self.lost.fetch_add(last.saturating_sub(sent), Relaxed);
    }

    fn lock_memory(&self) -> MutexGuard<'_, MemoryEntries> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_disk(&self) -> MutexGuard<'_, Option<Segments>> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs damaged lines. They do not count as lost: most of them are writes that were cut off, which were
/// not acknowledged.
fn warn_about_damage(segments: Option<&mut Segments>) {
    let lines = segments.map_or(0, Segments::take_damaged);
    if lines > 0 {
        tracing::warn!(
            lines,
            "skipped damaged lines among the waiting events: a write was cut off, or events are lost"
        );
    }
}

/// Returns how many entries on the disk were not sent. Blocks on the disk.
///
/// # Errors
/// The errors of the disk.
pub(super) fn waiting_in(files: QueueFiles) -> Result<u64, store::Error> {
    let (segments, sent) = Segments::open(files)?;
    Ok(segments.end().saturating_sub(sent))
}

/// Knows which entries have a later one with the same key.
struct SupersededEntries {
    key: Option<EntryKey>,
    hasher: RandomState,
    /// The last entry with each key, by the hash of the key.
    last: Mutex<HashMap<u64, u64>>,
}

impl SupersededEntries {
    fn new(key: Option<EntryKey>) -> Self {
        Self {
            key,
            hasher: RandomState::new(),
            last: Mutex::default(),
        }
    }

    /// Reads the stored entries after `sent`.
    fn learn(&self, segments: &mut Segments, sent: u64) -> Result<(), store::Error> {
        if self.key.is_none() {
            return Ok(());
        }
        segments.visit(|entry| {
            let key = self.key(&entry.text).filter(|_| entry.number > sent);
            if let Some(key) = key {
                self.set_last(key, entry.number);
            }
        })
    }

    fn key(&self, text: &str) -> Option<u64> {
        let key = self.key?(text)?;
        Some(self.hasher.hash_one(key))
    }

    fn set_last(&self, key: u64, number: u64) {
        self.lock().insert(key, number);
    }

    fn is_superseded(&self, entry: &QueueEntry) -> bool {
        let last = self.key(&entry.text);
        let last = last.and_then(|key| self.lock().get(&key).copied());
        last.is_some_and(|last| last > entry.number)
    }

    /// Forgets the entries up to a number.
    fn forget_up_to(&self, sent: u64) {
        if self.key.is_some() {
            self.lock().retain(|_, last| *last > sent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
