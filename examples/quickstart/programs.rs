//! Finds and starts the programs of this workspace.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Error;

/// Returns the path of a program of this workspace, in the parent of this program's folder.
pub(crate) fn program(name: &str) -> Result<PathBuf, Error> {
    let own_path = std::env::current_exe()?;
    let folder = own_path
        .ancestors()
        .nth(2)
        .ok_or("this program is in no target folder")?;
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if !path.exists() {
        let path = path.display();
        return Err(
            format!("{path} is missing: run the script of this example in examples/").into(),
        );
    }
    Ok(path)
}

/// A running server. It is killed when the value is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Result<Self, Error> {
        let mut process = Command::new(program("imgsync-server")?)
            .args(["serve", "--addr", "127.0.0.1:0", "--root"])
            .arg(root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim()
            .rsplit_once("http://")
            .map(|(_, address)| address.to_owned())
            .ok_or("imgsync-server did not print its address")?;
        Ok(Self { process, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors are ignored: the process may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
