//! Who asks, and what they may do.

use std::fmt;
use std::sync::Arc;

use imgsync_oci::endpoint::Action;
use imgsync_oci::{Endpoint, ErrorCode, Repository};

use super::authentication;
use super::error_response::ErrorResponse;
use super::forwarded::ForwardedInfo;
use crate::auth::{AccessController, AccessScope, User, required_scopes};

/// The caller of one request. Cheap to clone: work that blocks takes one along.
#[derive(Clone)]
pub(super) struct Caller {
    auth: Arc<AccessController>,
    user: Option<User>,
    forwarded: Arc<ForwardedInfo>,
}

impl Caller {
    /// A user, or somebody who is not known.
    pub(super) fn new(
        auth: Arc<AccessController>,
        user: Option<User>,
        forwarded: Arc<ForwardedInfo>,
    ) -> Self {
        Self {
            auth,
            user,
            forwarded,
        }
    }

    /// The user, if the caller is known to be one.
    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Whether the caller may do this in a repository.
    pub(super) fn is_allowed(&self, action: Action, repository: &Repository) -> bool {
        self.auth.is_allowed(self.user(), action, Some(repository))
    }

    /// Whether this is the name or address by which the caller asks this very server.
    pub(super) fn is_own_host(&self, name: &str) -> bool {
        self.forwarded.is_reached_at(name)
    }

    /// Lets a caller go on who may do what an operation asks for.
    ///
    /// # Errors
    /// [`Code::Unauthorized`] with a challenge.
    pub(super) fn authorize(&self, endpoint: &Endpoint) -> Result<(), ErrorResponse> {
        let (action, repository) = endpoint.access();
        // Who asks for a token need not be known: that is what the token will say.
        if *endpoint == Endpoint::TOKEN || self.auth.is_allowed(self.user(), action, repository) {
            return Ok(());
        }
        Err(self.challenge(endpoint))
    }

    /// How to log in for an operation.
    pub(super) fn challenge(&self, endpoint: &Endpoint) -> ErrorResponse {
        authentication::challenge(&self.auth, &required_scopes(endpoint), &self.forwarded)
    }

    /// What to answer a caller who may not: that they must say who they are, or, to somebody who
    /// has done so, that it is not for them.
    pub(super) fn deny(&self, wanted: &AccessScope) -> ErrorResponse {
        match self.user {
            None => {
                authentication::challenge(&self.auth, std::slice::from_ref(wanted), &self.forwarded)
            }
            Some(_) => ErrorResponse::new(
                ErrorCode::Denied,
                authentication::denied_access(std::slice::from_ref(wanted)),
            ),
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.user).finish()
    }
}
