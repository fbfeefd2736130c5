//! The permissions that an operation requires, in the form of token scopes and of the stock
//! registry's error details.

use std::fmt;

use imgsync_oci::endpoint::{Action, Mount, RepositoryOperation};
use imgsync_oci::{Endpoint, Repository};

/// The actions of a push, which also reads.
const PUSH_ACTIONS: &[&str] = &["pull", "push"];

/// A permission on one resource. Its text form is that of a token scope:
/// `repository:app:pull,push`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessScope {
    /// `repository` or `registry`.
    pub(crate) resource_type: &'static str,
    /// The name of the resource.
    pub(crate) name: String,
    /// `pull`, `push`, `delete`, or `*`.
    pub(crate) actions: Vec<&'static str>,
}

impl AccessScope {
    /// Creates a scope on a repository.
    pub(crate) fn of(repository: &Repository, actions: &[&'static str]) -> Self {
        Self {
            resource_type: "repository",
            name: repository.to_string(),
            actions: actions.to_vec(),
        }
    }

    /// Creates the scope of a push to a repository.
    pub(crate) fn push(repository: &Repository) -> Self {
        Self::of(repository, PUSH_ACTIONS)
    }
}

impl fmt::Display for AccessScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let actions = self.actions.join(",");
        write!(f, "{}:{}:{actions}", self.resource_type, self.name)
    }
}

/// Returns the permissions that an operation requires; none if it only requires a login.
pub(crate) fn required_scopes(endpoint: &Endpoint) -> Vec<AccessScope> {
    let (action, repository) = endpoint.access();
    let actions: &[_] = match action {
        Action::Check => return Vec::new(),
        Action::Catalog => {
            return vec![AccessScope {
                resource_type: "registry",
                name: "catalog".to_owned(),
                actions: vec!["*"],
            }];
        }
        Action::Pull => &["pull"],
        Action::Push => PUSH_ACTIONS,
        Action::Delete => &["delete"],
    };
    let source = match endpoint {
        Endpoint::Repository(
            _,
            RepositoryOperation::StartUpload {
                mount: Some(Mount { from, .. }),
                ..
            },
        ) => from.as_ref(),
        _ => None,
    };
    let target = repository.map(|repository| AccessScope::of(repository, actions));
    let source = source.map(|source| AccessScope::of(source, &["pull"]));
    target.into_iter().chain(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;

    #[test]
    fn operations_require_these_scopes() {
        let digest = imgsync_oci::Digest::of(b"x");
        let blob = format!("/v2/a/b/blobs/{digest}");
        let mount = format!("mount={digest}&from=c");
        for (method, path, query, expected) in [
            (Method::GET, "/v2/", None, ""),
            (Method::GET, "/v2/_catalog", None, "registry:catalog:*"),
            (Method::HEAD, blob.as_str(), None, "repository:a/b:pull"),
            (
                Method::PUT,
                "/v2/a/b/manifests/v1",
                None,
                "repository:a/b:pull,push",
            ),
            (
                Method::POST,
                "/v2/a/b/blobs/uploads/",
                Some(mount.as_str()),
                "repository:a/b:pull,push repository:c:pull",
            ),
        ] {
            let endpoint = Endpoint::parse(&method, path, query).unwrap();
            let scopes: Vec<String> = required_scopes(&endpoint)
                .iter()
                .map(AccessScope::to_string)
                .collect();
            assert_eq!(scopes.join(" "), expected);
        }
    }
}
