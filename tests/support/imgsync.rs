//! imgsync, the real binary, with folders of its own instead of the user's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::peak_memory;
use super::run::{Outcome, run, run_watched};

/// What of the environment counts. Under faketime the tool's clock is turned as well.
const KEPT: [&str; 5] = [
    "PATH",
    "DOCKER_HOST",
    "LD_PRELOAD",
    "FAKETIME",
    "DONT_FAKE_MONOTONIC",
];

/// The tool, as one user has it.
pub struct Imgsync {
    home: PathBuf,
}

impl Imgsync {
    /// With empty folders below `home`.
    pub fn new(home: &Path) -> Self {
        for folder in ["cache", "tmp"] {
            std::fs::create_dir_all(home.join(folder)).expect("a folder");
        }
        Self {
            home: home.to_owned(),
        }
    }

    /// The tool, ready for arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync"));
        // Nothing of the user's: no proxies, no settings; but the daemon is where they say.
        command.env_clear();
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", &self.home);
        command.env("XDG_CACHE_HOME", self.home.join("cache"));
        command.env("TMPDIR", self.home.join("tmp"));
        command.stdin(Stdio::null());
        command
    }

    /// `imgsync push IMAGE REMOTE`
    pub fn push(&self, image: &str, remote: &str) -> Outcome {
        self.push_with(&[], image, remote)
    }

    /// `imgsync push OPTIONS… IMAGE REMOTE`
    pub fn push_with(&self, options: &[&str], image: &str, remote: &str) -> Outcome {
        let mut command = self.command();
        command.arg("push").args(options).args([image, remote]);
        let outcome = run(&mut command);
        self.assert_tidy(&outcome);
        outcome
    }

    /// The same; also yields the most memory in bytes that it had resident.
    pub fn push_measured(&self, image: &str, remote: &str) -> (Outcome, u64) {
        let mut command = self.command();
        command.args(["push", image, remote]);
        let mut peak = 0;
        let outcome = run_watched(&mut command, |child| {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        });
        self.assert_tidy(&outcome);
        (outcome, peak)
    }

    /// `imgsync push - REMOTE` with a file on standard input.
    pub fn push_file_on_stdin(&self, file: &Path, remote: &str) -> Outcome {
        self.push_stdin(File::open(file).expect("an archive").into(), remote)
    }

    /// `imgsync push - REMOTE`
    pub fn push_stdin(&self, stdin: Stdio, remote: &str) -> Outcome {
        let mut command = self.command();
        command.args(["push", "-", remote]).stdin(stdin);
        let outcome = run(&mut command);
        self.assert_tidy(&outcome);
        outcome
    }

    /// `imgsync mirror OPTIONS… SOURCE REMOTE`
    pub fn mirror(&self, options: &[&str], source: &str, remote: &str) -> Outcome {
        self.mirror_measured(options, source, remote).0
    }

    /// The same; also yields the most memory in bytes that it had resident.
    pub fn mirror_measured(&self, options: &[&str], source: &str, remote: &str) -> (Outcome, u64) {
        let mut command = self.command();
        command.arg("mirror").args(options).args([source, remote]);
        let mut peak = 0;
        let outcome = run_watched(&mut command, |child| {
            peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        });
        self.assert_tidy(&outcome);
        (outcome, peak)
    }

    /// Loses what it remembers.
    pub fn clear_cache(&self) {
        let cache = self.home.join("cache");
        std::fs::remove_dir_all(&cache).expect("the cache");
        std::fs::create_dir(&cache).expect("an empty cache");
    }

    /// However a push ends, what it spooled is gone.
    fn assert_tidy(&self, outcome: &Outcome) {
        let left = std::fs::read_dir(self.home.join("tmp")).expect("a folder");
        let left: Vec<_> = left.map(|entry| entry.expect("an entry").path()).collect();
        assert!(left.is_empty(), "left behind: {left:?}: {outcome}");
    }
}
