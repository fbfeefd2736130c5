//! Sources beyond plain files: archives that are compressed as a whole, images for several
//! platforms, and podman's socket.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic, and says what it skips"
)]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::bytes::digest;
use support::check::{self, Found};
use support::docker::{self, unique};
use support::peers::{absent, present};
use support::process::Process;
use support::run::{run, until};
use support::{DockerImage, Imgsync, Podman, Scratch, Server, archive};

/// A server, and the tool.
struct Stage {
    server: Server,
    imgsync: Imgsync,
    /// Last, for it goes last: the server must be dead by then.
    scratch: Scratch,
}

impl Stage {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn remote(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.server.address())
    }

    /// What is at the server under a name, after every digest in it was found to be right.
    fn found(&self, name: &str) -> Found {
        check::at_registry(self.server.address(), &format!("{name}:v1"))
    }

    fn push(&self, name: &str, options: &[&str], image: &str) -> Found {
        let outcome = self.imgsync.push_with(options, image, &self.remote(name));
        outcome.succeeded();
        self.found(name)
    }
}

fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/archives")
        .join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}

#[test]
fn every_recorded_archive_arrives_compressed_as_it_does_plain() {
    let stage = Stage::new();
    let folder = recorded("");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the recorded archives") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "tar") {
            continue;
        }
        count += 1;
        let plain = stage.push(&format!("plain{count}"), &[], text(&path));
        let bytes = std::fs::read(&path).expect("an archive");
        let gzip = stage.scratch.path(&format!("{count}.tar.gz"));
        std::fs::write(&gzip, gzipped(&bytes)).expect("a file");
        let zstandard = stage.scratch.path(&format!("{count}.tar.zst"));
        let packed = zstd::stream::encode_all(&*bytes, 3).expect("writing to memory");
        std::fs::write(&zstandard, packed).expect("a file");
        for (kind, path) in [("gzip", &gzip), ("zstd", &zstandard)] {
            let name = format!("{kind}{count}");
            assert_eq!(stage.push(&name, &[], text(path)), plain, "{path:?}");
            let name = format!("{kind}-stdin{count}");
            let remote = stage.remote(&name);
            stage.imgsync.push_file_on_stdin(path, &remote).succeeded();
            assert_eq!(stage.found(&name), plain, "{path:?} on standard input");
        }
    }
    assert!(count >= 8, "recorded archives are missing");
}

#[test]
fn what_docker_saves_through_gzip_arrives() {
    if !present(&["docker", "busybox"]) {
        return;
    }
    let stage = Stage::new();
    let image = DockerImage::build(&unique("gzipped"), "v1");
    let plain = stage.push("plain", &[], image.reference());
    stage.imgsync.forget();
    let mut save = docker::save(image.reference());
    let mut save = save.stdout(Stdio::piped()).spawn().expect("docker save");
    let mut gzip = Command::new("gzip");
    gzip.stdin(save.stdout.take().expect("its output"));
    let mut gzip = gzip.stdout(Stdio::piped()).spawn().expect("gzip");
    let pipe = gzip.stdout.take().expect("its output");
    let outcome = stage.imgsync.push_stdin(pipe.into(), &stage.remote("pipe"));
    outcome.succeeded();
    assert!(save.wait().expect("its end").success());
    assert!(gzip.wait().expect("its end").success());
    assert_eq!(stage.found("pipe"), plain);
}

/// A half-written file is not an image, even if it holds all of the tar's entries; nor is one
/// with something behind it.
#[test]
fn a_compressed_archive_that_is_not_whole_is_refused() {
    let stage = Stage::new();
    let whole = gzipped(&std::fs::read(recorded("docker20-classic-store.tar")).expect("it"));
    let path = stage.scratch.path("app.tar.gz");
    let remote = stage.remote("bad");
    std::fs::write(&path, &whole[..whole.len() - 4]).expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["cut short", "make the archive again"]);
    std::fs::write(&path, [&whole[..], b"something else"].concat()).expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["no whole gzip file"]);
    std::fs::write(&path, b"\xfd7zXZ\0 and so on").expect("a file");
    let outcome = stage.imgsync.push(text(&path), &remote);
    outcome.failed(3, &["compressed with xz", "xz -dc"]);
}

