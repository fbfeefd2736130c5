//! Tests images from podman's socket, with and without root.

use super::{SourcesFixture, recorded_archive, text, upload_blob};
use crate::support::DockerSocketProxy;
use crate::support::older_server::wait_for_diff_ids;
use crate::support::peers::report_missing;
use crate::support::prelude::*;
use crate::support::process::Process;

/// podman's service with the recorded image.
pub(super) struct PodmanService {
    _process: Process,
    podman: Podman,
    /// The value of `XDG_RUNTIME_DIR`. The socket is at the path below it that podman uses.
    runtime: PathBuf,
}

impl PodmanService {
    pub(super) fn start(scratch: &Scratch) -> Self {
        let podman = Podman::new();
        podman.load(text(&recorded_archive("podman4-docker-archive.tar")));
        let runtime = scratch.folder("runtime");
        std::fs::create_dir(runtime.join("podman")).expect("a folder");
        let socket = runtime.join("podman/podman.sock");
        let mut command = podman.command();
        command.args(["system", "service", "--time", "0"]);
        command.arg(format!("unix://{}", socket.display()));
        let process = Process::start("podman", &mut command, &scratch.folder("podman"));
        wait_until("podman's socket", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        Self {
            _process: process,
            podman,
            runtime,
        }
    }

    /// Loads an image from an archive of `docker save`.
    pub(super) fn load(&self, archive: &Path) {
        self.podman.load(text(archive));
    }

    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.runtime.join("podman/podman.sock")
    }

    pub(super) fn image_id(&self, image: &str) -> String {
        self.podman.id(image)
    }
}

pub(super) const PODMAN_IMAGE: &str = "localhost/sample/app:v1";

/// Starts a registry that has only the first layer of an image. Returns it with what a push to it
/// prints.
fn registry_with_first_layer(fixture: &SourcesFixture, name: &str) -> (Server, String) {
    let server = Server::start(&fixture.scratch.folder("other"));
    let image = fixture.check_image(name);
    let (first, _) = &image.blobs[1];
    let target = format!("/v2/{name}/blobs/{first}");
    let blob = http::get(fixture.server.address(), &target).body;
    upload_blob(&server, first, &blob);
    wait_for_diff_ids(server.address());
    let layers = image.diff_ids.len();
    let read = format!("reading {} of {layers} layers from podman", layers - 1);
    (server, read)
}

/// The address of podman can come from several variables, and the image can be named or given by
/// ID.
#[test]
fn images_are_pushed_from_the_service_of_podman() {
    if !programs_available(&["podman"]) {
        return;
    }
    let fixture = SourcesFixture::new();
    let service = PodmanService::start(&fixture.scratch);
    let id = service.podman.id(PODMAN_IMAGE);
    let config = fixture.scratch.folder("docker-config");
    let context = digest(b"lab");
    let context = context.strip_prefix("sha256:").expect("hex");
    let meta = config.join("contexts/meta").join(context);
    std::fs::create_dir_all(&meta).expect("a folder");
    let json = serde_json::json!({
        "Name": "lab", "Metadata": {}, "Endpoints": {"docker": {"Host": service.host()}},
    });
    std::fs::write(meta.join("meta.json"), json.to_string()).expect("a file");
    let by_config = fixture.scratch.folder("current-context");
    let copied = by_config.join("contexts/meta").join(context);
    std::fs::create_dir_all(&copied).expect("a folder");
    std::fs::copy(meta.join("meta.json"), copied.join("meta.json")).expect("a copy");
    let json = r#"{"currentContext":"lab"}"#;
    std::fs::write(by_config.join("config.json"), json).expect("a file");

    let host = service.host();
    for (number, (image, variables)) in [
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
        // Without a cache, so that every push compresses and sends the layers.
        fixture.imgsync.clear_cache();
        let name = format!("podman{number}");
        let mut command = fixture.imgsync.command();
        command.env_remove("DOCKER_HOST").envs(variables);
        command.args(["push", image, &fixture.remote(&name)]);
        let outcome = run(&mut command).succeeded();
        // Later pushes find the layers in the other repositories.
        let is_exported = outcome
            .stderr
            .contains("no layer was found in the registry");
        assert_eq!(is_exported, number == 0, "{outcome}");
        assert_eq!(fixture.check_image(&name).config, id, "{name}");
    }
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", &host);
    command.args(["push", "missing:v1", &fixture.remote("missing")]);
    run(&mut command).failed(3, &["podman has no image missing:v1", "podman image ls"]);
    // Only what the registry lacks is read. podman runs other programs to describe itself, which
    // would take longer than that.
    fixture.imgsync.clear_cache();
    let proxy = DockerSocketProxy::start_for(&fixture.scratch.folder("proxy"), &host);
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", proxy.host());
    command.args(["push", "-v", PODMAN_IMAGE, &fixture.remote("podman4")]);
    let outcome = run(&mut command).succeeded();
    assert!(outcome.stderr.contains("reading 0 of"), "{outcome}");
    let requests = proxy.requests();
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    let describes = |request: &String| request.contains("/info") || request.contains("/version");
    assert!(
        !requests.is_empty() && !requests.iter().any(describes),
        "{requests:?}"
    );
    assert!(!outcome.stderr.contains("exporting"), "{outcome}");
    assert_eq!(fixture.check_image("podman4").config, id);
    let (other, expected) = registry_with_first_layer(&fixture, "podman4");
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", &host);
    let remote = format!("{}/app:v1", other.address());
    let outcome = run(command.args(["push", "-v", PODMAN_IMAGE, &remote])).succeeded();
    assert!(outcome.stderr.contains(&expected), "{outcome}");
    assert_eq!(check::at_registry(other.address(), "app:v1").config, id);
    let mut command = fixture.imgsync.command();
    command.env("DOCKER_HOST", &host);
    command.args(["push", "nowhere:v1", &fixture.remote("none")]);
    run(&mut command).failed(3, &["no image nowhere:v1"]);
}

