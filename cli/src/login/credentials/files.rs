//! Locates the files with stored credentials, reads them, and replaces them in one step.
//!
//! This module does not interpret the files; [`DockerConfig`] does. Start reading at
//! [`candidates`].

use std::io;
use std::path::{Path, PathBuf};

use super::docker_config::DockerConfig;
use super::failure;
use crate::disk::{self, env_path};
use crate::exit::Failure;

/// Returns the user's folder for configuration files. Docker and podman accept a relative path too.
pub(crate) fn config_folder() -> Option<PathBuf> {
    env_path("XDG_CONFIG_HOME").or_else(|| Some(disk::home()?.join(".config")))
}

/// Returns the path of Docker's configuration file, which `docker login` writes.
pub(super) fn docker_config_path() -> Option<PathBuf> {
    let folder = env_path("DOCKER_CONFIG").or_else(|| Some(disk::home()?.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// Returns the files in which Docker and podman store credentials, in order of precedence.
pub(super) fn candidates() -> Vec<PathBuf> {
    // As podman does, which uses a system folder if the user has no session.
    let session = env_path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let system = || {
        let user = rustix::process::geteuid().as_raw();
        Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
    };
    [
        docker_config_path(),
        env_path("REGISTRY_AUTH_FILE"),
        session.or_else(system),
        config_folder().map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reads a configuration file; a missing file counts as an empty one.
///
/// # Errors
/// Fails if the file exists and cannot be read or parsed.
pub(super) fn read(path: &Path) -> Result<DockerConfig, Failure> {
    let shown = path.display();
    let content = match std::fs::read(path) {
        Ok(content) => content,
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Vec::new(),
            _ => return Err(failure(format!("cannot read {shown}: {error}"))),
        },
    };
    DockerConfig::parse(&content).map_err(|error| {
        failure(format!("{shown} is damaged: {error}")).with_hint("repair the file, or rename it")
    })
}

/// Replaces the file in one step. A new file is readable only by its owner, and a symbolic link is
/// kept.
///
/// # Errors
/// Fails if the file cannot be written.
pub(super) fn replace(path: &Path, config: &DockerConfig) -> Result<(), Failure> {
    let content = config.write();
    let replaced = content.and_then(|content| {
        disk::replace_keeping_owner(path, &content).map_err(|error| error.to_string())
    });
    replaced.map_err(|error| failure(format!("cannot write {}: {error}", path.display())))
}
