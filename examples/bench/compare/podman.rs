//! Runs podman with an empty image storage, and its service.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// podman with a storage of its own. The service is stopped and the storage is deleted when the
/// value is dropped.
pub(super) struct PodmanEngine {
    folder: tempfile::TempDir,
    driver: &'static str,
    service: Option<Child>,
}

impl PodmanEngine {
    /// Creates an empty storage.
    pub(super) fn new() -> Self {
        // The path of a Unix socket is limited to about 100 bytes.
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in("/tmp");
        let mut engine = Self {
            folder: folder.expect("a folder"),
            driver: "overlay",
            service: None,
        };
        let works = engine.podman().arg("info").output();
        if !works.is_ok_and(|output| output.status.success()) {
            engine.driver = "vfs";
        }
        engine
    }

    /// Returns the options that select the storage.
    pub(super) fn arguments(&self) -> Vec<String> {
        let option = |name: &str, folder| format!("--{name}={}", self.path(folder));
        vec![
            format!("--storage-driver={}", self.driver),
            option("root", "storage"),
            option("runroot", "run"),
            option("tmpdir", "tmp"),
        ]
    }

    /// Loads the images of an archive.
    pub(super) fn load(&self, archive: &Path) {
        let output = self
            .podman()
            .args(["load", "--input"])
            .arg(archive)
            .output();
        let output = output.expect("podman");
        assert!(output.status.success(), "podman load: {output:?}");
    }

    /// Starts the service, and waits until it accepts connections.
    pub(super) fn start_service(&mut self) {
        let mut command = self.podman();
        command.args(["system", "service", "--time", "0", &self.address()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.service = Some(command.spawn().expect("podman"));
        while std::os::unix::net::UnixStream::connect(self.path("sock")).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the address of the service as `unix://…`.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.path("sock"))
    }

    /// Returns the process ID of the service, if it runs.
    pub(super) fn service_id(&self) -> Option<u32> {
        self.service.as_ref().map(Child::id)
    }

    /// Returns the name of an image for skopeo.
    pub(super) fn skopeo_source(&self, image: &str) -> String {
        let (root, run) = (self.path("storage"), self.path("run"));
        format!("containers-storage:[{}@{root}+{run}]{image}", self.driver)
    }

    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.args(self.arguments()).stdin(Stdio::null());
        command
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

impl Drop for PodmanEngine {
    fn drop(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        // Some storage drivers leave the storage mounted on itself.
        let storage = self.path("storage/overlay");
        let _ = Command::new("umount").args(["--quiet", &storage]).output();
    }
}
