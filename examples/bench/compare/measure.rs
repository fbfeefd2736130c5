//! Measures time, CPU time, bytes and requests of a command.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::relay::Relay;

/// The cost of one push.
#[derive(Clone)]
pub(super) struct Cost {
    wall: Duration,
    cpu: f64,
    /// The CPU time of the engine during the push, in seconds, if the client uses one.
    daemon: Option<f64>,
    bytes: u64,
    requests: usize,
}

impl Cost {
    /// Returns the cost with the median time.
    pub(super) fn median(mut costs: Vec<Self>) -> Self {
        costs.sort_by_key(|cost| cost.wall);
        let middle = costs.len() / 2;
        costs.swap_remove(middle)
    }

    /// Returns the time in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.wall.as_secs_f64()
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let daemon = self.daemon.map(|seconds| format!("{seconds:.2}"));
        write!(
            f,
            "{:.2} | {:.2} | {} | {} | {}",
            self.wall.as_secs_f64(),
            self.cpu,
            daemon.unwrap_or_default(),
            with_separators(self.bytes),
            self.requests
        )
    }
}

/// Runs a command, which must succeed and send its requests through `relay`.
pub(super) fn measured(command: &mut Command, relay: &Relay, daemon: Option<u32>) -> Cost {
    let (bytes, requests) = (relay.traffic().total(), relay.request_count());
    let daemon_before = daemon.map(cpu_of);
    let before = cpu_of_ended_children();
    let began = Instant::now();
    command.stdin(Stdio::null());
    let output = command.output().expect("a program that starts");
    let wall = began.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    Cost {
        wall,
        cpu: cpu_of_ended_children() - before,
        daemon: daemon
            .zip(daemon_before)
            .map(|(id, before)| cpu_of(id) - before),
        bytes: relay.traffic().total() - bytes,
        requests: relay.request_count() - requests,
    }
}

/// Returns the CPU time, user and system, of a running process in seconds.
pub(super) fn cpu_of(process: u32) -> f64 {
    ticks(&process.to_string(), 13) / ticks_per_second()
}

/// Returns the CPU time of all children of this program that have ended, in seconds.
fn cpu_of_ended_children() -> f64 {
    ticks("self", 15) / ticks_per_second()
}

/// Returns the sum of the fields `first` and `first + 1` of `/proc/…/stat`, counted from 0.
fn ticks(process: &str, first: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    // The second field is the program name in brackets, which may contain spaces and brackets.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |index: usize| fields[index - 2].parse::<f64>().expect("a number");
    field(first) + field(first + 1)
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
