//! The way to a registry: in plain or over TLS, whose certificates count, and as whom.

mod certificates;
mod insecure;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use http::StatusCode;
use imgsync_oci::client::{Client, Credentials, Error, Quota, Scheme, Tls};
use imgsync_oci::{Registry, Repository};

use crate::credentials::Variables;
use crate::exit::{Failure, Kind};
use crate::mirror::config::{Host, Password};
use crate::report::Report;
use crate::{args, credentials, settings};
use insecure::Insecure;

/// No password is longer, in bytes; identity tokens can be long.
const LONGEST_PASSWORD: u64 = 64 * 1024;

/// How long a blob on its way may stand still before the line counts as broken.
const STALL_SECONDS: u64 = 60;

/// How registries are reached, and as whom, as the user said it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    way: Way,
    ca_files: Vec<PathBuf>,
    /// What was typed with the command.
    credentials: Option<Credentials>,
    /// The environment variables that count where nothing was typed.
    variables: Variables,
    /// The registries that the local engine does not check; `None` where its files say so.
    engine: Option<Vec<String>>,
}

/// What the user said of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Way {
    /// Nothing.
    #[default]
    Usual,
    /// None of it.
    Plain,
    /// Unchecked.
    Unchecked,
}

impl Access {
    /// Reads the arguments, and the password from standard input where they say so.
    ///
    /// # Errors
    /// No password there.
    pub fn parse(args: &args::Access) -> Result<Self, Failure> {
        let credentials = match &args.username {
            Some(username) if args.password_stdin => Some(Credentials::Password {
                username: username.clone(),
                password: password_from("--password-stdin")?,
            }),
            Some(_) | None => None,
        };
        let access = Self::parse_connect(&args.connect);
        Ok(Self {
            credentials,
            ..access
        })
    }

    /// The same, for the source of a mirror.
    ///
    /// # Errors
    /// As [`Access::parse`].
    pub fn parse_source(args: &args::SourceAccess) -> Result<Self, Failure> {
        let credentials = match &args.source_username {
            Some(username) if args.source_password_stdin => Some(Credentials::Password {
                username: username.clone(),
                password: password_from("--source-password-stdin")?,
            }),
            Some(_) | None => None,
        };
        let connect = args::Connect {
            plain_http: args.source_plain_http,
            insecure: args.source_insecure,
            ca_file: args.source_ca_file.clone(),
        };
        Ok(Self {
            credentials,
            variables: Variables::Source,
            ..Self::parse_connect(&connect)
        })
    }

    /// The same, as a file of mirrors says it of a registry. Nothing of the environment counts but
    /// what the file names: it would go to every registry.
    ///
    /// # Errors
    /// There is no password where the file says.
    pub fn parse_host(host: &Host) -> Result<Self, Failure> {
        let credentials = match &host.login {
            Some((username, password)) => Some(Credentials::Password {
                username: username.clone(),
                password: password_at(password)?,
            }),
            None => None,
        };
        let connect = args::Connect {
            plain_http: host.plain_http,
            insecure: host.insecure,
            ca_file: host.ca_file.iter().cloned().collect(),
        };
        Ok(Self {
            credentials,
            variables: Variables::Ignored,
            ..Self::parse_connect(&connect)
        })
    }

    /// The same, of a command that knows by itself who the user is.
    pub fn parse_connect(args: &args::Connect) -> Self {
        let way = match (args.plain_http, args.insecure) {
            (true, _) => Way::Plain,
            (false, true) => Way::Unchecked,
            (false, false) => Way::Usual,
        };
        Self {
            way,
            ca_files: args.ca_file.clone(),
            ..Self::default()
        }
    }

