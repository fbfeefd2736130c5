//! Runs a program in the background of a test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::run::{must, wait_until};

/// A running program, killed on drop.
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts a program, with stdout and stderr in files in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file for stdout"))
            .stderr(File::create(&stderr).expect("a file for stderr"))
            .spawn();
        Self {
            child: child.unwrap_or_else(|error| panic!("cannot start {name}: {error}")),
            name: name.to_owned(),
            stdout,
            stderr,
        }
    }

    /// Waits until `look` finds something in the output. Panics if the program ends before.
    pub fn wait_for<T>(&mut self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        wait_until(what, || {
            // The status first: if the program has ended, its output is complete.
            let ended = self.child.try_wait().expect("the child's status");
            let found = look(&self.stdout()).or_else(|| look(&self.stderr()));
            if let (Some(status), None) = (ended, &found) {
                panic!("{} ended with {status} before {what}", self.name);
            }
            found
        })
    }

    /// Returns the standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Returns the standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Reports whether the program has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child's status").is_some()
    }

    /// Kills the program with SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("the right to kill a child");
        self.child.wait().expect("the child's end");
    }

    /// Stops the program with SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> ExitStatus {
        // The standard library can send only SIGKILL.
        must(Command::new("sh").args(["-c", &format!("kill -TERM {}", self.id())]));
        wait_until("the program to end after SIGTERM", || {
            self.child.try_wait().expect("the child's status")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The program may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- last lines of {} on stderr", self.name);
            let stderr = self.stderr();
            let lines: Vec<_> = stderr.lines().collect();
            for line in &lines[lines.len().saturating_sub(30)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// Returns the peak resident memory of a running process in bytes (`VmHWM`).
pub fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
