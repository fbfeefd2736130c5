//! Tests logins of the tool, credential helpers, certificates and proxies, and the errors when they
//! fail.

mod certificates;
mod commands;
mod connections;
mod engine;
mod helpers;
mod passwords;
mod prompts;
mod trash;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::prelude::*;
use serde_json::Value;

/// The user alice with the password `secret`, from `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// The tool with a home folder, an image, and the environment variables that a test sets.
struct LoginFixture {
    scratch: Scratch,
    imgsync: Imgsync,
    archive: PathBuf,
    variables: Vec<(String, String)>,
}

impl LoginFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        let imgsync = Imgsync::new(&scratch.folder("home"));
        let archive = scratch.path("image.tar");
        let image = Image::new(vec![layer("hello", b"world".to_vec())]);
        archive::write_tar(&image.docker_archive("app:v1"), &archive);
        Self {
            scratch,
            imgsync,
            archive,
            variables: Vec::new(),
        }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    fn home(&self) -> PathBuf {
        self.scratch.path("home")
    }

    fn config(&self) -> PathBuf {
        self.home().join(".docker/config.json")
    }

    /// Reads Docker's configuration file.
    fn read_config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap()
    }

    fn write_config(&self, config: &Value) {
        std::fs::create_dir_all(self.config().parent().unwrap()).unwrap();
        std::fs::write(self.config(), config.to_string()).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with_stdin(arguments, Stdio::null())
    }

    fn run_with_stdin(&self, arguments: &[&str], stdin: Stdio) -> Outcome {
        let mut command = self.imgsync.command();
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        run(command.args(arguments).envs(variables).stdin(stdin))
    }

    /// Runs the tool with a password on standard input.
    fn run_with_password(&self, arguments: &[&str], password: &str) -> Outcome {
        let mut file = tempfile::tempfile().unwrap();
        writeln!(file, "{password}").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        self.run_with_stdin(arguments, file.into())
    }

    fn push(&self, options: &[&str], remote: &str) -> Outcome {
        let archive = self.archive.to_str().unwrap();
        let arguments = [&["push"], options, &[archive, remote]].concat();
        self.run(&arguments)
    }

    /// Adds a credential helper to PATH. It works in its own folder.
    fn add_helper(&mut self, name: &str, script: &str) {
        let folder = self.scratch.folder("programs");
        let path = folder.join(format!("docker-credential-{name}"));
        std::fs::write(
            &path,
            format!("#!/bin/sh\ncd {}\n{script}\n", folder.display()),
        )
        .unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let rest = std::env::var("PATH").unwrap();
        self.set("PATH", format!("{}:{rest}", folder.display()));
    }
}

/// Returns stderr, with the registry's address replaced by `ADDRESS`.
fn stderr_of(outcome: &Outcome, address: impl ToString) -> String {
    let text = outcome.stderr.replace(&address.to_string(), "ADDRESS");
    text.trim_end().to_owned()
}

/// Starts a stock registry with the user alice.
fn with_login(scratch: &Scratch, http: &str) -> StockRegistry {
    let htpasswd = scratch.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n");
    let storage = ", delete: {enabled: true}";
    StockRegistry::start_configured(&scratch.folder("root"), storage, http, &auth)
}

/// Starts a stock registry with TLS and a certificate of this CA.
fn with_tls(
    scratch: &Scratch,
    authority: &CertificateAuthority,
    extra_config: &str,
) -> StockRegistry {
    let pair = authority.sign("server", &["DNS:localhost", "DNS:registry.example.com"]);
    let (certificate, key) = (pair.certificate, pair.key);
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}{extra_config}}}");
    StockRegistry::start_configured(&scratch.folder("root"), "", &tls, "")
}
