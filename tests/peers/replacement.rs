//! Tests the commands of the documents that replace the stock registry's image, and that go back: with
//! `docker run` and with compose.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::OnceLock;

use super::container::image_name;
use crate::examples::document::{Block, blocks, read};
use crate::support::peers::program;
use crate::support::prelude::*;

const REQUIRED_PROGRAMS: [&str; 4] = ["docker", "docker-compose", "busybox", "docker-registry"];

/// The output of `htpasswd -Bbn alice secret`.
const HTPASSWD: &str = "alice:$2y$05$QPa1xegaJPiCtMHwmQ.0x.Tp5gZebiXTQONeDUdL3y1Fn8AElzEdK\n";
/// What the commands that ask for a password read.
const PASSWORD: &str = "secret";

/// Makes an image of the stock registry's program. Like `registry:2`, it runs as root and has `chown`.
const BUILD_STOCK_IMAGE: &str = r#"
    set -euo pipefail
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    install -D "$1" "$root/bin/registry"
    for library in $(ldd "$1" | grep -o '/[^ ]*'); do install -D "$library" "$root$library"; done
    install "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/chown"
    mkdir -p "$root/etc/docker/registry" "$root/var/lib/registry"
    printf '%s\n' 'version: 0.1' 'http: {addr: ":5000"}' \
        'storage: {filesystem: {rootdirectory: /var/lib/registry}}' >"$root/etc/docker/registry/config.yml"
    # The image of the last run: an import never gives the same one.
    docker image rm --force "$2" >/dev/null 2>&1 || true
    tar --create --directory "$root" . | docker import --change 'VOLUME /var/lib/registry' \
        --change 'ENTRYPOINT ["registry", "serve", "/etc/docker/registry/config.yml"]' - "$2"
"#;

/// The compose program, as the documents call it.
const COMPOSE: &str = r#"
    docker() {
        if [ "$1" = compose ] && ! command docker compose version >/dev/null 2>&1; then
            shift
            docker-compose "$@"
        else
            command docker "$@"
        fi
    }
"#;

/// Builds the image once and returns its name.
fn stock_image() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let name = "imgsync-tests/stock:test".to_owned();
        let mut build = Command::new("bash");
        build.args(["-c", BUILD_STOCK_IMAGE, "bash"]);
        must(build.arg(program("docker-registry")).arg(&name));
        name
    })
}

/// A machine on which a user types the commands: a working folder with a compose file, and the names and
/// ports that stand for those of the documents.
struct Machine {
    scratch: Scratch,
    /// The name of the container and of the volume.
    name: String,
    /// The port of `docker run`, and that of compose.
    ports: [u16; 2],
    /// Keeps the ports while no container listens on them.
    _reserved_ports: [ReservedPort; 2],
    /// The tags that were pushed to each port.
    tags: BTreeMap<u16, BTreeSet<String>>,
}

impl Machine {
    fn new(compose: &str) -> Self {
        let scratch = Scratch::new();
        let name = unique("replacement").replace('/', "-");
        let reserved_ports = [ReservedPort::new(), ReservedPort::new()];
        let machine = Self {
            name,
            scratch,
            ports: reserved_ports.each_ref().map(|port| port.address().port()),
            _reserved_ports: reserved_ports,
            tags: BTreeMap::new(),
        };
        let layers = vec![layer("data", noise(1, 100_000))];
        let archive = machine.scratch.path("image.tar");
        archive::write_tar(&Image::new(layers).docker_archive("app:v1"), &archive);
        std::fs::create_dir(machine.work()).unwrap();
        std::fs::write(machine.scratch.path("password"), PASSWORD).unwrap();
        // As root creates it: nobody else may read it.
        let file = machine.work().join("auth/htpasswd");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(&file, HTPASSWD).unwrap();
        must(Command::new("chmod").arg("600").arg(&file));
        // The daemon of the tests has no other network than that of the machine.
        let port = machine.ports[1];
        let address = format!("environment:\n      REGISTRY_HTTP_ADDR: 127.0.0.1:{port}\n");
        let compose = compose.replacen("environment:\n", &address, 1);
        let (before, after) = compose.split_once("    ports:\n").expect("ports");
        let (_, after) = after.split_once('\n').expect("one port");
        let compose = format!("{before}    network_mode: host\n{after}");
        let own = format!(": {}\n", image_name());
        let compose = compose.replace(": imgsync-server # was: registry:2\n", &own);
        let stock = format!(": {}\n", stock_image());
        let compose = compose.replace(": registry:2\n", &stock);
        std::fs::write(machine.work().join("docker-compose.yml"), compose).unwrap();
        machine
    }

    /// The working folder. Its name is the name of the compose project.
    fn work(&self) -> PathBuf {
        self.scratch.path(&self.name)
    }

    /// Returns the commands with the names and the ports of this machine.
    fn translate(&self, text: &str) -> String {
        let Self { name, ports, .. } = self;
        let (stock, own) = (stock_image(), image_name());
        let address = format!(
            "--network host -e REGISTRY_HTTP_ADDR=127.0.0.1:{}",
            ports[0]
        );
        let srv = self.scratch.path("srv");
        let changes = [
            (
                "examples/container/build.sh imgsync-server\n",
                String::new(),
            ),
            ("-p 5000:5000", address),
            ("--name registry ", format!("--name {name} ")),
            ("docker stop registry", format!("docker stop -t 1 {name}")),
            ("docker rm registry", format!("docker rm {name}")),
            ("docker rm -f registry", format!("docker rm -f {name}")),
            ("docker exec -it registry", format!("docker exec -i {name}")),
            ("docker run --rm -it", "docker run --rm -i".to_owned()),
            ("compose down", "compose down -t 1".to_owned()),
            ("compose exec", "compose exec -T".to_owned()),
            ("-v registry:", format!("-v {name}:")),
            (" registry:2", format!(" {stock}")),
            (" imgsync-server\n", format!(" {own}\n")),
            (" imgsync-server htpasswd", format!(" {own} htpasswd")),
            ("\"$IMAGES/imgsync-server\"", own.to_owned()),
            ("sudo ", String::new()),
            (" /srv/", format!(" {}/", srv.display())),
        ];
        let change = |text: String, (from, to): (&str, String)| text.replace(from, &to);
        changes.into_iter().fold(text.to_owned(), change)
    }

