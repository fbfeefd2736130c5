//! Connects to registries: chooses the URL scheme, the trusted certificates and the credentials.
//!
//! This module sends no requests but those that test the connection and the login. Start reading at
//! [`RegistryAccess`].

mod certificates;
pub mod credentials;
mod environment;
mod insecure_registries;
mod registry_settings;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use http::StatusCode;
use imgsync_oci::client::{Client, Credentials, Error, RetryPolicy, TlsOptions, UrlScheme};
use imgsync_oci::{Registry, Repository};

use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use credentials::CredentialVariables;
use insecure_registries::InsecureRegistries;

pub use environment::seconds_from_env;
pub use registry_settings::{PasswordSource, RegistrySettings, is_same_registry};

/// The largest password in bytes. Identity tokens can be long.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// The time without progress of a transfer after which the connection counts as broken.
const DEFAULT_STALL_SECONDS: u64 = 60;

/// The user's options for reaching registries and logging in.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    tls_mode: TlsMode,
    ca_files: Vec<PathBuf>,
    /// The credentials given on the command line.
    credentials: Option<Credentials>,
    /// The environment variables to use if no credentials were given.
    credential_variables: CredentialVariables,
    /// The `insecure-registries` of the local engine; `None` to read them from the configuration
    /// files of Docker's daemon.
    engine_insecure_registries: Option<Vec<String>>,
}

/// The TLS option that the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TlsMode {
    /// No option: the scheme and verification depend on the registry.
    #[default]
    Auto,
    /// Plain HTTP.
    PlainHttp,
    /// TLS without certificate verification.
    Insecure,
}

impl RegistryAccess {
    /// Creates the options for one registry of a mirror configuration. The environment variables
    /// for credentials are ignored, because they would be sent to every registry in the file.
    ///
    /// # Errors
    /// Fails if the password cannot be read from its source.
    pub fn parse_host(host: &RegistrySettings) -> Result<Self, Failure> {
        let credentials = match &host.login {
            Some((username, password)) => Some(Credentials::Password {
                username: username.clone(),
                password: read_configured_password(password)?,
            }),
            None => None,
        };
        let ca_files = host.ca_file.iter().cloned().collect();
        Ok(Self {
            credentials,
            credential_variables: CredentialVariables::Ignored,
            ..Self::new(host.plain_http, host.insecure, ca_files)
        })
    }

    /// Creates options for a registry whose credentials come from the environment or a credential
    /// store.
    pub fn new(plain_http: bool, insecure: bool, ca_files: Vec<PathBuf>) -> Self {
        let tls_mode = match (plain_http, insecure) {
            (true, _) => TlsMode::PlainHttp,
            (false, true) => TlsMode::Insecure,
            (false, false) => TlsMode::Auto,
        };
        Self {
            tls_mode,
            ca_files,
            ..Self::default()
        }
    }

    /// Sets the credentials given on the command line, and the environment variables to use without
    /// them.
    pub fn with_credentials(
        self,
        credentials: Option<Credentials>,
        credential_variables: CredentialVariables,
    ) -> Self {
        Self {
            credentials,
            credential_variables,
            ..self
        }
    }

    /// Sets the `insecure-registries` of the local engine that the image comes from.
    pub fn with_engine_insecure_registries(self, insecure: Option<Vec<String>>) -> Self {
        Self {
            engine_insecure_registries: insecure,
            ..self
        }
    }

