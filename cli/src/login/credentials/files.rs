//! Where credentials may be stored, and how a file of them is replaced.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::docker_config::DockerConfig;
use super::failure;
use crate::exit::Failure;

fn env_path(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The user's home folder.
pub(crate) fn home() -> Option<PathBuf> {
    env_path("HOME").or_else(|| env_path("USERPROFILE"))
}

/// Docker's own configuration file: what `docker login` writes and `docker` reads.
pub(super) fn docker_config_path() -> Option<PathBuf> {
    let folder = env_path("DOCKER_CONFIG").or_else(|| Some(home()?.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

/// The files that Docker and podman keep credentials in, those that count more first.
pub(super) fn candidates() -> Vec<PathBuf> {
    let podman = env_path("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config")));
    // As podman has it, which uses a folder of the system's where the user has no session.
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
    // This process is its user's.
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
}

#[cfg(not(target_os = "linux"))]
fn without_session() -> Option<PathBuf> {
    None
}

/// The file's configuration; an empty one where there is no file.
///
/// # Errors
/// A file that is there and may not be read, or is damaged.
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

/// Replaces the file in one step, for its owner alone where it is new; a symbolic link stays one.
///
/// # Errors
/// The disk or its permissions.
pub(super) fn replace(path: &Path, config: &DockerConfig) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: &dyn std::fmt::Display| failure(format!("cannot write {shown}: {error}"));
    let content = config.write().map_err(|error| failed(&error))?;
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // A temporary file is its owner's alone from the beginning.
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

/// A superuser who logs in with a user's home leaves that user their file.
#[cfg(unix)]
fn keep_owner(file: &std::fs::File, old: &std::fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    // Others than the superuser may not, and need not.
    let _ = fchown(file, Some(old.uid()), Some(old.gid()));
}

#[cfg(not(unix))]
fn keep_owner(_file: &std::fs::File, _old: &std::fs::Metadata) {}
