//! The decisions about logins and permissions, from a configuration that can be reloaded.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use imgsync_oci::Repository;
use imgsync_oci::endpoint::Action;

use super::authorization::{Authorization, BasicCredentials};
use super::error::Error;
use super::htpasswd::HtpasswdTable;
use super::htpasswd_file;
use super::login_cache::LoginCache;
use super::password_check::PasswordVerifier;
use super::pattern::RepositoryPattern;
use super::sessions::SessionTable;
use super::token::TokenSigner;
use super::{AuthConfig, AuthScheme, AuthenticationError, HtpasswdConfig, TOKEN_LIFETIME, User};
use crate::client_address::ClientAddress;
use crate::wall_clock;

/// Authenticates callers, authorizes their actions and issues tokens. A reload replaces its users
/// and patterns as a whole.
pub(crate) struct AccessController {
    state: ArcSwap<AuthState>,
    login_cache: LoginCache,
    verifier: PasswordVerifier,
    sessions: SessionTable,
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
    /// Reads the users and creates a controller. Logs a warning for each invalid line.
    ///
    /// # Errors
    /// The htpasswd file cannot be read.
    pub(crate) fn open(config: &AuthConfig) -> Result<Self, Error> {
        let signer = TokenSigner::new(config.secret.as_deref())?;
        Ok(Self {
            state: ArcSwap::from_pointee(AuthState::read(config, signer)?),
            login_cache: LoginCache::new()?,
            verifier: PasswordVerifier::default(),
            sessions: SessionTable::new()?,
        })
    }

