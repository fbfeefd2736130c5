//! Runs the Docker client, and starts a second daemon.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::authority::{CertificateAndKey, CertificateAuthority};
use super::peers::{program, report_missing};
use super::process::Process;
use super::reserved_port::ReservedPort;
use super::run::must;

/// Runs `docker`, which must succeed, and returns its output.
pub fn docker(arguments: &[&str]) -> String {
    must(Command::new("docker").args(arguments))
}

/// Returns the command `docker save`, which writes the archive of an image to stdout.
pub fn save(image: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["save", image]);
    command
}

/// An image in the daemon, removed on drop.
pub struct DockerImage {
    reference: String,
}

impl DockerImage {
    /// Builds `tests/images/app` as `NAME:VERSION`. Images with other names share no layers with
    /// it.
    pub fn build(name: &str, version: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/images/build.sh");
        must(Command::new("bash").arg(script).args([name, version, name]));
        Self::existing(format!("{name}:{version}"))
    }

    /// Returns a handle for an image that exists or that the test creates later.
    pub fn existing(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
        }
    }

    /// Pulls an image.
    pub fn pull(reference: impl Into<String>) -> Self {
        let image = Self::existing(reference);
        docker(&["pull", image.reference()]);
        image
    }

    /// Adds another name to the image.
    pub fn tag(&self, reference: impl Into<String>) -> Self {
        let other = Self::existing(reference);
        docker(&["tag", &self.reference, &other.reference]);
        other
    }

    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// Returns the image ID.
    pub fn id(&self) -> String {
        docker(&["image", "inspect", "--format", "{{.Id}}", &self.reference])
    }

    /// Runs a container of the image, and returns its output.
    pub fn container_output(&self) -> String {
        docker(&["run", "--rm", "--network", "none", &self.reference])
    }

    /// Writes the image to a file with `docker save`.
    pub fn save(&self, path: PathBuf) -> PathBuf {
        let file = path.to_str().expect("a path in UTF-8");
        docker(&["save", "--output", file, &self.reference]);
        path
    }

    /// Removes the image from the daemon, with all layers that no other image uses.
    pub fn remove(self) {
        drop(self);
    }
}

impl Drop for DockerImage {
    fn drop(&mut self) {
        let mut command = Command::new("docker");
        command.args(["image", "rm", "--force", &self.reference]);
        // A test may fail before the image exists.
        let _ = command.output();
    }
}

/// Returns an image name that no other test and no other run uses.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("imgsync-tests/{name}-{}-{count}", std::process::id())
}

/// Returns the folder with the programs of `tests/containerd_store.sh`, where `tests/peers.sh` puts
/// them.
fn containerd_store_programs() -> PathBuf {
    let data = std::env::var_os("IMGSYNC_TESTS_DOCKER").map(PathBuf::from);
    let data = data.unwrap_or_else(|| std::env::temp_dir().join("imgsync-tests-docker"));
    data.join("containerd-store/bin")
}

/// A second Docker daemon, for one test, stopped on drop.
pub struct DockerDaemon {
    process: Process,
    folder: PathBuf,
    flags: Vec<String>,
    /// The folder with `dockerd` and its containerd; `None` for the installed ones.
    programs: Option<PathBuf>,
    network: DaemonNetwork,
}

/// The network interfaces that a daemon has.
#[derive(Clone, Copy)]
enum DaemonNetwork {
    /// The interfaces of the machine.
    Machine,
    /// None, as if the daemon were in a virtual machine.
    None,
}

/// The TLS endpoint of a daemon, which accepts only clients with a certificate of its CA.
pub struct TlsEndpoint {
    /// The value of `DOCKER_HOST`.
    pub host: String,
    /// The value of `DOCKER_CERT_PATH`.
    pub certificates: PathBuf,
    pub authority: CertificateAuthority,
    pub client: CertificateAndKey,
    _port: ReservedPort,
}

impl TlsEndpoint {
    fn new(folder: &Path) -> Self {
        let subfolder = |name: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(&path).expect("a folder");
            path
        };
        let authority = CertificateAuthority::new(&subfolder("authority"));
        let client = authority.sign("client", &[]);
        let certificates = subfolder("certificates");
        write_certificates(&certificates, &authority.certificate(), Some(&client));
        let port = ReservedPort::new();
        Self {
            host: format!("tcp://{}", port.address()),
            certificates,
            authority,
            client,
            _port: port,
        }
    }
}

/// Writes the files that Docker's client reads from `DOCKER_CERT_PATH`.
pub fn write_certificates(folder: &Path, authority: &Path, client: Option<&CertificateAndKey>) {
    std::fs::copy(authority, folder.join("ca.pem")).expect("a copy");
    if let Some(client) = client {
        std::fs::copy(&client.certificate, folder.join("cert.pem")).expect("a copy");
        std::fs::copy(&client.key, folder.join("key.pem")).expect("a copy");
    }
}

impl DockerDaemon {
    /// Starts a daemon that also listens on a TLS endpoint. Returns `None` if it cannot run here.
    pub fn start_with_tls(folder: &Path) -> Option<(Self, TlsEndpoint)> {
        let endpoint = TlsEndpoint::new(folder);
        let server = endpoint.authority.sign("server", &["IP:127.0.0.1"]);
        let flags = [
            format!("--host={}", endpoint.host),
            "--tlsverify".to_owned(),
            format!("--tlscacert={}", endpoint.authority.certificate().display()),
            format!("--tlscert={}", server.certificate.display()),
            format!("--tlskey={}", server.key.display()),
        ];
        let flags: Vec<_> = flags.iter().map(|flag| &**flag).collect();
        let daemon = Self::start(folder, &flags)?;
        Some((daemon, endpoint))
    }

