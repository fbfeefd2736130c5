//! Options for the connection and the login to a registry.

use std::path::PathBuf;

use clap::Args;

/// How to connect to a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Registry")]
pub struct ConnectArgs {
    /// Use plain HTTP. This is the default for localhost and loopback addresses
    #[arg(long, conflicts_with_all = ["insecure", "ca_file"])]
    pub plain_http: bool,

    /// Skip TLS certificate verification (unsafe: the connection can be read and modified)
    #[arg(long)]
    pub insecure: bool,

    /// Trust the CA certificates in this PEM file too. Can be repeated
    ///
    /// Certificates in the certs.d folders of Docker and podman are used without this option.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
}

/// How to connect and log in to a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Registry")]
pub struct AccessArgs {
    #[command(flatten)]
    /// How to connect.
    pub connect: ConnectArgs,

    /// Log in as this user. Needs --password-stdin
    ///
    /// Without this option, IMGSYNC_USERNAME and IMGSYNC_PASSWORD are used if they are set.
    /// Otherwise, the login that docker login, podman login or imgsync login stored is used.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
}

/// How to connect and log in to the source of a mirror.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Source registry")]
pub struct SourceAccessArgs {
    /// Use plain HTTP for the source
    #[arg(long, conflicts_with_all = ["source_insecure", "source_ca_file"])]
    pub source_plain_http: bool,

    /// Skip TLS certificate verification for the source (unsafe, see --insecure)
    #[arg(long)]
    pub source_insecure: bool,

    /// For the source, trust the CA certificates in this PEM file too. Can be repeated
    #[arg(long, value_name = "FILE")]
    pub source_ca_file: Vec<PathBuf>,

    /// Log in to the source as this user. Needs --source-password-stdin
    ///
    /// Without this option, IMGSYNC_SOURCE_USERNAME and IMGSYNC_SOURCE_PASSWORD are used if they
    /// are set. Otherwise, a stored login is used.
    #[arg(long, value_name = "NAME", requires = "source_password_stdin")]
    pub source_username: Option<String>,

    /// Read the password for the source from standard input
    #[arg(long, requires = "source_username", conflicts_with = "password_stdin")]
    pub source_password_stdin: bool,
}

impl From<SourceAccessArgs> for AccessArgs {
    fn from(args: SourceAccessArgs) -> Self {
        Self {
            connect: ConnectArgs {
                plain_http: args.source_plain_http,
                insecure: args.source_insecure,
                ca_file: args.source_ca_file,
            },
            username: args.source_username,
            password_stdin: args.source_password_stdin,
        }
    }
}
