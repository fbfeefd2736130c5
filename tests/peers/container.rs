//! The container image, in the place of the stock registry's.

use std::sync::OnceLock;

use crate::support::prelude::*;

const PEERS: [&str; 3] = ["docker", "busybox", "docker-registry"];
const STOCK_CONFIG: &str = "/etc/docker/registry/config.yml";

/// The image, built once.
fn built() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let beside = PathBuf::from(env!("CARGO_BIN_EXE_imgsync"));
        let target = beside
            .ancestors()
            .nth(2)
            .expect("a folder")
            .join("container");
        // One name for all runs: only the last one's image stays.
        let name = "imgsync-tests/container:test".to_owned();
        // Builds all of the program once more, so there is no deadline.
        let output = Command::new("bash")
            .arg(top.join("examples/container/build.sh"))
            .arg(&name)
            .env("CARGO_TARGET_DIR", target)
            // The image is under test, not its speed.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env_remove("IMGSYNC_SERVER")
            .stdin(Stdio::null())
            .output()
            .expect("bash");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        name
    })
}

/// A running container, removed when this goes.
struct Container {
    id: String,
    address: SocketAddr,
}

impl Container {
    /// Runs the image with options of `docker run`, and words for its program. It shares the
    /// machine's network, since the tests' daemon has no other.
    fn start(options: &[&str], words: &[&str]) -> Self {
        let mut arguments = vec!["run", "--detach", "--network", "host"];
        arguments.extend(options);
        arguments.push(built());
        arguments.extend(words);
        // Removed from now on, whatever happens.
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

    /// Asks it to end, and yields its exit code.
    fn stop(&self) -> String {
        docker(&["stop", &self.id]);
        docker(&["inspect", "--format", "{{.State.ExitCode}}", &self.id])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- the container said\n{}", logs(&self.id));
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

fn volume(folder: &Path, at: &str) -> String {
    format!("{}:{at}", folder.display())
}

#[test]
fn it_takes_the_stock_registrys_place_with_its_volume_and_its_variables() {
    if !programs_available(&PEERS) {
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

    let data = volume(&root, "/var/lib/registry");
    let options = ["--volume", &data, "--env", "REGISTRY_HTTP_ADDR=127.0.0.1:0"];
    let container = Container::start(&options, &[]);
    let at = |name: &str| format!("{}/team/{name}:v1", container.address);
    assert_eq!(check::at_registry(container.address, "team/old:v1"), found);
    let pushed = image.tag(at("new"));
    docker(&["push", pushed.reference()]);
    pushed.remove();
    image.remove();
    for name in ["old", "new"] {
        let pulled = DockerImage::pull(at(name));
        assert_eq!(pulled.id(), id, "{name}");
        assert_eq!(pulled.container_output(), "hello from version v1", "{name}");
    }
    let new = check::at_registry(container.address, "team/new:v1");
    assert_eq!(container.stop(), "0");

    // And back.
    let stock = StockRegistry::start(&root);
    assert_eq!(check::at_registry(stock.address(), "team/new:v1"), new);
}

#[test]
fn it_reads_the_stock_registrys_files_and_takes_its_commands() {
    if !programs_available(&PEERS) {
        return;
    }
    let _docker = serial::docker();
    let scratch = Scratch::new();
    let config = scratch.path("config.yml");
    let text = "version: 0.1\nstorage: {filesystem: {rootdirectory: /data}}\n\
        http: {addr: '127.0.0.1:0', headers: {X-Test: [here]}}\n";
    std::fs::write(&config, text).unwrap();
    let answers = |container: &Container| {
        let reply = http::get(container.address, "/v2/");
        assert_eq!((reply.status, reply.header("x-test")), (200, Some("here")));
    };
    let new = "/etc/distribution/config.yml";
    for place in [STOCK_CONFIG, new] {
        let file = volume(&config, place);
        let options = ["--volume", &*file, "--tmpfs", "/data:mode=1777"];
        answers(&Container::start(&options, &[]));
    }
    let file = volume(&config, "/elsewhere.yml");
    let options = ["--volume", &*file, "--tmpfs", "/data:mode=1777"];
    for words in [&["serve", "/elsewhere.yml"][..], &["/elsewhere.yml"]] {
        answers(&Container::start(&options, words));
    }
    let options = [&options[..], &["--entrypoint", "registry"]].concat();
    answers(&Container::start(&options, &["serve", "/elsewhere.yml"]));
}

#[test]
fn any_user_can_run_it() {
    if !programs_available(&PEERS) {
        return;
    }
    let _docker = serial::docker();
    let options = ["--user", "12345:12345", "--read-only", "--cap-drop", "ALL"];
    let address = ["--env", "REGISTRY_HTTP_ADDR=127.0.0.1:0"];
    let container = Container::start(&[&options[..], &address].concat(), &[]);
    let target = "/v2/a/blobs/uploads/";
    let opened = http::send(container.address, "POST", target, &[], b"");
    assert_eq!(opened.status, 202, "the volume can be written to");
}
