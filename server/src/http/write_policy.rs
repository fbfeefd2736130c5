//! What this registry lets nobody do, whoever asks.

use hyper::header::ALLOW;
use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode};

use super::error_response::ErrorResponse;
use super::responses::header_value;
use crate::config::Config;

/// What the operator has switched off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WritePolicy {
    /// Whether manifests, tags and blobs can be deleted.
    pub(crate) is_delete_enabled: bool,
    /// Whether nothing at all may change.
    pub(crate) is_read_only: bool,
}

impl From<&Config> for WritePolicy {
    fn from(config: &Config) -> Self {
        Self {
            is_delete_enabled: config.storage.is_delete_enabled,
            is_read_only: config.storage.is_read_only,
        }
    }
}

impl WritePolicy {
    /// Looks whether an operation is switched off.
    ///
    /// # Errors
    /// It is: [`Code::Unsupported`], with the methods that are left.
    pub(super) fn check(self, endpoint: &Endpoint) -> Result<(), ErrorResponse> {
        let (detail, allow) = match endpoint.access().0 {
            Action::Check | Action::Catalog | Action::Pull => return Ok(()),
            Action::Push | Action::Delete if self.is_read_only => {
                ("the registry is read-only", "GET, HEAD")
            }
            Action::Delete if !self.is_delete_enabled => match endpoint {
                Endpoint::Repository(_, RepositoryOperation::DeleteManifest { .. }) => {
                    ("this registry deletes nothing", "GET, HEAD, PUT")
                }
                _ => ("this registry deletes nothing", "GET, HEAD"),
            },
            Action::Push | Action::Delete => return Ok(()),
        };
        let mut failure = ErrorResponse::new(ErrorCode::Unsupported, detail);
        failure.headers.insert(ALLOW, header_value(allow));
        Err(failure)
    }
}
