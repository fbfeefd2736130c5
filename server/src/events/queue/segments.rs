//! The entries of a queue that are on the disk: appends, reads in order, and removes what was sent.
//!
//! All functions block on the disk.

use std::collections::VecDeque;

use super::entry::{MAX_LINE_BYTES, MAX_NUMBER, QueueEntry};
use crate::store::{self, QueueFiles};

/// How long a segment gets before the next one begins. Segments are removed as a whole.
pub(super) const MAX_SEGMENT_BYTES: u64 = if cfg!(test) { 2000 } else { 1024 * 1024 };
/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// The segments of a queue, and the position up to which they were read.
pub(super) struct Segments {
    files: QueueFiles,
    segments: VecDeque<Segment>,
    /// The number of the last entry that was appended.
    end: u64,
    /// Whether lines were appended that are not synced.
    is_unsynced: bool,
    /// How many lines were skipped because they are damaged.
    damaged: u64,
    position: ReadPosition,
}

/// A segment.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// The number of the first entry.
    first: u64,
    /// The length in bytes.
    len: u64,
    /// How much of it was examined for damage, in bytes.
    examined: u64,
}

/// The next entry to read.
#[derive(Default)]
struct ReadPosition {
    /// The segment that is read, by its first number; 0 before the first read.
    segment: u64,
    offset: u64,
    /// Entries that were read ahead.
    ahead: VecDeque<QueueEntry>,
}

impl Segments {
    /// Opens the segments, and returns them with the number of the last entry that was sent. A segment
    /// whose name is damaged is left alone. If that number is damaged, all entries are sent again.
    pub(super) fn open(files: QueueFiles) -> Result<(Self, u64), store::Error> {
        let mut segments = VecDeque::new();
        let names = files.segments()?.into_iter();
        for first in names.filter(|first| *first <= MAX_NUMBER) {
            let len = files.segment_len(first)?;
            segments.push_back(Segment {
                first,
                len,
                examined: 0,
            });
        }
        let sent = files.last_sent()?;
        let sent = if sent <= MAX_NUMBER { sent } else { 0 };
        let mut opened = Self {
            files,
            segments,
            end: sent,
            is_unsynced: false,
            damaged: 0,
            position: ReadPosition::default(),
        };
        if let Some(last) = opened.segments.back().copied() {
            opened.position.segment = last.first;
            opened.end = last.first.saturating_sub(1);
            while let Some(entry) = opened.read_next()? {
                opened.end = opened.end.max(entry.number);
            }
            opened.position = ReadPosition::default();
        }
        // The last segment stays on the disk, so no entry after its end was sent.
        if sent > opened.end {
            return Ok((opened, 0));
        }
        Ok((opened, sent))
    }

