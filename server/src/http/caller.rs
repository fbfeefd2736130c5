//! Who asks, and what they may do.

use std::fmt;
use std::sync::Arc;

use imgsync_oci::endpoint::Action;
use imgsync_oci::{Code, Endpoint, Repository};

use super::failure::Failure;
use super::forwarded::Origin;
use super::login;
use crate::auth::{Auth, User, Wanted, wanted};

/// The caller of one request. Cheap to clone: work that blocks takes one along.
#[derive(Clone)]
pub(super) struct Caller {
    auth: Arc<Auth>,
    user: Option<User>,
    origin: Arc<Origin>,
}

impl Caller {
    /// A user, or somebody who is not known.
    pub(super) fn new(auth: Arc<Auth>, user: Option<User>, origin: Arc<Origin>) -> Self {
        Self { auth, user, origin }
    }

    /// The user, if the caller is known to be one.
    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Whether the caller may do this in a repository.
    pub(super) fn may(&self, action: Action, repository: &Repository) -> bool {
        self.auth.may(self.user(), action, Some(repository))
    }

    /// Whether this is the name or address by which the caller asks this very server.
    pub(super) fn is_asking(&self, name: &str) -> bool {
        self.origin.is_at(name)
    }

    /// Lets a caller go on who may do what an operation asks for.
    ///
    /// # Errors
    /// [`Code::Unauthorized`] with a challenge.
    pub(super) fn permit(&self, endpoint: &Endpoint) -> Result<(), Failure> {
        let (action, repository) = endpoint.access();
        // Who asks for a token need not be known: that is what the token will say.
        if *endpoint == Endpoint::Token || self.auth.may(self.user(), action, repository) {
            return Ok(());
        }
        Err(self.challenge(endpoint))
    }

    /// How to log in for an operation.
    pub(super) fn challenge(&self, endpoint: &Endpoint) -> Failure {
        login::challenge(&self.auth, &wanted(endpoint), &self.origin)
    }

    /// What to answer a caller who may not: that they must say who they are, or, to somebody who
    /// has done so, that it is not for them.
    pub(super) fn refuse(&self, wanted: &Wanted) -> Failure {
        match self.user {
            None => login::challenge(&self.auth, std::slice::from_ref(wanted), &self.origin),
            Some(_) => Failure::new(Code::Denied, login::detail(std::slice::from_ref(wanted))),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.user).finish()
    }
}
