//! Chooses the size of chunks: large enough that the requests cost little, small enough that a
//! fault costs little, and no larger than a proxy accepts.
//!
//! This module does no I/O and reads no clock. Start reading at [`ChunkSizer`].

use std::time::Duration;

/// The smallest chunk after a fault, and the smallest size limit of a proxy that is respected.
pub const MIN_CHUNK_BYTES: u64 = 64 * 1024;
const MAX_CHUNK_BYTES: u64 = 64 * 1024 * 1024;
/// After a chunk that took less time, the next one may be larger.
const FAST_CHUNK_DURATION: Duration = Duration::from_secs(4);

/// The chunk size of one push, shared by all its uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSizer {
    chunk: u64,
    /// The largest chunk that is not known to be refused.
    ceiling: u64,
    /// The size of a chunk during which the connection broke, until a chunk as large is accepted.
    /// Some proxies close the connection when a request is too large, and send no response.
    broken: Option<u64>,
}

impl ChunkSizer {
    /// Creates a sizer that starts with chunks of `chunk` bytes.
    pub fn new(chunk: u64) -> Self {
        let chunk = chunk.clamp(1, MAX_CHUNK_BYTES);
        Self {
            chunk,
            ceiling: MAX_CHUNK_BYTES,
            broken: None,
        }
    }

    /// Limits chunks to `limit` bytes, because larger ones are known to be refused. A limit below
    /// `MIN_CHUNK_BYTES` is raised to that size; a push never records a smaller one.
    pub fn within(mut self, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or(MAX_CHUNK_BYTES).max(MIN_CHUNK_BYTES);
        self.ceiling = self.ceiling.min(limit);
        self.chunk = self.chunk.min(self.ceiling);
        self
    }

    /// Returns the largest chunk in bytes that is not known to be refused.
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// Returns the size in bytes of the next chunk, with `left` bytes to send, within the bounds
    /// that the registry announced.
    pub fn next(&self, left: u64, minimum: Option<u64>, maximum: Option<u64>) -> u64 {
        let chunk = self.chunk.max(minimum.unwrap_or(0));
        chunk.min(maximum.unwrap_or(u64::MAX).max(1)).min(left)
    }

    /// Records that a chunk of `bytes` was accepted after `took`.
    pub fn record_chunk(&mut self, bytes: u64, took: Duration) {
        self.broken = self.broken.filter(|broken| *broken > bytes);
        if bytes >= self.chunk && took < FAST_CHUNK_DURATION {
            self.chunk = (self.chunk * 2).min(self.ceiling);
        }
    }

    /// Records a fault of the connection or the registry, and halves the chunk size.
    pub fn record_fault(&mut self) {
        self.chunk = (self.chunk / 2).max(MIN_CHUNK_BYTES.min(self.chunk));
    }

    /// Records that the connection broke while a chunk of `bytes` was being sent. If that happens
    /// twice with chunks of that size or larger, and none was accepted in between, larger chunks
    /// are not tried any more.
    pub fn record_connection_loss(&mut self, bytes: u64) {
        match self.broken {
            Some(before) if bytes >= before => {
                self.ceiling = self.ceiling.min((before / 2).max(MIN_CHUNK_BYTES));
                self.chunk = self.chunk.min(self.ceiling);
                self.broken = None;
            }
            _ => self.broken = Some(bytes),
        }
    }

    /// Records that a chunk of `bytes` was refused as too large. Returns whether a smaller one is
    /// worth a try.
    pub fn record_too_large(&mut self, bytes: u64) -> bool {
        self.ceiling = self.ceiling.min((bytes / 2).max(1));
        self.chunk = self.chunk.min(self.ceiling);
        self.ceiling >= MIN_CHUNK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const FAST: Duration = Duration::from_millis(10);

    #[test]
    fn grows_on_a_fast_connection_up_to_the_ceiling() {
        let mut sizer = ChunkSizer::new(8 * MIB);
        for _ in 0..10 {
            sizer.record_chunk(sizer.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(sizer.next(u64::MAX, None, None), MAX_CHUNK_BYTES);
    }

    #[test]
    fn stays_on_a_slow_connection_and_shrinks_after_faults() {
        let mut sizer = ChunkSizer::new(8 * MIB);
        sizer.record_chunk(8 * MIB, Duration::from_secs(10));
        assert_eq!(sizer.next(u64::MAX, None, None), 8 * MIB);
        for _ in 0..20 {
            sizer.record_fault();
        }
        assert_eq!(sizer.next(u64::MAX, None, None), MIN_CHUNK_BYTES);
    }

    #[test]
    fn a_size_that_was_refused_is_not_tried_again() {
        let mut sizer = ChunkSizer::new(8 * MIB);
        assert!(sizer.record_too_large(8 * MIB));
        assert!(sizer.record_too_large(4 * MIB));
        for _ in 0..10 {
            sizer.record_chunk(sizer.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(sizer.next(u64::MAX, None, None), 2 * MIB);
        while sizer.record_too_large(sizer.next(u64::MAX, None, None)) {}
        assert!(sizer.next(u64::MAX, None, None) < MIN_CHUNK_BYTES);
    }

    #[test]
    fn a_push_starts_below_a_known_limit() {
        let mut sizer = ChunkSizer::new(8 * MIB).within(Some(MIB));
        for _ in 0..10 {
            sizer.record_chunk(sizer.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(sizer.next(u64::MAX, None, None), MIB);
        assert_eq!(
            ChunkSizer::new(MIB).within(Some(8 * MIB)).ceiling(),
            8 * MIB
        );
    }

    #[test]
    fn a_size_that_always_breaks_the_connection_is_not_tried_again() {
        let mut sizer = ChunkSizer::new(8 * MIB);
        let mut losses = 0;
        for _ in 0..100 {
            let next = sizer.next(u64::MAX, None, None);
            if next > 5 * MIB {
                sizer.record_connection_loss(next);
                sizer.record_fault();
                losses += 1;
            } else {
                sizer.record_chunk(next, FAST);
            }
        }
        assert_eq!(losses, 2);
        // A connection that breaks now and then does not lower the ceiling.
        let mut sizer = ChunkSizer::new(8 * MIB);
        for _ in 0..10 {
            sizer.record_connection_loss(8 * MIB);
            sizer.record_chunk(8 * MIB, FAST);
        }
        assert_eq!(sizer.ceiling(), MAX_CHUNK_BYTES);
    }

    #[test]
    fn chunks_respect_the_bounds_of_the_registry_and_the_end_of_the_blob() {
        let sizer = ChunkSizer::new(8 * MIB);
        assert_eq!(sizer.next(5, None, None), 5);
        assert_eq!(sizer.next(u64::MAX, Some(16 * MIB), None), 16 * MIB);
        assert_eq!(sizer.next(u64::MAX, None, Some(MIB)), MIB);
    }
}