/// Without Docker, podman's socket is found without any setting.
#[test]
fn without_docker_the_socket_of_podman_is_found() {
    if !programs_available(&["podman"]) {
        return;
    }
    // Runs a program in a mount namespace in which no socket of the system is visible.
    let in_empty_namespace = |program: &str| {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /run && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", program]);
        command.stdin(Stdio::null());
        command
    };
    if run(&mut in_empty_namespace("true")).code != Some(0) {
        report_missing("unshare may not make a mount namespace here (it takes root)");
        return;
    }
    let fixture = SourcesFixture::new();
    let service = PodmanService::start(&fixture.scratch);
    let original = fixture.imgsync.command();
    let mut command = in_empty_namespace(&original.get_program().to_string_lossy());
    command.env_clear();
    for (name, value) in original.get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.env_remove("DOCKER_HOST");
    command.env("XDG_RUNTIME_DIR", &service.runtime);
    command.args(["push", PODMAN_IMAGE, &fixture.remote("found")]);
    run(&mut command).succeeded();
    let id = service.podman.id(PODMAN_IMAGE);
    assert_eq!(fixture.check_image("found").config, id);
}

/// A system user with its own podman. The user is deleted when the value is dropped.
struct TestUser {
    name: String,
    home: PathBuf,
}

impl TestUser {
    /// Returns `None` if no user can be created.
    fn new() -> Option<Self> {
        let name = format!("imgsync-tests-{}", std::process::id());
        let mut command = Command::new("useradd");
        command.args(["--create-home", "--shell", "/bin/sh", &name]);
        let status = command.stdin(Stdio::null()).status();
        status.is_ok_and(|status| status.success()).then(|| Self {
            home: Path::new("/home").join(&name),
            name,
        })
    }

    /// Returns the command that runs a program as this user.
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

impl Drop for TestUser {
    fn drop(&mut self) {
        // Ends the process that holds the user namespace of podman.
        let _ = run(&mut self.podman(&["system", "migrate"]));
        let mut command = Command::new("userdel");
        let _ = run(command.args(["--force", "--remove", &self.name]));
    }
}

/// Needs root to create a user. For any other user, the tests above already use podman without
/// root.
#[test]
fn images_are_pushed_from_podman_without_root() {
    if !programs_available(&["podman"]) {
        return;
    }
    let root = run(Command::new("id").arg("-u").stdin(Stdio::null()));
    if root.stdout.trim() != "0" {
        return;
    }
    let Some(user) = TestUser::new() else {
        report_missing("a user for podman without root");
        return;
    };
    let socket = user.home.join("run/podman/podman.sock");
    let parent = socket.parent().expect("a folder");
    run(user.command("mkdir").args(["-p", text(parent)])).succeeded();
    // Copies, because the user may not be able to read the original files.
    let [archive, tool] = ["app.tar", "imgsync"].map(|name| user.home.join(name));
    std::fs::copy(recorded_archive("podman4-docker-archive.tar"), &archive).expect("a copy");
    std::fs::copy(env!("CARGO_BIN_EXE_imgsync"), &tool).expect("a copy");
    let mut chmod = Command::new("chmod");
    run(chmod.arg("a+rx").args([&archive, &tool])).succeeded();

    let loaded = run(&mut user.podman(&["load", "--input", text(&archive)]));
    if loaded.code != Some(0) {
        report_missing(&format!("podman does not work without root here: {loaded}"));
        return;
    }
    let id = run(&mut user.podman(&["image", "inspect", "--format", "{{.Id}}", PODMAN_IMAGE]));
    let id = format!("sha256:{}", id.succeeded().stdout.trim());
    let fixture = SourcesFixture::new();
    let host = format!("unix://{}", socket.display());
    let mut service = user.podman(&["system", "service", "--time", "0", &host]);
    let service = Process::start("podman", &mut service, &fixture.scratch.folder("podman"));
    wait_until("podman's socket", || {
        std::os::unix::net::UnixStream::connect(&socket).ok()
    });
    let push = |options: &[&str], variable: &str, remote: &str| {
        let mut command = user.command(text(&tool));
        command.env(variable, &host).arg("push").args(options);
        run(command.args([PODMAN_IMAGE, remote])).succeeded()
    };
    let remote = fixture.remote("rootless");
    let plan = push(&["--dry-run"], "CONTAINER_HOST", &remote).stdout;
    assert!(
        plan.contains("no layer was found in the registry"),
        "{plan}"
    );
    push(&[], "CONTAINER_HOST", &remote);
    assert_eq!(fixture.check_image("rootless").config, id);
    // A second push has nothing to send.
    push(&[], "DOCKER_HOST", &remote);
    // podman reaches the registry of the tool, although its user namespace is another one.
    let (other, expected) = registry_with_first_layer(&fixture, "rootless");
    let remote = format!("{}/app:v1", other.address());
    let plan = push(&["--dry-run"], "CONTAINER_HOST", &remote).stdout;
    assert!(plan.contains(&expected), "{plan}");
    let outcome = push(&["-v"], "CONTAINER_HOST", &remote);
    assert!(outcome.stderr.contains(&expected), "{outcome}");
    assert_eq!(check::at_registry(other.address(), "app:v1").config, id);
    drop(service);
}
