//! The checks of the login and of the permissions.

use http::StatusCode;
use imgsync_oci::client::Error;
use imgsync_oci::{Registry, Repository};
use url::Url;

use super::finding::{DoctorCheck, Finding};
use super::location::address_remedy;
use crate::exit::{Failure, FailureKind};

/// The credentials of a user, and what the registry said to them.
pub(super) struct LoginObservation<'a> {
    pub(super) registry: &'a Registry,
    /// The URL of the registry.
    pub(super) base: &'a Url,
    pub(super) login: LoginInUse<'a>,
    /// Whether the registry asked for a login.
    pub(super) was_asked: bool,
    /// The result of a request for the root of the API.
    pub(super) result: Result<(), &'a Error>,
}

/// The credentials that a push uses.
#[derive(Debug, Clone, Copy)]
pub(super) enum LoginInUse<'a> {
    /// None are stored.
    Anonymous,
    /// They were found.
    Found {
        account: &'a str,
        /// The option, the variable, the file or the helper that has them.
        place: &'a str,
    },
}

impl std::fmt::Display for LoginInUse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("everybody"),
            Self::Found { account, .. } => f.write_str(account),
        }
    }
}

pub(super) fn judge_login(observed: &LoginObservation<'_>) -> Finding {
    let LoginObservation {
        registry,
        base,
        login,
        was_asked,
        result,
    } = *observed;
    let check = DoctorCheck::Login;
    match (result, login) {
        (Err(error), _) if is_wrong_token_server(error, registry) => {
            let trusted = "imgsync-server uses these headers only if the proxy is on loopback, or \
                           listed in REGISTRY_IMGSYNC_TRUSTEDPROXIES (imgsync.trustedproxies)";
            Finding::fault(check, error.to_string())
                .with_remedy(address_remedy(base))
                .with_remedy([trusted])
        }
        (Ok(()), LoginInUse::Found { account, place }) if was_asked => {
            Finding::ok(check, format!("as {account}, with the login in {place}"))
        }
        (Ok(()), LoginInUse::Found { account, place }) => {
            let unused = format!("the login of {account} in {place} is not used");
            Finding::ok(
                check,
                format!("anonymous: {registry} does not ask for a login, so {unused}"),
            )
        }
        (Ok(()), LoginInUse::Anonymous) => {
            let what = format!("anonymous: no login for {registry} is stored");
            Finding::ok(check, what)
        }
        (Err(error), LoginInUse::Anonymous) => refused(
            check,
            format!("no login for {registry} is stored, and {error}"),
            error,
        ),
        (Err(error), LoginInUse::Found { place, .. }) => {
            refused(check, format!("the login in {place}: {error}"), error)
        }
    }
}

/// Returns whether the registry names a token server that cannot be used. The registry builds its URL
/// from the address that it takes for its own.
fn is_wrong_token_server(error: &Error, registry: &Registry) -> bool {
    match error {
        Error::InvalidResponse { what, .. } => what.contains("token server"),
        Error::Connect { registry: host, .. } => host != registry,
        Error::Setup { .. }
        | Error::ConnectionLost { .. }
        | Error::Status { .. }
        | Error::ForbiddenAddress { .. }
        | Error::WebPage { .. } => false,
    }
}

/// Judges whether stored credentials that cannot be read matter.
pub(super) fn judge_unreadable(failure: &Failure, is_required: bool) -> Finding {
    let finding = if is_required {
        Finding::fault
    } else {
        Finding::warning
    };
    finding(DoctorCheck::Login, failure.what.clone()).with_remedy(failure.hint.clone())
}

/// Judges a request for the tags of a repository. `exists` tells whether there are any.
pub(super) fn judge_pull(
    repository: &Repository,
    login: LoginInUse<'_>,
    exists: Result<bool, &Error>,
) -> Finding {
    let check = DoctorCheck::Pull;
    match exists {
        Ok(true) => Finding::ok(check, format!("{login} may pull from {repository}")),
        Ok(false) => {
            let what = format!("{login} may pull from {repository}, which does not exist yet");
            Finding::ok(check, what)
        }
        Err(error) if is_access_error(error) => {
            let what = match login {
                LoginInUse::Anonymous => {
                    format!("pulling from {repository} needs a login: {error}")
                }
                LoginInUse::Found { .. } => {
                    format!("{login} may not pull from {repository}: {error}")
                }
            };
            Finding::fault(check, what).with_remedy(permission_remedy(login, error))
        }
        Err(error) => Finding::warning(check, format!("not certain: {error}")),
    }
}

