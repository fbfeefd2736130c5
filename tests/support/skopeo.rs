//! Runs skopeo.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::run::{Outcome, must, run};

/// Runs `skopeo copy --all SOURCE DESTINATION` without TLS verification. Both names start with
/// their transport, such as `docker://`.
pub fn copy(source: &str, destination: &str) {
    must(&mut copy_command(source, destination));
}

/// Runs the same as [`copy`], and returns the outcome also when it fails.
pub fn try_copy(source: &str, destination: &str) -> Outcome {
    run(&mut copy_command(source, destination))
}

fn copy_command(source: &str, destination: &str) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--all"]);
    command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
    command.args([source, destination]);
    command
}

/// Copies an image from a registry to a folder (`dir:`), without converting anything.
pub fn pull(address: SocketAddr, name: &str, folder: &Path) {
    let source = format!("docker://{address}/{name}");
    copy(&source, &format!("dir:{}", folder.display()));
}

/// Returns the output of `skopeo inspect` for an image in a registry.
pub fn inspect(address: SocketAddr, name: &str) -> serde_json::Value {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--override-os=linux"]);
    command.arg("--override-arch=amd64");
    let output = must(command.arg(format!("docker://{address}/{name}")));
    serde_json::from_str(&output).expect("JSON from skopeo")
}
