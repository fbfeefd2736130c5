//! Hints on what to do about the errors of a registry.
//!
//! This module does not classify failures. Start reading at [`hint`].

use http::StatusCode;
use imgsync_oci::client::{ConnectErrorKind, CredentialUse, Error};
use imgsync_oci::{ApiError, ErrorCode, Registry};

use super::body_limit;
use crate::disk::{System, advised_certificate_path};

/// The variables of which the HTTP library reads the first one that is set, for each kind of URL.
pub(crate) const PROXY_VARIABLES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Returns the hint for an error, if there is one.
pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::Setup { .. } | Error::ForbiddenAddress { .. } | Error::InvalidResponse { .. } => {
            None
        }
        Error::WebPage { registry, .. } => Some(format!(
            "check the address: a registry often has another host name or port than the web site of \
             {registry}; behind a proxy, check that it forwards /v2/ to the registry"
        )),
        Error::Connect {
            registry,
            redirected_by: Some(redirected_by),
            kind: ConnectErrorKind::Network | ConnectErrorKind::UnknownHost,
            ..
        } => Some(format!(
            "{redirected_by} names {registry} in its Location header; if that is not the address of \
             a store, correct the Host and X-Forwarded headers that a proxy in front of the registry \
             sets (nginx: proxy_set_header Host $http_host;)"
        )),
        Error::Connect { registry, kind, .. } => {
            Some(hint_for_connect_error(registry, *kind, System::CURRENT))
        }
        Error::ConnectionLost { operation, .. }
            if operation.starts_with("GET ") || operation.starts_with("HEAD ") =>
        {
            Some("check the network, and run the same command again".to_owned())
        }
        Error::ConnectionLost { .. } => {
            Some("run the same command again; complete blobs are not sent again".to_owned())
        }
        Error::Status { .. } => hint_for_status(error),
    }
}

