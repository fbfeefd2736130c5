//! Starts a pull-through cache: anonymous clients may pull from the mirror of the Hub, everything
//! else needs a login.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::archive::write_folder;
use super::image::Image;
use super::run::must;
use super::{Imgsync, Scratch, Server};

/// The password of the user `alice`.
pub const PASSWORD: &str = "correct horse";

/// Writes an htpasswd file with the user `alice`, and returns its path.
pub fn write_htpasswd(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("htpasswd");
    let mut htpasswd = Command::new("htpasswd");
    must(htpasswd.arg("-Bbc").arg(&path).args(["alice", PASSWORD]));
    path
}

/// Starts a cache that uses `hub` as the upstream for both docker.io and ghcr.io. Anonymous clients
/// may pull from docker.io; everything else needs the login of `alice`. Cached tags are never
/// fresh.
pub fn start_cache(scratch: &Scratch, hub: SocketAddr) -> Server {
    start_cache_with(scratch, hub, "")
}

/// Starts such a cache with additional keys in the section `cache`, as `, key: value`.
pub fn start_cache_with(scratch: &Scratch, hub: SocketAddr, more: &str) -> Server {
    let htpasswd = write_htpasswd(scratch);
    let root = scratch.path("registry");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         auth: {{htpasswd: {{realm: here, path: {htpasswd:?}}}}}\nimgsync:\n  anonymous: {{pull: ['docker.io/**']}}\n  \
         cache: {{freshness: 0, upstreams: [{{prefix: docker.io, remoteurl: 'http://{hub}'}}, \
         {{prefix: ghcr.io, remoteurl: 'http://{hub}'}}]{more}}}\n"
    );
    std::fs::write(scratch.path("config.yml"), config).expect("a configuration");
    Server::start_configured(&scratch.path("config.yml"), &root)
}

/// Sets the cache marks of a repository back in time by `duration`. The server must be stopped.
pub fn age_cached(root: &Path, repository: &str, duration: Duration) {
    let mut folders = vec![root.join("imgsync")];
    let mut aged = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains(&format!("/{repository}/_marks/")) {
                let file = File::options().append(true).open(&path).expect("a mark");
                let modified = file.metadata().and_then(|data| data.modified());
                let older = modified.expect("a time") - duration;
                file.set_modified(older).expect("another time");
                aged += 1;
            }
        }
    }
    assert!(aged > 0, "{repository} has no marks");
}

/// Returns the value of the `Authorization` header for `alice`.
pub fn alice_authorization() -> String {
    format!("Basic {}", STANDARD.encode(format!("alice:{PASSWORD}")))
}

/// Returns the command of the tool with the login of `alice`.
pub fn tool_as_alice(scratch: &Scratch) -> Command {
    let mut command = Imgsync::new(&scratch.folder("home")).command();
    command.env("IMGSYNC_USERNAME", "alice");
    command.env("IMGSYNC_PASSWORD", PASSWORD);
    command
}

/// Pushes an image with or without a login, and returns the digest of its manifest.
pub fn push_image(scratch: &Scratch, image: &Image, login: bool, remote: &str) -> String {
    let layout = scratch.folder("layout");
    write_folder(&image.oci_layout("v1"), &layout);
    let mut command = if login {
        tool_as_alice(scratch)
    } else {
        Imgsync::new(&scratch.folder("home")).command()
    };
    let source = format!("oci:{}", layout.display());
    must(command.args(["push", &source, remote]));
    let index = std::fs::read(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str();
    digest.expect("a digest").to_owned()
}
