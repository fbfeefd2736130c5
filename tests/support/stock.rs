//! Starts the stock registry: `docker-registry` of Debian, made from the distribution project.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers;
use super::process::Process;
use super::reserved_port::ReservedPort;

/// A running stock registry, killed on drop.
pub struct StockRegistry {
    process: Process,
    /// Stays closed after [`Self::stop`].
    port: ReservedPort,
    folder: tempfile::TempDir,
}

impl StockRegistry {
    /// Starts a registry on a free port, with its data in `root`.
    pub fn start(root: &Path) -> Self {
        Self::start_configured(root, "", "", "")
    }

    /// Starts a registry with additional configuration: keys of `storage` and of `http`, each as
    /// `, key: value`, and lines for the end of the file.
    pub fn start_configured(root: &Path, storage: &str, http: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the configuration");
        let config = folder.path().join("config.yml");
        let port = ReservedPort::new();
        let text = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {root:?}}}{storage}}}\n\
             http: {{addr: '{}', secret: imgsync-tests{http}}}\n\
             {more}",
            port.address()
        );
        std::fs::write(&config, text).expect("a configuration file");
        let mut command = Command::new(peers::program("docker-registry"));
        command.arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", &mut command, folder.path());
        process.wait_for("the stock registry", |text| {
            text.contains("listening on 127.0.0.1:").then_some(())
        });
        Self {
            process,
            port,
            folder,
        }
    }

    /// Returns the path of the configuration file, which is deleted on drop.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Stops the registry with SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) {
        self.process.terminate();
    }
}
