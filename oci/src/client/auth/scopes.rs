//! The scopes of tokens (Docker's token authentication specification, "Requesting a Token").

use super::Client;
use crate::Endpoint;
use crate::endpoint::{Action, RepositoryOperation};

impl Client {
    /// Returns the scopes that an operation needs.
    pub(in super::super) fn scopes(&self, endpoint: &Endpoint) -> Vec<String> {
        let (action, repository) = endpoint.access();
        let actions = match action {
            Action::Check => return Vec::new(),
            Action::Catalog => return vec!["registry:catalog:*".to_owned()],
            Action::Push => "pull,push",
            Action::Delete => "pull,delete",
            // If a push follows, its scope is requested for reading already: one token serves both.
            Action::Pull if self.is_for_push => "pull,push",
            Action::Pull => "pull",
        };
        let mut scopes: Vec<String> = repository
            .iter()
            .map(|repository| format!("repository:{repository}:{actions}"))
            .collect();
        if let Endpoint::Repository(
            _,
            RepositoryOperation::StartUpload {
                mount: Some(mount), ..
            },
        ) = endpoint
        {
            scopes.extend(
                mount
                    .from
                    .iter()
                    .map(|from| format!("repository:{from}:pull")),
            );
        }
        scopes
    }
}

/// Returns our scopes and those of a challenge that they do not cover, because some registries have
/// actions of their own.
pub(super) fn merge_scopes(ours: &[String], challenge: &str) -> Vec<String> {
    let covers = |scope: &&str| {
        ours.iter().any(|ours| {
            let (Some((ours, have)), Some((name, want))) =
                (ours.rsplit_once(':'), scope.rsplit_once(':'))
            else {
                return ours == scope;
            };
            let have: Vec<&str> = have.split(',').collect();
            ours == name && want.split(',').all(|action| have.contains(&action))
        })
    };
    let others = challenge.split(' ').filter(|scope| !scope.is_empty());
    let others = others.filter(|scope| !covers(scope)).map(str::to_owned);
    ours.iter().cloned().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_adds_only_scopes_that_are_missing() {
        let ours = ["repository:a/b:pull,push".to_owned()];
        assert_eq!(merge_scopes(&ours, ""), ours);
        assert_eq!(merge_scopes(&ours, "repository:a/b:push,pull"), ours);
        assert_eq!(merge_scopes(&ours, "repository:a/b:pull"), ours);
        let more = merge_scopes(&ours, "repository:a/b:delete repository:c:pull");
        assert_eq!(
            more[1..],
            ["repository:a/b:delete", "repository:c:pull"].map(str::to_owned)
        );
    }
}
