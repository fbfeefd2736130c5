//! The operations of the distribution API. An [`Endpoint`] is the route, the subject of
//! authorization and the log label of a request in one value: the client builds it, the server
//! parses it. This module does no I/O.

mod namespace;
mod parse;
mod registry_operation;
mod repository_operation;
#[cfg(test)]
mod tests;
mod upload_id;

use http::Method;

pub use parse::EndpointError;
pub use registry_operation::RegistryOperation;
pub use repository_operation::{Mount, RepositoryOperation, UploadOperation};
pub use upload_id::UploadId;

use crate::Repository;

/// The page of a list that a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pagination {
    /// The most names that the page may have; `None` leaves the number to the registry.
    pub limit: Option<usize>,
    /// The name after which the page begins.
    pub last: Option<String>,
}

/// One operation, with every parameter that its URL has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An operation on the registry as a whole.
    Registry(RegistryOperation),
    /// An operation within one repository.
    Repository(Repository, RepositoryOperation),
}

/// The permission that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Reach the registry.
    Check,
    /// List the names of all repositories.
    Catalog,
    /// Read from a repository.
    Pull,
    /// Write to a repository.
    Push,
    /// Delete from a repository.
    Delete,
}

impl Endpoint {
    /// `GET /v2/`, which shows that a registry speaks the API and accepts the caller's login.
    pub const CHECK: Self = Self::Registry(RegistryOperation::Check);
    /// `GET /v2/_imgsync/token`, which issues a token for the caller's login.
    pub const TOKEN: Self = Self::Registry(RegistryOperation::Token);

    /// Returns the endpoint of an operation within `repository`.
    pub fn within(repository: &Repository, operation: RepositoryOperation) -> Self {
        Self::Repository(repository.clone(), operation)
    }

    /// Returns the repository that the operation works in; `None` for the registry as a whole.
    pub fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Registry(_) => None,
            Self::Repository(repository, _) => Some(repository),
        }
    }

    /// Returns the repository and id of the upload session that the operation works on; `None`
    /// for operations without a session.
    pub fn session(&self) -> Option<(&Repository, UploadId)> {
        match self {
            Self::Repository(repository, RepositoryOperation::Upload(id, _)) => {
                Some((repository, *id))
            }
            Self::Registry(_) | Self::Repository(..) => None,
        }
    }

    /// Returns the HTTP method of the request.
    pub fn method(&self) -> Method {
        match self {
            Self::Registry(operation) => operation.method(),
            Self::Repository(_, operation) => operation.method(),
        }
    }

    /// Returns the path of the request, with its query if it has one. The path is absolute and
    /// starts with `/v2/`, so that it also serves as a relative `Location`.
    pub fn path(&self) -> String {
        match self {
            Self::Registry(operation) => format!("/v2/{}", operation.path()),
            Self::Repository(repository, operation) => {
                format!("/v2/{repository}/{}", operation.path())
            }
        }
    }

    /// Returns the permission that the caller needs, and the repository it applies to.
    ///
    /// Some operations need more, which their handlers check: a mount needs pull on its source,
    /// resolving layers with `mount` needs push, and assembling a layer needs pull.
    pub fn access(&self) -> (Action, Option<&Repository>) {
        match self {
            Self::Registry(operation) => (operation.action(), None),
            Self::Repository(repository, operation) => (operation.action(), Some(repository)),
        }
    }
}

impl From<RegistryOperation> for Endpoint {
    fn from(operation: RegistryOperation) -> Self {
        Self::Registry(operation)
    }
}

/// Formats the method and path, the label of the operation in logs and errors.
impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}

impl Pagination {
    fn query(&self) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.last.iter().map(|last| ("last", last.clone())));
        pairs.extend(self.limit.map(|limit| ("n", limit.to_string())));
        query_string(pairs)
    }
}

/// Returns `?name=value&…`, encoded; the empty string for no pairs.
fn query_string(pairs: Vec<(&str, String)>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
    query.extend_pairs(pairs);
    query.finish()
}
