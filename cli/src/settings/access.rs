//! How registries are reached, as it was typed.

use imgsync_oci::client::Credentials;

use crate::args;
use crate::exit::Failure;
use crate::login::credentials::CredentialVariables;
use crate::login::{RegistryAccess, read_stdin_password};

impl RegistryAccess {
    /// Reads the arguments, and the password from standard input where they say so.
    ///
    /// # Errors
    /// No password there.
    pub fn parse(args: &args::AccessArgs) -> Result<Self, Failure> {
        let credentials = match &args.username {
            Some(username) if args.password_stdin => Some(Credentials::Password {
                username: username.clone(),
                password: read_stdin_password("--password-stdin")?,
            }),
            Some(_) | None => None,
        };
        let access = Self::parse_connect(&args.connect);
        Ok(access.with_credentials(credentials, CredentialVariables::Primary))
    }

    /// The same, for the source of a mirror.
    ///
    /// # Errors
    /// As [`Access::parse`].
    pub fn parse_source(args: &args::SourceAccessArgs) -> Result<Self, Failure> {
        let credentials = match &args.source_username {
            Some(username) if args.source_password_stdin => Some(Credentials::Password {
                username: username.clone(),
                password: read_stdin_password("--source-password-stdin")?,
            }),
            Some(_) | None => None,
        };
        let access = Self::new(
            args.source_plain_http,
            args.source_insecure,
            args.source_ca_file.clone(),
        );
        Ok(access.with_credentials(credentials, CredentialVariables::Source))
    }

    /// The same, of a command that knows by itself who the user is.
    pub fn parse_connect(args: &args::ConnectArgs) -> Self {
        Self::new(args.plain_http, args.insecure, args.ca_file.clone())
    }
}
