//! Locates the files with stored credentials, reads them, and replaces them in one step.
//!
//! This module does not interpret the files; [`DockerConfig`] does. Start reading at
//! [`sources`].

use std::io;
use std::path::{Path, PathBuf};

use imgsync_oci::decode_text_file;

use super::docker_config::DockerConfig;
use super::failure;
use crate::disk::{self, env_path};
use crate::exit::Failure;

/// Returns the path of Docker's configuration file, which `docker login` writes.
pub(super) fn docker_config_path() -> Option<PathBuf> {
    disk::docker_config_folder().map(|folder| folder.join("config.json"))
}

/// Returns the files in which Docker and podman store credentials, in order of precedence.
fn candidates() -> Vec<PathBuf> {
    // As podman does, which uses a system folder if the user has no session.
    let session = env_path("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json"));
    let system = || {
        let user = disk::effective_user()?;
        Some(PathBuf::from(format!("/run/containers/{user}/auth.json")))
    };
    [
        docker_config_path(),
        env_path("REGISTRY_AUTH_FILE"),
        session.or_else(system),
        disk::config_folder().map(|folder| folder.join("containers/auth.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Reads the places where Docker and podman store credentials, in order of precedence: each with
/// its name for messages. A file is read when the iterator reaches it.
pub(super) fn sources() -> impl Iterator<Item = Result<(String, DockerConfig), Failure>> {
    let from_file = |path: PathBuf| Ok((path.display().to_string(), read(&path)?));
    let from_variable = read_variable().transpose().into_iter();
    from_variable.chain(candidates().into_iter().map(from_file))
}

/// Reads `DOCKER_AUTH_CONFIG`, which CI systems set, and which Docker 28.3 and later read before
/// the file. Its value is the content of a file.
fn read_variable() -> Result<Option<(String, DockerConfig)>, Failure> {
    const NAME: &str = "DOCKER_AUTH_CONFIG";
    let Some(content) = std::env::var_os(NAME).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let config = DockerConfig::parse(content.as_encoded_bytes()).map_err(|error| {
        let what = format!("{NAME} is not the content of Docker's config.json: {error}");
        failure(what).with_hint(format!("correct or unset {NAME}"))
    })?;
    Ok(Some((NAME.to_owned(), config)))
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
    DockerConfig::parse(&decode_text_file(content)).map_err(|error| {
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
