//! The pull-through cache with the clients that people have, and logins on: Docker's daemon with
//! `registry-mirrors`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use support::bytes::noise;
use support::docker::Daemon;
use support::image::{Image, layer};
use support::peers::present;
use support::run::must;
use support::{Scratch, Server, Upstream};

const PASSWORD: &str = "correct horse";

/// A cache of an upstream that counts as the Hub, whose mirror anyone may use and where all else
/// needs alice's login.
fn cache(scratch: &Scratch, hub: &Upstream) -> Server {
    let users = scratch.path("htpasswd");
    let mut htpasswd = Command::new("htpasswd");
    must(htpasswd.arg("-Bbc").arg(&users).args(["alice", PASSWORD]));
    let root = scratch.path("registry");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root:?}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
         auth: {{htpasswd: {{realm: here, path: {users:?}}}}}\nimgsync:\n  anonymous: {{pull: ['docker.io/**']}}\n  \
         cache: {{freshness: 0, upstreams: [{{prefix: docker.io, remoteurl: 'http://{}'}}]}}\n",
        hub.address()
    );
    std::fs::write(scratch.path("config.yml"), config).unwrap();
    Server::configured(&scratch.path("config.yml"), &root)
}

fn login(daemon: &Daemon, registry: &str, password: &str) -> bool {
    let mut command = daemon.command();
    command.args(["login", "--username", "alice", "--password-stdin", registry]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(password.as_bytes()).unwrap();
    drop(stdin);
    child.wait().unwrap().success()
}

#[test]
fn dockers_daemon_pulls_through_its_mirror_and_pushes_ours() {
    if !present(&["docker", "dockerd", "htpasswd"]) {
        return;
    }
    let hub = Upstream::start();
    let image = Image::new(vec![
        layer("one", noise(1, 3 << 20)),
        layer("two", noise(2, 1 << 20)),
    ]);
    let published = hub.put("library/mirrored", "v1", &image);
    let scratch = Scratch::new();
    let server = cache(&scratch, &hub);
    let registry = server.address().to_string();
    let mirror = format!("--registry-mirror=http://{registry}");
    let Some(daemon) = Daemon::start(&scratch.folder("docker"), &[&mirror]) else {
        return;
    };

    // Without a login; the daemon says neither whose image it means, nor who it is.
    daemon.docker(&["pull", "mirrored:v1"]);
    let id = |name: &str| daemon.docker(&["image", "inspect", "--format", "{{.Id}}", name]);
    assert_eq!(id("mirrored:v1"), image.id());
    for (digest, _) in &published.blobs {
        assert_eq!(hub.count("GET", digest), 1, "{digest}");
    }

    // Once more with the upstream dead, and with the Hub's login, which is none here.
    daemon.docker(&["image", "rm", "mirrored:v1"]);
    hub.behave(|manners| manners.is_down = true);
    let config = scratch.folder("docker").join("config");
    std::fs::create_dir_all(&config).unwrap();
    let hubs = STANDARD.encode("hubuser:hubpassword");
    let auths = format!(r#"{{"auths":{{"https://index.docker.io/v1/":{{"auth":"{hubs}"}}}}}}"#);
    std::fs::write(config.join("config.json"), auths).unwrap();
    daemon.docker(&["pull", "mirrored:v1"]);
    assert_eq!(id("mirrored:v1"), image.id());
    assert!(
        hub.seen()
            .iter()
            .all(|request| request.authorization().is_empty())
    );

    // Our own image goes to the same server, with a login.
    let ours = format!("{registry}/team/app:v1");
    daemon.docker(&["tag", "mirrored:v1", &ours]);
    let mut push = daemon.command();
    let refused = push.args(["push", &ours]).output().unwrap();
    assert!(!refused.status.success());
    assert!(!login(&daemon, &registry, "wrong"));
    assert!(login(&daemon, &registry, PASSWORD));
    daemon.docker(&["push", &ours]);
    daemon.docker(&["image", "rm", &ours, "mirrored:v1"]);
    daemon.docker(&["pull", &ours]);
    assert_eq!(id(&ours), image.id());
}
