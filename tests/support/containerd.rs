//! Starts containerd, and runs its client `ctr`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::archive::{Entry, write_tar};
use super::peers::{program, report_missing};
use super::process::Process;
use super::run::{Outcome, must, run};

/// A running containerd, stopped on drop.
pub struct Containerd {
    process: Process,
    folder: PathBuf,
}

impl Containerd {
    /// Starts containerd with its data in an empty folder. Returns `None` if it cannot run here,
    /// for example without root.
    pub fn start(folder: &Path) -> Option<Self> {
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n",
            at("root"),
            at("state"),
            at("sock")
        );
        std::fs::write(folder.join("config.toml"), config).expect("a file");
        let mut command = Command::new(program("containerd"));
        command.arg("--config").arg(folder.join("config.toml"));
        let process = Process::start("containerd", &mut command, folder);
        let folder = folder.to_owned();
        let mut containerd = Self { process, folder };
        for _ in 0..300 {
            let version = containerd.command().arg("version").output();
            if version.is_ok_and(|output| output.status.success()) {
                return Some(containerd);
            }
            if containerd.process.has_ended() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        report_missing(&format!("no containerd: {}", containerd.process.stderr()));
        None
    }

    /// Configures a mirror for a registry in `hosts.toml`. The registry itself is unreachable.
    pub fn mirror(&self, registry: &str, mirror: &str) {
        let folder = self.folder.join("hosts").join(registry);
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = format!(
            "server = \"http://127.0.0.1:1\"\n[host.\"http://{mirror}\"]\n\
             capabilities = [\"pull\", \"resolve\"]\n"
        );
        std::fs::write(folder.join("hosts.toml"), text).expect("a file");
    }

    /// Returns the `ctr` command for this containerd.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket());
        command
    }

    /// Returns the socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Imports the files of an OCI layout, which are written to `path`, without unpacking layers.
    pub fn import(&self, namespace: &str, path: &Path, entries: &[Entry]) {
        write_tar(entries, path);
        let mut command = self.command();
        command.args(["--namespace", namespace, "images", "import"]);
        must(command.args(["--no-unpack", "--all-platforms"]).arg(path));
    }

    /// Pulls an image through the configured mirrors, with additional flags.
    pub fn pull(&self, flags: &[&str], image: &str) {
        self.try_pull(flags, image).succeeded();
    }

    /// Pulls an image, and returns the outcome also when it fails.
    pub fn try_pull(&self, flags: &[&str], image: &str) -> Outcome {
        let mut command = self.command();
        command.args(["images", "pull", "--snapshotter", "native", "--hosts-dir"]);
        command
            .arg(self.folder.join("hosts"))
            .args(flags)
            .arg(image);
        run(command.stdin(Stdio::null()))
    }

    /// Returns the digest of an image's manifest, or `None` if the image does not exist.
    pub fn digest(&self, image: &str) -> Option<String> {
        let mut command = self.command();
        let filter = format!("name=={image}");
        let list = must(command.args(["images", "ls", &filter]));
        let line = list.lines().find(|line| line.starts_with(image))?;
        line.split_whitespace().nth(2).map(str::to_owned)
    }

    /// Deletes all images and their content.
    pub fn clear(&self) {
        let list = must(self.command().args(["images", "ls", "--quiet"]));
        let mut command = self.command();
        command.args(["images", "rm", "--sync"]);
        must(command.args(list.lines()));
        let left = must(self.command().args(["content", "ls", "--quiet"]));
        assert_eq!(left, "", "content without an image");
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.terminate();
    }
}
