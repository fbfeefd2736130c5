//! Authenticates callers and decides what they may do.
//!
//! Users come from an htpasswd file, as with the stock registry, and may do everything. Anyone may
//! pull from the repositories that match the configured patterns. This module must not know HTTP:
//! it gets the value of a header and returns a user. Start reading at `AccessController`.

mod access_controller;
mod authorization;
mod edit;
mod error;
mod fair_queue;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod htpasswd;
mod htpasswd_file;
mod login_cache;
mod password_check;
mod pattern;
mod prompt;
mod prompt_guard;
mod scope;
mod sessions;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::access_controller::AccessController;
pub use self::edit::{DEFAULT_BCRYPT_COST, EditError, EditOutcome, UserChange, edit_user};
pub use self::error::Error;
pub use self::pattern::{RepositoryPattern, TagPattern};
pub use self::prompt::password as ask_password;
pub use self::prompt_guard::PromptGuard;
pub(crate) use self::scope::{AccessScope, required_scopes};
pub(crate) use self::sessions::SESSION_LIFETIME;

/// How long a token is valid. Clients request the next one by themselves.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// The configuration of logins and permissions.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// The users; `None` if everyone may do everything.
    pub htpasswd: Option<HtpasswdConfig>,
    /// The repositories that anyone may pull from.
    pub anonymous_pull: Vec<RepositoryPattern>,
    /// The secret that tokens are signed with (`http.secret`). Without one the key is random, and
    /// tokens end when the server restarts.
    pub secret: Option<String>,
}

/// An htpasswd file and the realm that its users log in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtpasswdConfig {
    /// The file, with bcrypt hashes as `htpasswd -B` writes them.
    pub path: PathBuf,
    /// The realm that clients show when they ask for a password.
    pub realm: String,
}

/// The name of a user who is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User(Arc<str>);

impl User {
    /// Returns the name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a caller cannot be authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthenticationError {
    /// The name or the password is wrong, or the header is malformed.
    InvalidLogin,
    /// The token is not one of this server, has expired, or its user was deleted or changed.
    InvalidToken,
    /// Too many passwords from the same client are being checked; it may retry.
    Busy,
}

/// The scheme by which clients authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthScheme {
    /// A name and a password in every request (RFC 7617).
    Basic,
    /// A token of this server (RFC 6750). Docker and podman request a token also without a login.
    /// With [`AuthScheme::Basic`] they would not pull, without a login, from a registry that
    /// requires one for other repositories.
    Token,
}

#[cfg(test)]
mod tests;
