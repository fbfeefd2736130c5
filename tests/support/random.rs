//! Chance that can be repeated: `IMGSYNC_TESTS_SEED` takes the seed that a failed test printed.

use super::bytes::Noise;

/// Random numbers from a seed.
pub struct Random {
    noise: Noise,
    seed: u64,
}

impl Random {
    /// With a new seed, or the one that the environment names. It is printed, which a test shows
    /// when it fails.
    pub fn new() -> Self {
        let named = std::env::var("IMGSYNC_TESTS_SEED").ok();
        let seed = named.map_or_else(fresh, |text| text.parse().expect("a number as the seed"));
        eprintln!("to repeat this: IMGSYNC_TESTS_SEED={seed}");
        Self {
            noise: Noise::new(seed),
            seed,
        }
    }

    /// What it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// One of the numbers from 0 up to but not including `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.noise.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end
    }
}

fn fresh() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = time.expect("a clock after 1970").as_nanos();
    (nanoseconds % 1_000_000_000_000) as u64
}