    /// The same, with the wishes of this machine's engine that the image comes from, in the words
    /// of its `insecure-registries`.
    pub fn with_engine(self, insecure: Option<Vec<String>>) -> Self {
        Self {
            engine: insecure,
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
        let stall = settings::seconds("IMGSYNC_STALL_TIMEOUT", STALL_SECONDS)?;
        let client = match self.reach(registry, report).await? {
            Reached::Agreed(client) => client.with_stall(stall),
            Reached::InClear(client) => return without_login(client.with_stall(stall)).await,
        };
        let told = Arc::clone(report);
        let quota = Quota::telling(move |error, _| told.note(&format!("{error}; trying again")));
        let client = client.with_quota(Arc::new(quota));
        let found = match &self.credentials {
            Some(typed) => Ok(Some(typed.clone())),
            None => match credentials::of_environment(self.variables)? {
                Some(credentials) => Ok(Some(credentials)),
                None => credentials::stored(registry, repository).await,
            },
        };
        let credentials = match found {
            Ok(credentials) => credentials,
            // A helper of yesterday is no reason to stop where nobody asks who one is.
            Err(failure) if failure.kind == Kind::Authentication => {
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
        Ok(logged_in(client, credentials, pushes, report))
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
        let client = match self.reach(registry, report).await? {
            Reached::Agreed(client) => client,
            Reached::InClear(client) => return without_login(client).await,
        };
        Ok(logged_in(client, Some(credentials), false, report))
    }

    /// A client of a registry for nobody yet.
    async fn reach(
        &self,
        registry: &Registry,
        report: &Arc<dyn Report>,
    ) -> Result<Reached, Failure> {
        let agreed = |client: Result<Client, Error>| Ok(Reached::Agreed(client?));
        if self.way == Way::Plain {
            return agreed(Client::new(registry, Scheme::Http));
        }
        let (mut tls, found) = certificates::of(registry, report);
        for path in &self.ca_files {
            trust(&mut tls, path)?;
        }
        if self.way == Way::Unchecked {
            report.note(&format!(
                "warning: --insecure: nobody checks that this is {registry}, and whoever is in \
                 between can read and change everything"
            ));
            return agreed(Client::with_tls(registry, Scheme::Https, &tls.unchecked()));
        }
        if found || !self.ca_files.is_empty() {
            return agreed(Client::with_tls(registry, Scheme::Https, &tls));
        }
        if registry.is_loopback() {
            return agreed(Client::new(registry, Scheme::Http));
        }
        let insecure = match &self.engine {
            Some(words) => Insecure::of_words(words),
            None => Insecure::of_files(),
        };
        if !insecure.covers(registry).await {
            return agreed(Client::with_tls(registry, Scheme::Https, &tls));
        }
        report.note(&format!(
            "warning: Docker's insecure-registries names {registry}, so nobody checks that this \
             is it"
        ));
        let client = Client::with_tls(registry, Scheme::Https, &tls.unchecked())?;
        // In Docker's order: TLS first, and plain HTTP where that leads nowhere.
        match client.knock().await {
            Err(Error::Connect { .. }) => {
                Ok(Reached::InClear(Client::new(registry, Scheme::Http)?))
            }
            Ok(()) | Err(_) => Ok(Reached::Agreed(client)),
        }
    }
}

/// A client of a registry for nobody yet, by how it came about.
enum Reached {
    /// As the user said, or over TLS, or on this machine.
    Agreed(Client),
    /// In plain, because TLS led nowhere. Whoever is in between can see to that, so no secret goes
    /// this way unasked.
    InClear(Client),
}

/// The same client, once it is clear that it needs no login.
async fn without_login(client: Client) -> Result<Client, Failure> {
    match client.check().await {
        Err(error) if error.status() == Some(StatusCode::UNAUTHORIZED) => {
            let registry = client.registry();
            let what = format!(
                "target: {registry} asks for a login, but does not speak TLS, so no password was \
                 sent"
            );
            let hint = "to send the password in clear, for everybody on the way to read, pass \
                        --plain-http";
            Err(Failure::new(Kind::Authentication, what).hint(hint))
        }
        Ok(()) | Err(_) => Ok(client),
    }
}

fn logged_in(
    client: Client,
    credentials: Option<Credentials>,
    pushes: bool,
    report: &Arc<dyn Report>,
) -> Client {
    let report = Arc::clone(report);
    client.with_login(credentials, pushes).warning(move |host| {
        report.note(&format!(
            "warning: the password goes to {host} unencrypted, for everybody on the way to read"
        ));
    })
}

fn trust(tls: &mut Tls, path: &std::path::Path) -> Result<(), Failure> {
    let shown = path.display();
    let usage = |what: String| {
        Failure::new(Kind::Usage, format!("cannot use --ca-file {shown}: {what}"))
            .hint("it should hold the CA's certificate in PEM: -----BEGIN CERTIFICATE-----")
    };
    let pem = std::fs::read(path).map_err(|error| usage(error.to_string()))?;
    tls.trust(&pem).map_err(usage)
}

/// The password that a file of mirrors points at.
fn password_at(place: &Password) -> Result<String, Failure> {
    let (text, name) = match place {
        Password::Variable(name) => {
            let text = std::env::var(name).map_err(|_| {
                let what = format!("passwordEnv: the variable {name} is not set");
                Failure::new(Kind::Usage, what)
            })?;
            (text, name.clone())
        }
        Password::File(path) => {
            let name = path.display().to_string();
            let wrong = |what: &dyn std::fmt::Display| {
                Failure::new(Kind::Usage, format!("passwordFile: {name}: {what}"))
            };
            let mut text = String::new();
            let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
            let read = file.take(LONGEST_PASSWORD + 1).read_to_string(&mut text);
            read.map_err(|error| wrong(&error))?;
            if text.len() as u64 > LONGEST_PASSWORD {
                return Err(wrong(&"that is no password"));
            }
            (text, name)
        }
    };
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(Failure::new(
            Kind::Usage,
            format!("the password in {name} is empty"),
        )),
        false => Ok(password.to_owned()),
    }
}

/// The password on standard input, without the end of its line.
///
/// # Errors
/// None there, or more than a password.
pub fn password_from_stdin() -> Result<String, Failure> {
    password_from("--password-stdin")
}

/// The same, for this option.
fn password_from(option: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let usage = |what: String| Failure::new(Kind::Usage, format!("{option}: {what}"));
    let input = std::io::stdin().lock().take(LONGEST_PASSWORD + 1);
    { input }
        .read_to_end(&mut bytes)
        .map_err(|error| usage(error.to_string()))?;
    if bytes.len() as u64 > LONGEST_PASSWORD {
        return Err(usage("that is no password".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| usage("it is no text".to_owned()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(usage("standard input is empty".to_owned())
            .hint(format!("for instance: imgsync … {option} <password.txt"))),
        false => Ok(password.to_owned()),
    }
}
