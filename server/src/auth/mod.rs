//! Who a request comes from, and what they may do. It knows no HTTP: a header's value comes in, a
//! caller, or what is wanted of one, goes out.
//!
//! Users stand in an htpasswd file, as the stock registry's do, and may do everything. Where
//! patterns of repositories are given, anyone may pull from those.

mod authorization;
mod edit;
mod error;
mod htpasswd;
mod htpasswd_file;
mod login_cache;
mod password_check;
mod pattern;
mod prompt;
mod scope;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use imgsync_oci::Repository;
use imgsync_oci::endpoint::Action;

pub use self::edit::{DEFAULT_BCRYPT_COST, EditError, EditOutcome, UserChange, edit_user};
pub use self::error::Error;
pub use self::pattern::RepositoryPattern;
pub use self::prompt::password as ask_password;
pub(crate) use self::scope::{AccessScope, required_scopes};

use self::authorization::{Authorization, BasicCredentials};
use self::htpasswd::HtpasswdTable;
use self::login_cache::LoginCache;
use self::password_check::PasswordVerifier;
use self::token::TokenSigner;
use crate::config::Config;

/// How long one of our tokens is good. A client gets the next one by itself.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(300);

/// What is to be known about users, as the configuration says it.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    /// Where users stand; without it everyone may do everything.
    pub htpasswd: Option<HtpasswdFile>,
    /// The repositories that anyone may pull from.
    pub anonymous_pull: Vec<RepositoryPattern>,
    /// What tokens are signed with (`http.secret`); a random key where there is none, so that
    /// tokens end with the process.
    pub secret: Option<String>,
}

/// A file of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HtpasswdFile {
    /// The file.
    pub path: PathBuf,
    /// What clients show when they ask for a password.
    pub realm: String,
}

impl From<&Config> for AuthConfig {
    fn from(config: &Config) -> Self {
        let htpasswd = config.auth.as_ref().map(|auth| HtpasswdFile {
            path: auth.path.clone(),
            realm: auth.realm.clone(),
        });
        Self {
            htpasswd,
            anonymous_pull: config.imgsync.anonymous_pull.clone(),
            secret: config.http.secret.as_ref().map(|secret| secret.0.clone()),
        }
    }
}

/// A user's name, known to be theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User(Arc<str>);

impl User {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why nobody can be said to have sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthenticationError {
    /// Name and password do not go together, or the header cannot be read.
    InvalidLogin,
    /// The token is not ours, is too old, or its user is gone.
    InvalidToken,
    /// Too many passwords are being checked already; later, perhaps.
    Busy,
}

/// How a client should say who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthScheme {
    /// With a name and a password, at every request.
    Basic,
    /// With a token of ours. Docker and podman ask for one also when they know no password, and
    /// with Basic they do not pull from a registry that wants a login for its other repositories.
    Token,
}

/// Everything about users, exchanged as a whole when the configuration or the file changes.
pub(crate) struct AccessController {
    state: ArcSwap<AuthState>,
    login_cache: LoginCache,
    verifier: PasswordVerifier,
}

struct AuthState {
    users: Option<Users>,
    anonymous_pull: Vec<RepositoryPattern>,
    signer: TokenSigner,
}

struct Users {
    realm: String,
    table: HtpasswdTable,
}

impl AccessController {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// The htpasswd file cannot be read. A line that cannot be understood is a warning.
    pub(crate) fn open(settings: &AuthConfig) -> Result<Self, Error> {
        let signer = TokenSigner::new(settings.secret.as_deref())?;
        Ok(Self {
            state: ArcSwap::from_pointee(AuthState::read(settings, signer)?),
            login_cache: LoginCache::new()?,
            verifier: PasswordVerifier::new(),
        })
    }

    /// Reads it all again, for requests that come from now on. Logins that are still right stay
    /// remembered, and tokens stay good.
    ///
    /// # Errors
    /// As [`Auth::open`]; everything stays as it was then.
    pub(crate) fn reload(&self, settings: &AuthConfig) -> Result<(), Error> {
        let signer = match &settings.secret {
            Some(secret) => TokenSigner::new(Some(secret))?,
            None => self.state.load().signer.clone(),
        };
        self.state
            .store(Arc::new(AuthState::read(settings, signer)?));
        Ok(())
    }

    /// What clients are told that a login is for; `None` where there are no logins.
    pub(crate) fn realm(&self) -> Option<String> {
        let rules = self.state.load();
        rules.users.as_ref().map(|users| users.realm.clone())
    }

