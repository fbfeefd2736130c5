//! Decides which measurements of the disk are kept: one an hour, for some weeks. Does no I/O.

use std::time::Duration;

use crate::registry::DiskSample;

/// The time between two samples of the history.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_secs(3600);
/// How many samples are kept: those of six weeks, in about 80 KB.
const MAX_SAMPLES: usize = 6 * 7 * 24;

/// Returns how long it is from `now` (Unix seconds) until the next sample is due; zero if it is due.
/// If the clock was set back, samples from the future do not count.
pub(crate) fn until_next_sample(samples: &[DiskSample], now: u64) -> Duration {
    let past = samples.iter().map(|sample| sample.time);
    let last = past.filter(|time| *time <= now).max();
    let elapsed = last.map(|last| Duration::from_secs(now - last));
    elapsed.map_or(Duration::ZERO, |elapsed| {
        SAMPLE_INTERVAL.saturating_sub(elapsed)
    })
}

/// Returns the samples of the last six weeks, in the order of their times.
pub(crate) fn recent_samples(mut samples: Vec<DiskSample>, now: u64) -> Vec<DiskSample> {
    let oldest = now.saturating_sub(MAX_SAMPLES as u64 * SAMPLE_INTERVAL.as_secs());
    samples.retain(|sample| (oldest..=now).contains(&sample.time));
    samples.sort_by_key(|sample| sample.time);
    samples
}

/// Adds a sample, and removes the first ones if there are too many. Samples are in the order in which
/// they were taken, so that those of a wrong clock are removed as the others are.
pub(crate) fn add_sample(samples: &mut Vec<DiskSample>, sample: DiskSample) {
    let excess = (samples.len() + 1).saturating_sub(MAX_SAMPLES);
    samples.drain(..excess);
    samples.push(sample);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64) -> DiskSample {
        DiskSample {
            time,
            ..DiskSample::default()
        }
    }

    #[test]
    fn a_sample_is_due_once_an_hour() {
        let samples = [at(10_000), at(99_000)];
        let wait = |samples: &[DiskSample], now| until_next_sample(samples, now).as_secs();
        assert_eq!(wait(&[], 5), 0);
        assert_eq!(wait(&samples, 99_000), 3600);
        assert_eq!(wait(&samples, 102_599), 1);
        assert_eq!(wait(&samples, 200_000), 0);
        // The clock was set back.
        assert_eq!(wait(&samples, 13_000), 600);
    }

    #[test]
    fn samples_of_a_wrong_clock_are_not_shown() {
        let now = 100_000_000;
        let samples = vec![at(5), at(now - 10), at(now + 10), at(now - 20)];
        assert_eq!(recent_samples(samples, now), [at(now - 20), at(now - 10)]);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut samples = vec![at(9_000_000)];
        for time in 0..MAX_SAMPLES as u64 {
            add_sample(&mut samples, at(time));
        }
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert!(samples.is_sorted_by_key(|sample| sample.time));
    }
}
