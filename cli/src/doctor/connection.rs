//! The check of the connection.

use std::time::Duration;

use imgsync_oci::client::{ConnectErrorKind, Error};

use super::finding::{DoctorCheck, Finding};

const DIRECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of the first request to a registry.
pub(super) struct ConnectionObservation<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// The proxy through which the request was sent.
    pub(super) proxy: Option<&'a str>,
    /// The error of the request, if it got no response.
    pub(super) error: Option<&'a Error>,
    /// Whether a connection without the proxy can be opened. Asked only if the request failed.
    pub(super) is_open_directly: bool,
}

/// Returns whether a TCP connection can be opened without a proxy.
pub(super) async fn is_open_directly(host: &str, port: u16) -> bool {
    let connect = tokio::net::TcpStream::connect((host, port));
    matches!(
        tokio::time::timeout(DIRECT_TIMEOUT, connect).await,
        Ok(Ok(_))
    )
}

/// Returns whether an error means that no connection was opened, or none that can be used.
pub(super) fn is_unreachable(error: &Error) -> bool {
    match error {
        Error::Connect { kind, .. } => matches!(
            kind,
            ConnectErrorKind::Network | ConnectErrorKind::UnknownHost
        ),
        // A server that speaks TLS may close a connection with plain HTTP.
        Error::ConnectionLost { .. } => false,
        Error::Setup { .. }
        | Error::ForbiddenAddress { .. }
        | Error::Status { .. }
        | Error::WebPage { .. }
        | Error::InvalidResponse { .. } => false,
    }
}

pub(super) fn judge(observed: &ConnectionObservation<'_>) -> Finding {
    let ConnectionObservation {
        host, port, proxy, ..
    } = *observed;
    let check = DoctorCheck::Connection;
    let Some(error) = observed.error.filter(|error| is_unreachable(error)) else {
        let proxy = proxy.map_or(String::new(), |proxy| format!(" through the proxy {proxy}"));
        return Finding::ok(check, format!("port {port} of {host} is open{proxy}"));
    };
    let finding = Finding::fault(check, error.to_string());
    let is_reason = |text: &str| error.to_string().contains(text);
    if let Some(proxy) = proxy {
        // Status 407, in the words of the HTTP library.
        if is_reason("proxy authorization required") {
            return finding.with_remedy([
                format!("the proxy {proxy} requires a login. In the environment, set:"),
                format!(
                    "  HTTPS_PROXY={}",
                    proxy.replacen("://", "://USER:PASSWORD@", 1)
                ),
            ]);
        }
        if observed.is_open_directly {
            return finding.with_remedy([
                format!("{host} answers without the proxy {proxy}. In the environment, set:"),
                format!("  NO_PROXY={host}"),
                "for Docker 23 or later, add to /etc/docker/daemon.json and restart Docker:"
                    .to_owned(),
                format!("  \"proxies\": {{\"no-proxy\": \"{host}\"}}"),
            ]);
        }
        return finding.with_remedy([
            format!("check the address of the proxy {proxy} in HTTPS_PROXY or HTTP_PROXY"),
            format!("for a server in your own network, set NO_PROXY={host}"),
        ]);
    }
    if is_reason("Connection refused") {
        return finding.with_remedy([
            format!("no program listens at port {port} of {host}: check the port, and start the registry"),
            "it must not listen on 127.0.0.1 only. imgsync-server and the stock registry:".to_owned(),
            format!("  REGISTRY_HTTP_ADDR=0.0.0.0:{port}"),
            "in compose.yaml, for a registry at port 5000 of its container:".to_owned(),
            format!("  ports: [\"{port}:5000\"]"),
        ]);
    }
    finding.with_remedy([
        format!("check that the server is running and that its firewall allows port {port}:"),
        format!("  ufw allow {port}/tcp"),
        "a cloud server has a second firewall in its control panel (security group)".to_owned(),
    ])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn finding(what: &str, proxy: Option<&str>, is_open_directly: bool) -> Finding {
        let error = Error::Connect {
            registry: "nas:5000".parse().unwrap(),
            redirected_by: None,
            what: what.to_owned(),
            kind: ConnectErrorKind::Network,
        };
        judge(&ConnectionObservation {
            host: "nas",
            port: 5000,
            proxy,
            error: Some(&error),
            is_open_directly,
        })
    }

    #[test]
    fn the_remedy_depends_on_the_error() {
        let proxy = Some("http://proxy:3128");
        for (what, proxy, direct, line) in [
            (
                "Connection refused (os error 111)",
                None,
                false,
                "  ports: [\"5000:5000\"]",
            ),
            ("deadline has elapsed", None, false, "  ufw allow 5000/tcp"),
            ("unsuccessful tunnel", proxy, true, "  NO_PROXY=nas"),
            (
                "tunnel error: proxy authorization required",
                proxy,
                true,
                "  HTTPS_PROXY=http://USER:PASSWORD@proxy:3128",
            ),
            (
                "Connection refused",
                proxy,
                false,
                "for a server in your own network, set NO_PROXY=nas",
            ),
        ] {
            let finding = finding(what, proxy, direct);
            assert_eq!(finding.verdict, Verdict::Fault);
            assert!(
                finding.remedy.iter().any(|found| found == line),
                "{finding:?}"
            );
        }
    }
}
