//! Connects to registries: chooses the URL scheme, the trusted certificates and the credentials.
//!
//! This module sends only the requests that test the connection and the login. Start reading at
//! [`RegistryAccess`].

mod certificates;
mod connection;
pub mod credentials;
mod insecure_registries;
mod password;
mod proxy_variables;
mod registry_settings;
mod timeouts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use imgsync_oci::client::{Client, Credentials, Error, RetryPolicy, TlsOptions, UrlScheme};
use imgsync_oci::{Registry, Repository, decode_text_file};

use tokio::sync::OnceCell;

use crate::exit::{Failure, FailureKind};
use crate::report::Report;
use credentials::CredentialVariables;
use insecure_registries::InsecureRegistries;

pub use connection::{ConnectionChoice, ConnectionReason, FoundLogin};
pub use password::read_stdin_password;
pub use registry_settings::{RegistrySettings, is_same_registry};
pub use timeouts::seconds_from_env;

/// The time without progress of a transfer after which the connection counts as lost.
const DEFAULT_STALL_SECONDS: u64 = 60;

/// The user's options for connecting and logging in to registries.
#[derive(Debug, Clone, Default)]
pub struct RegistryAccess {
    tls_mode: TlsMode,
    ca_files: Vec<PathBuf>,
    /// The credentials given on the command line.
    credentials: Option<Credentials>,
    /// The environment variables to use if no credentials were given.
    credential_variables: CredentialVariables,
    /// Asks the local engine for its `insecure-registries`.
    ask_engine: Option<AskEngine>,
    /// The `insecure-registries` of the local engine, once they are known. Clones share them.
    engine_insecure_registries: Arc<OnceCell<Vec<String>>>,
}

/// Asks the local engine for its `insecure-registries`. Returns `None` if there is no engine on this
/// machine, or if it does not answer soon.
pub type AskEngine = fn() -> BoxFuture<'static, Option<Vec<String>>>;

/// The TLS option that the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum TlsMode {
    /// No option: the scheme and verification depend on the registry.
    #[default]
    Auto,
    /// Plain HTTP.
    PlainHttp,
    /// TLS with certificate verification, for every registry.
    Https,
    /// TLS without certificate verification.
    Insecure,
}

impl RegistryAccess {
    /// Creates the options for one registry of a mirror configuration. The environment variables
    /// for credentials are ignored, because they would be sent to every registry in the file.
    ///
    /// # Errors
    /// Fails if the password cannot be read from its source.
    pub fn parse_host(settings: &RegistrySettings) -> Result<Self, Failure> {
        let ca_files = settings.ca_file.iter().cloned().collect();
        Ok(Self {
            credentials: password::read_configured_login(settings)?,
            credential_variables: CredentialVariables::Ignored,
            ..Self::new(settings.plain_http, settings.insecure, ca_files)
        })
    }

