//! Runs fuzz targets as a test, on the stable toolchain and without instrumentation: every file of
//! the corpus, and then mutations of these files until the time is up. `fuzz/run.sh` runs the same
//! targets with libFuzzer.
//!
//! This file is a module of each crate that has targets. Start reading at [`run`].

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The name of a target, which is that of its folder in `fuzz/corpus`, and its function. The
/// function panics if an input violates a property.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// The variable with the time for the mutations of each target, in seconds.
const SECONDS_VARIABLE: &str = "IMGSYNC_FUZZ_SECONDS";
const DEFAULT_SECONDS: u64 = 1;
/// The variable with the seed of the mutations.
const SEED_VARIABLE: &str = "IMGSYNC_FUZZ_SEED";
/// The seed if neither variable is set: a change of something else finds nothing new.
const DEFAULT_SEED: u64 = 0;
/// The largest input in bytes.
const MAX_INPUT_BYTES: usize = 64 * 1024;
/// The processor time of one input from which it counts as too slow.
const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(4);
/// The time after which a target is stuck, beyond the time for its mutations.
const STUCK_AFTER: Duration = Duration::from_secs(180);
/// The most memory, in KiB, by which the process may grow. The tests that run at the same time are
/// part of it.
const MAX_GROWTH_KIB: u64 = 768 * 1024;

/// Runs all targets at the same time, each in a thread of its own.
///
/// # Panics
/// If an input violates a property, takes too much time or does not end.
pub(crate) fn run(targets: &[Target]) {
    let seconds = number_in(SECONDS_VARIABLE);
    let limit = Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS));
    let seed = number_in(SEED_VARIABLE).unwrap_or_else(|| {
        if seconds.is_some() {
            RandomState::new().hash_one(0)
        } else {
            DEFAULT_SEED
        }
    });
    eprintln!("fuzz targets: {SEED_VARIABLE}={seed}");
    let peak = peak_kib();
    let (sender, results) = channel();
    let mut running = Vec::new();
    for (name, target) in targets.iter().copied() {
        let input = Arc::new(Mutex::new(Vec::new()));
        running.push((name, Arc::clone(&input)));
        let sender = sender.clone();
        std::thread::spawn(move || {
            sender.send((name, run_target(name, target, (seed, limit), &input)))
        });
    }
    let mut failures = Vec::new();
    while !running.is_empty() {
        match results.recv_timeout(limit + STUCK_AFTER) {
            Ok((name, result)) => {
                running.retain(|(other, _)| *other != name);
                match result {
                    Ok(count) => eprintln!("fuzz target {name}: {count} inputs"),
                    Err(failure) => failures.push(format!("{name}: {failure}")),
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                for (name, input) in running.drain(..) {
                    let input = input.lock().unwrap();
                    failures.push(format!("{name} is stuck in: {}", input.escape_ascii()));
                }
            }
        }
    }
    let failed = failures.join("\n");
    assert!(failures.is_empty(), "{SEED_VARIABLE}={seed}: {failed}");
    let growth = peak_kib().saturating_sub(peak);
    assert!(growth < MAX_GROWTH_KIB, "the memory grew by {growth} KiB");
}

/// Returns the number in a variable, if it is set.
fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

/// Returns the number of inputs, or a description of the first input that fails.
fn run_target(
    name: &str,
    target: fn(&[u8]),
    (seed, limit): (u64, Duration),
    current: &Mutex<Vec<u8>>,
) -> Result<usize, String> {
    let corpus = read_corpus(name);
    let mut count = 0;
    for input in &corpus {
        check(target, input, current)?;
        count += 1;
    }
    let mut mutator = Mutator {
        corpus,
        state: seed,
    };
    let start = Instant::now();
    while start.elapsed() < limit {
        check(target, &mutator.next(), current)?;
        count += 1;
    }
    Ok(count)
}

fn check(target: fn(&[u8]), input: &[u8], current: &Mutex<Vec<u8>>) -> Result<(), String> {
    input.clone_into(&mut current.lock().unwrap());
    let start = processor_time();
    let result = catch_unwind(AssertUnwindSafe(|| target(input)));
    let elapsed = processor_time().saturating_sub(start);
    let problem = match result {
        Ok(()) if elapsed < MAX_PROCESSOR_TIME => return Ok(()),
        Ok(()) => format!("took {elapsed:?} of processor time"),
        Err(_) => "violates a property, see the panic above".to_owned(),
    };
    let shown = input.escape_ascii();
    Err(format!(
        "this input {problem}; to keep it, add it to fuzz/corpus: {shown}"
    ))
}

fn read_corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(name)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no corpus");
    let read = |path: &std::path::PathBuf| std::fs::read(path).unwrap();
    paths.iter().map(read).collect()
}

/// Returns the processor time of this thread.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Returns the highest memory use of this process, in KiB.
fn peak_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Numbers at which parsers go wrong.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "+1",
    "00",
    "255",
    "256",
    "65535",
    "65536",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.5",
];

/// Changes the files of a corpus at random.
struct Mutator {
    corpus: Vec<Vec<u8>>,
    /// The seed, at first.
    state: u64,
}

impl Mutator {
    /// Returns a number below `end`, which is not zero (SplitMix64).
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % end
    }

    /// Returns a file with one to eight changes.
    fn next(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        let mut input = self.corpus[at].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let part = self.range(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 => input.insert(at, u8::try_from(self.below(256)).unwrap()),
            2 => drop(input.drain(part)),
            3 => {
                let copy = input[part].to_vec();
                drop(input.splice(at..at, copy));
            }
            4 | 5 => {
                let other = self.below(self.corpus.len());
                let other_part = self.range(self.corpus[other].len());
                let bytes = self.corpus[other][other_part].to_vec();
                drop(input.splice(part, bytes));
            }
            6 => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let Some(start) = input[at..].iter().position(is_digit) else {
                    return;
                };
                let start = at + start;
                let digits = input[start..].iter().take_while(|byte| is_digit(byte));
                let end = start + digits.count();
                let number = NUMBERS[self.below(NUMBERS.len())];
                drop(input.splice(start..end, number.bytes()));
            }
            7 if at < input.len() => {
                // Punctuation separates the parts of all formats.
                let marks = b" \t\n\r\0\"'\\/:;,.=-_@*[]{}<>%&?#!|~";
                input[at] = marks[self.below(marks.len())];
            }
            _ => input.truncate(at),
        }
    }

    /// Returns a random range, mostly a short one.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let longest = (len - start).min(if self.below(4) == 0 { len } else { 16 });
        start..start + self.below(longest + 1)
    }
}
