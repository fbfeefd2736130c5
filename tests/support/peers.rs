//! The programs of others that the tests speak with. `tests/peers.sh` installs and starts them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Whether all these are here and work. A missing one fails the test where
/// `IMGSYNC_TESTS_PEERS=required`; elsewhere this says so, and the test should return.
#[must_use]
pub fn programs_available(names: &[&str]) -> bool {
    names.iter().all(|name| {
        let works = match *name {
            // The client alone is of no use.
            "docker" => answers("docker", &["version", "--format", "{{.Server.Version}}"]),
            "busybox" => answers("busybox", &["true"]),
            "openssl" => answers("openssl", &["version"]),
            "htpasswd" => answers("htpasswd", &["-nbB", "user", "password"]),
            "nginx" => answers("nginx", &["-v"]),
            name => answers(name, &["--version"]),
        };
        works || report_missing(&format!("{name} is missing"))
    })
}

/// Says what is missing, and yields false; panics where everything must be there.
pub fn report_missing(what: &str) -> bool {
    let required = std::env::var("IMGSYNC_TESTS_PEERS").is_ok_and(|value| value == "required");
    assert!(!required, "{what}; run tests/peers.sh");
    let advice = "tests/peers.sh installs and starts what the tests need";
    // Not by macro: what a passing test prints that way is never shown.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}; {advice}");
    false
}

/// A program, also where PATH lacks the folders of daemons.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    folders
        .chain(more)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

fn answers(name: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
