//! The check of HTTP or HTTPS.

use http::StatusCode;
use imgsync_oci::Registry;
use imgsync_oci::client::{ConnectErrorKind, Error, ProbeResponse, UrlScheme};

use super::finding::{DoctorCheck, Finding};
use crate::login::ConnectionReason;

/// The scheme that the server speaks, and the one that a push would use.
pub(super) struct SchemeObservation<'a> {
    pub(super) registry: &'a Registry,
    /// The scheme that a push uses, and why.
    pub(super) scheme: UrlScheme,
    pub(super) reason: ConnectionReason,
    /// The result of a request with this scheme.
    pub(super) response: Result<&'a ProbeResponse, &'a Error>,
    /// Whether the server speaks the other scheme. Asked only if this one gives a reason to.
    pub(super) speaks_other: bool,
}

/// Returns whether the result of a request suggests that the server speaks the other scheme.
pub(super) fn suggests_other(scheme: UrlScheme, response: Result<&ProbeResponse, &Error>) -> bool {
    match (scheme, response) {
        (UrlScheme::Https, Err(Error::Connect { kind, .. })) => {
            *kind == ConnectErrorKind::PlainHttp
        }
        (UrlScheme::Https, _) => false,
        // imgsync-server, Go and nginx answer plain HTTP at a port for HTTPS with 400; others close
        // the connection.
        (UrlScheme::Http, Ok(response)) => response.status == StatusCode::BAD_REQUEST,
        (UrlScheme::Http, Err(error)) => matches!(error, Error::ConnectionLost { .. }),
    }
}

/// Returns whether a push can use the connection.
pub(super) fn is_usable(observed: &SchemeObservation<'_>) -> bool {
    match observed.scheme {
        UrlScheme::Https if suggests_other(observed.scheme, observed.response) => {
            observed.reason == ConnectionReason::InsecureRegistry && observed.speaks_other
        }
        UrlScheme::Https => true,
        UrlScheme::Http => !observed.speaks_other && !redirects_to_https(observed.response),
    }
}

fn redirects_to_https(response: Result<&ProbeResponse, &Error>) -> bool {
    let location = response
        .ok()
        .and_then(|response| response.location.as_ref());
    location.is_some_and(|location| location.starts_with("https://"))
}

pub(super) fn judge(observed: &SchemeObservation<'_>) -> Finding {
    let SchemeObservation {
        registry,
        scheme,
        reason,
        response,
        speaks_other,
    } = *observed;
    let check = DoctorCheck::Scheme;
    let why = reason_text(reason);
    match (scheme, response) {
        (UrlScheme::Https, Err(error)) if suggests_other(scheme, Err(error)) => {
            if !speaks_other {
                let what = format!(
                    "HTTPS is expected ({why}), and {error}; it does not speak plain HTTP either"
                );
                return Finding::fault(check, what)
                    .with_remedy([format!("check the port of {registry}")]);
            }
            if reason == ConnectionReason::InsecureRegistry {
                let what = format!("plain HTTP, not encrypted ({why})");
                return Finding::warning(check, what);
            }
            let what =
                format!("{registry} answers with plain HTTP, where HTTPS was expected ({why})");
            Finding::fault(check, what).with_remedy(plain_http_remedy(registry))
        }
        (UrlScheme::Https, _) => Finding::ok(check, format!("HTTPS ({why})")),
        (UrlScheme::Http, Ok(answer)) if redirects_to_https(Ok(answer)) => {
            let what = format!("plain HTTP is used ({why}), and {registry} redirects to HTTPS");
            Finding::fault(check, what).with_remedy(https_remedy(registry, reason))
        }
        (UrlScheme::Http, _) if speaks_other => {
            let what = format!("{registry} speaks HTTPS, where plain HTTP was expected ({why})");
            Finding::fault(check, what).with_remedy(https_remedy(registry, reason))
        }
        (UrlScheme::Http, Err(error)) => {
            let remedy =
                ["see the log of the registry, or of the proxy in front of it, for the cause"];
            Finding::fault(check, error.to_string()).with_remedy(remedy)
        }
        (UrlScheme::Http, Ok(_)) if registry.is_loopback() => {
            Finding::ok(check, format!("plain HTTP ({why})"))
        }
        (UrlScheme::Http, Ok(_)) => {
            let what = format!("plain HTTP, not encrypted ({why})");
            let remedy = plain_http_remedy(registry);
            // imgsync is told already.
            Finding::warning(check, what).with_remedy(remedy.into_iter().skip(1))
        }
    }
}

