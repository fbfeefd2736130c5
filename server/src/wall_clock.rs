//! The time that ages are counted by: the system's clock, without its jumps.
//!
//! What is old is deleted. A system clock that jumps ahead and comes back, as on a virtual machine
//! that was moved or before the network time is known, must not make everything old in between,
//! and must not date what is written in between. Start reading at [`now`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The system's clock may run so much faster or slower between two readings.
const MAX_DRIFT: Duration = Duration::from_secs(60);
/// A jump counts once the system's clock has gone on from there for so long.
const MIN_STEADY: Duration = Duration::from_secs(3600);

static CLOCK: Mutex<Option<WallClock>> = Mutex::new(None);

/// Returns the present moment. While the system's clock has jumped, in either direction and for
/// less than an hour, this goes on as if it had not.
pub(crate) fn now() -> SystemTime {
    let (system, instant) = (SystemTime::now(), Instant::now());
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    clock
        .get_or_insert_with(|| WallClock::new(system, instant))
        .read(system, instant)
}

/// A moment, and what the monotonic clock showed then.
#[derive(Debug, Clone, Copy)]
struct Reading {
    time: SystemTime,
    at: Instant,
}

impl Reading {
    /// The time that a clock shows which has run evenly since; `None` beyond the end of all time.
    fn later(self, instant: Instant) -> Option<SystemTime> {
        self.time
            .checked_add(instant.saturating_duration_since(self.at))
    }
}

struct WallClock {
    /// The last moment that was told.
    last: Reading,
    /// Where the system's clock jumped to, while that does not count yet.
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

    /// Whether the system's clock has run evenly for long enough since it jumped.
    fn is_steady(&mut self, system: SystemTime, instant: Instant) -> bool {
        let jump = self.jump.filter(|jump| {
            jump.later(instant)
                .is_some_and(|expected| is_near(system, expected))
        });
        if jump.is_none() {
            tracing::info!("the system's clock jumped; this counts when it stays so for an hour");
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
    let apart = one
        .duration_since(other)
        .unwrap_or_else(|error| error.duration());
    apart <= MAX_DRIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const YEAR: i64 = 365 * 24 * 3600;

    /// A clock, and how many seconds what it tells is ahead of the time that really passed.
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

        /// Reads the clock so many seconds after the start, where the system's is so many seconds
        /// ahead.
        fn ahead(&mut self, after: u64, system_ahead: i64) -> i64 {
            let passed = Duration::from_secs(after);
            let right = self.start.0 + passed;
            let apart = Duration::from_secs(system_ahead.unsigned_abs());
            let system = if system_ahead < 0 {
                right - apart
            } else {
                right + apart
            };
            let told = self.clock.read(system, self.start.1 + passed);
            match told.duration_since(right) {
                Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap(),
                Err(error) => -i64::try_from(error.duration().as_secs()).unwrap(),
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_and_comes_back_changes_nothing() {
        for jump in [YEAR, -YEAR, 2 * MAX_DRIFT.as_secs() as i64] {
            let mut test = Test::new();
            assert_eq!(test.ahead(10, 0), 0);
            assert_eq!(test.ahead(20, jump), 0);
            assert_eq!(test.ahead(50 * MINUTE, jump), 0);
            assert_eq!(test.ahead(55 * MINUTE, 0), 0);
            // Another jump is waited out anew.
            assert_eq!(test.ahead(2 * HOUR, jump), 0);
        }
    }

    #[test]
    fn a_clock_that_stays_where_it_jumped_to_is_followed() {
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
    fn a_clock_that_jumps_about_is_not_believed() {
        let mut test = Test::new();
        for step in 1..40 {
            let system_ahead = [YEAR, -YEAR, HOUR as i64][step as usize % 3];
            assert_eq!(test.ahead(step * 10 * MINUTE, system_ahead), 0);
        }
    }

    #[test]
    fn small_corrections_are_followed() {
        let mut test = Test::new();
        assert_eq!(test.ahead(10, 30), 30);
        assert_eq!(test.ahead(20, -20), -20);
        assert_eq!(test.ahead(30, 0), 0);
    }
}
