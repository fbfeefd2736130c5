//! Who one is at a registry, and the way to it: logins, credential helpers, certificates, proxies,
//! and what is said when they fail.

mod certificates;
mod commands;
mod connections;
mod helpers;
mod passwords;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::prelude::*;
use serde_json::Value;

/// `secret`, by `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";

/// One user's machine: a home, an image, and what a test sets up around it.
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

    /// Docker's configuration, as it is now.
    fn read_config(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.config()).unwrap()).unwrap()
    }

    fn write_config(&self, config: &Value) {
        std::fs::create_dir_all(self.config().parent().unwrap()).unwrap();
        std::fs::write(self.config(), config.to_string()).unwrap();
    }

    fn run(&self, words: &[&str]) -> Outcome {
        self.run_with_stdin(words, Stdio::null())
    }

    fn run_with_stdin(&self, words: &[&str], stdin: Stdio) -> Outcome {
        let mut command = self.imgsync.command();
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        run(command.args(words).envs(variables).stdin(stdin))
    }

    /// The same, with a password on standard input.
    fn with_password(&self, words: &[&str], password: &str) -> Outcome {
        let mut file = tempfile::tempfile().unwrap();
        writeln!(file, "{password}").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        self.run_with_stdin(words, file.into())
    }

    fn push(&self, options: &[&str], remote: &str) -> Outcome {
        let archive = self.archive.to_str().unwrap();
        let words = [&["push"], options, &[archive, remote]].concat();
        self.run(&words)
    }

    /// A credential helper in PATH that keeps secrets in plain files beside itself.
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

/// What is on stderr, with the registry's address made the same in every run.
fn said(outcome: &Outcome, address: impl ToString) -> String {
    let text = outcome.stderr.replace(&address.to_string(), "ADDRESS");
    text.trim_end().to_owned()
}

/// A stock registry that knows alice.
fn with_login(scratch: &Scratch, http: &str) -> StockRegistry {
    let htpasswd = scratch.path("htpasswd");
    std::fs::write(&htpasswd, HTPASSWD).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\n");
    let storage = ", delete: {enabled: true}";
    StockRegistry::start_configured(&scratch.folder("root"), storage, http, &auth)
}

/// A stock registry behind TLS, with a certificate of that CA.
fn with_tls(scratch: &Scratch, authority: &CertificateAuthority, more: &str) -> StockRegistry {
    let pair = authority.sign("server", &["DNS:localhost", "DNS:registry.example.com"]);
    let (certificate, key) = (pair.certificate, pair.key);
    let tls = format!(", tls: {{certificate: {certificate:?}, key: {key:?}{more}}}");
    StockRegistry::start_configured(&scratch.folder("root"), "", &tls, "")
}