fn reason_text(reason: ConnectionReason) -> &'static str {
    match reason {
        ConnectionReason::PlainHttpRequested => "--plain-http or http://",
        ConnectionReason::HttpsRequested => "https://",
        ConnectionReason::VerificationSkipped => "--insecure",
        ConnectionReason::CertificatesConfigured => "a CA certificate is configured",
        ConnectionReason::Loopback => "the default on this machine",
        ConnectionReason::InsecureRegistry => "listed in Docker's insecure-registries",
        ConnectionReason::Default => "the default",
    }
}

fn plain_http_remedy(registry: &Registry) -> [String; 3] {
    [
        format!("for imgsync, pass --plain-http, or write http://{registry}/NAME"),
        "for Docker, add to /etc/docker/daemon.json and restart Docker:".to_owned(),
        format!("  \"insecure-registries\": [\"{registry}\"]"),
    ]
}

fn https_remedy(registry: &Registry, reason: ConnectionReason) -> [String; 1] {
    [match reason {
        ConnectionReason::PlainHttpRequested => {
            format!("omit --plain-http, or write https://{registry}/NAME")
        }
        _ => format!(
            "write https://{registry}/NAME, or pass the certificate of its CA with --ca-file"
        ),
    }]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::{connect_error, response};
    use super::*;
    use imgsync_oci::ApiError;

    fn judged(
        registry: &str,
        scheme: UrlScheme,
        reason: ConnectionReason,
        response: Result<&ProbeResponse, &Error>,
        speaks_other: bool,
    ) -> (Finding, bool) {
        let observed = SchemeObservation {
            registry: &registry.parse().unwrap(),
            scheme,
            reason,
            response,
            speaks_other,
        };
        (judge(&observed), is_usable(&observed))
    }

    #[test]
    fn plain_http_where_https_was_expected() {
        use ConnectionReason::{Default, InsecureRegistry};
        let error = connect_error(ConnectErrorKind::PlainHttp);
        let judged =
            |reason, other| judged("nas:5000", UrlScheme::Https, reason, Err(&error), other);
        let (finding, is_usable) = judged(Default, true);
        assert_eq!((finding.verdict, is_usable), (Verdict::Fault, false));
        let lines = finding.remedy.join("\n");
        assert!(lines.contains("--plain-http"), "{lines}");
        assert!(
            lines.contains("\n  \"insecure-registries\": [\"nas:5000\"]"),
            "{lines}"
        );
        let (finding, is_usable) = judged(InsecureRegistry, true);
        assert_eq!((finding.verdict, is_usable), (Verdict::Warning, true));
        let (finding, is_usable) = judged(Default, false);
        assert_eq!((finding.verdict, is_usable), (Verdict::Fault, false));
        assert!(!finding.remedy.join("\n").contains("insecure-registries"));
    }

    #[test]
    fn https_where_plain_http_was_expected() {
        let refused = ProbeResponse {
            faults: vec![ApiError {
                code: "UNSUPPORTED".into(),
                message: "this port speaks TLS: use https://".into(),
                detail: serde_json::Value::Null,
            }],
            ..response(400)
        };
        for refused in [&refused, &response(400)] {
            assert!(suggests_other(UrlScheme::Http, Ok(refused)));
        }
        let redirect = ProbeResponse {
            location: Some("https://nas/v2/".to_owned()),
            ..response(301)
        };
        for (answer, other) in [(&refused, true), (&redirect, false)] {
            for (reason, word) in [
                (ConnectionReason::PlainHttpRequested, "omit --plain-http"),
                (ConnectionReason::Loopback, "--ca-file"),
            ] {
                let (finding, is_usable) =
                    judged("nas:5000", UrlScheme::Http, reason, Ok(answer), other);
                assert_eq!((finding.verdict, is_usable), (Verdict::Fault, false));
                assert!(finding.remedy[0].contains(word), "{finding:?}");
            }
        }
    }

    #[test]
    fn the_expected_scheme() {
        let (answer, asked) = (response(200), ConnectionReason::PlainHttpRequested);
        let verdict = |registry, scheme, reason| {
            judged(registry, scheme, reason, Ok(&answer), false)
                .0
                .verdict
        };
        let (http, https) = (UrlScheme::Http, UrlScheme::Https);
        assert_eq!(
            verdict("a:5000", https, ConnectionReason::Default),
            Verdict::Ok
        );
        assert_eq!(
            verdict("localhost", http, ConnectionReason::Loopback),
            Verdict::Ok
        );
        assert_eq!(verdict("a:5000", http, asked), Verdict::Warning);
        let untrusted = connect_error(ConnectErrorKind::UnknownAuthority);
        let (finding, is_usable) = judged(
            "a",
            https,
            ConnectionReason::Default,
            Err(&untrusted),
            false,
        );
        assert_eq!((finding.verdict, is_usable), (Verdict::Ok, true));
    }
}
