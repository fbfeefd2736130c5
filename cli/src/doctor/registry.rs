//! The check that a registry answers.

use http::StatusCode;
use imgsync_oci::Registry;
use imgsync_oci::client::ProbeResponse;

use super::finding::{DoctorCheck, Finding};

/// The program that answers at the address of a registry.
pub(super) struct RegistryObservation<'a> {
    pub(super) registry: &'a Registry,
    /// The response to `GET /v2/` without a login.
    pub(super) response: &'a ProbeResponse,
    /// Whether the registry lists the extension of imgsync-server; `None` if it was not asked.
    pub(super) has_extension: Option<bool>,
}

/// Returns whether a response is that of a registry.
pub(super) fn is_registry(response: &ProbeResponse) -> bool {
    let says_so = response.api_version.is_some() || !response.faults.is_empty();
    match response.status {
        StatusCode::OK => !response.is_web_page,
        StatusCode::UNAUTHORIZED => says_so || !response.schemes.is_empty(),
        _ => says_so,
    }
}

pub(super) fn judge(observed: &RegistryObservation<'_>) -> Finding {
    let RegistryObservation {
        registry,
        response,
        has_extension,
    } = *observed;
    let check = DoctorCheck::Registry;
    let server = response.server.as_deref();
    let front = server.map_or(String::new(), |server| format!(", Server: {server}"));
    if is_registry(response) {
        let version = response.api_version.as_deref();
        let name = match (has_extension, version) {
            (Some(true), _) => "imgsync-server".to_owned(),
            (_, Some(version)) => format!("a registry ({version})"),
            (_, None) => "a registry".to_owned(),
        };
        let status = response.status;
        if status.is_success() || status == StatusCode::UNAUTHORIZED {
            return Finding::ok(check, format!("{name}{front}"));
        }
        let reasons: Vec<_> = response
            .faults
            .iter()
            .take(3)
            .map(ToString::to_string)
            .collect();
        let what = format!(
            "{name}{front} answers with {status}: {}",
            reasons.join("; ")
        );
        return Finding::fault(check, what)
            .with_remedy(["see the log of the registry for the cause"]);
    }
    let finding = |what: String| Finding::fault(check, format!("{what}{front}"));
    let status = response.status;
    if let Some(location) = &response.location {
        return finding(format!("it answers with {status}, to {location}")).with_remedy([format!(
            "use the address that {registry} redirects to, or pass /v2/ on to the registry"
        )]);
    }
    match status {
        StatusCode::OK => finding("a web page, and no registry".to_owned())
            .with_remedy(forwarding_remedy(registry)),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            finding(format!("no registry: it answers GET /v2/ with {status}"))
                .with_remedy(forwarding_remedy(registry))
        }
        StatusCode::UNAUTHORIZED => finding(
            "it answers with 401 Unauthorized, without a WWW-Authenticate header, so no login is \
             sent"
                .to_owned(),
        )
        .with_remedy([
            "the proxy in front of the registry must not remove the header. nginx, in \
                       the location of the registry, must not contain:"
                .to_owned(),
            "  proxy_hide_header WWW-Authenticate;".to_owned(),
        ]),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            finding(format!(
                "a proxy answers with {status}: it does not reach the registry"
            ))
            .with_remedy([
                "start the registry, and correct its address in the proxy. nginx, with the \
                     registry on the same machine:",
                "  proxy_pass http://127.0.0.1:5000;",
                "if both run in one compose.yaml, with the name of the service:",
                "  proxy_pass http://registry:5000;",
            ])
        }
        _ => finding(format!("it answers GET /v2/ with {status}"))
            .with_remedy(["see the log of the registry, or of the proxy in front of it"]),
    }
}

fn forwarding_remedy(registry: &Registry) -> [String; 3] {
    [
        format!(
            "check the address: a registry often has another name or port than the web site of \
             {registry}"
        ),
        "if a proxy is in front of the registry, it must pass /v2/ on. nginx:".to_owned(),
        "  location /v2/ { proxy_pass http://127.0.0.1:5000; }".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::response;
    use super::*;
    use imgsync_oci::ApiError;

    fn judged(response: &ProbeResponse, has_extension: Option<bool>) -> Finding {
        judge(&RegistryObservation {
            registry: &"nas:5000".parse().unwrap(),
            response,
            has_extension,
        })
    }

    #[test]
    fn registries() {
        let stock = ProbeResponse {
            api_version: Some("registry/2.0".to_owned()),
            server: Some("nginx/1.22.1".to_owned()),
            ..response(200)
        };
        let finding = judged(&stock, Some(false));
        assert_eq!(
            finding.what,
            "a registry (registry/2.0), Server: nginx/1.22.1"
        );
        assert_eq!(
            judged(&stock, Some(true)).what,
            "imgsync-server, Server: nginx/1.22.1"
        );
        let with_login = ProbeResponse {
            schemes: vec!["Basic".to_owned()],
            ..response(401)
        };
        assert_eq!(judged(&with_login, None).verdict, Verdict::Ok);
        assert_eq!(judged(&response(200), None).what, "a registry");
        let broken = ProbeResponse {
            faults: vec![ApiError {
                code: "UNAVAILABLE".into(),
                message: "the disk is full".into(),
                detail: serde_json::Value::Null,
            }],
            ..response(503)
        };
        let finding = judged(&broken, None);
        assert_eq!(finding.verdict, Verdict::Fault);
        assert!(finding.what.contains("the disk is full"), "{finding:?}");
    }

    #[test]
    fn other_servers() {
        let page = ProbeResponse {
            is_web_page: true,
            ..response(200)
        };
        let moved = ProbeResponse {
            location: Some("https://b/v2/".to_owned()),
            ..response(302)
        };
        for (response, line) in [
            (
                page,
                "  location /v2/ { proxy_pass http://127.0.0.1:5000; }",
            ),
            (
                response(404),
                "  location /v2/ { proxy_pass http://127.0.0.1:5000; }",
            ),
            (response(401), "  proxy_hide_header WWW-Authenticate;"),
            (response(502), "  proxy_pass http://registry:5000;"),
            (
                moved,
                "use the address that nas:5000 redirects to, or pass /v2/ on to the registry",
            ),
            (
                response(418),
                "see the log of the registry, or of the proxy in front of it",
            ),
        ] {
            let finding = judged(&response, None);
            assert_eq!(finding.verdict, Verdict::Fault, "{finding:?}");
            assert!(
                finding.remedy.iter().any(|found| found == line),
                "{finding:?}"
            );
        }
    }
}
