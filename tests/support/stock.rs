//! The stock registry: the distribution project's, as Debian packages it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers;
use super::process::Process;

/// A running stock registry.
pub struct StockRegistry {
    process: Process,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl StockRegistry {
    /// Starts one on a free port, with its data in `root`.
    pub fn start(root: &Path) -> Self {
        Self::start_configured(root, "", "", "")
    }

    /// The same, with more in its configuration: below `storage` and below `http`, each as
    /// `, key: value`, and lines at the end.
    pub fn start_configured(root: &Path, storage: &str, http: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its config");
        let config = folder.path().join("config.yml");
        let text = format!(
            "version: 0.1\n\
             log: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {root:?}}}{storage}}}\n\
             http: {{addr: '127.0.0.1:0', secret: imgsync-tests{http}}}\n\
             {more}"
        );
        std::fs::write(&config, text).expect("a config file");
        let mut command = Command::new(peers::program("docker-registry"));
        command.arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", &mut command, folder.path());
        let address = process.wait_for("the stock registry's address", |text| {
            let (_, rest) = text.split_once("listening on 127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            // A line that is still being written ends within the number.
            let ended = rest.len() > port.len();
            ended.then(|| SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port"))))
        });
        Self {
            process,
            address,
            folder,
        }
    }

    /// Its configuration file; gone when this is.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yml")
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks it to end and waits for that.
    pub fn stop(&mut self) {
        self.process.terminate();
    }
}
