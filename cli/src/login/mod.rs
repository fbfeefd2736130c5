//! The way to a registry: in plain or over TLS, whose certificates count, and as whom.

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

/// No password is longer, in bytes; identity tokens can be long.
const MAX_PASSWORD_BYTES: u64 = 64 * 1024;

/// How long a blob on its way may stand still before the line counts as broken.
const DEFAULT_STALL_SECONDS: u64 = 60;

/// How registries are reached, and as whom, as the user said it.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    tls_mode: TlsMode,
    ca_files: Vec<PathBuf>,
    /// What was typed with the command.
    credentials: Option<Credentials>,
    /// The environment variables that count where nothing was typed.
    credential_variables: CredentialVariables,
    /// The registries that the local engine does not check; `None` where its files say so.
    engine_insecure_registries: Option<Vec<String>>,
}

/// What the user said of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TlsMode {
    /// Nothing.
    #[default]
    Auto,
    /// None of it.
    PlainHttp,
    /// Unchecked.
    Insecure,
}

impl RegistryAccess {
    /// The same, as a file of mirrors says it of a registry. Nothing of the environment counts but
    /// what the file names: it would go to every registry.
    ///
    /// # Errors
    /// There is no password where the file says.
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

    /// The way to a registry as it was said, for whoever the environment or a store names.
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

    /// The same, with credentials that were typed, and the variables that count where none were.
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

    /// The same, with the wishes of this machine's engine that the image comes from, in the words
    /// of its `insecure-registries`.
    pub fn with_engine_insecure_registries(self, insecure: Option<Vec<String>>) -> Self {
        Self {
            engine_insecure_registries: insecure,
            ..self
        }
    }

    /// A client of a registry for this user. `pushes` tells that writing follows.
    ///
    /// # Errors
    /// A file of certificates that holds none; credentials that are stored but cannot be had; a
    /// login that would go in clear though nobody said that it may.
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
            // A helper of yesterday is no reason to stop where nobody asks who one is.
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

    /// The same, for exactly these credentials.
    ///
    /// # Errors
    /// As [`Access::connect`].
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

    /// A client of a registry for nobody yet.
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
        // In Docker's order: TLS first, and plain HTTP where that leads nowhere.
        match client.probe().await {
            Err(Error::Connect { .. }) => Ok(AnonymousClient::PlainHttpFallback(Client::new(
                registry,
                UrlScheme::Http,
            )?)),
            Ok(()) | Err(_) => Ok(AnonymousClient::Trusted(client)),
        }
    }
}

/// A client of a registry for nobody yet, by how it came about.
enum AnonymousClient {
    /// As the user said, or over TLS, or on this machine.
    Trusted(Client),
    /// In plain, because TLS led nowhere. Whoever is in between can see to that, so no secret goes
    /// this way unasked.
    PlainHttpFallback(Client),
}

/// The same client, once it is clear that it needs no login.
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

/// The password that a file of mirrors points at.
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

/// The password on standard input, without the end of its line.
///
/// # Errors
/// None there, or more than a password.
pub fn read_password_from_stdin() -> Result<String, Failure> {
    read_stdin_password("--password-stdin")
}

/// The same, for this option.
///
/// # Errors
/// As [`read_password_from_stdin`].
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
