//! Locates the files with stored credentials, reads them, and replaces them in one step.
//!
//! This module does not interpret the files; [`DockerConfig`] does. Start reading at
//! [`candidates`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::docker_config::DockerConfig;
use super::failure;
use crate::exit::Failure;

fn env_path(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Returns the user's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    env_path("HOME").or_else(|| env_path("USERPROFILE"))
}

/// Returns the path of Docker's configuration file, which `docker login` writes.
pub(super) fn docker_config_path() -> Option<PathBuf> {
    let folder = env_path("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// Returns the files in which Docker and podman store credentials, in order of precedence.
pub(super) fn candidates() -> Vec<PathBuf> {
    let podman = env_path("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")));
    // As podman does, which uses a system folder if the user has no session.
    let session = env_path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    [
        docker_config_path(),
        env_path("REGISTRY_AUTH_FILE"),
        session.or_else(podman_system_auth_file),
        podman.map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(target_os = "linux")]
fn podman_system_auth_file() -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt;
    // The folder of this process belongs to its user.
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
}

#[cfg(not(target_os = "linux"))]
fn podman_system_auth_file() -> Option<PathBuf> {
    None
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
        failure(format!("{shown} is damaged: {error}")).with_hint("mend it, or move it away")
    })
}

/// Replaces the file in one step. A new file is readable only by its owner, and a symbolic link is
/// kept.
///
/// # Errors
/// Fails if the file cannot be written.
pub(super) fn replace(path: &Path, config: &DockerConfig) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: &dyn std::fmt::Display| failure(format!("cannot write {shown}: {error}"));
    let content = config.write().map_err(|error| failed(&error))?;
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // A temporary file is readable only by its owner from the start.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&content)?;
        if let Ok(old) = std::fs::metadata(&target) {
            keep_owner(file.as_file(), &old);
            file.as_file().set_permissions(old.permissions())?;
        }
        file.as_file().sync_all()?;
        file.persist(&target)?;
        Ok(())
    };
    write().map_err(|error| failed(&error))
}

/// Keeps the owner of the file when the superuser logs in with the home folder of another user.
#[cfg(unix)]
fn keep_owner(file: &std::fs::File, old: &std::fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    // Only the superuser may change the owner, and others need not.
    let _ = fchown(file, Some(old.uid()), Some(old.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_file: &std::fs::File, _old: &std::fs::Metadata) {}