    /// Returns the number of the last entry that was appended.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the size of all segments in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Appends entries. With `is_synced`, all entries are durable when this returns.
    ///
    /// # Errors
    /// The errors of the disk. Some of the entries may have been appended; a reader skips those that
    /// it finds twice.
    pub(super) fn append<'a>(
        &mut self,
        entries: impl IntoIterator<Item = &'a QueueEntry>,
        is_synced: bool,
    ) -> Result<(), store::Error> {
        let (mut lines, mut first, mut last) = (String::new(), None, self.end);
        for entry in entries {
            lines.push_str(&entry.to_line());
            first.get_or_insert(entry.number);
            last = entry.number;
        }
        let current = self.segments.back();
        let segment = match (current, first) {
            (Some(segment), None) => segment.first,
            (Some(segment), Some(_)) if segment.len < MAX_SEGMENT_BYTES => segment.first,
            (_, Some(first)) => first,
            (None, None) => return Ok(()),
        };
        if lines.is_empty() && !(is_synced && self.is_unsynced) {
            return Ok(());
        }
        if let Some(current) = self.segments.back()
            && current.first != segment
            && self.is_unsynced
        {
            self.files.append(current.first, "", true)?;
        }
        let len = self.files.append(segment, &lines, is_synced)?;
        match self.segments.back_mut() {
            Some(current) if current.first == segment => current.len = len,
            _ => self.segments.push_back(Segment {
                first: segment,
                len,
                // Lines of this process are not damaged.
                examined: u64::MAX,
            }),
        }
        self.end = last;
        self.is_unsynced = !is_synced;
        Ok(())
    }

    /// Returns the first entry after `sent`, and stays there; `None` if all were sent.
    ///
    /// # Errors
    /// The errors of the disk. A further call reads from the same position.
    pub(super) fn first_after(&mut self, sent: u64) -> Result<Option<QueueEntry>, store::Error> {
        while self.segments.len() > 1 && self.segments[1].first <= sent + 1 {
            if let Err(error) = self.remove_oldest() {
                // The waiting entries can be read nevertheless. The next call tries again.
                tracing::debug!(%error, "cannot remove events that were sent");
                break;
            }
        }
        if self.end <= sent {
            return Ok(None);
        }
        loop {
            match self.position.ahead.front() {
                Some(entry) if entry.number > sent => return Ok(Some(entry.clone())),
                Some(_) => {
                    self.position.ahead.pop_front();
                }
                None => match self.read_next()? {
                    Some(entry) => self.position.ahead.push_front(entry),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Returns the next entry after those that were read. Skips damaged lines.
    fn read_next(&mut self) -> Result<Option<QueueEntry>, store::Error> {
        loop {
            if let Some(entry) = self.position.ahead.pop_front() {
                return Ok(Some(entry));
            }
            let segment = self.position.segment;
            if self.read_ahead(segment)? {
                continue;
            }
            let mut later = self.segments.iter().filter(|next| next.first > segment);
            let Some(next) = later.next() else {
                return Ok(None);
            };
            self.position.segment = next.first;
            self.position.offset = 0;
        }
    }

    /// Reads the next lines of a segment; returns false at its end.
    fn read_ahead(&mut self, segment: u64) -> Result<bool, store::Error> {
        let offset = self.position.offset;
        let mut bytes = self.files.read(segment, offset, READ_BYTES)?;
        let mut end = bytes.iter().rposition(|byte| *byte == b'\n');
        if end.is_none() && bytes.len() == READ_BYTES {
            bytes = self.files.read(segment, offset, MAX_LINE_BYTES)?;
            end = bytes.iter().rposition(|byte| *byte == b'\n');
        }
        let end = match end {
            Some(end) => end + 1,
            // No line is as long as this, so all of it is damaged.
            None if bytes.len() == MAX_LINE_BYTES => bytes.len(),
            None => return Ok(false),
        };
        let lines = bytes[..end].split(|byte| *byte == b'\n');
        let mut damaged = 0;
        for line in lines.filter(|line| !line.is_empty()) {
            match QueueEntry::parse(line) {
                Some(entry) => self.position.ahead.push_back(entry),
                None => damaged += 1,
            }
        }
        let mut segments = self.segments.iter_mut();
        if let Some(read) = segments.find(|found| found.first == segment)
            && read.examined <= offset
        {
            read.examined = offset + end as u64;
            self.damaged += damaged;
        }
        self.position.offset += end as u64;
        Ok(true)
    }

    /// Returns how many damaged lines were skipped since the last call.
    pub(super) fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }

    /// Calls `visit` with all entries.
    pub(super) fn visit(&mut self, mut visit: impl FnMut(QueueEntry)) -> Result<(), store::Error> {
        self.position = ReadPosition::default();
        while let Some(entry) = self.read_next()? {
            visit(entry);
        }
        self.position = ReadPosition::default();
        Ok(())
    }

    /// Stores the number of the last entry that was sent, if it is of an entry on the disk.
    pub(super) fn store_sent(&self, sent: u64) -> Result<(), store::Error> {
        if self.segments.is_empty() || sent > self.end {
            return Ok(());
        }
        self.files.put_last_sent(sent)
    }

    /// Removes the oldest segment. Returns the number of its last entry; `None` if there is only one
    /// segment.
    pub(super) fn remove_oldest(&mut self) -> Result<Option<u64>, store::Error> {
        let Some(next) = self.segments.get(1).copied() else {
            return Ok(None);
        };
        self.files.remove_segment(self.segments[0].first)?;
        self.segments.pop_front();
        if self.position.segment < next.first {
            self.position = ReadPosition {
                segment: next.first,
                ..ReadPosition::default()
            };
        }
        Ok(Some(next.first - 1))
    }
}
