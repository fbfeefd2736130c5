//! Tests `imgsync pull`: it copies an image into the local Docker, without the layers that Docker
//! has.

mod containerd_store;

use crate::support::prelude::*;
use crate::support::process::Process;
use crate::support::seed;
use crate::support::seed::{OCI_INDEX, OCI_MANIFEST, RemoteRepository};

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

/// Returns the digests of the blobs that were read through a relay.
fn blobs_read(relay: &Relay) -> BTreeSet<String> {
    let requests = relay.requests();
    let reads = requests.iter().filter(|request| request.reads_blob());
    let names = reads.filter_map(|request| request.target.rsplit('/').next());
    names.map(str::to_owned).collect()
}

fn docker_has(name: &str) -> bool {
    let mut command = Command::new("docker");
    run(command.args(["image", "inspect", name])).code == Some(0)
}

#[test]
fn docker_runs_a_pulled_image_and_nothing_is_fetched_twice() {
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

    // The first pull fetches every blob.
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let local_v1 = DockerImage::existing(format!("{}/team/app:v1", relay.address()));
    let outcome = fixture.pull(&[local_v1.reference()]).succeeded();
    assert_eq!(local_v1.id(), ids[0], "{outcome}");
    assert_eq!(local_v1.container_output(), "hello from version v1");
    let first_blobs = blobs_read(&relay);

    // The second pull fetches nothing.
    let before = relay.requests().len();
    fixture.pull(&[local_v1.reference()]).succeeded();
    fixture
        .pull(&["--exit-code", local_v1.reference()])
        .failed(8, &[]);
    let requests = &relay.requests()[before..];
    let blob = requests.iter().find(|request| request.reads_blob());
    assert_eq!(blob.map(ToString::to_string), None);

    // Another name: only the config shows that Docker has the image.
    let named = DockerImage::existing(format!("{name}:other"));
    fixture
        .pull(&[local_v1.reference(), named.reference()])
        .succeeded();
    assert_eq!(named.id(), ids[0]);
    assert_eq!(blobs_read(&relay), first_blobs);

    // Another version: one layer and the config.
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let local_v2 = DockerImage::existing(format!("{}/team/app:v2", relay.address()));
    let preview = fixture
        .pull(&["--dry-run", local_v2.reference()])
        .succeeded();
    assert!(!docker_has(local_v2.reference()), "{preview}");
    let relay = Relay::start(fixture.server.address(), RelayFault::None);
    let local_v2 = DockerImage::existing(format!("{}/team/app:v2", relay.address()));
    fixture.pull(&[local_v2.reference()]).succeeded();
    assert_eq!(local_v2.id(), ids[1]);
    assert_eq!(local_v2.container_output(), "hello from version v2");
    assert!(blobs_read(&relay).contains(&ids[1]));
    assert_eq!(blobs_read(&relay).len(), 2, "{:?}", blobs_read(&relay));
}

/// Returns an image of two layers for a platform.
fn for_platform(number: u64, architecture: &str) -> Image {
    let layers = [noise(7, 50_000), noise(100 + number, 70_000)];
    let layers = layers.map(|content| layer("data", content));
    let mut image = Image::new(layers.to_vec());
    let config = String::from_utf8(image.config).expect("JSON");
    let field = format!("\"architecture\":\"{architecture}\"");
    image.config = config
        .replace("\"architecture\":\"amd64\"", &field)
        .into_bytes();
    image
}