/// Judges a request that needs the right to push.
pub(super) fn judge_push(
    registry: &Registry,
    repository: &Repository,
    login: LoginInUse<'_>,
    result: Result<(), &Error>,
) -> Finding {
    let check = DoctorCheck::Push;
    let Err(error) = result else {
        return Finding::ok(check, format!("{login} may push to {repository}"));
    };
    if is_access_error(error) {
        let what = match login {
            LoginInUse::Anonymous => format!("pushing to {repository} needs a login: {error}"),
            LoginInUse::Found { .. } => format!("{login} may not push to {repository}: {error}"),
        };
        return Finding::fault(check, what).with_remedy(permission_remedy(login, error));
    }
    match error.status() {
        Some(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) => {
            let what = format!("{registry} accepts no pushes: {error}");
            Finding::fault(check, what).with_remedy([
                "the stock registry: remove the section proxy: (a pull-through cache accepts no \
                 pushes), and in config.yml:",
                "  storage: {maintenance: {readonly: {enabled: false}}}",
                "nginx: remove limit_except from the location of the registry",
            ])
        }
        _ => refused(check, error.to_string(), error),
    }
}

/// Returns whether the registry refused an error for lack of a login or of a permission.
fn is_access_error(error: &Error) -> bool {
    Failure::from(error.clone()).kind == FailureKind::Authentication
}

/// Returns what to do about a permission that is missing. The login itself was accepted before.
fn permission_remedy(login: LoginInUse<'_>, error: &Error) -> Option<String> {
    match (login, error) {
        (LoginInUse::Found { account, .. }, Error::Status { registry, .. }) => Some(format!(
            "ask the administrator of {registry} to give {account} this permission"
        )),
        _ => Failure::from(error.clone()).hint,
    }
}

fn refused(check: DoctorCheck, what: String, error: &Error) -> Finding {
    let hint = Failure::from(error.clone()).hint;
    Finding::fault(check, what).with_remedy(hint)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::{no_credentials, status_error};
    use super::*;
    use imgsync_oci::client::CredentialUse;

    const ALICE: LoginInUse<'_> = LoginInUse::Found {
        account: "alice",
        place: "config.json",
    };

    fn sent() -> CredentialUse {
        CredentialUse::Sent {
            account: "alice".into(),
        }
    }

    #[test]
    fn logins() {
        let registry = "nas:5000".parse().unwrap();
        let base = Url::parse("https://nas:5000").unwrap();
        let judged = |login, was_asked, result| {
            judge_login(&LoginObservation {
                registry: &registry,
                base: &base,
                login,
                was_asked,
                result,
            })
        };
        let finding = judged(ALICE, true, Ok(()));
        assert_eq!(finding.what, "as alice, with the login in config.json");
        let finding = judged(ALICE, false, Ok(()));
        assert!(finding.what.contains("is not used"), "{finding:?}");
        assert!(
            judged(LoginInUse::Anonymous, false, Ok(()))
                .what
                .contains("anonymous")
        );

        let wrong = status_error(401, None, sent());
        let finding = judged(ALICE, true, Err(&wrong));
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(
            finding.remedy[0].contains("imgsync login nas:5000"),
            "{finding:?}"
        );
        let none = status_error(401, None, no_credentials());
        let finding = judged(LoginInUse::Anonymous, false, Err(&none));
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(
            finding.what.contains("no login for nas:5000 is stored"),
            "{finding:?}"
        );
    }

    #[test]
    fn permissions() {
        let registry = "nas:5000".parse().unwrap();
        let repository = "team/app".parse().unwrap();
        let push = |login, result| judge_push(&registry, &repository, login, result);
        assert_eq!(push(ALICE, Ok(())).what, "alice may push to team/app");
        let denied = status_error(403, None, sent());
        let finding = push(ALICE, Err(&denied));
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(finding.remedy[0].contains("administrator"), "{finding:?}");
        let cache = status_error(405, None, sent());
        let finding = push(ALICE, Err(&cache));
        assert!(finding.what.contains("accepts no pushes"), "{finding:?}");
        assert!(finding.remedy[1].contains("readonly"), "{finding:?}");

        let pull = |exists| judge_pull(&repository, LoginInUse::Anonymous, exists);
        assert_eq!(pull(Ok(true)).what, "everybody may pull from team/app");
        assert_eq!(pull(Ok(false)).verdict, Verdict::Ok);
        let finding = pull(Err(&denied));
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(
            finding
                .what
                .starts_with("pulling from team/app needs a login"),
            "{finding:?}"
        );
        assert_eq!(pull(Err(&cache)).verdict, Verdict::Warning);
    }
}