    fn shell(&self, script: &str) -> Outcome {
        let mut shell = Command::new("sh");
        shell.args(["-euc", &format!("{COMPOSE}\n{script}")]);
        shell.current_dir(self.work());
        let password = std::fs::File::open(self.scratch.path("password")).unwrap();
        run(shell.stdin(password))
    }

    /// Runs the commands of a block. Then pushes to the servers that it has started.
    fn type_in(&mut self, text: &str) {
        self.shell(&self.translate(text)).succeeded();
        let starts = [text.contains("docker run -d "), text.contains("up -d")];
        for (port, _) in self.ports.into_iter().zip(starts).filter(|(_, yes)| *yes) {
            self.push(port, "alice").succeeded();
        }
    }

    /// Pushes another tag, and panics unless the registry still has the earlier ones.
    fn push(&mut self, port: u16, user: &str) -> Outcome {
        wait_until("a registry", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let repository = format!("127.0.0.1:{port}/team/app");
        let imgsync = Imgsync::new(&self.scratch.folder("home"));
        let command = |arguments: &[&str]| {
            let mut command = imgsync.command();
            command.env("IMGSYNC_USERNAME", user);
            command.env("IMGSYNC_PASSWORD", PASSWORD).args(arguments);
            run(&mut command)
        };
        let tags = self.tags.entry(port).or_default();
        let tag = format!("v{}", tags.len());
        let archive = self.scratch.path("image.tar");
        let archive = archive.to_str().unwrap();
        let outcome = command(&["push", archive, &format!("{repository}:{tag}")]);
        if outcome.code == Some(0) {
            tags.insert(tag);
            let found = command(&["ls", &repository]).succeeded().stdout;
            let found: BTreeSet<_> = found.lines().map(str::to_owned).collect();
            assert_eq!(found, *tags, "{outcome}");
        }
        outcome
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let name = &self.name;
        let remove = format!("docker rm -f {name}; docker volume rm -f {name}");
        let outcome = self.shell(&format!("docker logs {name} || true\n{remove} || true"));
        let compose = self.shell("docker compose logs || true; docker compose down -v -t 1");
        if std::thread::panicking() {
            eprintln!("-- docker\n{outcome}\n-- compose\n{compose}");
        }
    }
}

/// Returns the compose file of the page.
fn compose_file(page: &[Block]) -> String {
    let mut files = page
        .iter()
        .filter(|block| block.text.starts_with("services:"));
    files.next().expect("a compose file").text.clone()
}

/// Reports whether the tests can change the owners of folders, and have Docker.
fn is_possible() -> bool {
    programs_available(&REQUIRED_PROGRAMS) && must(Command::new("id").arg("-u")) == "0"
}

#[test]
fn the_commands_that_replace_the_image_keep_the_images_and_the_logins() {
    if !is_possible() {
        return;
    }
    let _docker = serial::docker();
    let page = blocks(&read("docs/from-registry-2.md"));
    let mut machine = Machine::new(&compose_file(&page));
    machine.type_in("docker compose up -d");
    for block in &page {
        if block.is("diff") {
            let file = machine.work().join("docker-compose.yml");
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.replace(stock_image(), image_name());
            std::fs::write(file, text).unwrap();
        } else if block.has_mark("container") {
            machine.type_in(&block.text);
        }
    }
    let counts: Vec<_> = machine.tags.values().map(BTreeSet::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 5, "{counts:?}");
    // The user whom the last command of compose has added. The server soon reads the file again.
    wait_until("the new user", || {
        let outcome = machine.push(machine.ports[1], "bob");
        (outcome.code == Some(0)).then_some(())
    });
    machine.push(machine.ports[1], "mallory").failed(5, &[]);
}

#[test]
fn the_commands_of_the_other_documents_start_a_registry() {
    if !is_possible() {
        return;
    }
    let _docker = serial::docker();
    let compose = compose_file(&blocks(&read("docs/from-registry-2.md")));
    let compose = compose.replace(": registry:2\n", ": imgsync-server # was: registry:2\n");
    for (path, count) in [("docs/zh-CN/tutorial.md", 4), ("docs/install.md", 0)] {
        let mut machine = Machine::new(&compose);
        std::fs::create_dir_all(machine.scratch.path("srv/registry")).unwrap();
        for block in &blocks(&read(path)) {
            if block.has_mark("container") {
                machine.type_in(&block.text);
            }
        }
        let tags: usize = machine.tags.values().map(BTreeSet::len).sum();
        assert_eq!(tags, count, "{path}: {:?}", machine.tags);
    }
}

#[test]
fn the_compose_example_works_as_its_comments_say() {
    if !is_possible() {
        return;
    }
    let _docker = serial::docker();
    let compose = read("examples/compose/compose.yml");
    let mut machine = Machine::new(&compose);
    std::fs::remove_dir_all(machine.work().join("auth")).unwrap();
    let commands = compose.lines().filter_map(|line| line.strip_prefix("#   "));
    let commands: Vec<_> = commands.map(|line| format!("{line}\n")).collect();
    machine.type_in(&commands.concat());
    machine.push(machine.ports[1], "mallory").failed(5, &[]);
}
