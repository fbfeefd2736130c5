//! Runs the `imgsync` binary with temporary folders instead of the user's. `tests/targets.sh` sets
//! variables with which this is the binary for Windows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::peak_memory;
use super::run::{Outcome, run, run_watched};
use super::wine;

/// Variables that the tool gets from the environment of the test. Three of them are for faketime.
const INHERITED_VARIABLES: [&str; 5] = [
    "PATH",
    "DOCKER_HOST",
    "LD_PRELOAD",
    "FAKETIME",
    "DONT_FAKE_MONOTONIC",
];

/// The tool with the home folder of one user.
pub struct Imgsync {
    home: PathBuf,
}

impl Imgsync {
    /// Creates the folders below `home`.
    pub fn new(home: &Path) -> Self {
        for folder in ["cache", "tmp"] {
            std::fs::create_dir_all(home.join(folder)).expect("a folder");
        }
        Self {
            home: home.to_owned(),
        }
    }

    /// Returns the command, without arguments.
    pub fn command(&self) -> Command {
        let mut command = match wine::program() {
            Some(program) => self.windows_command(&program),
            None => self.native_command(),
        };
        for name in INHERITED_VARIABLES {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // A successful push leaves nothing in the spool, unless a test is about what it leaves.
        command.env("IMGSYNC_KEEP_LAYERS", "0");
        command.stdin(Stdio::null());
        command
    }

    fn windows_command(&self, program: &Path) -> Command {
        let mut command = wine::command(program, &self.home);
        command.env("XDG_CACHE_HOME", wine::profile() + r"\cache");
        command.env("XDG_STATE_HOME", wine::profile() + r"\.local\state");
        command
    }

    fn native_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync"));
        // Proxies and settings of the user must not influence a test.
        command.env_clear();
        command.env("HOME", &self.home);
        command.env("XDG_CACHE_HOME", self.home.join("cache"));
        command.env("TMPDIR", self.home.join("tmp"));
        command
    }

    /// Runs `imgsync push IMAGE REMOTE`.
    pub fn push(&self, image: &str, remote: &str) -> Outcome {
        self.push_with(&[], image, remote)
    }

    /// Runs `imgsync push OPTIONS… IMAGE REMOTE`.
    pub fn push_with(&self, options: &[&str], image: &str, remote: &str) -> Outcome {
        let mut command = self.command();
        command.arg("push").args(options).args([image, remote]);
        let outcome = run(&mut command);
        self.assert_no_temporary_files(&outcome);
        outcome
    }

    /// Runs `imgsync push IMAGE REMOTE`, and also returns the peak resident memory in bytes.
    pub fn push_measured(&self, image: &str, remote: &str) -> (Outcome, u64) {
        let mut command = self.command();
        command.args(["push", image, remote]);
        let mut peak = 0;
        let outcome = run_watched(&mut command, |child| {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        });
        self.assert_no_temporary_files(&outcome);
        (outcome, peak)
    }

    /// Runs `imgsync push - REMOTE` with a file on standard input.
    pub fn push_file_on_stdin(&self, file: &Path, remote: &str) -> Outcome {
        self.push_stdin(File::open(file).expect("an archive").into(), remote)
    }

    /// Runs `imgsync push - REMOTE`.
    pub fn push_stdin(&self, stdin: Stdio, remote: &str) -> Outcome {
        let mut command = self.command();
        command.args(["push", "-", remote]).stdin(stdin);
        let outcome = run(&mut command);
        self.assert_no_temporary_files(&outcome);
        outcome
    }

    /// Runs `imgsync mirror OPTIONS… SOURCE TARGET`.
    pub fn mirror(&self, options: &[&str], source: &str, target: &str) -> Outcome {
        self.mirror_measured(options, source, target).0
    }

    /// Runs `imgsync mirror OPTIONS… SOURCE TARGET`, and also returns the peak resident memory in
    /// bytes.
    pub fn mirror_measured(&self, options: &[&str], source: &str, target: &str) -> (Outcome, u64) {
        let mut command = self.command();
        command.arg("mirror").args(options).args([source, target]);
        let mut peak = 0;
        let outcome = run_watched(&mut command, |child| {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        });
        self.assert_no_temporary_files(&outcome);
        (outcome, peak)
    }

    /// Deletes the tool's cache.
    pub fn clear_cache(&self) {
        let cache = self.home.join("cache");
        std::fs::remove_dir_all(&cache).expect("the cache");
        std::fs::create_dir(&cache).expect("an empty cache");
    }

    /// Panics if the tool left temporary files.
    fn assert_no_temporary_files(&self, outcome: &Outcome) {
        let left = std::fs::read_dir(self.home.join("tmp")).expect("a folder");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}: {outcome}");
    }
}