#[test]
fn memory_stays_bounded_for_a_large_compressed_archive() {
    let stage = Stage::new();
    let plain = stage.scratch.path("large.tar");
    archive::write_large(&plain, 200_000_000, "large:v1");
    let path = stage.scratch.path("large.tar.zst");
    let source = std::fs::File::open(&plain).expect("an archive");
    let target = std::fs::File::create(&path).expect("a file");
    zstd::stream::copy_encode(source, target, 1).expect("room for it");
    let (outcome, peak) = stage
        .imgsync
        .push_measured(text(&path), &stage.remote("large"));
    outcome.succeeded();
    assert!(peak < 100_000_000, "{peak} bytes of memory");
    assert!(peak > 0, "nothing was measured");
}

const MULTI: &str = "docker28-containerd-store-multi.tar";
const INDEX: &str = "sha256:8bbc86d4701edabdf5e8ab0b8cfaafb4197220884b559f8c794a9dd27f95bece";
const AMD: &str = "sha256:834405ef1d93f8121e51244f38e0d3860358ff162ba394f5a081a2693ac5adb2";
const ARM: &str = "sha256:cc0bde6b3f3dbe29706fc58c099423cf2bbca1439b1b682bc89933a31253fb93";

#[test]
fn of_an_index_the_platforms_asked_for_go() {
    let stage = Stage::new();
    let path = recorded(MULTI);
    assert_eq!(stage.push("all", &[], text(&path)).manifest, INDEX);
    let both = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
    assert_eq!(stage.push("both", &both, text(&path)).manifest, INDEX);
    for (name, platform, manifest) in [("amd", "linux/amd64", AMD), ("arm", "linux/arm64", ARM)] {
        let found = stage.push(name, &["--platform", platform], text(&path));
        assert_eq!(found.manifest, manifest);
        assert!(found.children.is_empty(), "{found:?}");
    }
    let platform = ["--platform", "linux/s390x"];
    let outcome = stage
        .imgsync
        .push_with(&platform, text(&path), &stage.remote("none"));
    outcome.failed(3, &["linux/s390x", "linux/amd64, linux/arm64"]);
    let platform = ["--platform", "arm64"];
    let outcome = stage
        .imgsync
        .push_with(&platform, text(&path), &stage.remote("none"));
    outcome.failed(2, &["--platform", "linux/arm64"]);
}

/// Two of three: an index of those two and what is attested of them, and the user is told.
#[test]
fn some_of_an_index_are_an_index_of_their_own() {
    let stage = Stage::new();
    let mut entries = archive::read_tar(&recorded(MULTI));
    let json = |entries: &[archive::Entry], name: &str| -> serde_json::Value {
        serde_json::from_slice(archive::file(entries, name).expect(name)).expect("JSON")
    };
    let name = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    // A third platform: the second one's layers under another manifest.
    let mut third = json(&entries, &name(ARM));
    third["annotations"] = serde_json::json!({"made-by": "a test"});
    let third = third.to_string().into_bytes();
    let mut index = json(&entries, &name(INDEX));
    let mut entry = index["manifests"][1].clone();
    entry["digest"] = digest(&third).into();
    entry["size"] = third.len().into();
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": "riscv64"});
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .insert(1, entry);
    let index = index.to_string().into_bytes();
    let mut top = json(&entries, "index.json");
    top["manifests"][0]["digest"] = digest(&index).into();
    top["manifests"][0]["size"] = index.len().into();
    entries.retain(|entry| !["index.json", "manifest.json"].contains(&&*entry.name));
    entries.push(archive::Entry::new("index.json", top.to_string()));
    for blob in [third.clone(), index.clone()] {
        entries.push(archive::Entry::new(name(&digest(&blob)), blob));
    }
    let folder = stage.scratch.path("layout");
    archive::write_folder(&entries, &folder);

    let whole = stage.push("whole", &[], text(&folder));
    assert_eq!((whole.manifest, whole.children.len()), (digest(&index), 5));
    let options = ["--platform", "linux/riscv64", "--platform", "linux/amd64"];
    let remote = stage.remote("two");
    let outcome = stage.imgsync.push_with(&options, text(&folder), &remote);
    let said = outcome.succeeded().stderr;
    assert!(said.contains("its digest is another one"), "{said}");
    let two = stage.found("two");
    // The two images, and what is attested of the first.
    assert_eq!(two.children.len(), 3, "{two:?}");
    assert!(two.children.contains(&AMD.to_owned()), "{two:?}");
    assert!(two.children.contains(&digest(&third)), "{two:?}");
    assert!(!two.children.contains(&ARM.to_owned()), "{two:?}");
    // The same again is the same.
    assert_eq!(stage.push("again", &options, text(&folder)), two);
}