    /// Starts a daemon with additional flags and its data in an empty folder. Returns `None` if it
    /// cannot run here, for example without root.
    pub fn start(folder: &Path, flags: &[&str]) -> Option<Self> {
        // The configuration can be empty: registries on loopback are insecure by default.
        let flags = [&["--storage-driver=vfs"], flags].concat();
        Self::start_programs(None, folder, "{}", &flags, DaemonNetwork::Machine)
    }

    /// Starts a daemon that reaches this machine only through its socket. Returns `None` if it
    /// cannot run here.
    pub fn start_without_network(folder: &Path) -> Option<Self> {
        let flags = ["--storage-driver=vfs"];
        Self::start_programs(None, folder, "{}", &flags, DaemonNetwork::None)
    }

    /// Starts a daemon whose images are in containerd's store. Returns `None` if there is no Docker
    /// that has it, or if the daemon cannot run here.
    pub fn start_with_containerd_store(folder: &Path) -> Option<Self> {
        let programs = containerd_store_programs();
        if !programs.join("dockerd").is_file() {
            report_missing("there is no Docker with containerd's image store");
            return None;
        }
        let config = r#"{"features": {"containerd-snapshotter": true}}"#;
        // This snapshotter works on every file system.
        let flags = ["--storage-driver=native"];
        let network = DaemonNetwork::Machine;
        Self::start_programs(Some(programs), folder, config, &flags, network)
    }

    fn start_programs(
        programs: Option<PathBuf>,
        folder: &Path,
        config: &str,
        flags: &[&str],
        network: DaemonNetwork,
    ) -> Option<Self> {
        std::fs::write(folder.join("daemon.json"), config).expect("a file");
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut daemon = Self {
            process: spawn_daemon(programs.as_deref(), folder, &flags, network),
            folder: folder.to_owned(),
            flags,
            programs,
            network,
        };
        if !daemon.wait_until_ready() {
            report_missing(&format!("no second dockerd: {}", daemon.process.stderr()));
            return None;
        }
        Some(daemon)
    }

    /// Kills the daemon and its containerd with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
        // Another process may get their IDs, and the next daemon would take it for them.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let path = self.folder.join(file);
            let Ok(process) = std::fs::read_to_string(&path) else {
                continue;
            };
            // The daemon takes its containerd with it, and has ended itself.
            let script = format!("kill -KILL {}", process.trim());
            let _ = Command::new("sh").args(["-c", &script]).output();
            std::fs::remove_file(path).expect("the file");
        }
    }

    /// Starts the daemon again, with the same data.
    pub fn restart(&mut self) {
        let programs = self.programs.as_deref();
        self.process = spawn_daemon(programs, &self.folder, &self.flags, self.network);
        let is_ready = self.wait_until_ready();
        assert!(is_ready, "no second dockerd: {}", self.process.stderr());
    }

    fn wait_until_ready(&mut self) -> bool {
        for _ in 0..300 {
            let version = self.command().arg("version").output();
            if version.is_ok_and(|output| output.status.success()) {
                return true;
            }
            if self.process.has_ended() {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        false
    }

    /// Returns the address of the socket.
    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Returns the digests of all blobs in containerd's store.
    pub fn content(&self) -> BTreeSet<String> {
        let socket = self.folder.join("exec/containerd/containerd.sock");
        let mut command = Command::new(containerd_store_programs().join("ctr"));
        command.arg("--address").arg(socket);
        let list = must(command.args(["--namespace", "moby", "content", "ls", "--quiet"]));
        list.lines().map(str::to_owned).collect()
    }

    /// Returns the folder with the digests that the daemon has stored of layers.
    pub fn digests(&self) -> PathBuf {
        self.folder.join("data/image/vfs/distribution")
    }

    /// Returns the `docker` command for this daemon, with an empty client configuration.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.address());
        command.env("DOCKER_CONFIG", self.folder.join("config"));
        command
    }

    /// Runs `docker` with this daemon, which must succeed, and returns its output.
    pub fn docker(&self, arguments: &[&str]) -> String {
        must(self.command().args(arguments))
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        if !self.process.has_ended() {
            self.process.terminate();
        }
        // dockerd leaves a bind mount of its data folder.
        let mut command = Command::new("umount");
        let _ = command.arg(self.folder.join("data")).output();
    }
}

fn spawn_daemon(
    programs: Option<&Path>,
    folder: &Path,
    flags: &[String],
    network: DaemonNetwork,
) -> Process {
    let flag = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let dockerd = match programs {
        Some(programs) => programs.join("dockerd"),
        None => program("dockerd"),
    };
    let mut command = match network {
        DaemonNetwork::Machine => Command::new(dockerd),
        DaemonNetwork::None => {
            let mut command = Command::new("unshare");
            command.arg("--net").arg(dockerd);
            command
        }
    };
    if let Some(programs) = programs {
        // The daemon starts the containerd that is in PATH.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", programs.display()));
    }
    command
        .arg(format!("--host=unix://{}", folder.join("sock").display()))
        .args([flag("data-root", "data"), flag("exec-root", "exec")])
        .args([flag("pidfile", "pid"), flag("config-file", "daemon.json")])
        .args(["--bridge=none", "--iptables=false", "--ip-masq=false"])
        .args(["--ip-forward=false"])
        .args(flags);
    Process::start("dockerd", &mut command, folder)
}
