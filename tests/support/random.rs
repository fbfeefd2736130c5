//! Random numbers for tests. Each test prints its seed; `IMGSYNC_TESTS_SEED` repeats a run with it.

use super::bytes::Noise;

/// A random number generator with a known seed.
pub struct Random {
    noise: Noise,
    seed: u64,
}

impl Random {
    /// Creates a generator with the seed from `IMGSYNC_TESTS_SEED`, or with a new one. Prints the
    /// seed; the test harness shows it if the test fails.
    pub fn new() -> Self {
        let text = std::env::var("IMGSYNC_TESTS_SEED").ok();
        let seed = text.map_or_else(new_seed, |text| text.parse().expect("a number as the seed"));
        eprintln!("to repeat this run: IMGSYNC_TESTS_SEED={seed}");
        Self {
            noise: Noise::new(seed),
            seed,
        }
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a number from 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.noise.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }
}

fn new_seed() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = time.expect("a clock after 1970").as_nanos();
    (nanoseconds % 1_000_000_000_000) as u64
}
