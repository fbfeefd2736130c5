//! Operations on the registry as a whole.

use http::Method;

use super::{Action, Pagination};
use crate::ext::EXTENSION_NAME;

/// An operation that concerns no single repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryOperation {
    /// `GET /v2/`: shows that the registry speaks the API and accepts the caller's login.
    Check,
    /// `GET /v2/_catalog`: lists the repositories.
    Catalog {
        /// The page of the list.
        page: Pagination,
    },
    /// `GET /v2/_oci/ext/discover`: lists the extensions of the registry.
    DiscoverExtensions,
    /// `GET /v2/_imgsync/token`: issues a token for the caller's login, or an anonymous one.
    Token,
}

impl RegistryOperation {
    pub(super) fn method(&self) -> Method {
        Method::GET
    }

    /// The path below `/v2/`, with the query.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Check => String::new(),
            Self::Catalog { page } => format!("_catalog{}", page.query()),
            Self::DiscoverExtensions => "_oci/ext/discover".to_owned(),
            Self::Token => format!("{EXTENSION_NAME}/token"),
        }
    }

    pub(super) fn action(&self) -> Action {
        match self {
            Self::Check | Self::DiscoverExtensions | Self::Token => Action::Check,
            Self::Catalog { .. } => Action::Catalog,
        }
    }
}
