//! Finds and stores the user's credentials for a registry: in environment variables, in Docker's
//! configuration with its credential helpers, and in podman's.
//!
//! This module does not check credentials with the registry. Start reading at [`find_stored`].

mod docker_config;
pub(crate) mod files;
mod helper;

use imgsync_oci::client::Credentials;
use imgsync_oci::{Registry, Repository};

use super::FoundLogin;
use crate::disk::System;
use crate::exit::{Failure, FailureKind};
use docker_config::DockerConfig;
use helper::CredentialHelper;

/// The environment variables to read credentials from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CredentialVariables {
    /// `IMGSYNC_USERNAME` and `IMGSYNC_PASSWORD`: for the only registry of a command, or for the
    /// one that is written to.
    #[default]
    Primary,
    /// `IMGSYNC_SOURCE_USERNAME` and `IMGSYNC_SOURCE_PASSWORD`: for the registry that is read from,
    /// if there are two.
    Source,
    /// None, because there may be many registries and a password is for one.
    Ignored,
}

impl CredentialVariables {
    /// Returns the names, for messages.
    pub fn names(self) -> Option<&'static str> {
        match self {
            Self::Primary => Some("IMGSYNC_USERNAME and IMGSYNC_PASSWORD"),
            Self::Source => Some("IMGSYNC_SOURCE_USERNAME and IMGSYNC_SOURCE_PASSWORD"),
            Self::Ignored => None,
        }
    }
}

/// Returns the credentials stored for a repository or for its registry, and where they are stored;
/// `None` if there are none.
///
/// # Errors
/// Fails if a configuration cannot be read, or if a credential helper fails or times out.
/// Continuing without credentials would only lead to a refusal that is hard to understand.
pub async fn find_stored(
    registry: &Registry,
    repository: Option<&Repository>,
) -> Result<Option<FoundLogin>, Failure> {
    for source in files::sources() {
        let (shown, config) = source?;
        for key in all_keys(&config, registry, repository) {
            // The common credential store is asked once, under the name that Docker uses. Docker
            // uses only the helper if one is configured; here the credentials in the file are used
            // too.
            let helper = if key == docker_key(registry) {
                config.helper(&key)
            } else {
                config.registry_helper(&key)
            };
            if let Some(helper) = helper
                && let Some(credentials) = CredentialHelper(helper).get(&key).await?
            {
                let place = format!("docker-credential-{helper}");
                return Ok(Some(FoundLogin { credentials, place }));
            }
            let inline = config.inline_credentials(&key).map_err(|error| {
                failure(format!(
                    "cannot read the credentials for {key} in {shown}: {error}"
                ))
                .with_hint(format!("log in again: imgsync login {registry}"))
            })?;
            if let Some(credentials) = inline {
                let place = shown;
                return Ok(Some(FoundLogin { credentials, place }));
            }
        }
    }
    Ok(None)
}

/// Returns the credentials set by environment variables. They take precedence over stored ones.
///
/// # Errors
/// Fails if only one of the two variables is set.
pub fn from_environment(variables: CredentialVariables) -> Result<Option<Credentials>, Failure> {
    let (name, secret) = match variables {
        CredentialVariables::Primary => ("IMGSYNC_USERNAME", "IMGSYNC_PASSWORD"),
        CredentialVariables::Source => ("IMGSYNC_SOURCE_USERNAME", "IMGSYNC_SOURCE_PASSWORD"),
        CredentialVariables::Ignored => return Ok(None),
    };
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable(name), variable(secret)) {
        (Some(username), Some(password)) => Ok(Some(Credentials::Password { username, password })),
        (None, None) => Ok(None),
        _ => {
            let what = format!("only one of {name} and {secret} is set");
            let hint = "set both variables, or neither";
            Err(Failure::new(FailureKind::Usage, what).with_hint(hint))
        }
    }
}

