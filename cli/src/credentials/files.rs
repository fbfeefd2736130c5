//! Where credentials may be stored.

use std::io;
use std::path::{Path, PathBuf};

use super::failure;
use crate::exit::Failure;

/// The files that Docker and podman keep credentials in, those that count more first.
pub(super) fn candidates() -> Vec<PathBuf> {
    let set = |name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let home = set("HOME").or_else(|| set("USERPROFILE"));
    let docker = set("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let podman = set("XDG_CONFIG_HOME").or_else(|| Some(home.as_ref()?.join(".config")));
    [
        docker.map(|folder| folder.join("config.json")),
        set("REGISTRY_AUTH_FILE"),
        set("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        podman.map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The file's content; `None` where there is none, or an empty one.
///
/// # Errors
/// A file that is there and may not be read.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match std::fs::read(path) {
        Ok(content) => {
            let blank = content.iter().all(u8::is_ascii_whitespace);
            Ok((!blank).then_some(content))
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(failure(format!("cannot read {}: {error}", path.display()))),
        },
    }
}
