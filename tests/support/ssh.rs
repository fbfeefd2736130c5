//! Starts an SSH server on loopback, and a client that trusts it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::peers::{program, report_missing};
use super::process::Process;
use super::reserved_port::ReservedPort;
use super::run::{must, wait_until};

/// A running SSH server, stopped on drop.
pub struct SshServer {
    _process: Process,
    folder: PathBuf,
    port: ReservedPort,
}

impl SshServer {
    /// Starts a server in an empty folder. Returns `None` if it cannot run here, for example
    /// without root.
    pub fn start(folder: &Path) -> Option<Self> {
        // The server of Debian needs this folder.
        if std::fs::create_dir_all("/run/sshd").is_err() {
            report_missing("sshd needs the folder /run/sshd");
            return None;
        }
        for name in ["host", "user"] {
            let key = folder.join(name);
            let mut command = Command::new("ssh-keygen");
            must(
                command
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(key),
            );
        }
        let port = ReservedPort::new();
        let address = port.address();
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "ListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
            at("host"),
            at("user.pub"),
        );
        std::fs::write(folder.join("sshd_config"), config).expect("a file");
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nBatchMode yes\nLogLevel ERROR\n\
             StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n",
            at("user"),
        );
        std::fs::write(folder.join("ssh_config"), client).expect("a file");
        let mut command = Command::new(program("sshd"));
        command
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"));
        let process = Process::start("sshd", &mut command, folder);
        let server = Self {
            _process: process,
            folder: folder.to_owned(),
            port,
        };
        server.write_client();
        wait_until("the SSH server", || {
            std::net::TcpStream::connect(address).ok()
        });
        Some(server)
    }

    /// Returns the address, without a path.
    pub fn address(&self) -> String {
        format!("ssh://{}", self.port.address())
    }

    /// Returns a `PATH` in which `ssh` is a client of this server.
    pub fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{}:{path}", self.folder.join("bin").display())
    }

    /// Writes an `ssh` that uses our configuration instead of the user's.
    fn write_client(&self) {
        use std::os::unix::fs::PermissionsExt;

        let bin = self.folder.join("bin");
        std::fs::create_dir(&bin).expect("a folder");
        let (ssh, config) = (program("ssh"), self.folder.join("ssh_config"));
        let script = format!(
            "#!/bin/sh\nexec '{}' -F '{}' \"$@\"\n",
            ssh.display(),
            config.display()
        );
        let path = bin.join("ssh");
        std::fs::write(&path, script).expect("a file");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, mode).expect("a script");
    }
}
