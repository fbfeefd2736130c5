//! What this registry lets nobody do, whoever asks.

use hyper::header::ALLOW;
use imgsync_oci::endpoint::Action;
use imgsync_oci::{Code, Endpoint};

use super::failure::Failure;
use super::reply::value;
use crate::config::Config;

/// What the operator has switched off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Whether manifests, tags and blobs can be deleted.
    pub(crate) deletes: bool,
    /// Whether nothing at all may change.
    pub(crate) read_only: bool,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Self {
        Self {
            deletes: config.storage.is_delete_enabled,
            read_only: config.storage.is_read_only,
        }
    }
}

impl Rules {
    /// Looks whether an operation is switched off.
    ///
    /// # Errors
    /// It is: [`Code::Unsupported`], with the methods that are left.
    pub(super) fn check(self, endpoint: &Endpoint) -> Result<(), Failure> {
        let (detail, allow) = match endpoint.access().0 {
            Action::Check | Action::Catalog | Action::Pull => return Ok(()),
            Action::Push | Action::Delete if self.read_only => {
                ("the registry is read-only", "GET, HEAD")
            }
            Action::Delete if !self.deletes => match endpoint {
                Endpoint::DeleteManifest { .. } => {
                    ("this registry deletes nothing", "GET, HEAD, PUT")
                }
                _ => ("this registry deletes nothing", "GET, HEAD"),
            },
            Action::Push | Action::Delete => return Ok(()),
        };
        let mut failure = Failure::new(Code::Unsupported, detail);
        failure.headers.insert(ALLOW, value(allow));
        Err(failure)
    }
}
