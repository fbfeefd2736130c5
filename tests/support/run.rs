//! Runs a program to its end, with a deadline, and shows its output where that matters.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes a tenth of this; a program that hangs must not hang the tests.
const DEADLINE: Duration = Duration::from_secs(180);
const TICK: Duration = Duration::from_millis(10);

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command line.
    pub command: String,
    /// The exit code; `None` after a signal.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Outcome {
    /// Panics with all output unless the program ended with 0.
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "should have succeeded: {self}");
        self
    }

    /// Panics with all output unless the program ended with this code and said all these words.
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "wrong exit code: {self}");
        let said = self.stderr.to_lowercase();
        for word in words {
            let word = word.to_lowercase();
            assert!(said.contains(&word), "stderr lacks {word:?}: {self}");
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

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    run_watched(command, |_| {})
}

/// The same; `watch` sees the process again and again while it lives.
pub fn run_watched(command: &mut Command, mut watch: impl FnMut(&mut Child)) -> Outcome {
    let text = text_of(command);
    // Files, not pipes: nobody has to read while the program writes.
    let mut stdout = tempfile::tempfile().expect("a file for stdout");
    let mut stderr = tempfile::tempfile().expect("a file for stderr");
    command.stdout(stdout.try_clone().expect("a second handle"));
    command.stderr(stderr.try_clone().expect("a second handle"));
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `{text}`: {error}"));
    let deadline = Instant::now() + DEADLINE;
    let mut late = false;
    let status = loop {
        watch(&mut child);
        if let Some(status) = child.try_wait().expect("the child's status") {
            break status;
        }
        if Instant::now() > deadline && !late {
            late = true;
            child.kill().expect("the child is ours to end");
        }
        std::thread::sleep(TICK);
    };
    let outcome = Outcome {
        command: text,
        code: status.code(),
        stdout: content(&mut stdout),
        stderr: content(&mut stderr),
    };
    assert!(!late, "still running after {DEADLINE:?}: {outcome}");
    outcome
}

/// Runs a command that must succeed; yields what it printed, without the last line's end.
pub fn must(command: &mut Command) -> String {
    command.stdin(Stdio::null());
    run(command).succeeded().stdout.trim_end().to_owned()
}

/// Polls until there is an answer. Panics when that takes far too long.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(TICK);
    }
}

fn text_of(command: &Command) -> String {
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