    /// Creates options for a registry whose credentials come from the environment or a credential
    /// store.
    pub fn new(plain_http: bool, insecure: bool, ca_files: Vec<PathBuf>) -> Self {
        let tls_mode = if plain_http {
            TlsMode::PlainHttp
        } else if insecure {
            TlsMode::Insecure
        } else {
            TlsMode::Auto
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

    /// Sets how the local engine is asked for its `insecure-registries`.
    pub fn with_engine(self, ask_engine: AskEngine) -> Self {
        Self {
            ask_engine: Some(ask_engine),
            ..self
        }
    }

    /// Sets the `insecure-registries` of the local engine, if they are known already.
    pub fn with_engine_insecure_registries(self, insecure: Option<Vec<String>>) -> Self {
        match insecure {
            Some(insecure) => Self {
                engine_insecure_registries: Arc::new(OnceCell::new_with(Some(insecure))),
                ..self
            },
            None => self,
        }
    }

    /// Uses the scheme that was typed before the name of the registry.
    ///
    /// # Errors
    /// Fails if an option contradicts the scheme.
    pub fn with_scheme(self, scheme: Option<UrlScheme>) -> Result<Self, Failure> {
        let has_ca = !self.ca_files.is_empty();
        let tls_mode = match (scheme, self.tls_mode) {
            (None, mode) => mode,
            (Some(UrlScheme::Http), TlsMode::Auto | TlsMode::PlainHttp) if !has_ca => {
                TlsMode::PlainHttp
            }
            (Some(UrlScheme::Https), TlsMode::Auto | TlsMode::Https) => TlsMode::Https,
            (Some(UrlScheme::Https), TlsMode::Insecure) => TlsMode::Insecure,
            (Some(UrlScheme::Http), _) => {
                let what = "http:// cannot be used with --insecure and --ca-file";
                return Err(Failure::usage(what).with_hint("write https://, or omit the option"));
            }
            (Some(UrlScheme::Https), TlsMode::PlainHttp) => {
                let what = "https:// cannot be used with --plain-http";
                return Err(Failure::usage(what).with_hint("omit one of them"));
            }
        };
        Ok(Self { tls_mode, ..self })
    }

    /// Creates a client for a registry, with the user's credentials. `pushes` tells whether the
    /// client will write.
    ///
    /// # Errors
    /// Fails if a certificate file contains no certificate, or if stored credentials cannot be read.
    pub async fn connect(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
        pushes: bool,
        report: &Arc<dyn Report>,
    ) -> Result<Client, Failure> {
        let stall = seconds_from_env("IMGSYNC_STALL_TIMEOUT", DEFAULT_STALL_SECONDS)?;
        let choice = self.choose_connection(registry, report).await?;
        let client = Self::open(choice, registry, report).await?;
        let client = client.with_stall_timeout(stall);
        let notified = Arc::clone(report);
        let retries = RetryPolicy::with_notifier(move |error, _| {
            notified.note(&format!("{error}; trying again"));
        });
        let client = client.with_retry_policy(Arc::new(retries));
        let credentials = match self.find_login(registry, repository).await {
            Ok(login) => login.map(|login| login.credentials),
            // Stored credentials that cannot be read matter only if the registry requires a login.
            Err(failure) if failure.kind == FailureKind::Authentication => {
                if client.check().await.is_err() {
                    return Err(failure);
                }
                report.note(&format!(
                    "{registry} does not require a login, so this error is ignored: {}",
                    failure.what
                ));
                None
            }
            Err(failure) => return Err(failure),
        };
        let client = with_credentials(client, credentials, pushes, report);
        Ok(client.with_login_variables(self.credential_variables.names()))
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
        let choice = self.choose_connection(registry, report).await?;
        Self::connect_chosen(choice, registry, Some(credentials), false, report).await
    }

    /// Creates a client for a registry as [`RegistryAccess::choose_connection`] has chosen, with
    /// exactly these credentials.
    ///
    /// # Errors
    /// Fails if TLS cannot be set up.
    pub async fn connect_chosen(
        choice: ConnectionChoice,
        registry: &Registry,
        credentials: Option<Credentials>,
        pushes: bool,
        report: &Arc<dyn Report>,
    ) -> Result<Client, Failure> {
        let client = Self::open(choice, registry, report).await?;
        Ok(with_credentials(client, credentials, pushes, report))
    }

    /// Returns whether the user has credentials for a registry.
    ///
    /// # Errors
    /// Fails if stored credentials cannot be read.
    pub async fn has_login(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<bool, Failure> {
        let found = self.find_login(registry, repository).await?;
        Ok(found.is_some())
    }

    /// Returns the credentials of the command line, else of the environment, else stored ones.
    ///
    /// # Errors
    /// Fails if stored credentials cannot be read.
    pub async fn find_login(
        &self,
        registry: &Registry,
        repository: Option<&Repository>,
    ) -> Result<Option<FoundLogin>, Failure> {
        let found = |credentials, place: &str| FoundLogin {
            credentials,
            place: place.to_owned(),
        };
        if let Some(credentials) = self.credentials.clone() {
            return Ok(Some(found(credentials, "--username")));
        }
        match credentials::from_environment(self.credential_variables)? {
            None => credentials::find_stored(registry, repository).await,
            Some(credentials) => Ok(Some(found(credentials, "IMGSYNC_USERNAME"))),
        }
    }

    /// Chooses how to connect to a registry. Sends no request to it.
    ///
    /// # Errors
    /// Fails if a certificate file contains no certificate.
    pub async fn choose_connection(
        &self,
        registry: &Registry,
        report: &Arc<dyn Report>,
    ) -> Result<ConnectionChoice, Failure> {
        if !registry.is_loopback() {
            proxy_variables::warn_about_ignored(report);
        }
        let choice = |scheme, tls, reason| {
            Ok(ConnectionChoice {
                scheme,
                tls,
                reason,
            })
        };
        if self.tls_mode == TlsMode::PlainHttp {
            let reason = ConnectionReason::PlainHttpRequested;
            return choice(UrlScheme::Http, TlsOptions::default(), reason);
        }
        let (mut tls, has_certificates) = certificates::load_certificates(registry, report);
        for path in &self.ca_files {
            add_ca_file(&mut tls, path)?;
        }
        let reason = if self.tls_mode == TlsMode::Insecure {
            ConnectionReason::VerificationSkipped
        } else if self.tls_mode == TlsMode::Https {
            ConnectionReason::HttpsRequested
        } else if has_certificates || !self.ca_files.is_empty() {
            ConnectionReason::CertificatesConfigured
        } else if registry.is_loopback() {
            return choice(UrlScheme::Http, tls, ConnectionReason::Loopback);
        } else if self.is_insecure(registry).await {
            ConnectionReason::InsecureRegistry
        } else {
            ConnectionReason::Default
        };
        choice(UrlScheme::Https, tls, reason)
    }

    /// Creates a client without credentials.
    async fn open(
        choice: ConnectionChoice,
        registry: &Registry,
        report: &Arc<dyn Report>,
    ) -> Result<Client, Failure> {
        let tls = if choice.reason.verifies() {
            choice.tls
        } else {
            choice.tls.without_verification()
        };
        let client = Client::with_tls(registry, choice.scheme, &tls)?;
        if choice.reason == ConnectionReason::VerificationSkipped {
            report.note(&format!(
                "warning: --insecure: the certificate of {registry} is not verified, so the \
                 connection can be read and modified"
            ));
        }
        if choice.reason != ConnectionReason::InsecureRegistry {
            return Ok(client);
        }
        // As Docker does: TLS first, and plain HTTP if no TLS connection can be opened.
        if let Err(Error::Connect { .. }) = client.probe().await {
            report.note(&format!(
                "warning: {registry} is listed in Docker's insecure-registries, and a TLS connection \
                 cannot be opened: plain HTTP, not encrypted, so others on the network can read and \
                 modify everything"
            ));
            return Ok(Client::new(registry, UrlScheme::Http)?);
        }
        report.note(&format!(
            "warning: {registry} is listed in Docker's insecure-registries, so its certificate is not \
             verified"
        ));
        Ok(client)
    }

    /// Returns whether the local engine uses a registry without TLS verification, by its configuration
    /// files or by its own answer.
    async fn is_insecure(&self, registry: &Registry) -> bool {
        if InsecureRegistries::from_daemon_config()
            .covers(registry)
            .await
        {
            return true;
        }
        let entries = self.engine_insecure_registries.get_or_init(|| async {
            match self.ask_engine {
                Some(ask_engine) => ask_engine().await.unwrap_or_default(),
                None => Vec::new(),
            }
        });
        InsecureRegistries::parse(entries.await)
            .covers(registry)
            .await
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
                "warning: the password is sent to {host} unencrypted, so others on the network \
                 can read it"
            ));
        })
}

fn add_ca_file(tls: &mut TlsOptions, path: &Path) -> Result<(), Failure> {
    let pem = std::fs::read(path).map_err(|error| error.to_string());
    let pem = pem.map(decode_text_file);
    let added = pem.and_then(|pem| tls.add_ca_certificates(&pem));
    added.map_err(|reason| {
        let what = format!("cannot use --ca-file {}: {reason}", path.display());
        let hint = "the file must contain a CA certificate in PEM format \
                    (-----BEGIN CERTIFICATE-----)";
        Failure::new(FailureKind::Usage, what).with_hint(hint)
    })
}
