//! What a command costs.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::relay::Relay;

/// What one push took.
pub(super) struct Cost {
    wall: Duration,
    cpu: f64,
    /// CPU time of the Docker daemon meanwhile, where one has a part in it.
    daemon: Option<f64>,
    bytes: u64,
    requests: usize,
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

/// Runs a command that must succeed, with whatever it sends going through `relay`.
pub(super) fn measured(command: &mut Command, relay: &Relay, daemon: Option<u32>) -> Cost {
    let (bytes, requests) = (relay.traffic().total(), relay.request_count());
    let daemon_before = daemon.map(cpu_of);
    let before = cpu_of_ended_children();
    let began = Instant::now();
    command.stdin(Stdio::null());
    let output = command.output().expect("a program that starts");
    let wall = began.elapsed();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
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

/// Seconds of CPU, user and system, that a living process has used.
fn cpu_of(process: u32) -> f64 {
    ticks(&process.to_string(), 13) / ticks_a_second()
}

/// The same of all children of this program that have ended.
fn cpu_of_ended_children() -> f64 {
    ticks("self", 15) / ticks_a_second()
}

/// Two neighbouring fields of `/proc/…/stat`, counted from 0, added up.
fn ticks(process: &str, first: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    // The name stands in brackets, and may hold anything; it is the second field.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| fields[at - 2].parse::<f64>().expect("a number");
    field(first) + field(first + 1)
}

fn ticks_a_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn with_separators(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
