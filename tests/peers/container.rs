//! Tests the container image as a replacement for the stock registry's image.

use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

use crate::support::prelude::*;
use crate::support::server;

const REQUIRED_PROGRAMS: [&str; 3] = ["docker", "busybox", "docker-registry"];
const ANY_PORT: &str = "REGISTRY_HTTP_ADDR=127.0.0.1:0";
/// The user and the group of the image.
const IMAGE_USER: &str = "65532:65532";
const STOCK_CONFIG: &str = "/etc/docker/registry/config.yml";

/// A folder as `packaging/build.sh` writes it, with the program of the tests.
fn programs() -> Scratch {
    let programs = Scratch::new();
    let folder = programs.folder(std::env::consts::ARCH);
    // Without symbols: the daemon copies the image several times.
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(folder.join("imgsync-server"));
    must(strip.arg(server::binary()));
    programs
}

/// Returns the command that builds an image from these programs.
fn build_command(programs: &Scratch) -> Command {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut build = Command::new("bash");
    build.arg(workspace.join("examples/container/build.sh"));
    build.arg("--programs").arg(programs.root());
    build
}

/// Builds the image once and returns its name. The image has the program of the tests with its shared
/// libraries: to link it statically, cargo would compile everything again.
pub(super) fn image_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        // All runs use the same name, so that only the image of the last run stays.
        let name = "imgsync-tests/container:test".to_owned();
        let mut remove = Command::new("docker");
        // There is none before the first run.
        let _ = remove.args(["image", "rm", "--force", &name]).output();
        must(build_command(&programs()).args(["--with-libraries", &name]));
        name
    })
}

/// A running container. It is removed when the value is dropped.
pub(super) struct Container {
    id: String,
    address: SocketAddr,
}

impl Container {
    /// Runs the image with these options of `docker run` and these arguments. The container uses
    /// the host's network, because the daemon of the tests has no other.
    pub(super) fn start(options: &[&str], program_arguments: &[&str]) -> Self {
        let mut arguments = vec!["run", "--detach", "--network", "host"];
        arguments.extend(options);
        arguments.push(image_name());
        arguments.extend(program_arguments);
        // From here on the container is removed even if the test fails.
        let mut container = Self {
            id: docker(&arguments),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        container.address = wait_until("the container's address", || {
            let log = logs(&container.id);
            let (_, rest) = log.split_once("listening on http://")?;
            let (address, _) = rest.split_once('\n')?;
            Some(address.parse().expect("an address and a port"))
        });
        container
    }

    /// Returns the address of the server in the container.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Stops the container and returns its exit code.
    fn stop(&self) -> String {
        docker(&["stop", &self.id]);
        docker(&["inspect", "--format", "{{.State.ExitCode}}", &self.id])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the log of the container\n{}", logs(&self.id));
        }
        let _ = Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.id])
            .output();
    }
}

fn logs(id: &str) -> String {
    let outcome = run(Command::new("docker").args(["logs", id]));
    outcome.stdout + &outcome.stderr
}

/// Returns the user and the group that own a folder, for `docker run --user` and `chown`.
fn owner(folder: &Path) -> String {
    let metadata = folder.metadata().expect("a folder");
    format!("{}:{}", metadata.uid(), metadata.gid())
}

pub(super) fn volume_option(folder: &Path, mount_point: &str) -> String {
    format!("{}:{mount_point}", folder.display())
}

#[test]
fn the_image_works_with_the_volume_and_variables_of_the_stock_registry() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    let image = DockerImage::build(&unique("in-container"), "v1");
    let id = image.id();
    let mut stock = StockRegistry::start(&root);
    let pushed = image.tag(format!("{}/team/old:v1", stock.address()));
    docker(&["push", pushed.reference()]);
    pushed.remove();
    let found = check::at_registry(stock.address(), "team/old:v1");
    stock.stop();

    let data = volume_option(&root, "/var/lib/registry");
    let owner = owner(&root);
    let options = ["--volume", &data, "--env", ANY_PORT, "--user", &owner];
    let container = Container::start(&options, &[]);
    let remote = |name: &str| format!("{}/team/{name}:v1", container.address);
    assert_eq!(check::at_registry(container.address, "team/old:v1"), found);
    let pushed = image.tag(remote("new"));
    docker(&["push", pushed.reference()]);
    pushed.remove();
    image.remove();
    for name in ["old", "new"] {
        let pulled = DockerImage::pull(remote(name));
        assert_eq!(pulled.id(), id, "{name}");
        assert_eq!(pulled.container_output(), "hello from version v1", "{name}");
    }
    let new = check::at_registry(container.address, "team/new:v1");
    assert_eq!(container.stop(), "0");

    // The stock registry can use the folder again.
    let stock = StockRegistry::start(&root);
    assert_eq!(check::at_registry(stock.address(), "team/new:v1"), new);
}