    /// Creates a client for a registry, with the user's credentials. `pushes` tells whether the
    /// client will write.
    ///
    /// # Errors
    /// Fails if a certificate file contains no certificate, if stored credentials cannot be read,
    /// or if credentials would be sent unencrypted without `--plain-http`.
    pub async fn connect(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
        pushes: bool,
        report: &Arc<dyn Report>,
    ) -> Result<Client, Failure> {
        let stall = seconds_from_env("IMGSYNC_STALL_TIMEOUT", DEFAULT_STALL_SECONDS)?;
        let client = match self.connect_anonymously(registry, report).await? {
            AnonymousClient::Trusted(client) => client.with_stall_timeout(stall),
            AnonymousClient::PlainHttpFallback(client) => {
                return require_no_login(client.with_stall_timeout(stall)).await;
            }
        };
        let told = Arc::clone(report);
        let quota = RetryPolicy::with_notifier(move |error, _| {
            told.note(&format!("{error}; trying again"))
        });
        let client = client.with_retry_policy(Arc::new(quota));
        let found = match &self.credentials {
            Some(typed) => Ok(Some(typed.clone())),
            None => match credentials::from_environment(self.credential_variables)? {
                Some(credentials) => Ok(Some(credentials)),
                None => credentials::find_stored(registry, repository).await,
            },
        };
        let credentials = match found {
            Ok(credentials) => credentials,
            // Broken stored credentials are no reason to fail if the registry needs no login.
            Err(failure) if failure.kind == FailureKind::Authentication => {
                let open = client.check().await;
                if open.is_err() {
                    return Err(failure);
                }
                report.note(&format!(
                    "note: {registry} asks for no login, so this does not count: {}",
                    failure.what
                ));
                None
            }
            Err(failure) => return Err(failure),
        };
        Ok(with_credentials(client, credentials, pushes, report))
    }

    /// Creates a client for a registry with exactly these credentials.
    ///
    /// # Errors
    /// Fails as [`RegistryAccess::connect`] does.
    pub async fn connect_as(
        &self,
        registry: &Registry,
        credentials: Credentials,
        report: &Arc<dyn Report>,
    ) -> Result<Client, Failure> {
        let client = match self.connect_anonymously(registry, report).await? {
            AnonymousClient::Trusted(client) => client,
            AnonymousClient::PlainHttpFallback(client) => return require_no_login(client).await,
        };
        Ok(with_credentials(client, Some(credentials), false, report))
    }

    /// Creates a client without credentials.
    async fn connect_anonymously(
        &self,
        registry: &Registry,
        report: &Arc<dyn Report>,
    ) -> Result<AnonymousClient, Failure> {
        let agreed = |client: Result<Client, Error>| Ok(AnonymousClient::Trusted(client?));
        if self.tls_mode == TlsMode::PlainHttp {
            return agreed(Client::new(registry, UrlScheme::Http));
        }
        let (mut tls, found) = certificates::load_certificates(registry, report);
        for path in &self.ca_files {
            add_ca_file(&mut tls, path)?;
        }
        if self.tls_mode == TlsMode::Insecure {
            report.note(&format!(
                "warning: --insecure: nobody checks that this is {registry}, and whoever is in \
                 between can read and change everything"
            ));
            return agreed(Client::with_tls(
                registry,
                UrlScheme::Https,
                &tls.without_verification(),
            ));
        }
        if found || !self.ca_files.is_empty() {
            return agreed(Client::with_tls(registry, UrlScheme::Https, &tls));
        }
        if registry.is_loopback() {
            return agreed(Client::new(registry, UrlScheme::Http));
        }
        let insecure = match &self.engine_insecure_registries {
            Some(words) => InsecureRegistries::from_words(words),
            None => InsecureRegistries::from_daemon_config(),
        };
        if !insecure.covers(registry).await {
            return agreed(Client::with_tls(registry, UrlScheme::Https, &tls));
        }
        report.note(&format!(
            "warning: Docker's insecure-registries names {registry}, so nobody checks that this \
             is it"
        ));
        let client = Client::with_tls(registry, UrlScheme::Https, &tls.without_verification())?;
        // As Docker does: TLS first, and plain HTTP if no TLS connection can be established.
        match client.probe().await {
            Err(Error::Connect { .. }) => Ok(AnonymousClient::PlainHttpFallback(Client::new(
                registry,
                UrlScheme::Http,
            )?)),
            Ok(()) | Err(_) => Ok(AnonymousClient::Trusted(client)),
        }
    }
}

