//! The check of the `Location` of an upload session.

use imgsync_oci::client::Error;
use url::Url;

use super::finding::{DoctorCheck, Finding};

/// The `Location` of an upload session, as the registry states it.
pub(super) struct LocationObservation<'a> {
    /// The URL of the registry.
    pub(super) base: &'a Url,
    pub(super) stated: &'a str,
    /// The result of an upload to it, by the same rules as in a push.
    pub(super) upload: Result<(), &'a Error>,
}

pub(super) fn judge(observed: &LocationObservation<'_>) -> Finding {
    let LocationObservation {
        base,
        stated,
        upload,
    } = *observed;
    let check = DoctorCheck::Location;
    let Ok(location) = base.join(stated) else {
        let what = format!("{stated:?} is no valid URL");
        return Finding::fault(check, what).with_remedy(address_remedy(base));
    };
    let is_relative = Url::parse(stated).is_err() && location.origin() == base.origin();
    if is_relative {
        return Finding::ok(check, "relative to the address of the registry");
    }
    let shown = origin_text(&location);
    if location.origin() == base.origin() {
        return Finding::ok(check, format!("at {shown}, the address of the registry"));
    }
    let expected = origin_text(base);
    match upload {
        Err(error) => {
            let what =
                format!("it is at {shown} instead of {expected}, where uploads fail: {error}");
            Finding::fault(check, what).with_remedy(address_remedy(base))
        }
        Ok(()) if location.host_str() == base.host_str() => {
            let what = format!(
                "it is at {shown} instead of {expected}: imgsync corrects this, docker push fails"
            );
            Finding::warning(check, what).with_remedy(address_remedy(base))
        }
        Ok(()) => {
            let what = format!(
                "it is at {shown} instead of {expected}; uploads work there from this machine"
            );
            Finding::warning(check, what).with_remedy(
                ["if that is not a store for uploads:".to_owned()]
                    .into_iter()
                    .chain(address_remedy(base)),
            )
        }
    }
}

/// Returns scheme, host and port, without a path, which may be long.
fn origin_text(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{host}{port}", url.scheme())
}

/// Returns what to change so that the registry learns the address that clients use.
pub(super) fn address_remedy(base: &Url) -> [String; 6] {
    let base = origin_text(base);
    [
        "nginx, in the location of the registry:".to_owned(),
        "  proxy_set_header Host $http_host;".to_owned(),
        "  proxy_set_header X-Forwarded-Proto $scheme;".to_owned(),
        "or in the configuration of the registry (in compose.yaml, below environment:)".to_owned(),
        format!("  REGISTRY_HTTP_HOST: {base}"),
        "correct REGISTRY_HTTP_HOST (http.host) if it is set and has another value".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::connect_error;
    use super::*;
    use imgsync_oci::client::ConnectErrorKind;

    #[test]
    fn verdicts() {
        let error = connect_error(ConnectErrorKind::Network);
        let (works, fails) = (Ok(()), Err(&error));
        for (base, stated, upload, verdict, text) in [
            ("https://a/", "/v2/u?s=1", works, Verdict::Ok, "relative"),
            (
                "https://a/",
                "https://a/u",
                works,
                Verdict::Ok,
                "at https://a,",
            ),
            (
                "https://a/",
                "https://a:443/u",
                works,
                Verdict::Ok,
                "at https://a,",
            ),
            (
                "https://a/",
                "http://a/u",
                works,
                Verdict::Warning,
                "at http://a instead of https://a: imgsync corrects this",
            ),
            (
                "http://a:5000/",
                "http://a/u",
                works,
                Verdict::Warning,
                "corrects this",
            ),
            (
                "https://a/",
                "http://a:81/u",
                fails,
                Verdict::Fault,
                "where uploads fail",
            ),
            (
                "https://a/",
                "//b/u",
                fails,
                Verdict::Fault,
                "at https://b instead",
            ),
            (
                "https://a/",
                "https://b/u",
                works,
                Verdict::Warning,
                "uploads work there",
            ),
            (
                "https://a/",
                "http://[",
                works,
                Verdict::Fault,
                "no valid URL",
            ),
        ] {
            let finding = judge(&LocationObservation {
                base: &Url::parse(base).unwrap(),
                stated,
                upload,
            });
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(text), "{finding:?}");
            let has_lines = finding
                .remedy
                .contains(&"  proxy_set_header Host $http_host;".into());
            assert_eq!(has_lines, verdict != Verdict::Ok, "{finding:?}");
        }
    }
}
