//! Hints on what to do about the errors of a registry.
//!
//! This module does not classify failures. Start reading at [`hint`].

use http::StatusCode;
use imgsync_oci::Registry;
use imgsync_oci::client::{ConnectErrorKind, Error};

use super::body_limit;

/// Returns the hint for an error, if there is one.
pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::Setup { .. } | Error::InvalidResponse { .. } => return None,
        Error::Connect {
            registry,
            kind: trouble,
            ..
        } => hint_for_connect_error(registry, *trouble),
        Error::ConnectionLost { .. } => {
            "try again: blobs that arrived are not sent twice".to_owned()
        }
        Error::Status { .. } => return hint_for_status(error),
    };
    Some(text)
}

fn hint_for_connect_error(registry: &Registry, trouble: ConnectErrorKind) -> String {
    match trouble {
        ConnectErrorKind::Network => {
            let text = "check the address and that the registry is running; then try again";
            match proxy_variable() {
                Some(proxy) if !registry.is_loopback() => {
                    format!("{text}; {proxy} is set, so that proxy counts too (see NO_PROXY)")
                }
                Some(_) | None => text.to_owned(),
            }
        }
        ConnectErrorKind::UnknownHost => {
            "check the spelling, and that this machine's name servers know the host".to_owned()
        }
        ConnectErrorKind::PlainHttp => format!(
            "if {registry} is meant to speak plain HTTP, pass --plain-http: passwords and images \
             then travel unencrypted"
        ),
        ConnectErrorKind::UnknownAuthority => format!(
            "get the CA's certificate and pass it with --ca-file, or put it into \
             /etc/docker/certs.d/{registry}/ca.crt; --insecure checks nothing at all"
        ),
        ConnectErrorKind::Certificate => format!(
            "the registry needs another certificate, or you another address for {registry}; \
             --insecure checks nothing at all"
        ),
        ConnectErrorKind::ClientCertificate => format!(
            "put the certificate that you were given, and its key, into \
             /etc/docker/certs.d/{registry}/ as client.cert and client.key"
        ),
        ConnectErrorKind::Handshake => {
            format!("see that {registry} speaks TLS 1.2 or newer; its own log may say more")
        }
    }
}

/// Returns the name of the proxy variable that is set, if any.
fn proxy_variable() -> Option<&'static str> {
    let names = [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ];
    names.into_iter().find(|name| is_set(name))
}

fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// Returns the hint for credentials that were refused.
fn hint_for_login(host: &str) -> String {
    let remedy = match is_set("IMGSYNC_PASSWORD") {
        true => format!(
            "set IMGSYNC_PASSWORD anew, which counts more than what imgsync login {host} stores"
        ),
        false => format!("log in again with imgsync login {host}"),
    };
    format!("the password or token is wrong or has expired: {remedy}")
}

fn hint_for_status(error: &Error) -> Option<String> {
    let Error::Status {
        registry,
        operation,
        status,
        faults,
        server,
        is_login: login,
        account: whom,
        retry_after,
    } = error
    else {
        return None;
    };
    let text = match (*status, whom) {
        (status, Some(_)) if *login && status.is_client_error() => {
            // The token server refused the request, but the login to store is that of the registry.
            let host = operation.strip_prefix("a login for ");
            let host = host.unwrap_or(registry.as_str());
            hint_for_login(host)
        }
        (StatusCode::UNAUTHORIZED, Some(_)) => hint_for_login(registry.as_str()),
        (StatusCode::UNAUTHORIZED, None) => format!(
            "log in with imgsync login {registry} (docker login and podman login count too), or \
             set IMGSYNC_USERNAME and IMGSYNC_PASSWORD"
        ),
        (StatusCode::FORBIDDEN, Some(whom)) => {
            format!("{whom} may not do this here; ask whoever runs the registry")
        }
        (StatusCode::FORBIDDEN, None) => {
            format!("nobody may do this without a login: imgsync login {registry}")
        }
        (StatusCode::PAYLOAD_TOO_LARGE, _) => {
            body_limit::hint_for_body_limit(server.as_deref(), registry)
        }
        (StatusCode::INSUFFICIENT_STORAGE, _) => {
            "the registry's disk is full: make room there, then try again".to_owned()
        }
        (StatusCode::TOO_MANY_REQUESTS, whom) => {
            let when = retry_after.map_or("later".to_owned(), |pause| {
                format!("in {} min", pause.as_secs().div_ceil(60))
            });
            let more = match whom {
                Some(_) => "",
                None => "; with a login there may be more",
            };
            format!("{registry} limits how much it is asked: try again {when}{more}")
        }
        (StatusCode::NOT_IMPLEMENTED, _) => {
            "check the address: this is no registry, or one that takes no pushes".to_owned()
        }
        (status, _) if status.is_server_error() => {
            "the registry's own log says more; try again when it is well".to_owned()
        }
        (StatusCode::BAD_REQUEST, _) if faults.is_empty() && registry.is_loopback() => format!(
            "if {registry} speaks TLS although it is on this machine, pass --ca-file or --insecure"
        ),
        (status, _) if status.is_redirection() => {
            "the registry sends this elsewhere: use that address, or leave --plain-http out"
                .to_owned()
        }
        _ => return None,
    };
    Some(text)
}
