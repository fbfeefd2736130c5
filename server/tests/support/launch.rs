//! Starts the program with a configuration file and environment variables.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A temporary folder with a configuration file, and the environment variables of the program.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    variables: Vec<(String, String)>,
}

/// A server that was started with a [`Setup`]. It is killed when the value is dropped.
pub(crate) struct Running {
    process: Child,
    setup: Setup,
    /// The URL that the server prints at the start.
    pub(crate) url: String,
}

impl Setup {
    /// Writes the configuration to a new folder. `{folder}` in it is replaced by the folder's path.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Self {
            folder,
            variables: Vec::new(),
        };
        setup.write(config);
        setup
    }

    /// Sets an environment variable. `{folder}` in the value is replaced as in the configuration.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let value = value.replace("{folder}", self.folder.path().to_str().unwrap());
        self.variables.push((name.to_owned(), value));
        self
    }

    /// Overwrites the configuration file.
    pub(crate) fn write(&self, config: &str) {
        let config = config.replace("{folder}", self.folder.path().to_str().unwrap());
        std::fs::write(self.path("config.yml"), config).unwrap();
    }

    /// Returns the path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a command of the program, with these `REGISTRY_*` variables and no others.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgsync-server"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("REGISTRY_") {
                command.env_remove(name);
            }
        }
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command.envs(variables).args(arguments);
        command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end, with the configuration file as the last argument.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let config = self.path("config.yml");
        self.program(arguments).arg(config).output().unwrap()
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn serve(self) -> Running {
        let config = self.path("config.yml");
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut command = self.program(&["serve"]);
        let mut process = command.arg(config).stderr(log).spawn().unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let mut running = Running {
            process,
            setup: self,
            url: String::new(),
        };
        let url = line.strip_prefix("imgsync-server listening on ");
        let url = url.unwrap_or_else(|| panic!("it does not listen: {}", running.log()));
        running.url = url.trim().to_owned();
        running
    }
}

impl Running {
    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.setup.path("log")).unwrap()
    }

    /// Returns the folder and configuration that the server was started with.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Returns the URL of the debug server, from the log.
    pub(crate) fn debug_url(&self) -> String {
        let log = self.log();
        let (_, rest) = log.split_once("health check at ").unwrap();
        let (url, _) = rest.split_once("/debug/health").unwrap();
        url.to_owned()
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Stops the server, and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        self.process.wait().unwrap();
    }

    /// Waits until the log contains `text`. Panics if it does not within a minute.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        let began = Instant::now();
        loop {
            let log = self.log();
            if log.contains(text) {
                return;
            }
            assert!(began.elapsed().as_secs() < 60, "no {text:?} in {log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the standard error of a program as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Returns the standard output of a program as text.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
