//! Who the user is at a registry: the environment, Docker's configuration with its helpers and
//! stores, podman's.

mod files;

use std::io::Cursor;
use std::path::Path;
use std::time::Duration;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use imgsync_oci::Registry;
use imgsync_oci::client::Credentials;

use crate::exit::{Failure, Kind};

/// A helper may ask the user something, but not for ever.
const HELPER: Duration = Duration::from_secs(60);

/// The credentials for a registry; `None` where nobody has stored any. Those of the environment
/// (`IMGSYNC_USERNAME`, `IMGSYNC_PASSWORD`) win.
///
/// # Errors
/// A configuration that cannot be read, or a helper that fails or hangs: silently going on as
/// nobody would end in a puzzling refusal.
pub async fn find(registry: &Registry) -> Result<Option<Credentials>, Failure> {
    if let Some(credentials) = of_environment()? {
        return Ok(Some(credentials));
    }
    let registry = registry.clone();
    let search = tokio::task::spawn_blocking(move || stored(&registry));
    match tokio::time::timeout(HELPER, search).await {
        Ok(found) => found.unwrap_or_else(|_| Err(failure("the search for credentials died"))),
        Err(_) => {
            let seconds = HELPER.as_secs();
            Err(failure(format!(
                "a credential helper said nothing for {seconds} seconds"
            ))
            .hint("see credsStore and credHelpers in ~/.docker/config.json"))
        }
    }
}

fn of_environment() -> Result<Option<Credentials>, Failure> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("IMGSYNC_USERNAME"), variable("IMGSYNC_PASSWORD")) {
        (Some(username), Some(password)) => Ok(Some(Credentials::Password { username, password })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(Failure::new(
            Kind::Usage,
            "IMGSYNC_USERNAME and IMGSYNC_PASSWORD only count together, and one is missing",
        )),
    }
}

fn stored(registry: &Registry) -> Result<Option<Credentials>, Failure> {
    for path in files::candidates() {
        let Some(content) = files::read(&path)? else {
            continue;
        };
        for key in keys(registry) {
            if let Some(credentials) = from_file(&content, &key, &path)? {
                return Ok(Some(credentials));
            }
        }
    }
    Ok(None)
}

/// The names that a registry goes by in configurations, the usual one first.
fn keys(registry: &Registry) -> Vec<String> {
    let name = registry.as_str();
    if registry.is_docker_hub() {
        return vec![
            "https://index.docker.io/v1/".to_owned(),
            "docker.io".to_owned(),
        ];
    }
    vec![
        name.to_owned(),
        format!("https://{name}"),
        format!("https://{name}/v1/"),
        format!("https://{name}/v2/"),
    ]
}

fn from_file(content: &[u8], key: &str, path: &Path) -> Result<Option<Credentials>, Failure> {
    use CredentialRetrievalError as Error;
    let error = match get_credential_from_reader(Cursor::new(content), key) {
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            // A store that knows the registry and not the user answers so.
            let known = !username.is_empty();
            return Ok(known.then_some(Credentials::Password { username, password }));
        }
        Ok(DockerCredential::IdentityToken(token)) => {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        Err(error) => error,
    };
    let shown = path.display();
    match error {
        Error::NoCredentialConfigured | Error::ConfigNotFound => Ok(None),
        Error::HelperFailure {
            helper,
            stdout,
            stderr,
        } => {
            let said = format!("{} {}", stdout.trim(), stderr.trim());
            // The words of Docker's helper library; there is no code for it.
            if said.to_lowercase().contains("not found") {
                return Ok(None);
            }
            let said = said.trim();
            Err(failure(format!(
                "the credential helper {helper} failed: {said}"
            )))
        }
        Error::HelperCommunicationError | Error::MalformedHelperResponse => Err(failure(format!(
            "the credential helper that {shown} names does not start, or answers nonsense"
        ))
        .hint("install it, or log in again without it")),
        Error::CredentialDecodingError
        | Error::CredentialMismatchError
        | Error::ConfigReadError => Err(failure(format!(
            "the credentials for {key} in {shown} cannot be read"
        ))
        .hint("log in again")),
    }
}

fn failure(what: impl Into<String>) -> Failure {
    Failure::new(Kind::Authentication, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    }

    #[test]
    fn what_docker_writes_is_found() {
        let path = Path::new("config.json");
        // dTpwOnc= is u:p:w
        let content = br#"{"auths": {"a:5000": {"auth": "dTpwOnc="}, "b": {}}}"#;
        assert_eq!(
            from_file(content, "a:5000", path).unwrap(),
            password("u", "p:w")
        );
        assert_eq!(from_file(content, "c", path).unwrap(), None);
        let identity = br#"{"auths": {"a": {"auth": "dTo=", "identitytoken": "t"}}}"#;
        let token = Some(Credentials::IdentityToken("t".to_owned()));
        assert_eq!(from_file(identity, "a", path).unwrap(), token);
        let failure = from_file(br#"{"auths": {"a": {"auth": "%"}}}"#, "a", path).unwrap_err();
        assert_eq!(failure.kind, Kind::Authentication);
    }

    #[test]
    fn docker_hub_goes_by_its_old_name() {
        let keys = |registry: &str| keys(&registry.parse().unwrap());
        assert_eq!(keys("docker.io")[0], "https://index.docker.io/v1/");
        assert_eq!(keys("a:5000")[0], "a:5000");
    }
}