/// Stores a username and password where `docker` looks for them: in the configured credential
/// helper, or else in the configuration file. Returns a description of the store for messages.
///
/// # Errors
/// Fails if the helper fails or times out, or if the file cannot be read or written.
pub async fn store(registry: &Registry, username: &str, password: &str) -> Result<String, Failure> {
    let (path, mut config) = read_docker_config()?;
    let key = docker_key(registry);
    let helper = config.helper(&key).map(str::to_owned);
    let (inline, store) = match &helper {
        Some(helper) => {
            let program = CredentialHelper(helper);
            program.store(&key, username, password).await?;
            (None, format!("docker-credential-{helper}"))
        }
        None => {
            let store = format!("{}, unencrypted", path.display());
            (Some((username, password)), store)
        }
    };
    config.put(&key, inline);
    files::replace(&path, &config)?;
    Ok(store)
}

/// Deletes the credentials that [`store`] or `docker login` has stored. Returns whether there were
/// any.
///
/// # Errors
/// Fails as [`store`] does.
pub async fn erase(registry: &Registry) -> Result<bool, Failure> {
    let (path, mut config) = read_docker_config()?;
    let key = docker_key(registry);
    let mut is_in_helper = false;
    if let Some(helper) = config.helper(&key).map(CredentialHelper) {
        is_in_helper = helper.get(&key).await?.is_some();
        if is_in_helper {
            helper.erase(&key).await?;
        }
    }
    let mut is_in_file = false;
    for key in all_keys(&config, registry, None) {
        is_in_file |= config.remove(&key);
    }
    if is_in_file {
        files::replace(&path, &config)?;
    }
    Ok(is_in_helper || is_in_file)
}

fn read_docker_config() -> Result<(std::path::PathBuf, DockerConfig), Failure> {
    let path = files::docker_config_path().ok_or_else(|| {
        let home = System::CURRENT.home_variable();
        let what = format!("there is no folder to store credentials in: {home} is not set");
        failure(what).with_hint(format!("set {home} or DOCKER_CONFIG"))
    })?;
    let config = files::read(&path)?;
    Ok((path, config))
}

/// Returns the name of a registry in Docker's configuration.
fn docker_key(registry: &Registry) -> String {
    if registry.is_docker_hub() {
        "https://index.docker.io/v1/".to_owned()
    } else {
        registry.to_string()
    }
}

/// Returns the names under which a registry may be configured, and those under which the file names
/// its host.
fn all_keys(
    config: &DockerConfig,
    registry: &Registry,
    repository: Option<&Repository>,
) -> Vec<String> {
    let mut keys = config_keys(registry, repository);
    let hosts: &[&str] = if registry.is_docker_hub() {
        &["docker.io", "index.docker.io", "registry-1.docker.io"]
    } else {
        &[registry.as_str()]
    };
    for key in config.keys_of_hosts(hosts) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Returns the names under which a registry may be configured: those of the repository and its
/// parents, which `podman login` supports, then the usual name, then that of the Hub.
fn config_keys(registry: &Registry, repository: Option<&Repository>) -> Vec<String> {
    let is_hub = registry.is_docker_hub();
    let host = if is_hub {
        "docker.io"
    } else {
        registry.as_str()
    };
    let mut keys = Vec::new();
    let mut name = repository.map_or("", Repository::as_str);
    while !name.is_empty() {
        keys.push(format!("{host}/{name}"));
        name = name.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(docker_key(registry));
    if is_hub {
        keys.push(host.to_owned());
    }
    keys
}

fn failure(what: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Authentication, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_name_comes_first() {
        let names = |registry: &str, repository: Option<&str>| {
            let repository = repository.map(|text| text.parse().unwrap());
            config_keys(&registry.parse().unwrap(), repository.as_ref())
        };
        assert_eq!(names("docker.io", None)[0], "https://index.docker.io/v1/");
        assert_eq!(names("a:5000", None)[0], "a:5000");
        let three = &names("quay.io", Some("team/app"))[..3];
        assert_eq!(three, ["quay.io/team/app", "quay.io/team", "quay.io"]);
    }
}
