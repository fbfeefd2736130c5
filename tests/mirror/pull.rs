//! `imgsync pull`: from a registry into the local Docker, without what it has.

use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, RemoteRepository};

struct PullFixture {
    server: Server,
    imgsync: Imgsync,
    scratch: Scratch,
}

impl PullFixture {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            server: Server::start(&scratch.folder("root")),
            imgsync: Imgsync::new(&scratch.folder("home")),
            scratch,
        }
    }

    fn pull(&self, arguments: &[&str]) -> Outcome {
        run(self.imgsync.command().arg("pull").args(arguments))
    }
}

/// The blobs that were read over a relay.
fn read(relay: &Relay) -> BTreeSet<String> {
    let requests = relay.requests();
    let reads = requests.iter().filter(|request| request.reads_blob());
    let names = reads.filter_map(|request| request.target.rsplit('/').next());
    names.map(str::to_owned).collect()
}

fn is_there(name: &str) -> bool {
    let mut command = Command::new("docker");
    run(command.args(["image", "inspect", name])).code == Some(0)
}

#[test]
fn docker_runs_what_was_pulled_and_nothing_is_fetched_twice() {
    if !programs_available(&["docker", "busybox"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = PullFixture::new();
    let name = unique("pull");
    let remote = |version: &str| format!("{}/team/app:{version}", fixture.server.address());
    let [first, second] = ["v1", "v2"].map(|version| {
        let image = DockerImage::build(&name, version);
        fixture
            .imgsync
            .push(image.reference(), &remote(version))
            .succeeded();
        image
    });
    let ids = [first.id(), second.id()];
    second.remove();
    first.remove();

    // All of it.
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let one = DockerImage::existing(format!("{}/team/app:v1", relay.address()));
    let outcome = fixture.pull(&[one.reference()]).succeeded();
    assert_eq!(one.id(), ids[0], "{outcome}");
    assert_eq!(one.container_output(), "hello from version v1");
    let all = read(&relay);

    // Nothing.
    let before = relay.requests().len();
    fixture.pull(&[one.reference()]).succeeded();
    fixture
        .pull(&["--exit-code", one.reference()])
        .failed(8, &[]);
    let requests = &relay.requests()[before..];
    let blob = requests.iter().find(|request| request.reads_blob());
    assert_eq!(blob.map(ToString::to_string), None);

    // Another name for it: the config says that it is there.
    let named = DockerImage::existing(format!("{name}:other"));
    fixture
        .pull(&[one.reference(), named.reference()])
        .succeeded();
    assert_eq!(named.id(), ids[0]);
    assert_eq!(read(&relay), all);

    // Another version: one layer, and its config.
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let two = DockerImage::existing(format!("{}/team/app:v2", relay.address()));
    let preview = fixture.pull(&["--dry-run", two.reference()]).succeeded();
    assert!(!is_there(two.reference()), "{preview}");
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let two = DockerImage::existing(format!("{}/team/app:v2", relay.address()));
    fixture.pull(&[two.reference()]).succeeded();
    assert_eq!(two.id(), ids[1]);
    assert_eq!(two.container_output(), "hello from version v2");
    assert!(read(&relay).contains(&ids[1]));
    assert_eq!(read(&relay).len(), 2, "{:?}", read(&relay));
}

/// An image of two layers for a platform.
fn for_platform(number: u64, architecture: &str) -> Image {
    let layers = [noise(7, 50_000), noise(100 + number, 70_000)];
    let layers = layers.map(|content| layer("data", content));
    let mut image = Image::new(layers.to_vec());
    let config = String::from_utf8(image.config).expect("JSON");
    let own = format!("\"architecture\":\"{architecture}\"");
    image.config = config
        .replace("\"architecture\":\"amd64\"", &own)
        .into_bytes();
    image
}

#[test]
fn one_platform_of_an_index_goes() {
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = PullFixture::new();
    let repository = "team/multi";
    let address = fixture.server.address();
    let place = RemoteRepository {
        address,
        repository,
    };
    let own = docker(&["version", "--format", "{{.Server.Arch}}"]);
    let platforms = [&*own, "s390x", "riscv64"];
    let images: Vec<_> = (0..3)
        .map(|at| for_platform(at as u64, platforms[at]))
        .collect();
    let manifests: Vec<_> = images
        .iter()
        .map(|image| place.push_image(None, image))
        .collect();
    let names = platforms.map(|it| format!("linux/{it}"));
    let parts: Vec<_> = names
        .iter()
        .map(|it| &**it)
        .zip(manifests.iter().map(|it| &**it))
        .collect();
    let index = place.push_manifest("v1", OCI_INDEX, &seed::index(&parts));
    let remote = format!("{address}/{repository}:v1");

    let local = DockerImage::existing(remote.clone());
    fixture.pull(&[&remote]).succeeded();
    assert_eq!(local.id(), images[0].id());
    let wanted = ["--platform", "linux/s390x", &remote];
    fixture.pull(&wanted).succeeded();
    assert_eq!(local.id(), images[1].id());
    let missing = ["--platform", "linux/mips", &remote];
    fixture
        .pull(&missing)
        .failed(3, &["linux/mips", "linux/s390x"]);
    assert_eq!(local.id(), images[1].id());

    // Where there is no choice, what was asked for counts too.
    let fourth = for_platform(3, "s390x");
    place.push_image(Some("plain"), &fourth);
    let plain = format!("{address}/{repository}:plain");
    let local_plain = DockerImage::existing(plain.clone());
    let asked = ["--platform", "linux/mips", &plain];
    fixture
        .pull(&asked)
        .failed(3, &["linux/mips", "linux/s390x"]);
    assert!(!is_there(&plain));
    let taken = fixture.pull(&[&plain]).succeeded();
    assert!(taken.stderr.contains("for linux/s390x, not"), "{taken}");
    assert_eq!(local_plain.id(), fourth.id());

    // By digest, and under a name of one's own.
    let other = DockerImage::existing(unique("by-digest"));
    let by_digest = format!("{address}/{repository}@{index}");
    fixture.pull(&[&by_digest, other.reference()]).succeeded();
    assert_eq!(other.id(), images[0].id());
}

#[test]
fn what_breaks_off_or_is_wrong_never_gets_into_docker() {
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = PullFixture::new();
    let upstream = Upstream::start();
    let layer = layer("large", noise(9, 3_000_000));
    let image = Image::new(vec![image::layer("small", noise(8, 5_000)), layer]);
    upstream.put("team/app", "v1", &image);
    let local = DockerImage::existing(format!("{}/team/app:v1", upstream.address()));

    upstream.configure(|settings| settings.corrupts_content = true);
    fixture.pull(&[local.reference()]).failed(3, &["source"]);
    assert!(!is_there(local.reference()) && !is_there(&image.id()));

    upstream.configure(|settings| {
        settings.corrupts_content = false;
        settings.pause_blob_at = Some(1_000_000);
    });
    let mut command = fixture.imgsync.command();
    let command = command.args(["pull", local.reference()]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("imgsync starts");
    let large = digest(&image.compressed()[1]);
    wait_until("the large layer", || {
        (upstream.count("GET", &large) > 0).then_some(())
    });
    child.kill().expect("a child of ours");
    child.wait().expect("its end");
    assert!(!is_there(local.reference()) && !is_there(&image.id()));

    // A line that breaks goes on from there.
    upstream.configure(|settings| {
        settings.pause_blob_at = None;
        settings.cut_blob_at = Some(1_500_000);
    });
    upstream.clear_requests();
    fixture.pull(&[local.reference()]).succeeded();
    assert_eq!(local.id(), image.id());
    let seen = upstream.requests();
    let ranges = seen.iter().filter(|it| it.target.ends_with(&large));
    let ranges: Vec<_> = ranges.filter_map(|it| it.header("range")).collect();
    assert_eq!(ranges, ["bytes=1500000-"]);
}

#[test]
fn a_tag_that_is_not_there_and_a_daemon_that_is_not_there_are_told_apart() {
    let fixture = PullFixture::new();
    let nothing = format!("{}/team/app:v1", fixture.server.address());
    let mut command = fixture.imgsync.command();
    let socket = fixture.scratch.path("docker.sock");
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    run(command.args(["pull", &nothing])).failed(4, &["target", "docker.sock"]);
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let outcome = fixture.pull(&[&nothing]);
    assert!(matches!(outcome.code, Some(3 | 4)), "{outcome}");
    assert!(outcome.stderr.contains("source"), "{outcome}");
}

#[test]
fn podman_takes_it_too() {
    if !programs_available(&["podman"]) {
        return;
    }
    let fixture = PullFixture::new();
    let repository = "team/app";
    let address = fixture.server.address();
    let place = RemoteRepository {
        address,
        repository,
    };
    let image = for_platform(1, "amd64");
    place.push_image(Some("v1"), &image);
    let podman = Podman::new();
    let socket = fixture.scratch.path("podman.sock");
    let host = format!("unix://{}", socket.display());
    let mut service = podman.command();
    service.args(["system", "service", "--time", "0", &host]);
    let _service = Process::start("podman", &mut service, &fixture.scratch.folder("podman"));
    wait_until("podman's socket", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let remote = format!("{address}/{repository}:v1");
    let pull = |arguments: &[&str]| {
        let mut command = fixture.imgsync.command();
        command.env("DOCKER_HOST", &host).arg("pull");
        run(command.args(["--platform", "linux/amd64"]).args(arguments))
    };
    pull(&[&remote]).succeeded();
    assert_eq!(podman.id(&remote), image.id());
    pull(&["--exit-code", &remote]).failed(8, &[]);
    pull(&[&remote, "localhost/other:v2"]).succeeded();
    assert_eq!(podman.id("localhost/other:v2"), image.id());
}
