//! Finds the third-party programs that tests use. `tests/peers.sh` installs and starts them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Reports whether all these programs are installed and work. Prints the missing one; the test
/// should then return. With `IMGSYNC_TESTS_PEERS=required` it panics.
#[must_use]
pub fn programs_available(names: &[&str]) -> bool {
    names.iter().all(|name| {
        let works = match *name {
            // The client without a daemon is not enough.
            "docker" => runs("docker", &["version", "--format", "{{.Server.Version}}"]),
            // A plugin of the client, or the older program.
            "docker-compose" => {
                runs("docker", &["compose", "version"]) || runs("docker-compose", &["version"])
            }
            "busybox" => runs("busybox", &["true"]),
            "openssl" => runs("openssl", &["version"]),
            "caddy" => runs("caddy", &["version"]),
            "htpasswd" => runs("htpasswd", &["-nbB", "user", "password"]),
            "nginx" => runs("nginx", &["-v"]),
            "sshd" => program("sshd").is_file() && runs("ssh", &["-V"]),
            name => runs(name, &["--version"]),
        };
        works || report_missing(&format!("{name} is missing"))
    })
}

/// Prints what is missing, and returns `false`. Panics with `IMGSYNC_TESTS_PEERS=required`.
pub fn report_missing(what: &str) -> bool {
    let required = std::env::var("IMGSYNC_TESTS_PEERS").is_ok_and(|value| value == "required");
    assert!(!required, "{what}; run tests/peers.sh");
    let advice = "tests/peers.sh installs and starts what the tests need";
    // Not with `eprintln!`: the test harness hides that output if the test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}; {advice}");
    false
}

/// Returns the path of a program. Also searches the `sbin` folders, which PATH often lacks.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    folders
        .chain(sbin)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

fn runs(name: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