/// A client without credentials, and how its connection was chosen.
enum AnonymousClient {
    /// The user has chosen the connection, or it uses TLS, or the registry is on this machine.
    Trusted(Client),
    /// Plain HTTP because TLS failed. An attacker on the network can cause that, so no credentials
    /// are sent unless the user asks for it.
    PlainHttpFallback(Client),
}

/// Returns the client if the registry needs no login, and fails otherwise.
async fn require_no_login(client: Client) -> Result<Client, Failure> {
    match client.check().await {
        Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
            let registry = client.registry();
            let what = format!(
                "target: {registry} asks for a login, but does not speak TLS, so no password was \
                 sent"
            );
            let hint = "to send the password in clear, for everybody on the way to read, pass \
                        --plain-http";
            Err(Failure::new(FailureKind::Authentication, what).with_hint(hint))
        }
        Ok(()) | Err(_) => Ok(client),
    }
}

fn with_credentials(
    client: Client,
    credentials: Option<Credentials>,
    pushes: bool,
    report: &Arc<dyn Report>,
) -> Client {
    let report = Arc::clone(report);
    client
        .with_login(credentials, pushes)
        .with_cleartext_warning(move |host| {
            report.note(&format!(
                "warning: the password goes to {host} unencrypted, for everybody on the way to read"
            ));
        })
}

fn add_ca_file(tls: &mut TlsOptions, path: &std::path::Path) -> Result<(), Failure> {
    let shown = path.display();
    let usage = |what: String| {
        Failure::new(
            FailureKind::Usage,
            format!("cannot use --ca-file {shown}: {what}"),
        )
        .with_hint("it should hold the CA's certificate in PEM: -----BEGIN CERTIFICATE-----")
    };
    let pem = std::fs::read(path).map_err(|error| usage(error.to_string()))?;
    tls.add_ca_certificates(&pem).map_err(usage)
}

/// Reads the password that a mirror configuration refers to.
fn read_configured_password(place: &PasswordSource) -> Result<String, Failure> {
    let (text, name) = match place {
        PasswordSource::Variable(name) => {
            let text = std::env::var(name).map_err(|_| {
                let what = format!("passwordEnv: the variable {name} is not set");
                Failure::new(FailureKind::Usage, what)
            })?;
            (text, name.clone())
        }
        PasswordSource::File(path) => {
            let name = path.display().to_string();
            let wrong = |what: &dyn std::fmt::Display| {
                Failure::new(FailureKind::Usage, format!("passwordFile: {name}: {what}"))
            };
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
            let read = file.take(MAX_PASSWORD_BYTES + 1).read_to_string(&mut text);
            read.map_err(|error| wrong(&error))?;
            if text.len() as u64 > MAX_PASSWORD_BYTES {
                return Err(wrong(&"that is no password"));
            }
            (text, name)
        }
    };
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(Failure::new(
            FailureKind::Usage,
            format!("the password in {name} is empty"),
        )),
        false => Ok(password.to_owned()),
    }
}

/// Reads a password from standard input, without the line break at the end.
///
/// # Errors
/// Fails if standard input is empty, too long or not UTF-8.
pub fn read_password_from_stdin() -> Result<String, Failure> {
    read_stdin_password("--password-stdin")
}

/// Reads a password from standard input for the given option, which errors name.
///
/// # Errors
/// Fails as [`read_password_from_stdin`] does.
pub(crate) fn read_stdin_password(option: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let usage = |what: String| Failure::new(FailureKind::Usage, format!("{option}: {what}"));
    let input = std::io::stdin().lock().take(MAX_PASSWORD_BYTES + 1);
    { input }
        .read_to_end(&mut bytes)
        .map_err(|error| usage(error.to_string()))?;
    if bytes.len() as u64 > MAX_PASSWORD_BYTES {
        return Err(usage("that is no password".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| usage("it is no text".to_owned()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(usage("standard input is empty".to_owned())
            .with_hint(format!("for instance: imgsync … {option} <password.txt"))),
        false => Ok(password.to_owned()),
    }
}
