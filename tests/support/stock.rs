//! Starts the stock registry: `docker-registry` of Debian, made from the distribution project.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers;
use super::process::Process;

/// A running stock registry, killed on drop.
pub struct StockRegistry {
    process: Process,
    address: SocketAddr,
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
        let text = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {root:?}}}{storage}}}\n\
             http: {{addr: '127.0.0.1:0', secret: imgsync-tests{http}}}\n\
             {more}"
        );
        std::fs::write(&config, text).expect("a configuration file");
        let mut command = Command::new(peers::program("docker-registry"));
        command.arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", &mut command, folder.path());
        let address = process.wait_for("the stock registry's address", |text| {
            let (_, rest) = text.split_once("listening on 127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            // The log may end in the middle of the port while the registry writes the line.
            let is_complete = rest.len() > port.len();
            is_complete.then(|| SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))))
        });
        Self {
            process,
            address,
            folder,
        }
    }

    /// Returns the path of the configuration file, which is deleted on drop.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the registry with SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) {
        self.process.terminate();
    }
}