    /// How clients are to say who they are; `None` where they need not.
    pub(crate) fn scheme(&self) -> Option<(AuthScheme, String)> {
        let rules = self.state.load();
        let users = rules.users.as_ref()?;
        let scheme = match rules.anonymous_pull.is_empty() {
            true => AuthScheme::Basic,
            false => AuthScheme::Token,
        };
        Some((scheme, users.realm.clone()))
    }

    /// Who sent this `Authorization` header; `None` is somebody who did not say, and everybody
    /// where nobody needs to.
    ///
    /// # Errors
    /// The header does not say it in a way that can be believed.
    pub(crate) async fn identify(
        &self,
        authorization: Option<&[u8]>,
    ) -> Result<Option<User>, AuthenticationError> {
        let rules = self.state.load_full();
        let (Some(users), Some(header)) = (&rules.users, authorization) else {
            return Ok(None);
        };
        match Authorization::parse(header) {
            Some(Authorization::Basic(login)) => self.verify(users, login).await.map(Some),
            Some(Authorization::Bearer(token)) => {
                let line = |name: &str| users.table.get(name).map(|hash| hash.as_str());
                rules
                    .signer
                    .verify(token, SystemTime::now(), line)
                    .ok_or(AuthenticationError::InvalidToken)
            }
            None => Err(AuthenticationError::InvalidLogin),
        }
    }

    async fn verify(
        &self,
        users: &Users,
        login: BasicCredentials,
    ) -> Result<User, AuthenticationError> {
        let user = || User(login.user.as_str().into());
        let hash = users.table.get(&login.user);
        let tag = hash.map(|hash| self.login_cache.mac(&login, hash.as_str()));
        let is_known = || tag.is_some_and(|tag| self.login_cache.contains(&tag));
        if is_known() {
            return Ok(user());
        }
        let turn = self
            .verifier
            .acquire()
            .await
            .ok_or(AuthenticationError::Busy)?;
        // Clients come with many connections at once: the first one's answer serves them all.
        if is_known() {
            return Ok(user());
        }
        let work = users.table.password_check(hash);
        let is_right = turn.check(work, login.password.clone()).await;
        match (is_right, tag) {
            (true, Some(tag)) => {
                self.login_cache.insert(tag);
                Ok(user())
            }
            (true | false, _) => Err(AuthenticationError::InvalidLogin),
        }
    }

    /// Whether this caller may do that. Repositories that do not exist are treated alike.
    pub(crate) fn is_allowed(
        &self,
        caller: Option<&User>,
        action: Action,
        repository: Option<&Repository>,
    ) -> bool {
        let rules = self.state.load();
        if rules.users.is_none() || caller.is_some() {
            return true;
        }
        match (action, repository) {
            (Action::Pull, Some(repository)) => rules
                .anonymous_pull
                .iter()
                .any(|pattern| pattern.matches(repository)),
            (Action::Check | Action::Catalog | Action::Pull | Action::Push | Action::Delete, _) => {
                false
            }
        }
    }

    /// A token that says who its bearer is, for [`TOKEN_LIFE`].
    pub(crate) fn issue_token(&self, caller: Option<&User>) -> String {
        let rules = self.state.load();
        let line = caller.and_then(|user| {
            let users = rules.users.as_ref()?;
            users.table.get(user.as_str()).map(|hash| hash.as_str())
        });
        rules.signer.sign(
            caller,
            SystemTime::now() + TOKEN_LIFETIME,
            line.unwrap_or_default(),
        )
    }
}

impl AuthState {
    fn read(settings: &AuthConfig, signer: TokenSigner) -> Result<Self, Error> {
        let users = settings.htpasswd.as_ref().map(Users::read).transpose()?;
        Ok(Self {
            users,
            anonymous_pull: settings.anonymous_pull.clone(),
            signer,
        })
    }
}

impl Users {
    fn read(HtpasswdFile { path, realm }: &HtpasswdFile) -> Result<Self, Error> {
        let text = htpasswd_file::read(path)?;
        let (table, complaints) = HtpasswdTable::parse(&text);
        for complaint in complaints {
            tracing::warn!("{}: {complaint}", path.display());
        }
        if table.is_empty() {
            tracing::warn!("{} names no user: nobody can log in", path.display());
        }
        Ok(Self {
            realm: realm.clone(),
            table,
        })
    }
}

#[cfg(test)]
mod tests;
