//! An older tool with today's server, and today's tool with an older server: pushes, the same again,
//! one that is killed and resumed, mirrors and pulls. It needs the older programs, so it runs only
//! where `IMGSYNC_TESTS_OLD` names their folder: see tests/old_and_new.sh.

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

/// Programs of one day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Age {
    Old,
    New,
}

use Age::{New, Old};

/// Returns the folder of the older programs, where there is one.
fn older() -> Option<PathBuf> {
    let folder = std::env::var_os("IMGSYNC_TESTS_OLD").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: IMGSYNC_TESTS_OLD is not set; run tests/old_and_new.sh");
    }
    folder
}

fn program(age: Age, name: &str) -> PathBuf {
    let path = match age {
        New => crate::support::server::binary().with_file_name(name),
        Old => older().expect("the older programs").join(name),
    };
    assert!(path.is_file(), "{} is missing", path.display());
    path
}

/// A server of either age.
struct Server {
    _process: Process,
    address: SocketAddr,
}

impl Server {
    fn start(age: Age, root: &Path) -> Self {
        let mut command = Command::new(program(age, "imgsync-server"));
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

    /// Waits until it has looked at everything in the background.
    fn settle(&self) {
        let body = r#"{"diffIDs":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}"#;
        wait_until("the diffIDs", || {
            let target = "/v2/a/_imgsync/layers/resolve";
            let answer = http::send(self.address, "POST", target, &[], body.as_bytes());
            (!answer.text().contains("pending")).then_some(())
        });
    }
}

/// A tool of either age, with a home that both may share.
fn tool(age: Age, home: &Path, arguments: &[&str]) -> Command {
    // What the environment is, the support for today's tool knows.
    let like = Imgsync::new(home).command();
    let mut command = Command::new(program(age, "imgsync"));
    command.env_clear();
    for (name, value) in like.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.stdin(Stdio::null()).args(arguments);
    command
}

fn done(age: Age, home: &Path, arguments: &[&str]) -> Outcome {
    run(&mut tool(age, home, arguments)).succeeded()
}

fn image(seed: u64, size: usize) -> Image {
    Image::new(vec![
        layer("shared", noise(1, 100_000)),
        layer("own", noise(seed, size)),
    ])
}

fn sent(relay: &Relay) -> u64 {
    let requests = relay.requests();
    let writes = requests.iter().filter(|request| request.writes_blob());
    writes.map(|request| request.body).sum()
}

/// All that a tool does with a server: pushes, again, a resumed push, a mirror.
fn gets_on(with: Age, server: Age) {
    let scratch = Scratch::new();
    let home = scratch.folder("home");
    let server = Server::start(server, &scratch.path("root"));
    let relay = Relay::start(server.address, RelayFault::None);
    let remote = |name: &str| format!("{}/team/{name}:v1", relay.address());
    let archive = |name: &str, image: &Image| {
        let path = scratch.path(name);
        write_tar(&image.docker_archive("app:v1"), &path);
        path.to_str().unwrap().to_owned()
    };

    // A push, and the same again.
    let app = image(2, 200_000);
    let first = archive("app.tar", &app);
    done(with, &home, &["push", &first, &remote("app")]);
    let found = check::at_registry(server.address, "team/app:v1");
    assert_eq!(found.config, app.id());
    let before = sent(&relay);
    done(with, &home, &["push", &first, &remote("app")]);
    assert_eq!(sent(&relay), before, "nothing is sent again");

    // By somebody who remembers nothing, and to another repository: the extension tells.
    server.settle();
    let other_home = scratch.folder("other");
    done(with, &other_home, &["push", &first, &remote("app")]);
    done(with, &other_home, &["push", &first, &remote("copy")]);
    assert_eq!(
        check::at_registry(server.address, "team/copy:v1").config,
        app.id()
    );
    // A config is not a layer, so nobody knows of that one elsewhere.
    assert!(
        sent(&relay) - before <= app.config.len() as u64,
        "what it has is sent again"
    );

    // Killed in the middle, and resumed.
    let late = image(3, 3_000_000);
    let path = archive("late.tar", &late);
    let size: u64 = 3_000_000;
    killed(with, &home, &relay, &path, &remote("late"));
    let after_kill = sent(&relay);
    done(
        with,
        &home,
        &["push", "--chunk-size", "256KiB", &path, &remote("late")],
    );
    assert_eq!(
        check::at_registry(server.address, "team/late:v1").config,
        late.id()
    );
    let rest = sent(&relay) - after_kill;
    assert!(
        rest < size - 700_000,
        "{rest} bytes were sent after the kill"
    );

    mirrors(with, &scratch, &home, &server);
}

/// Pushes, and kills that when a million bytes have passed.
fn killed(with: Age, home: &Path, relay: &Relay, archive: &str, remote: &str) {
    let child = Arc::new(Mutex::new(None::<std::process::Child>));
    let victim = Arc::clone(&child);
    relay.run_after_bytes_sent(sent(relay) + 1_000_000, move || {
        wait_until("the push that is to be killed", || {
            let mut victim = victim.lock().unwrap();
            victim
                .as_mut()
                .map(|child| child.kill().expect("a child of ours"))
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
    let mut command = tool(with, home, &options);
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    *child.lock().unwrap() = Some(started.unwrap());
    let ended = wait_until("the end of the push", || {
        let mut child = child.lock().unwrap();
        child.as_mut().unwrap().try_wait().unwrap()
    });
    assert_eq!(ended.code(), None, "killed in the middle");
}

/// Images of several platforms with what speaks about them, from one repository to another, to a
/// file, and back; and pruned.
fn mirrors(with: Age, scratch: &Scratch, home: &Path, server: &Server) {
    let place = seed::RemoteRepository {
        address: server.address,
        repository: "lib/tool",
    };
    let (one, two) = (image(10, 1000), image(11, 1000));
    let first = place.push_image(Some("v1"), &one);
    let second = place.push_image(Some("v2"), &two);
    let index = seed::index(&[("linux/amd64", &first), ("linux/arm64", &second)]);
    place.push_manifest("all", seed::OCI_INDEX, &index);
    place.push_artifact(None, &first, b"signed");
    let source = format!("{}/lib/tool", server.address);
    let target = format!("{}/copy/tool", server.address);
    done(with, home, &["mirror", "--prune", &source, &target]);
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
    let again = done(
        with,
        home,
        &["mirror", "--json", "--prune", &source, &target],
    );
    let last = again.stdout.lines().last().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["copied"], 0, "{again}");

    // What one tool brought, the other prunes: the record of a mirror is the home's.
    let other = if with == Old { New } else { Old };
    let removed = http::send(
        server.address,
        "DELETE",
        "/v2/lib/tool/manifests/v2",
        &[],
        b"",
    );
    assert_eq!(removed.status, 202);
    done(other, home, &["mirror", "--prune", &source, &target]);
    let tags = http::get(server.address, "/v2/copy/tool/tags/list").json();
    assert!(!tags["tags"].to_string().contains("v2"), "{tags}");

    // To a file and back: what pull does as well, without a daemon.
    let file = format!("oci-archive:{}", scratch.path("tool.tar").display());
    done(with, home, &["mirror", &format!("{source}:v1"), &file]);
    let back = format!("{}/back/tool:v1", server.address);
    done(with, home, &["mirror", &file, &back]);
    let copied = http::get(server.address, "/v2/back/tool/manifests/v1");
    assert!(copied.body == first);
}

#[test]
fn an_older_tool_gets_on_with_a_newer_server() {
    if older().is_some() {
        gets_on(Old, New);
    }
}

#[test]
fn a_newer_tool_gets_on_with_an_older_server() {
    if older().is_some() {
        gets_on(New, Old);
    }
}

/// What one tool began, the other goes on with, and one server after the other on one folder.
#[test]
fn what_one_leaves_the_other_goes_on_with() {
    if older().is_none() {
        return;
    }
    for (first, then) in [(Old, New), (New, Old)] {
        let scratch = Scratch::new();
        let (home, root) = (scratch.folder("home"), scratch.path("root"));
        let late = image(4, 3_000_000);
        let path = scratch.path("late.tar");
        write_tar(&late.docker_archive("app:v1"), &path);
        let path = path.to_str().unwrap();
        let server = Server::start(first, &root);
        let relay = Relay::start(server.address, RelayFault::None);
        // The address is part of what is remembered, so both servers are behind one relay.
        let remote = format!("{}/team/late:v1", relay.address());
        killed(first, &home, &relay, path, &remote);
        let before = sent(&relay);
        done(then, &home, &["push", path, &remote]);
        let rest = sent(&relay) - before;
        assert!(
            rest < 2_300_000,
            "{then:?} after {first:?} sent {rest} bytes"
        );
        server.settle();
        drop(server);
        let server = Server::start(then, &root);
        let found = check::at_registry(server.address, "team/late:v1");
        assert_eq!(found.config, late.id());
        server.settle();
    }
}

/// `imgsync pull` into a daemon, where there is one, of either age from either server.
#[test]
fn pulls_work_between_ages() {
    if older().is_none() || !crate::support::peers::programs_available(&["docker"]) {
        return;
    }
    for (with, of) in [(Old, New), (New, Old)] {
        let scratch = Scratch::new();
        let home = scratch.folder("home");
        let server = Server::start(of, &scratch.path("root"));
        let name = crate::support::docker::unique("ages");
        let pulled = image(5, 5000);
        let layout = scratch.folder("layout");
        let entries: Vec<Entry> = pulled.oci_layout("v1");
        write_folder(&entries, &layout);
        let remote = format!("{}/team/{name}:v1", server.address);
        let source = format!("oci:{}", layout.display());
        done(with, &home, &["push", &source, &remote]);
        done(with, &home, &["pull", &remote]);
        let known = crate::support::DockerImage::existing(remote);
        assert!(!known.id().is_empty());
        known.remove();
    }
}