    /// Checks whether a controller can be opened, and returns what would be logged.
    ///
    /// # Errors
    /// As for [`AccessController::open`].
    pub(crate) fn check(config: &AuthConfig) -> Result<Vec<String>, Error> {
        TokenSigner::new(config.secret.as_deref())?;
        match &config.htpasswd {
            Some(htpasswd) => Users::read_with_warnings(htpasswd).map(|(_, warnings)| warnings),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the users again, for all requests from now on. Tokens and cached logins of users whose
    /// line did not change stay valid.
    ///
    /// # Errors
    /// As for [`AccessController::open`]; the previous users stay valid.
    pub(crate) fn reload(&self, config: &AuthConfig) -> Result<(), Error> {
        let signer = match &config.secret {
            Some(secret) => TokenSigner::new(Some(secret))?,
            None => self.state.load().signer.clone(),
        };
        self.state.store(Arc::new(AuthState::read(config, signer)?));
        Ok(())
    }

    /// Returns the realm of logins; `None` if there are no users.
    pub(crate) fn realm(&self) -> Option<String> {
        let state = self.state.load();
        state.users.as_ref().map(|users| users.realm.clone())
    }

    /// Returns the scheme and the realm of logins; `None` if there are no users.
    pub(crate) fn scheme(&self) -> Option<(AuthScheme, String)> {
        let state = self.state.load();
        let users = state.users.as_ref()?;
        let scheme = if state.anonymous_pull.is_empty() {
            AuthScheme::Basic
        } else {
            AuthScheme::Token
        };
        Some((scheme, users.realm.clone()))
    }

    /// Authenticates the sender of an `Authorization` header. Returns `None` for an anonymous
    /// caller, and for every caller if there are no users. `client` is the address that the limit
    /// of passwords applies to.
    ///
    /// # Errors
    /// The credentials are not valid, or too many passwords are being checked.
    pub(crate) async fn identify(
        &self,
        authorization: Option<&[u8]>,
        client: ClientAddress,
    ) -> Result<Option<User>, AuthenticationError> {
        let state = self.state.load_full();
        let (Some(users), Some(header)) = (&state.users, authorization) else {
            return Ok(None);
        };
        match Authorization::parse(header) {
            Some(Authorization::Basic(login)) => self.verify(users, login, client).await.map(Some),
            Some(Authorization::Bearer(token)) => {
                let hash_of = |name: &str| users.table.get(name).map(|hash| hash.as_str());
                state
                    .signer
                    .verify(token, wall_clock::now(), hash_of)
                    .ok_or(AuthenticationError::InvalidToken)
            }
            None => Err(AuthenticationError::InvalidLogin),
        }
    }

    /// Checks a name and a password that a browser sent in a form. `client` is the address that the
    /// limit of passwords applies to.
    ///
    /// # Errors
    /// The login is not valid, also if there are no users, or too many passwords are being checked.
    pub(crate) async fn log_in(
        &self,
        user: &str,
        password: &str,
        client: ClientAddress,
    ) -> Result<User, AuthenticationError> {
        let state = self.state.load_full();
        let users = state.users.as_ref();
        let users = users.ok_or(AuthenticationError::InvalidLogin)?;
        let login = BasicCredentials {
            user: user.to_owned(),
            password: password.as_bytes().into(),
        };
        self.verify(users, login, client).await
    }

    /// Opens a session of a user who has just logged in, and returns its id; `None` if the user was
    /// deleted meanwhile, or the system provides no random numbers.
    pub(crate) fn open_session(&self, user: &User) -> Option<String> {
        let hash = self.password_hash(user)?;
        self.sessions.open(user, &hash, Instant::now()).ok()
    }

    /// Returns the user of a session; `None` if it is over, or its user was deleted or changed.
    pub(crate) fn session_user(&self, id: &str) -> Option<User> {
        let (user, hash) = self.sessions.find(id, Instant::now())?;
        (self.password_hash(&user)? == hash).then_some(user)
    }

    /// Closes a session, if there is one.
    pub(crate) fn close_session(&self, id: &str) {
        self.sessions.close(id);
    }

    /// Returns the token of the forms that are shown to a session.
    pub(crate) fn form_token(&self, session: &str) -> String {
        self.sessions.form_token(session)
    }

    /// Returns whether a token is that of the forms of a session.
    pub(crate) fn is_form_token(&self, session: &str, token: &str) -> bool {
        self.sessions.is_form_token(session, token)
    }

    fn password_hash(&self, user: &User) -> Option<String> {
        let state = self.state.load();
        let hash = state.users.as_ref()?.table.get(user.as_str())?;
        Some(hash.as_str().to_owned())
    }

    async fn verify(
        &self,
        users: &Users,
        login: BasicCredentials,
        client: ClientAddress,
    ) -> Result<User, AuthenticationError> {
        let user = || User(login.user.as_str().into());
        let hash = users.table.get(&login.user);
        let mac = hash.map(|hash| self.login_cache.mac(&login, hash.as_str()));
        let is_cached = || mac.is_some_and(|mac| self.login_cache.contains(&mac));
        if is_cached() {
            return Ok(user());
        }
        let permit = self
            .verifier
            .acquire(client, &login.user)
            .await
            .ok_or(AuthenticationError::Busy)?;
        // A client opens many connections at once: the check of the first one serves all of them.
        if is_cached() {
            return Ok(user());
        }
        let check = users.table.password_check(hash);
        let is_match = permit.check(check, login.password.clone()).await;
        match mac {
            Some(mac) if is_match => {
                self.login_cache.insert(mac);
                Ok(user())
            }
            _ => Err(AuthenticationError::InvalidLogin),
        }
    }

    /// Returns whether the caller may do this. The answer does not depend on whether the
    /// repository exists.
    pub(crate) fn is_allowed(
        &self,
        caller: Option<&User>,
        action: Action,
        repository: Option<&Repository>,
    ) -> bool {
        let state = self.state.load();
        if state.users.is_none() || caller.is_some() {
            return true;
        }
        match (action, repository) {
            (Action::Pull, Some(repository)) => state
                .anonymous_pull
                .iter()
                .any(|pattern| pattern.matches(repository)),
            (Action::Check | Action::Catalog | Action::Pull | Action::Push | Action::Delete, _) => {
                false
            }
        }
    }

    /// Issues a token that identifies its bearer for [`TOKEN_LIFETIME`].
    pub(crate) fn issue_token(&self, caller: Option<&User>) -> String {
        let state = self.state.load();
        let hash = caller.and_then(|user| {
            let users = state.users.as_ref()?;
            users.table.get(user.as_str()).map(|hash| hash.as_str())
        });
        state.signer.sign(
            caller,
            wall_clock::now() + TOKEN_LIFETIME,
            hash.unwrap_or_default(),
        )
    }
}

impl AuthState {
    fn read(config: &AuthConfig, signer: TokenSigner) -> Result<Self, Error> {
        let users = config.htpasswd.as_ref().map(Users::read).transpose()?;
        Ok(Self {
            users,
            anonymous_pull: config.anonymous_pull.clone(),
            signer,
        })
    }
}

impl Users {
    fn read(config: &HtpasswdConfig) -> Result<Self, Error> {
        let (users, warnings) = Self::read_with_warnings(config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(users)
    }

    fn read_with_warnings(
        HtpasswdConfig { path, realm }: &HtpasswdConfig,
    ) -> Result<(Self, Vec<String>), Error> {
        let text = htpasswd_file::read(path)?;
        let (table, warnings) = HtpasswdTable::parse(&text);
        let path = path.display();
        let mut warnings: Vec<_> = warnings
            .iter()
            .map(|warning| format!("{path}: {warning}"))
            .collect();
        if table.is_empty() {
            warnings.push(format!("{path}: no valid user, nobody can log in"));
        }
        let realm = realm.clone();
        Ok((Self { realm, table }, warnings))
    }
}
