//! Runs programs with a deadline.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The time after which a program is killed. Tests need less than a tenth of it.
const DEADLINE: Duration = Duration::from_secs(180);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The exit code and the output of a program.
#[derive(Debug)]
pub struct Outcome {
    pub command: String,
    /// `None` if a signal ended the program.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Panics with all output unless the exit code is 0.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "should have succeeded: {self}");
        self
    }

    /// Panics with all output unless the program ended with this code and stderr contains all these
    /// words. Upper and lower case are the same.
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "wrong exit code: {self}");
        let stderr = self.stderr.to_lowercase();
        for word in words {
            let word = word.to_lowercase();
            assert!(stderr.contains(&word), "stderr lacks {word:?}: {self}");
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            command,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{command}` ended with {code:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}"
        )
    }
}

/// Runs a command, and waits for its end.
pub fn run(command: &mut Command) -> Outcome {
    run_watched(command, |_| {})
}

/// Runs a command, and calls `watch` repeatedly while the process runs.
pub fn run_watched(command: &mut Command, mut watch: impl FnMut(&mut Child)) -> Outcome {
    let line = command_line(command);
    // Files instead of pipes: a full pipe would block the program.
    let mut stdout = tempfile::tempfile().expect("a file for stdout");
    let mut stderr = tempfile::tempfile().expect("a file for stderr");
    command.stdout(stdout.try_clone().expect("a second handle"));
    command.stderr(stderr.try_clone().expect("a second handle"));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{line}`: {error}"));
    let deadline = Instant::now() + DEADLINE;
    let mut timed_out = false;
    let status = loop {
        watch(&mut child);
        if let Some(status) = child.try_wait().expect("the child's status") {
            break status;
        }
        if Instant::now() > deadline && !timed_out {
            timed_out = true;
            child.kill().expect("the right to kill a child");
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let outcome = Outcome {
        command: line,
        code: status.code(),
        stdout: content(&mut stdout),
        stderr: content(&mut stderr),
    };
    assert!(!timed_out, "still running after {DEADLINE:?}: {outcome}");
    outcome
}

/// Runs a command that must succeed, and returns its output without the final newline.
pub fn must(command: &mut Command) -> String {
    command.stdin(Stdio::null());
    run(command).succeeded().stdout.trim_end().to_owned()
}

/// Calls `look` until it returns something. Panics after 60 seconds.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

fn content(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("the file's start");
    file.read_to_end(&mut bytes).expect("the file's content");
    String::from_utf8_lossy(&bytes).into_owned()
}