#[test]
fn one_platform_of_an_index_is_pulled() {
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = PullFixture::new();
    let repository = "team/multi";
    let address = fixture.server.address();
    let remote_repository = RemoteRepository {
        address,
        repository,
    };
    let local_architecture = docker(&["version", "--format", "{{.Server.Arch}}"]);
    let platforms = [&*local_architecture, "s390x", "riscv64"];
    let images: Vec<_> = (0..3)
        .map(|index| for_platform(index as u64, platforms[index]))
        .collect();
    let manifests: Vec<_> = images
        .iter()
        .map(|image| remote_repository.push_image(None, image))
        .collect();
    let names = platforms.map(|architecture| format!("linux/{architecture}"));
    let parts: Vec<_> = names
        .iter()
        .map(|name| &**name)
        .zip(manifests.iter().map(|manifest| &**manifest))
        .collect();
    let index = remote_repository.push_manifest("v1", OCI_INDEX, &seed::index(&parts));
    let remote = format!("{address}/{repository}:v1");

    let local = DockerImage::existing(remote.clone());
    fixture.pull(&[&remote]).succeeded();
    assert_eq!(local.id(), images[0].id());
    let for_s390x = ["--platform", "linux/s390x", &remote];
    fixture.pull(&for_s390x).succeeded();
    assert_eq!(local.id(), images[1].id());
    let missing = ["--platform", "linux/mips", &remote];
    fixture
        .pull(&missing)
        .failed(3, &["linux/mips", "linux/s390x"]);
    assert_eq!(local.id(), images[1].id());

    // `--platform` also counts for an image that is not multi-platform.
    let fourth = for_platform(3, "s390x");
    remote_repository.push_image(Some("plain"), &fourth);
    let plain = format!("{address}/{repository}:plain");
    let local_plain = DockerImage::existing(plain.clone());
    let for_mips = ["--platform", "linux/mips", &plain];
    fixture
        .pull(&for_mips)
        .failed(3, &["linux/mips", "linux/s390x"]);
    assert!(!docker_has(&plain));
    let outcome = fixture.pull(&[&plain]).succeeded();
    assert!(outcome.stderr.contains("for linux/s390x, not"), "{outcome}");
    assert_eq!(local_plain.id(), fourth.id());

    // By digest, under another name.
    let other = DockerImage::existing(unique("by-digest"));
    let by_digest = format!("{address}/{repository}@{index}");
    fixture.pull(&[&by_digest, other.reference()]).succeeded();
    assert_eq!(other.id(), images[0].id());
}

#[test]
fn an_interrupted_or_damaged_image_is_not_loaded_into_docker() {
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
    assert!(!docker_has(local.reference()) && !docker_has(&image.id()));

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
    child.kill().expect("the status of the child");
    child.wait().expect("an exit status");
    assert!(!docker_has(local.reference()) && !docker_has(&image.id()));

    // An interrupted blob continues at its offset.
    upstream.configure(|settings| {
        settings.pause_blob_at = None;
        settings.cut_blob_at = Some(1_500_000);
    });
    upstream.clear_requests();
    fixture.pull(&[local.reference()]).succeeded();
    assert_eq!(local.id(), image.id());
    let seen = upstream.requests();
    let ranges = seen
        .iter()
        .filter(|request| request.target.ends_with(&large));
    let ranges: Vec<_> = ranges
        .filter_map(|request| request.header("range"))
        .collect();
    assert_eq!(ranges, ["bytes=1500000-"]);
}

/// Docker before 23 cannot read them itself.
#[test]
fn zstd_layers_are_unpacked_for_the_classic_store() {
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let fixture = PullFixture::new();
    let remote_repository = RemoteRepository {
        address: fixture.server.address(),
        repository: "team/zstd",
    };
    let image = for_platform(11, "amd64");
    let compress = |layer: &Vec<u8>| zstd::encode_all(&**layer, 3).expect("writing to memory");
    let layers: Vec<_> = image.layers.iter().map(compress).collect();
    let manifest = String::from_utf8(image.oci_manifest(&layers)).expect("JSON");
    let manifest = manifest.replace("tar+gzip", "tar+zstd");
    for blob in layers.iter().chain([&image.config]) {
        remote_repository.push_blob(blob);
    }
    remote_repository.push_manifest("v1", OCI_MANIFEST, manifest.as_bytes());
    let remote = format!("{}/team/zstd:v1", fixture.server.address());
    let local = DockerImage::existing(remote.clone());
    let outcome = fixture.pull(&["--platform", "linux/amd64", &remote]);
    outcome.succeeded();
    assert_eq!(local.id(), image.id());
}

#[test]
fn a_missing_tag_and_a_missing_daemon_are_different_errors() {
    let fixture = PullFixture::new();
    let absent = format!("{}/team/app:v1", fixture.server.address());
    let mut command = fixture.imgsync.command();
    let socket = fixture.scratch.path("docker.sock");
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    run(command.args(["pull", &absent])).failed(4, &["target", "docker.sock"]);
    if !programs_available(&["docker"]) {
        return;
    }
    let _docker = serial::docker();
    let outcome = fixture.pull(&[&absent]);
    assert!(matches!(outcome.code, Some(3 | 4)), "{outcome}");
    assert!(outcome.stderr.contains("source"), "{outcome}");
}

#[test]
fn an_image_is_pulled_into_podman() {
    if !programs_available(&["podman"]) {
        return;
    }
    let fixture = PullFixture::new();
    let repository = "team/app";
    let address = fixture.server.address();
    let remote_repository = RemoteRepository {
        address,
        repository,
    };
    let image = for_platform(1, "amd64");
    remote_repository.push_image(Some("v1"), &image);
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