#[test]
fn the_image_works_with_the_files_and_commands_of_the_stock_registry() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let config = scratch.path("config.yml");
    let text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n\
        http: {addr: '127.0.0.1:0', headers: {X-Test: [here]}}\n";
    std::fs::write(&config, text).unwrap();
    let assert_serves = |container: &Container| {
        let reply = http::get(container.address, "/v2/");
        assert_eq!((reply.status, reply.header("x-test")), (200, Some("here")));
    };
    let new_config = "/etc/distribution/config.yml";
    for config_path in [STOCK_CONFIG, new_config] {
        let file = volume_option(&config, config_path);
        let options = ["--volume", &*file, "--tmpfs", "/data:mode=1777"];
        assert_serves(&Container::start(&options, &[]));
    }
    let file = volume_option(&config, "/elsewhere.yml");
    let options = ["--volume", &*file, "--tmpfs", "/data:mode=1777"];
    for program_arguments in [&["serve", "/elsewhere.yml"][..], &["/elsewhere.yml"]] {
        assert_serves(&Container::start(&options, program_arguments));
    }
    let options = [&options[..], &["--entrypoint", "registry"]].concat();
    assert_serves(&Container::start(&options, &["serve", "/elsewhere.yml"]));
}

#[test]
fn a_program_that_cannot_run_in_an_empty_image_is_refused() {
    let programs = programs();
    let words = [
        "not linked statically",
        "packaging/build.sh",
        "--with-libraries",
    ];
    run(&mut build_command(&programs)).failed(1, &words);
    std::fs::remove_dir_all(programs.path(std::env::consts::ARCH)).unwrap();
    run(&mut build_command(&programs)).failed(1, &["does not exist", "packaging/build.sh"]);
}

#[test]
fn the_image_runs_as_any_user() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let options = ["--user", "12345:12345", "--read-only", "--cap-drop", "ALL"];
    let address = ["--env", ANY_PORT];
    let container = Container::start(&[&options[..], &address].concat(), &[]);
    let target = "/v2/a/blobs/uploads/";
    let opened = http::send(container.address, "POST", target, &[], b"");
    assert_eq!(opened.status, 202, "the volume is writable");
}

#[test]
fn a_folder_that_a_root_container_left_is_explained() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let root = scratch.folder("root");
    std::fs::create_dir_all(root.join("docker/registry/v2")).unwrap();
    let data = volume_option(&root, "/var/lib/registry");
    let options = ["--network", "host", "--volume", &data, "--env", ANY_PORT];
    let mut refused = Command::new("docker");
    refused
        .args(["run", "--rm"])
        .args(options)
        .arg(image_name());
    let chown = format!("chown -R {IMAGE_USER}");
    let user = format!("docker run --user {}", owner(&root));
    let compose = format!("user: \"{}\" in a compose file", owner(&root));
    let words = ["/var/lib/registry", "Permission denied"];
    run(&mut refused).failed(1, &[&words[..], &[&chown, &user, &compose]].concat());

    // The tests may run without root, who alone can change the owner.
    if owner(&root) != "0:0" {
        return;
    }
    must(Command::new("chown").args(["-R", IMAGE_USER]).arg(&root));
    let container = Container::start(&["--volume", &data, "--env", ANY_PORT], &[]);
    let target = "/v2/a/blobs/uploads/";
    let opened = http::send(container.address, "POST", target, &[], b"");
    assert_eq!(opened.status, 202);
}

#[test]
fn docker_shows_whether_the_server_is_healthy() {
    if !programs_available(&REQUIRED_PROGRAMS) {
        return;
    }
    let _docker = serial::docker();
    // The health check asks the address of the configuration, so it must be a fixed one.
    let port = ReservedPort::new();
    let variable = format!("REGISTRY_HTTP_ADDR={}", port.address());
    let container = Container::start(&["--env", &variable, "--health-interval", "1s"], &[]);
    wait_until("a healthy container", || {
        let format = "{{.State.Health.Status}}";
        (docker(&["inspect", "--format", format, &container.id]) == "healthy").then_some(())
    });
}
