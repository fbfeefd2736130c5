//! Measures how fast bytes move, over the last seconds.
//!
//! This module reads no clock. Start reading at [`RateWindow`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(10);
/// The rate of a shorter time says little.
const MIN_WINDOW: Duration = Duration::from_secs(1);
/// The shortest time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);
/// A pause below this is never a stall.
const MIN_STALL: Duration = Duration::from_secs(5);
/// How much longer than the usual pause a stall is. A slow connection takes several seconds for
/// what is read at a time.
const STALL_PAUSES: u32 = 4;

/// The bytes that moved since transfers began.
#[derive(Debug)]
pub(super) struct RateWindow {
    /// The total at several times of the last seconds, the oldest first.
    samples: VecDeque<(Instant, u64)>,
    total: u64,
    start: Instant,
    last_move: Instant,
    /// The number of times that bytes moved.
    moves: u32,
}

impl RateWindow {
    /// Creates a window for transfers that begin now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            samples: VecDeque::from([(now, 0)]),
            total: 0,
            start: now,
            last_move: now,
            moves: 0,
        }
    }

    /// Records that bytes moved.
    pub(super) fn add(&mut self, now: Instant, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        self.last_move = now;
        self.moves = self.moves.saturating_add(1);
        let newest = self.samples.back();
        if newest.is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE_INTERVAL) {
            self.samples.push_back((now, self.total));
        }
        // One sample is older than the window, so that the window is always covered.
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Returns the rate in bytes per second; `None` if it cannot be told yet.
    pub(super) fn rate(&self, now: Instant) -> Option<u64> {
        let is_old = |(at, _): &&(Instant, u64)| now.duration_since(*at) >= WINDOW;
        let oldest = self.samples.iter().rev().find(is_old);
        let (since, before) = *oldest.or_else(|| self.samples.front())?;
        let duration = now.duration_since(since);
        let bytes = self.total - before;
        (duration >= MIN_WINDOW).then(|| (bytes as f64 / duration.as_secs_f64()) as u64)
    }

    /// Returns for how long nothing has moved, if that is longer than the usual pause.
    pub(super) fn stall(&self, now: Instant) -> Option<Duration> {
        let usual = self.last_move.duration_since(self.start) / self.moves.max(1);
        let pause = now.duration_since(self.last_move);
        (pause >= MIN_STALL.max(usual * STALL_PAUSES)).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        assert_eq!(window.rate(start), None);
        let mut now = start;
        for _ in 0..60 {
            now += SECOND;
            window.add(now, 1000);
        }
        assert_eq!(window.rate(now), Some(1000));
        // The connection becomes ten times as fast. Half of the window later, half of the rate is
        // the new one.
        for _ in 0..5 {
            now += SECOND;
            window.add(now, 10_000);
        }
        assert_eq!(window.rate(now), Some(5500));
        for _ in 0..60 {
            now += SECOND;
            window.add(now, 10_000);
        }
        assert_eq!(window.rate(now), Some(10_000));
        assert!(window.samples.len() < 20, "{}", window.samples.len());
        assert_eq!(window.rate(now + 5 * SECOND), Some(5000));
        assert_eq!(window.rate(now + 10 * SECOND), Some(0));
    }

    #[test]
    fn a_stall_is_longer_than_the_usual_pause() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        assert_eq!(window.stall(start + 4 * SECOND), None);
        assert_eq!(window.stall(start + 5 * SECOND), Some(5 * SECOND));
        // A slow connection, which takes three seconds for each piece.
        let mut now = start;
        for _ in 0..10 {
            now += 3 * SECOND;
            window.add(now, 1000);
        }
        assert_eq!(window.stall(now + 11 * SECOND), None);
        assert_eq!(window.stall(now + 12 * SECOND), Some(12 * SECOND));
    }
}
