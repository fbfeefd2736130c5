//! skopeo.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::run::must;

/// `skopeo copy --all SOURCE DESTINATION`, both with their transports, without TLS.
pub fn copy(source: &str, destination: &str) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy", "--all"]);
    command.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
    must(command.args([source, destination]));
}

/// Copies an image from a registry to a folder, every byte as it is.
pub fn pull(address: SocketAddr, name: &str, folder: &Path) {
    let source = format!("docker://{address}/{name}");
    copy(&source, &format!("dir:{}", folder.display()));
}

/// `skopeo inspect` of an image at a registry.
pub fn inspect(address: SocketAddr, name: &str) -> serde_json::Value {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--override-os=linux"]);
    command.arg("--override-arch=amd64");
    let answer = must(command.arg(format!("docker://{address}/{name}")));
    serde_json::from_str(&answer).expect("what skopeo prints is JSON")
}
