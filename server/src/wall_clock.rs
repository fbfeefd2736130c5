//! Tells the time by which ages are computed: the system clock without its short jumps.
//!
//! Old content is deleted. A system clock that jumps ahead and back, for example on a virtual
//! machine that was moved, must neither make all content old in the meantime nor give wrong times
//! to content that is written then. Start reading at [`now`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A difference up to this between two readings is drift of the system clock, not a jump.
const MAX_DRIFT: Duration = Duration::from_secs(60);
/// How long the system clock must run evenly after a jump until the jump is accepted.
const MIN_STEADY: Duration = Duration::from_secs(3600);

static CLOCK: Mutex<Option<WallClock>> = Mutex::new(None);

/// Returns the current time. A jump of the system clock in either direction is ignored for the first
/// hour.
pub(crate) fn now() -> SystemTime {
    let (system, instant) = (SystemTime::now(), Instant::now());
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    clock
        .get_or_insert_with(|| WallClock::new(system, instant))
        .read(system, instant)
}

/// Returns [`now`] in Unix seconds.
pub(crate) fn unix_now() -> u64 {
    let since_epoch = now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |duration| duration.as_secs())
}

/// A time, and the value of the monotonic clock at that time.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: SystemTime,
    at: Instant,
}

impl Reading {
    /// Returns the time at a later value of the monotonic clock; `None` on overflow.
    fn later(self, instant: Instant) -> Option<SystemTime> {
        self.time
            .checked_add(instant.saturating_duration_since(self.at))
    }
}

struct WallClock {
    /// The last reading that was returned.
    last: Reading,
    /// The system clock after a jump that is not accepted yet.
    jump: Option<Reading>,
}

impl WallClock {
    fn new(system: SystemTime, instant: Instant) -> Self {
        Self {
            last: Reading {
                time: system,
                at: instant,
            },
            jump: None,
        }
    }

    fn read(&mut self, system: SystemTime, instant: Instant) -> SystemTime {
        let expected = self.last.later(instant).unwrap_or(system);
        let time = if is_near(system, expected) || self.is_steady(system, instant) {
            self.jump = None;
            system
        } else {
            expected
        };
        self.last = Reading { time, at: instant };
        time
    }

    /// Returns whether the system clock has run evenly for long enough since it jumped.
    fn is_steady(&mut self, system: SystemTime, instant: Instant) -> bool {
        let jump = self.jump.filter(|jump| {
            jump.later(instant)
                .is_some_and(|expected| is_near(system, expected))
        });
        if jump.is_none() {
            tracing::info!("the system clock jumped; ignoring the jump for an hour");
        }
        let jump = jump.unwrap_or(Reading {
            time: system,
            at: instant,
        });
        self.jump = Some(jump);
        instant.saturating_duration_since(jump.at) >= MIN_STEADY
    }
}

fn is_near(one: SystemTime, other: SystemTime) -> bool {
    let difference = one
        .duration_since(other)
        .unwrap_or_else(|error| error.duration());
    difference <= MAX_DRIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const YEAR: i64 = 365 * 24 * 3600;

    /// A clock under test, and the time at which the test starts.
    struct Test {
        clock: WallClock,
        start: (SystemTime, Instant),
    }

    impl Test {
        fn new() -> Self {
            let start = (SystemTime::now(), Instant::now());
            let clock = WallClock::new(start.0, start.1);
            Self { clock, start }
        }

        /// Reads the clock `after` seconds after the start, while the system clock is
        /// `system_ahead` seconds ahead. Returns by how many seconds the result is ahead.
        fn ahead(&mut self, after: u64, system_ahead: i64) -> i64 {
            let passed = Duration::from_secs(after);
            let true_time = self.start.0 + passed;
            let difference = Duration::from_secs(system_ahead.unsigned_abs());
            let system = if system_ahead < 0 {
                true_time - difference
            } else {
                true_time + difference
            };
            let time = self.clock.read(system, self.start.1 + passed);
            match time.duration_since(true_time) {
                Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap(),
                Err(error) => -i64::try_from(error.duration().as_secs()).unwrap(),
            }
        }
    }

    #[test]
    fn a_jump_that_is_reverted_is_ignored() {
        for jump in [YEAR, -YEAR, 2 * MAX_DRIFT.as_secs() as i64] {
            let mut test = Test::new();
            assert_eq!(test.ahead(10, 0), 0);
            assert_eq!(test.ahead(20, jump), 0);
            assert_eq!(test.ahead(50 * MINUTE, jump), 0);
            assert_eq!(test.ahead(55 * MINUTE, 0), 0);
            // The next jump is ignored for an hour again.
            assert_eq!(test.ahead(2 * HOUR, jump), 0);
        }
    }

    #[test]
    fn a_jump_is_accepted_after_an_hour() {
        for jump in [YEAR, -YEAR] {
            let mut test = Test::new();
            assert_eq!(test.ahead(MINUTE, jump), 0);
            assert_eq!(test.ahead(HOUR, jump), 0);
            assert_eq!(test.ahead(HOUR + MINUTE, jump), jump);
            assert_eq!(test.ahead(2 * HOUR, jump), jump);
            assert_eq!(test.ahead(2 * HOUR + 1, 0), jump);
            assert_eq!(test.ahead(4 * HOUR, 0), 0);
        }
    }

    #[test]
    fn repeated_jumps_are_ignored() {
        let mut test = Test::new();
        for step in 1..40 {
            let system_ahead = [YEAR, -YEAR, HOUR as i64][step as usize % 3];
            assert_eq!(test.ahead(step * 10 * MINUTE, system_ahead), 0);
        }
    }

    #[test]
    fn small_corrections_are_accepted() {
        let mut test = Test::new();
        assert_eq!(test.ahead(10, 30), 30);
        assert_eq!(test.ahead(20, -20), -20);
        assert_eq!(test.ahead(30, 0), 0);
    }
}
