//! A pull-through cache as small companies run it: logins for everything but the mirror.

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

/// Alice's.
pub const PASSWORD: &str = "correct horse";

/// A file in which alice is known.
pub fn write_htpasswd(scratch: &Scratch) -> PathBuf {
    let users = scratch.path("htpasswd");
    let mut htpasswd = Command::new("htpasswd");
    must(htpasswd.arg("-Bbc").arg(&users).args(["alice", PASSWORD]));
    users
}

/// A cache of an upstream that counts as the Hub, whose mirror anyone may use, and as ghcr.io; that
/// and all else needs alice's login. Every answer for a tag is asked for anew.
pub fn start_cache(scratch: &Scratch, hub: SocketAddr) -> Server {
    start_cache_with(scratch, hub, "")
}

/// The same, with more in its section `cache`, as `, key: value`.
pub fn start_cache_with(scratch: &Scratch, hub: SocketAddr, more: &str) -> Server {
    let users = write_htpasswd(scratch);
    let root = scratch.path("registry");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\nimgsync:\n  anonymous: {{pull: ['docker.io/**']}}\n  \
         cache: {{freshness: 0, upstreams: [{{prefix: docker.io, remoteurl: 'http://{hub}'}}, \
         {{prefix: ghcr.io, remoteurl: 'http://{hub}'}}]{more}}}\n"
    );
    std::fs::write(scratch.path("config.yml"), config).expect("a configuration");
    Server::start_configured(&scratch.path("config.yml"), &root)
}

/// Makes all that is noted about what was fetched for a repository so much older. The server must
/// not run.
pub fn age_cached(root: &Path, repository: &str, by: Duration) {
    let mut open = vec![root.join("imgsync")];
    let mut aged = 0;
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            if path.is_dir() {
                open.push(path);
            } else if name.contains(&format!("/{repository}/_marks/")) {
                let file = File::options().append(true).open(&path).expect("a mark");
                let before = file.metadata().and_then(|data| data.modified());
                let then = before.expect("a time") - by;
                file.set_modified(then).expect("another time");
                aged += 1;
            }
        }
    }
    assert!(aged > 0, "nothing is noted of {repository}");
}

/// The header with which alice says who she is.
pub fn alice_authorization() -> String {
    format!("Basic {}", STANDARD.encode(format!("alice:{PASSWORD}")))
}

/// The tool with folders of its own, for alice, whatever it does.
pub fn tool_as_alice(scratch: &Scratch) -> Command {
    let mut command = Imgsync::new(&scratch.folder("home")).command();
    command.env("IMGSYNC_USERNAME", "alice");
    command.env("IMGSYNC_PASSWORD", PASSWORD);
    command
}

/// Pushes an image to a registry, and yields its manifest's digest there.
pub fn push_image(scratch: &Scratch, image: &Image, login: bool, remote: &str) -> String {
    let layout = scratch.folder("layout");
    write_folder(&image.oci_layout("v1"), &layout);
    let mut command = match login {
        true => tool_as_alice(scratch),
        false => Imgsync::new(&scratch.folder("home")).command(),
    };
    let source = format!("oci:{}", layout.display());
    must(command.args(["push", &source, remote]));
    let index = std::fs::read(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
    let digest = index["manifests"][0]["digest"].as_str();
    digest.expect("a digest").to_owned()
}
