//! How large a chunk should be: large enough that asking costs little, small enough that a fault
//! does, and never larger than a proxy lets through. Pure: time comes in as a number.

use std::time::Duration;

/// Below this a line is not worth using, and a proxy's limit not worth obeying.
const FLOOR: u64 = 64 * 1024;
const CEILING: u64 = 64 * 1024 * 1024;
/// A chunk that took less may be larger next time.
const QUICK: Duration = Duration::from_secs(4);

/// The chunk size of one push; all its uploads share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    chunk: u64,
    /// The largest chunk that is not known to be too large.
    ceiling: u64,
    /// The size of a chunk with which the line broke, until one as large goes through: some
    /// proxies say nothing else when a request is too large.
    broken: Option<u64>,
}

impl Pace {
    /// Starts with chunks of `chunk` bytes.
    pub fn new(chunk: u64) -> Self {
        let chunk = chunk.clamp(1, CEILING);
        Self {
            chunk,
            ceiling: CEILING,
            broken: None,
        }
    }

    /// The same, where chunks of more than `limit` bytes are known to be refused. One that is too
    /// small to be worth obeying cannot have been found out by a push.
    pub fn within(mut self, limit: Option<u64>) -> Self {
        self.ceiling = self.ceiling.min(limit.unwrap_or(CEILING).max(FLOOR));
        self.chunk = self.chunk.min(self.ceiling);
        self
    }

    /// The largest chunk in bytes that is not known to be refused.
    pub fn ceiling(&self) -> u64 {
        self.ceiling
    }

    /// The size in bytes for the next chunk of `left` bytes, within what the registry takes.
    pub fn next(&self, left: u64, minimum: Option<u64>, maximum: Option<u64>) -> u64 {
        let wished = self.chunk.max(minimum.unwrap_or(0));
        wished.min(maximum.unwrap_or(u64::MAX).max(1)).min(left)
    }

    /// A chunk of `bytes` went through.
    pub fn passed(&mut self, bytes: u64, took: Duration) {
        self.broken = self.broken.filter(|broken| *broken > bytes);
        if bytes >= self.chunk && took < QUICK {
            self.chunk = (self.chunk * 2).min(self.ceiling);
        }
    }

    /// The line broke, or the registry was not well.
    pub fn faulted(&mut self) {
        self.chunk = (self.chunk / 2).max(FLOOR.min(self.chunk));
    }

    /// The line broke while a chunk of `bytes` was on its way. If that happens again and again with
    /// chunks of that size, and never with smaller ones, larger ones are not tried any more.
    pub fn broke(&mut self, bytes: u64) {
        match self.broken {
            Some(before) if bytes >= before => {
                self.ceiling = self.ceiling.min((before / 2).max(FLOOR));
                self.chunk = self.chunk.min(self.ceiling);
                self.broken = None;
            }
            Some(_) | None => self.broken = Some(bytes),
        }
    }

    /// A chunk of `bytes` was refused as too large. Yields whether a smaller one is worth a try.
    pub fn too_large(&mut self, bytes: u64) -> bool {
        self.ceiling = self.ceiling.min((bytes / 2).max(1));
        self.chunk = self.chunk.min(self.ceiling);
        self.ceiling >= FLOOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const FAST: Duration = Duration::from_millis(10);

    #[test]
    fn grows_on_a_quick_line_up_to_the_ceiling() {
        let mut pace = Pace::new(8 * MIB);
        for _ in 0..10 {
            pace.passed(pace.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(pace.next(u64::MAX, None, None), CEILING);
    }

    #[test]
    fn stays_on_a_slow_one_and_shrinks_after_faults() {
        let mut pace = Pace::new(8 * MIB);
        pace.passed(8 * MIB, Duration::from_secs(10));
        assert_eq!(pace.next(u64::MAX, None, None), 8 * MIB);
        for _ in 0..20 {
            pace.faulted();
        }
        assert_eq!(pace.next(u64::MAX, None, None), FLOOR);
    }

    #[test]
    fn a_size_that_was_refused_is_not_tried_again() {
        let mut pace = Pace::new(8 * MIB);
        assert!(pace.too_large(8 * MIB));
        assert!(pace.too_large(4 * MIB));
        for _ in 0..10 {
            pace.passed(pace.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(pace.next(u64::MAX, None, None), 2 * MIB);
        while pace.too_large(pace.next(u64::MAX, None, None)) {}
        assert!(pace.next(u64::MAX, None, None) < FLOOR);
    }

    #[test]
    fn what_is_known_to_be_refused_is_not_begun_with() {
        let mut pace = Pace::new(8 * MIB).within(Some(MIB));
        for _ in 0..10 {
            pace.passed(pace.next(u64::MAX, None, None), FAST);
        }
        assert_eq!(pace.next(u64::MAX, None, None), MIB);
        assert_eq!(Pace::new(MIB).within(Some(8 * MIB)).ceiling(), 8 * MIB);
    }

    #[test]
    fn a_size_that_always_breaks_the_line_is_left_alone() {
        let mut pace = Pace::new(8 * MIB);
        let mut broke = 0;
        for _ in 0..100 {
            let next = pace.next(u64::MAX, None, None);
            if next > 5 * MIB {
                pace.broke(next);
                pace.faulted();
                broke += 1;
            } else {
                pace.passed(next, FAST);
            }
        }
        assert_eq!(broke, 2);
        // A line that breaks now and then is no such thing.
        let mut pace = Pace::new(8 * MIB);
        for _ in 0..10 {
            pace.broke(8 * MIB);
            pace.passed(8 * MIB, FAST);
        }
        assert_eq!(pace.ceiling(), CEILING);
    }

    #[test]
    fn the_registry_s_bounds_and_the_end_count() {
        let pace = Pace::new(8 * MIB);
        assert_eq!(pace.next(5, None, None), 5);
        assert_eq!(pace.next(u64::MAX, Some(16 * MIB), None), 16 * MIB);
        assert_eq!(pace.next(u64::MAX, None, Some(MIB)), MIB);
    }
}
