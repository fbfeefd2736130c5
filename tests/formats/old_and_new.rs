//! Tests an older tool with the current server, and the current tool with an older server: pushes,
//! resumed pushes, mirrors and pulls. Runs only if `IMGSYNC_TESTS_OLD` is the folder of the older
//! programs; `tests/old_and_new.sh` builds them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::archive::{Entry, write_folder, write_tar};
use crate::support::bytes::noise;
use crate::support::image::layer;
use crate::support::process::Process;
use crate::support::run::{Outcome, run, wait_until};
use crate::support::{Image, Imgsync, Relay, RelayFault, Scratch, check, http, seed};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Version {
    Old,
    New,
}

use Version::{New, Old};

/// Returns the folder of the older programs, if it is configured.
fn older_programs() -> Option<PathBuf> {
    let folder = std::env::var_os("IMGSYNC_TESTS_OLD").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: IMGSYNC_TESTS_OLD is not set; run tests/old_and_new.sh");
    }
    folder
}

fn program(version: Version, name: &str) -> PathBuf {
    let path = match version {
        New => crate::support::server::binary().with_file_name(name),
        Old => older_programs().expect("the older programs").join(name),
    };
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

struct VersionedServer {
    _process: Process,
    address: SocketAddr,
}

impl VersionedServer {
    fn start(version: Version, root: &Path) -> Self {
        let mut command = Command::new(program(version, "imgsync-server"));
        command.args(["serve", "--addr", "127.0.0.1:0", "--root"]);
        let logs = root.with_extension("logs");
        std::fs::create_dir_all(&logs).unwrap();
        let mut process = Process::start("imgsync-server", command.arg(root), &logs);
        let address = process.wait_for("the server's address", |text| {
            let (line, _) = text.split_once('\n')?;
            let (_, address) = line.split_once("http://")?;
            address.parse().ok()
        });
        Self {
            _process: process,
            address,
        }
    }

    /// Waits until the server has computed all diffIDs in the background.
    fn wait_for_diff_ids(&self) {
        let body = r#"{"diffIDs":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}"#;
        wait_until("the diffIDs", || {
            let target = "/v2/a/_imgsync/layers/resolve";
            let response = http::send(self.address, "POST", target, &[], body.as_bytes());
            (!response.text().contains("pending")).then_some(())
        });
    }
}

/// Returns the command of a tool. Both versions can share a home folder.
fn tool(version: Version, home: &Path, arguments: &[&str]) -> Command {
    // Copy the environment that `Imgsync` prepares for the current tool.
    let prepared = Imgsync::new(home).command();
    let mut command = Command::new(program(version, "imgsync"));
    command.env_clear();
    for (name, value) in prepared.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.stdin(Stdio::null()).args(arguments);
    command
}

/// Runs a tool, which must succeed.
fn run_tool(version: Version, home: &Path, arguments: &[&str]) -> Outcome {
    run(&mut tool(version, home, arguments)).succeeded()
}

fn image(seed: u64, size: usize) -> Image {
    Image::new(vec![
        layer("shared", noise(1, 100_000)),
        layer("own", noise(seed, size)),
    ])
}

/// Returns the bytes of all blobs that clients have sent.
fn sent_bytes(relay: &Relay) -> u64 {
    let requests = relay.requests();
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// Pushes, pushes again, resumes a push, and mirrors.
fn assert_compatible(tool_version: Version, server_version: Version) {
    let scratch = Scratch::new();
    let home = scratch.folder("home");
    let server = VersionedServer::start(server_version, &scratch.path("root"));
    let relay = Relay::start(server.address, RelayFault::None);
    let remote = |name: &str| format!("{}/team/{name}:v1", relay.address());
    let archive = |name: &str, image: &Image| {
        let path = scratch.path(name);
        write_tar(&image.docker_archive("app:v1"), &path);
        path.to_str().unwrap().to_owned()
    };

    // The second push sends nothing.
    let app = image(2, 200_000);
    let first = archive("app.tar", &app);
    run_tool(tool_version, &home, &["push", &first, &remote("app")]);
    let found = check::at_registry(server.address, "team/app:v1");
    assert_eq!(found.config, app.id());
    let before = sent_bytes(&relay);
    run_tool(tool_version, &home, &["push", &first, &remote("app")]);
    assert_eq!(sent_bytes(&relay), before, "nothing is sent again");

    // Without a cache, and to another repository: the extension tells which layers the server has.
    server.wait_for_diff_ids();
    let other_home = scratch.folder("other");
    run_tool(tool_version, &other_home, &["push", &first, &remote("app")]);
    run_tool(
        tool_version,
        &other_home,
        &["push", &first, &remote("copy")],
    );
    assert_eq!(
        check::at_registry(server.address, "team/copy:v1").config,
        app.id()
    );
    // The extension finds layers in other repositories, but not configs, so the config is sent.
    assert!(
        sent_bytes(&relay) - before <= app.config.len() as u64,
        "what it has is sent again"
    );

    // A push that is killed is resumed by the next one.
    let late = image(3, 3_000_000);
    let path = archive("late.tar", &late);
    let size: u64 = 3_000_000;
    kill_push(tool_version, &home, &relay, &path, &remote("late"));
    let after_kill = sent_bytes(&relay);
    run_tool(
        tool_version,
        &home,
        &["push", "--chunk-size", "256KiB", &path, &remote("late")],
    );
    assert_eq!(
        check::at_registry(server.address, "team/late:v1").config,
        late.id()
    );
    let rest = sent_bytes(&relay) - after_kill;
    assert!(
        rest < size - 700_000,
        "{rest} bytes were sent after the kill"
    );

    assert_mirrors(tool_version, &scratch, &home, &server);
}

/// Starts a push, and kills it when it has sent a million bytes.
fn kill_push(version: Version, home: &Path, relay: &Relay, archive: &str, remote: &str) {
    let child = Arc::new(Mutex::new(None::<std::process::Child>));
    let killed_child = Arc::clone(&child);
    relay.run_after_bytes_sent(sent_bytes(relay) + 1_000_000, move || {
        wait_until("the push that is to be killed", || {
            let mut child = killed_child.lock().unwrap();
            child
                .as_mut()
                .map(|child| child.kill().expect("the right to kill a child"))
        });
    });
    let options = [
        "push",
        "--limit-rate",
        "4MiB",
        "--chunk-size",
        "256KiB",
        archive,
        remote,
    ];
    let mut command = tool(version, home, &options);
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    *child.lock().unwrap() = Some(started.unwrap());
    let status = wait_until("the end of the push", || {
        let mut child = child.lock().unwrap();
        child.as_mut().unwrap().try_wait().unwrap()
    });
    assert_eq!(status.code(), None, "killed in the middle");
}

/// Mirrors a multi-platform image with a referrer to another repository, prunes the target, and
/// mirrors to a file and back.
fn assert_mirrors(version: Version, scratch: &Scratch, home: &Path, server: &VersionedServer) {
    let repository = seed::RemoteRepository {
        address: server.address,
        repository: "lib/tool",
    };
    let (one, two) = (image(10, 1000), image(11, 1000));
    let first = repository.push_image(Some("v1"), &one);
    let second = repository.push_image(Some("v2"), &two);
    let index = seed::index(&[("linux/amd64", &first), ("linux/arm64", &second)]);
    repository.push_manifest("all", seed::OCI_INDEX, &index);
    repository.push_artifact(None, &first, b"signed");
    let source = format!("{}/lib/tool", server.address);
    let target = format!("{}/copy/tool", server.address);
    run_tool(version, home, &["mirror", "--prune", &source, &target]);
    for tag in ["v1", "v2", "all"] {
        let copied = http::get(server.address, &format!("/v2/copy/tool/manifests/{tag}"));
        let original = http::get(server.address, &format!("/v2/lib/tool/manifests/{tag}"));
        assert!(
            copied.status == 200 && copied.body == original.body,
            "{tag}"
        );
    }
    let subject = crate::support::bytes::digest(&first);
    let referrers = http::get(
        server.address,
        &format!("/v2/copy/tool/referrers/{subject}"),
    );
    assert_eq!(
        referrers.json()["manifests"].as_array().map(Vec::len),
        Some(1)
    );
    let again = run_tool(
        version,
        home,
        &["mirror", "--json", "--prune", &source, &target],
    );
    let last = again.stdout.lines().last().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["copied"], 0, "{again}");

    // The other version prunes the tags that this one copied: the record is in the shared home
    // folder.
    let other = if version == Old { New } else { Old };
    let removed = http::send(
        server.address,
        "DELETE",
        "/v2/lib/tool/manifests/v2",
        &[],
        b"",
    );
    assert_eq!(removed.status, 202);
    run_tool(other, home, &["mirror", "--prune", &source, &target]);
    let tags = http::get(server.address, "/v2/copy/tool/tags/list").json();
    assert!(!tags["tags"].to_string().contains("v2"), "{tags}");

    // A mirror to a file uses the same code as `imgsync pull`, without a daemon.
    let file = format!("oci-archive:{}", scratch.path("tool.tar").display());
    run_tool(version, home, &["mirror", &format!("{source}:v1"), &file]);
    let back = format!("{}/back/tool:v1", server.address);
    run_tool(version, home, &["mirror", &file, &back]);
    let copied = http::get(server.address, "/v2/back/tool/manifests/v1");
    assert!(copied.body == first);
}

#[test]
fn an_older_tool_works_with_the_current_server() {
    if older_programs().is_some() {
        assert_compatible(Old, New);
    }
}

#[test]
fn the_current_tool_works_with_an_older_server() {
    if older_programs().is_some() {
        assert_compatible(New, Old);
    }
}

/// One version of the tool resumes the push of the other, and one version of the server uses the
/// folder of the other.
#[test]
fn one_version_continues_the_work_of_the_other() {
    if older_programs().is_none() {
        return;
    }
    for (first, then) in [(Old, New), (New, Old)] {
        let scratch = Scratch::new();
        let (home, root) = (scratch.folder("home"), scratch.path("root"));
        let late = image(4, 3_000_000);
        let path = scratch.path("late.tar");
        write_tar(&late.docker_archive("app:v1"), &path);
        let path = path.to_str().unwrap();
        let server = VersionedServer::start(first, &root);
        let relay = Relay::start(server.address, RelayFault::None);
        // The cache identifies a registry by its address, so both servers are behind the same
        // relay.
        let remote = format!("{}/team/late:v1", relay.address());
        kill_push(first, &home, &relay, path, &remote);
        let before = sent_bytes(&relay);
        run_tool(then, &home, &["push", path, &remote]);
        let rest = sent_bytes(&relay) - before;
        assert!(
            rest < 2_300_000,
            "{then:?} after {first:?} sent {rest} bytes"
        );
        server.wait_for_diff_ids();
        drop(server);
        let server = VersionedServer::start(then, &root);
        let found = check::at_registry(server.address, "team/late:v1");
        assert_eq!(found.config, late.id());
        server.wait_for_diff_ids();
    }
}

#[test]
fn pulls_work_between_versions() {
    if older_programs().is_none() || !crate::support::peers::programs_available(&["docker"]) {
        return;
    }
    for (tool_version, server_version) in [(Old, New), (New, Old)] {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        let server = VersionedServer::start(server_version, &scratch.path("root"));
        let name = crate::support::docker::unique("ages");
        let pulled = image(5, 5000);
        let layout = scratch.folder("layout");
        let entries: Vec<Entry> = pulled.oci_layout("v1");
        write_folder(&entries, &layout);
        let remote = format!("{}/team/{name}:v1", server.address);
        let source = format!("oci:{}", layout.display());
        run_tool(tool_version, &home, &["push", &source, &remote]);
        run_tool(tool_version, &home, &["pull", &remote]);
        let image = crate::support::DockerImage::existing(remote);
        assert!(!image.id().is_empty());
        image.remove();
    }
}
