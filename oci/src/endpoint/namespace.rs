//! Reads the registry or repositories that a request names in its query instead of its path.

use super::Endpoint;
use crate::Repository;

impl Endpoint {
    /// Returns the registry in the `ns` parameter of a query, by which containerd names the upstream
    /// of a mirror; its paths have the repository without the registry. The text is not checked to
    /// be an address. `None` for a missing or empty parameter.
    pub fn namespace(query: Option<&str>) -> Option<String> {
        let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let (_, namespace) = pairs.find(|(name, _)| name == "ns")?;
        Some(namespace.into_owned()).filter(|namespace| !namespace.is_empty())
    }

    /// Returns the repositories in the query of a token request that asks for pull alone: any number
    /// of `scope=repository:<name>:pull` (Docker's token specification). `None` where the query has
    /// another scope, or none.
    pub fn token_pull_repositories(query: Option<&str>) -> Option<Vec<Repository>> {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let scopes = pairs.filter(|(name, _)| name == "scope");
        let texts: Vec<String> = scopes.map(|(_, text)| text.into_owned()).collect();
        let scopes = texts.iter().flat_map(|text| text.split(' '));
        let names = scopes.filter(|scope| !scope.is_empty()).map(|scope| {
            let name = scope.strip_prefix("repository:")?.strip_suffix(":pull")?;
            name.parse().ok()
        });
        let names: Vec<_> = names.collect::<Option<_>>()?;
        (!names.is_empty()).then_some(names)
    }

    /// Returns the same operation within `other`. An operation on the registry as a whole is
    /// returned unchanged.
    pub fn with_repository(self, other: Repository) -> Self {
        match self {
            Self::Registry(operation) => Self::Registry(operation),
            Self::Repository(_, operation) => Self::Repository(other, operation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    #[test]
    fn only_token_requests_for_pulls_name_repositories() {
        let pulls = |query: &str| {
            let names = Endpoint::token_pull_repositories(Some(query))?;
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            Some(names.join(" "))
        };
        let one = "service=x&scope=repository%3Alibrary%2Fapp%3Apull";
        assert_eq!(pulls(one).as_deref(), Some("library/app"));
        let two = "scope=repository:a:pull&scope=repository:b:pull+repository:c:pull";
        assert_eq!(pulls(two).as_deref(), Some("a b c"));
        for other in [
            "",
            "service=x&account=y",
            "scope=",
            "scope=repository:a:pull,push",
            "scope=repository:a:pull&scope=repository:b:push",
            "scope=registry:catalog:*",
            "scope=repository:A:pull",
        ] {
            assert_eq!(pulls(other), None, "{other}");
        }
        assert_eq!(Endpoint::token_pull_repositories(None), None);
    }

    #[test]
    fn a_namespace_is_parsed_and_a_repository_replaced() {
        for (query, expected) in [
            (None, None),
            (Some("n=5"), None),
            (Some("ns="), None),
            (Some("n=5&ns=docker.io"), Some("docker.io")),
            (Some("ns=a.example%3A5000&ns=b"), Some("a.example:5000")),
        ] {
            assert_eq!(Endpoint::namespace(query).as_deref(), expected, "{query:?}");
        }
        let endpoint = Endpoint::parse(&Method::GET, "/v2/a/manifests/v1", None).unwrap();
        let other = endpoint.with_repository("docker.io/library/a".parse().unwrap());
        assert_eq!(other.path(), "/v2/docker.io/library/a/manifests/v1");
        assert_eq!(
            Endpoint::CHECK.with_repository("a".parse().unwrap()),
            Endpoint::CHECK
        );
    }
}
