//! The caller of a request and its permissions.

use std::fmt;
use std::sync::Arc;

use imgsync_oci::endpoint::Action;
use imgsync_oci::{Endpoint, Repository};

use super::challenge;
use super::error_response::ErrorResponse;
use super::forwarded::ForwardedInfo;
use crate::auth::{AccessController, AccessScope, User, required_scopes};
use crate::client_address::ClientAddress;
use crate::upstream::PullRights;

/// The caller of one request. It is cheap to clone into blocking work.
#[derive(Clone)]
pub(super) struct Caller {
    auth: Arc<AccessController>,
    user: Option<User>,
    forwarded: Arc<ForwardedInfo>,
}

impl Caller {
    /// Creates a caller; `None` is an anonymous one.
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

    /// Returns the user; `None` if the caller is anonymous.
    pub(super) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Returns the address of the client, as limits count it.
    pub(super) fn client_address(&self) -> ClientAddress {
        ClientAddress::from(self.forwarded.client)
    }

    /// Returns whether the caller may do this in a repository.
    pub(super) fn is_allowed(&self, action: Action, repository: &Repository) -> bool {
        self.auth.is_allowed(self.user(), action, Some(repository))
    }

    /// Returns what the caller may pull, for the cache.
    pub(super) fn pull_rights(&self) -> PullRights {
        let (caller, auth) = (self.clone(), Arc::clone(&self.auth));
        PullRights {
            may_caller_pull: Arc::new(move |repository| {
                caller.is_allowed(Action::Pull, repository)
            }),
            may_anyone_pull: Arc::new(move |repository| {
                auth.is_allowed(None, Action::Pull, Some(repository))
            }),
        }
    }

    /// Returns whether the caller reaches this server under this host name or address.
    pub(super) fn is_own_host(&self, name: &str) -> bool {
        self.forwarded.is_reached_at(name)
    }

    /// Checks that the caller may perform an operation.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthorized`](imgsync_oci::ErrorCode::Unauthorized) with a challenge.
    pub(super) fn authorize(&self, endpoint: &Endpoint) -> Result<(), ErrorResponse> {
        let (action, repository) = endpoint.access();
        // A token request needs no permission: the token only identifies the caller.
        if *endpoint == Endpoint::TOKEN || self.auth.is_allowed(self.user(), action, repository) {
            return Ok(());
        }
        Err(self.challenge(endpoint))
    }

    /// Builds the challenge to log in for an operation.
    pub(super) fn challenge(&self, endpoint: &Endpoint) -> ErrorResponse {
        challenge::log_in(&self.auth, &required_scopes(endpoint), &self.forwarded)
    }

    /// Builds the response to a caller without this permission: a challenge for an anonymous
    /// caller, a denial for a user.
    pub(super) fn deny(&self, scope: &AccessScope) -> ErrorResponse {
        if self.user.is_some() {
            return challenge::deny(scope);
        }
        challenge::log_in(&self.auth, std::slice::from_ref(scope), &self.forwarded)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.user).finish()
    }
}