fn hint_for_connect_error(registry: &Registry, kind: ConnectErrorKind, system: System) -> String {
    let saved_as = |file: &str| advised_certificate_path(registry.as_str(), file, system);
    match kind {
        ConnectErrorKind::Network => {
            let proxy = PROXY_VARIABLES.into_iter().find(|name| is_set(name));
            let proxy = proxy.filter(|_| !registry.is_loopback());
            let proxy = proxy.map_or(String::new(), |name| {
                format!(
                    "; {name} is set, so requests go through that proxy, unless NO_PROXY lists the \
                     host"
                )
            });
            format!("check the address, and that the registry is running{proxy}")
        }
        ConnectErrorKind::UnknownHost => {
            "check the spelling of the host, and the DNS settings of this machine".to_owned()
        }
        ConnectErrorKind::PlainHttp => format!(
            "if {registry} uses plain HTTP, pass --plain-http; passwords and images are then sent \
             unencrypted"
        ),
        ConnectErrorKind::UnknownAuthority => format!(
            "pass the certificate of the CA with --ca-file, or save it as {}; --insecure skips the \
             verification",
            saved_as("ca.crt")
        ),
        ConnectErrorKind::Certificate => format!(
            "use a host name that the certificate is valid for, or install another certificate on \
             {registry}; --insecure skips the verification"
        ),
        ConnectErrorKind::UnusableCertificate => format!(
            "install a certificate of X.509 version 3 on {registry}, with the host name in \
             subjectAltName, CA:FALSE, and serverAuth if it has extended key usages; --insecure \
             skips the verification"
        ),
        ConnectErrorKind::ClientCertificate => format!(
            "save your client certificate and its key as client.cert and client.key in {}",
            saved_as("")
        ),
        ConnectErrorKind::Handshake => {
            format!(
                "check that {registry} supports TLS 1.2 or later, and see its log for the cause"
            )
        }
    }
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Returns the hint for credentials that were refused.
fn hint_for_login(host: &str) -> String {
    let action = if is_set("IMGSYNC_PASSWORD") {
        "correct IMGSYNC_PASSWORD, which has precedence over stored logins".to_owned()
    } else {
        format!("log in again with imgsync login {host}, or correct the password that you pass")
    };
    format!("the password or token is wrong or has expired: {action}")
}

/// Returns the hint for credentials that were not sent, because the registry asks for none or for
/// others.
fn hint_for_unsent_login(registry: &Registry, account: &str, schemes: &[String]) -> String {
    if schemes.is_empty() {
        return format!(
            "the response does not say which login {registry} wants (no WWW-Authenticate header), \
             so the one of {account} was not sent: check that a proxy in front of the registry does \
             not remove the header"
        );
    }
    let schemes = schemes.join(", ");
    format!(
        "{registry} asks for a login of the kind {schemes}, so the one of {account} was not sent: \
         a password needs Basic or Bearer, and an identity token Bearer"
    )
}

/// Returns whether these are the errors with which imgsync-server answers plain HTTP at a port for
/// TLS.
fn speaks_tls(faults: &[ApiError]) -> bool {
    faults
        .iter()
        .any(|fault| fault.code == "UNSUPPORTED" && fault.message.contains("https://"))
}

fn hint_for_status(error: &Error) -> Option<String> {
    let Error::Status {
        registry,
        operation,
        status,
        faults,
        server,
        is_login,
        credentials,
        retry_after,
    } = error
    else {
        return None;
    };
    use CredentialUse::{Insufficient, NoCredentials, NotSent, Sent};
    let text = match (*status, &**credentials) {
        _ if error.is_no_space() => {
            "make room at the registry, and run the same command again".to_owned()
        }
        (status, Sent { .. }) if *is_login && status.is_client_error() => {
            // The token server refused the request, but the login to store is that of the registry.
            let host = operation.strip_prefix("a login for ");
            hint_for_login(host.unwrap_or(registry.as_str()))
        }
        (StatusCode::UNAUTHORIZED, Sent { .. }) => hint_for_login(registry.as_str()),
        (StatusCode::UNAUTHORIZED, NotSent { account, schemes }) => {
            hint_for_unsent_login(registry, account, schemes)
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, NoCredentials { variables }) => {
            let variables = variables.map_or(String::new(), |names| format!(", or set {names}"));
            format!(
                "log in with imgsync login {registry} (docker login and podman login work \
                 too){variables}"
            )
        }
        (StatusCode::FORBIDDEN, NotSent { account, .. }) => format!(
            "{registry} did not ask for a login, so the one of {account} was not sent: check the \
             address, and the access rules of {registry} and of a proxy in front of it"
        ),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Insufficient { account })
        | (StatusCode::FORBIDDEN, Sent { account }) => {
            format!("ask the administrator of {registry} to give {account} this permission")
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => {
            body_limit::hint_for_body_limit(server.as_deref(), registry)
        }
        (StatusCode::TOO_MANY_REQUESTS, credentials) => {
            let when = retry_after.map_or("later".to_owned(), |pause| {
                format!("in {} min", pause.as_secs().div_ceil(60))
            });
            let login = match credentials {
                NoCredentials { .. } => "; a login may raise the limit",
                Sent { .. } | Insufficient { .. } | NotSent { .. } => "",
            };
            format!("{registry} limits the request rate: run the same command again {when}{login}")
        }
        (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _)
            if faults.is_empty() && !operation.starts_with("HEAD") =>
        {
            format!(
                "check the address: the response has no error of a registry, so another web server \
                 at {registry} may have sent it"
            )
        }
        (StatusCode::NOT_IMPLEMENTED, _) => {
            "check the address: this is not a registry, or it does not accept pushes".to_owned()
        }
        _ if error.has_fault(ErrorCode::StorageForbidden) => format!(
            "on the machine of {registry}, make the user that runs the registry the owner of its \
             storage folder and of all that is in it; its log names the file"
        ),
        // The error itself says what to do, and the same command would fail again.
        _ if error.has_fault(ErrorCode::ManifestDamaged) => return None,
        (status, _) if status.is_server_error() => {
            "see the log of the registry for the cause, and run the same command again".to_owned()
        }
        (StatusCode::BAD_REQUEST, _) if speaks_tls(faults) && registry.is_loopback() => format!(
            "{registry} uses TLS: write https://{registry}/NAME, and pass the certificate of its CA \
             with --ca-file"
        ),
        (StatusCode::BAD_REQUEST, _) if speaks_tls(faults) => {
            format!("{registry} uses TLS: omit --plain-http, or write https://{registry}/NAME")
        }
        (StatusCode::BAD_REQUEST, _) if faults.is_empty() && registry.is_loopback() => {
            format!("if {registry} uses TLS, pass --ca-file or --insecure")
        }
        (status, _) if status.is_redirection() => {
            "use the address that the registry redirects to, or omit --plain-http".to_owned()
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_saved_where_the_system_can_have_them() {
        let registry: Registry = "nas:5000".parse().unwrap();
        for (kind, system, expected) in [
            (
                ConnectErrorKind::UnknownAuthority,
                System::Unix,
                "save it as /etc/docker/certs.d/nas:5000/ca.crt; --insecure",
            ),
            (
                ConnectErrorKind::UnknownAuthority,
                System::Windows,
                r"save it as %USERPROFILE%\.docker\certs.d\nas5000\ca.crt; --insecure",
            ),
            (
                ConnectErrorKind::ClientCertificate,
                System::Unix,
                "client.key in /etc/docker/certs.d/nas:5000/",
            ),
            (
                ConnectErrorKind::ClientCertificate,
                System::MacOs,
                "client.key in ~/.docker/certs.d/nas:5000/",
            ),
        ] {
            let hint = hint_for_connect_error(&registry, kind, system);
            assert!(hint.contains(expected), "{hint}");
        }
    }
}
