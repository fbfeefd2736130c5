//! Stores queues of events: each is a folder with segments, which are files of lines, and the number
//! of the last entry that was sent.
//!
//! This module only reads and writes the files; what a line means is up to `events`. Start reading at
//! [`QueueFiles`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::Store;
use super::derived_log::append_lines;
use super::error::{IoContext, Result};

/// Bounds how much is read of the file with the number of the last entry that was sent.
const MAX_NUMBER_BYTES: usize = 64;

/// The files of one queue.
pub(crate) struct QueueFiles {
    store: Arc<Store>,
    folder: PathBuf,
}

impl Store {
    /// Returns the files of the queue with this name, which must be a valid name of a folder. Nothing
    /// is created before the first line is appended.
    pub(crate) fn queue_files(self: &Arc<Self>, name: &str) -> QueueFiles {
        QueueFiles {
            folder: self.paths.event_queue(name),
            store: Arc::clone(self),
        }
    }

    /// Returns the names of all queues with files.
    pub(crate) fn queue_names(&self) -> Result<Vec<String>> {
        self.disk.subfolders(&self.paths.event_queues()).collect()
    }
}

impl QueueFiles {
    /// Returns whether the queue can be stored.
    pub(crate) fn is_writable(&self) -> bool {
        self.store.is_writable()
    }

    /// Returns the segments in ascending order, each by the number of its first entry.
    pub(crate) fn segments(&self) -> Result<Vec<u64>> {
        let mut segments = Vec::new();
        for entry in self.store.disk.entries(&self.folder) {
            segments.extend(entry?.name.parse::<u64>());
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Returns when the queue was last changed; `None` if it has no files.
    pub(crate) fn changed_at(&self) -> Result<Option<SystemTime>> {
        let (disk, mut latest) = (&self.store.disk, None);
        for entry in disk.entries(&self.folder) {
            latest = latest.max(disk.modified(&entry?.path())?);
        }
        Ok(latest)
    }

    /// Appends complete lines to a segment, which is created if it is missing. With `is_synced`, all
    /// lines of the segment are durable when this returns. Returns the length of the segment in
    /// bytes.
    ///
    /// # Errors
    /// The errors of the disk. A part of the lines may have been appended.
    pub(crate) fn append(&self, segment: u64, lines: &str, is_synced: bool) -> Result<u64> {
        let (disk, path) = (&self.store.disk, self.segment(segment));
        let file = match disk.open(&path)? {
            Some(file) => file,
            None => {
                self.store.folders.ensure(&self.folder)?;
                let file = disk.create(&path).context("create", &path)?;
                disk.sync_folder(&self.folder)?;
                file
            }
        };
        if !lines.is_empty() {
            append_lines(&file, lines)?;
        }
        if is_synced {
            file.sync().context("sync", &path)?;
        }
        file.len()
    }

    /// Returns the length of a segment in bytes.
    pub(crate) fn segment_len(&self, segment: u64) -> Result<u64> {
        let len = self.store.disk.len(&self.segment(segment))?;
        Ok(len.unwrap_or_default())
    }

    /// Reads up to `limit` bytes of a segment from `offset`; fewer only at its end.
    pub(crate) fn read(&self, segment: u64, offset: u64, limit: usize) -> Result<Vec<u8>> {
        let path = self.segment(segment);
        match self.store.disk.open_to_read(&path)? {
            Some(file) => file.read(offset, limit).context("read", &path),
            None => Ok(Vec::new()),
        }
    }

    /// Removes a segment. Not durably: after a power cut, its entries can be there again.
    pub(crate) fn remove_segment(&self, segment: u64) -> Result<()> {
        self.store.disk.unlink(&self.segment(segment))
    }

    /// Returns the number of the last entry that was sent; 0 if it is not known.
    pub(crate) fn last_sent(&self) -> Result<u64> {
        let bytes = self.store.read_file(&self.sent(), MAX_NUMBER_BYTES)?;
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        Ok(text.trim().parse().unwrap_or_default())
    }

    /// Stores the number of the last entry that was sent. Not durably: after a power cut, some entries
    /// are sent again.
    pub(crate) fn put_last_sent(&self, number: u64) -> Result<()> {
        let (disk, path) = (&self.store.disk, self.sent());
        let file = match disk.open(&path)? {
            Some(file) => file,
            None => disk.create(&path).context("create", &path)?,
        };
        // All numbers have the same length, so that the file never has a part of two.
        let text = format!("{number:020}\n");
        file.write(0, text.as_bytes()).context("write", &path)
    }

    /// Removes the queue with all its entries.
    pub(crate) fn remove(&self) -> Result<()> {
        self.store.remove_all(&self.folder)
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.folder.join(format!("{first:020}"))
    }

    fn sent(&self) -> PathBuf {
        self.folder.join("sent")
    }
}
