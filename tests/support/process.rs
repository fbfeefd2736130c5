//! A program that runs beside the test, and ends with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use super::run::{must, wait_until};

/// A running program; killed when this goes.
pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts a program. What it prints and says goes to files in `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        let file = |end: &str| folder.join(format!("{name}.{end}"));
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

    /// Waits until its output shows what is looked for; panics when it ends before.
    pub fn wait_for<T>(&mut self, what: &str, look: impl Fn(&str) -> Option<T>) -> T {
        wait_until(what, || {
            // In this order: what it said before it ended is there then.
            let ended = self.child.try_wait().expect("the child's status");
            let found = look(&self.stdout()).or_else(|| look(&self.stderr()));
            if let (Some(status), None) = (ended, &found) {
                panic!("{} ended with {status} before {what}", self.name);
            }
            found
        })
    }

    /// All that it printed so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// All that it said so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child's status").is_some()
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child is ours to end");
        self.child.wait().expect("the child's end");
    }

    /// Asks it to end, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        // The standard library knows no signal but SIGKILL.
        must(Command::new("sh").args(["-c", &format!("kill -TERM {}", self.id())]));
        wait_until("its end after SIGTERM", || {
            self.child.try_wait().expect("the child's status")
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("-- the last that {} said", self.name);
            let said = self.stderr();
            let lines: Vec<_> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(30)..] {
                eprintln!("{line}");
            }
        }
    }
}

/// The most memory in bytes that a living process ever had resident (`VmHWM`).
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
