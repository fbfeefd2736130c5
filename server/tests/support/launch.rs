//! The program with a configuration, as somebody would start it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a configuration in it, and what is in the environment.
pub(crate) struct Setup {
    pub(crate) folder: TempDir,
    variables: Vec<(String, String)>,
}

/// A server that was started with it. It ends with the test.
pub(crate) struct Running {
    process: Child,
    setup: Setup,
    /// What it says that it listens on.
    pub(crate) url: String,
}

impl Setup {
    /// `{folder}` in the text of the configuration stands for a folder of its own.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Self {
            folder,
            variables: Vec::new(),
        };
        setup.write(config);
        setup
    }

    /// With a variable in the environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let value = value.replace("{folder}", self.folder.path().to_str().unwrap());
        self.variables.push((name.to_owned(), value));
        self
    }

    /// Puts another configuration in the file's place.
    pub(crate) fn write(&self, config: &str) {
        let config = config.replace("{folder}", self.folder.path().to_str().unwrap());
        std::fs::write(self.path("config.yml"), config).unwrap();
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with this environment and nothing else of the registry's.
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

    /// Runs a command to its end, the configuration file as its last argument.
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
    /// What it has said so far on standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.setup.path("log")).unwrap()
    }

    /// Where it was started.
    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Where health is told.
    pub(crate) fn debug_url(&self) -> String {
        let log = self.log();
        let (_, rest) = log.split_once("health check at ").unwrap();
        let (url, _) = rest.split_once("/debug/health").unwrap();
        url.to_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits until it has said something.
    pub(crate) async fn wait_for(&self, text: &str) {
        while !self.log().contains(text) {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program said on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What a program said on standard output.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
