//! Rejects operations that the configuration disables for everyone.

use hyper::header::ALLOW;
use imgsync_oci::endpoint::{Action, RepositoryOperation};
use imgsync_oci::{Endpoint, ErrorCode};

use super::error_response::ErrorResponse;
use super::responses::header_value;
use crate::config::Config;

/// The operations that the configuration disables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WritePolicy {
    /// Whether manifests, tags and blobs can be deleted.
    pub(crate) is_delete_enabled: bool,
    /// Whether nothing can be changed.
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
    /// Checks that an operation is enabled.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`], with the methods that are enabled.
    pub(super) fn check(self, endpoint: &Endpoint) -> Result<(), ErrorResponse> {
        let (detail, allow) = match endpoint.access().0 {
            Action::Check | Action::Catalog | Action::Pull => return Ok(()),
            Action::Push | Action::Delete if self.is_read_only => {
                ("the registry is read-only", "GET, HEAD")
            }
            Action::Delete if !self.is_delete_enabled => match endpoint {
                Endpoint::Repository(_, RepositoryOperation::DeleteManifest { .. }) => {
                    ("deletion is disabled in this registry", "GET, HEAD, PUT")
                }
                _ => ("deletion is disabled in this registry", "GET, HEAD"),
            },
            Action::Push | Action::Delete => return Ok(()),
        };
        let mut response = ErrorResponse::new(ErrorCode::Unsupported, detail);
        response.headers.insert(ALLOW, header_value(allow));
        Err(response)
    }
}