/// podman's service with the recorded image in it.
struct Service {
    _process: Process,
    podman: Podman,
    /// Its socket lies where podman has it below `XDG_RUNTIME_DIR`, which this is.
    runtime: PathBuf,
}

const PODMAN_IMAGE: &str = "localhost/sample/app:v1";

impl Service {
    fn start(scratch: &Scratch) -> Self {
        let podman = Podman::new();
        podman.load(text(&recorded("podman4-docker-archive.tar")));
        let runtime = scratch.folder("runtime");
        std::fs::create_dir(runtime.join("podman")).expect("a folder");
        let socket = runtime.join("podman/podman.sock");
        let mut command = podman.command();
        command.args(["system", "service", "--time", "0"]);
        command.arg(format!("unix://{}", socket.display()));
        let process = Process::start("podman", &mut command, &scratch.folder("podman"));
        until("podman's socket", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        Self {
            _process: process,
            podman,
            runtime,
        }
    }

    fn host(&self) -> String {
        format!("unix://{}/podman/podman.sock", self.runtime.display())
    }
}

/// However podman is named, its image arrives whole, by name and by ID.
#[test]
fn images_come_from_the_service_of_podman() {
    if !present(&["podman"]) {
        return;
    }
    let stage = Stage::new();
    let service = Service::start(&stage.scratch);
    let id = service.podman.id(PODMAN_IMAGE);
    let config = stage.scratch.folder("docker-config");
    let context = digest(b"lab");
    let context = context.strip_prefix("sha256:").expect("hex");
    let meta = config.join("contexts/meta").join(context);
    std::fs::create_dir_all(&meta).expect("a folder");
    let json = serde_json::json!({
        "Name": "lab", "Metadata": {}, "Endpoints": {"docker": {"Host": service.host()}},
    });
    std::fs::write(meta.join("meta.json"), json.to_string()).expect("a file");
    let by_config = stage.scratch.folder("current-context");
    let copied = by_config.join("contexts/meta").join(context);
    std::fs::create_dir_all(&copied).expect("a folder");
    std::fs::copy(meta.join("meta.json"), copied.join("meta.json")).expect("a copy");
    let json = r#"{"currentContext":"lab"}"#;
    std::fs::write(by_config.join("config.json"), json).expect("a file");

    let host = service.host();
    for (at, (image, variables)) in [
        (PODMAN_IMAGE, vec![("DOCKER_HOST", &*host)]),
        (&id, vec![("CONTAINER_HOST", &*host)]),
        (
            PODMAN_IMAGE,
            vec![("DOCKER_CONFIG", text(&config)), ("DOCKER_CONTEXT", "lab")],
        ),
        (
            "docker-daemon:sample/app:v1",
            vec![("DOCKER_CONFIG", text(&by_config))],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        // Each compresses and sends anew.
        stage.imgsync.forget();
        let name = format!("podman{at}");
        let mut command = stage.imgsync.command();
        command.env_remove("DOCKER_HOST").envs(variables);
        command.args(["push", image, &stage.remote(&name)]);
        run(&mut command).succeeded();
        assert_eq!(stage.found(&name).config, id, "{name}");
    }
    let mut command = stage.imgsync.command();
    command.env("DOCKER_HOST", &host);
    command.args(["push", "nowhere:v1", &stage.remote("none")]);
    run(&mut command).failed(3, &["no image nowhere:v1"]);
}

/// On a machine without Docker nothing has to be said: podman's socket is found.
#[test]
fn without_docker_the_socket_of_podman_is_found() {
    if !present(&["podman"]) {
        return;
    }
    // A room of its own, in which no system's socket is seen.
    let alone = |program: &str| {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /run && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", program]);
        command.stdin(Stdio::null());
        command
    };
    if run(&mut alone("true")).code != Some(0) {
        absent("unshare may not make a mount namespace here (it takes root)");
        return;
    }
    let stage = Stage::new();
    let service = Service::start(&stage.scratch);
    let inner = stage.imgsync.command();
    let mut command = alone(&inner.get_program().to_string_lossy());
    command.env_clear();
    for (name, value) in inner.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.env_remove("DOCKER_HOST");
    command.env("XDG_RUNTIME_DIR", &service.runtime);
    command.args(["push", PODMAN_IMAGE, &stage.remote("found")]);
    run(&mut command).succeeded();
    let id = service.podman.id(PODMAN_IMAGE);
    assert_eq!(stage.found("found").config, id);
}

/// A user of the system, with podman to itself; gone with this.
struct User {
    name: String,
    home: PathBuf,
}

impl User {
    /// `None` where no user can be made.
    fn new() -> Option<Self> {
        let name = format!("imgsync-tests-{}", std::process::id());
        let mut command = Command::new("useradd");
        command.args(["--create-home", "--shell", "/bin/sh", &name]);
        let made = command.stdin(Stdio::null()).status();
        made.is_ok_and(|status| status.success()).then(|| Self {
            home: Path::new("/home").join(&name),
            name,
        })
    }

    /// A program as this user runs it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        for option in ["--reuid", "--regid"] {
            command.args([option, &self.name]);
        }
        command.args(["--init-groups", program]).current_dir("/");
        command.env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", &self.home);
        command.env("XDG_RUNTIME_DIR", self.home.join("run"));
        command.stdin(Stdio::null());
        command
    }

    fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("podman");
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // Ends the process that keeps podman's namespace of this user.
        let _ = run(&mut self.podman(&["system", "migrate"]));
        let mut command = Command::new("userdel");
        let _ = run(command.args(["--force", "--remove", &self.name]));
    }
}

/// Run by root, this makes a user for it; run by a user, the tests above are it already.
#[test]
fn images_come_from_a_podman_without_root() {
    if !present(&["podman"]) {
        return;
    }
    let root = run(Command::new("id").arg("-u").stdin(Stdio::null()));
    if root.stdout.trim() != "0" {
        return;
    }
    let Some(user) = User::new() else {
        absent("no user can be made for podman without root");
        return;
    };
    let socket = user.home.join("run/podman/podman.sock");
    let parent = socket.parent().expect("a folder");
    run(user.command("mkdir").args(["-p", text(parent)])).succeeded();
    // Neither the archive nor the tool may lie where another user can get at them.
    let [archive, tool] = ["app.tar", "imgsync"].map(|name| user.home.join(name));
    std::fs::copy(recorded("podman4-docker-archive.tar"), &archive).expect("a copy");
    std::fs::copy(env!("CARGO_BIN_EXE_imgsync"), &tool).expect("a copy");
    let mut chmod = Command::new("chmod");
    run(chmod.arg("a+rx").args([&archive, &tool])).succeeded();

    let loaded = run(&mut user.podman(&["load", "--input", text(&archive)]));
    if loaded.code != Some(0) {
        absent(&format!("podman does not work without root here: {loaded}"));
        return;
    }
    let id = run(&mut user.podman(&["image", "inspect", "--format", "{{.Id}}", PODMAN_IMAGE]));
    let id = format!("sha256:{}", id.succeeded().stdout.trim());
    let stage = Stage::new();
    let host = format!("unix://{}", socket.display());
    let mut service = user.podman(&["system", "service", "--time", "0", &host]);
    let service = Process::start("podman", &mut service, &stage.scratch.folder("podman"));
    until("podman's socket", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let mut command = user.command(text(&tool));
    command.env("CONTAINER_HOST", &host);
    command.args(["push", PODMAN_IMAGE, &stage.remote("rootless")]);
    run(&mut command).succeeded();
    assert_eq!(stage.found("rootless").config, id);
    // Again, with nothing left to send.
    let mut command = user.command(text(&tool));
    command.env("DOCKER_HOST", &host);
    command.args(["push", PODMAN_IMAGE, &stage.remote("rootless")]);
    run(&mut command).succeeded();
    drop(service);
}
