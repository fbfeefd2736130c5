//! The check of the certificate.

use std::time::{Duration, SystemTime};

use imgsync_oci::Registry;
use imgsync_oci::certificate::CertificateInfo;
use imgsync_oci::client::{ConnectErrorKind, Error};

use super::finding::{DoctorCheck, Finding, Verdict};
use crate::disk::{System, advised_certificate_path};
use crate::exit::Failure;
use crate::text::format_timestamp;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate that is valid for less than this should have been renewed already. For certificates
/// that live only for days, it is a third of their lifetime.
const MIN_TIME_LEFT: Duration = Duration::from_secs(14 * 86_400);
/// The most names of a certificate that are shown.
const MAX_SHOWN_NAMES: usize = 5;

/// The certificates that a server presented, and whether they are accepted.
pub(super) struct CertificateObservation<'a> {
    pub(super) registry: &'a Registry,
    /// The server's own certificate first.
    pub(super) chain: &'a [CertificateInfo],
    /// The error of the handshake.
    pub(super) error: Option<&'a Error>,
    /// Whether a push verifies certificates.
    pub(super) verifies: bool,
    pub(super) now: SystemTime,
}

pub(super) fn judge(observed: &CertificateObservation<'_>) -> Finding {
    let error = observed.error.and_then(|error| match error {
        Error::Connect { kind, .. } => Some((error, *kind)),
        _ => None,
    });
    let Some((error, kind)) = error else {
        return judge_accepted(observed);
    };
    let (what, remedy) = explain(observed, error, kind);
    if observed.verifies {
        return Finding::fault(DoctorCheck::Certificate, what).with_remedy(remedy);
    }
    let what = format!("not verified, so others can read and modify everything: {what}");
    Finding::warning(DoctorCheck::Certificate, what).with_remedy(remedy)
}

fn judge_accepted(observed: &CertificateObservation<'_>) -> Finding {
    let (check, now) = (DoctorCheck::Certificate, observed.now);
    let Some(own) = observed.chain.first() else {
        return Finding::not_checked(check, "the certificate cannot be read");
    };
    let until_end = |certificate: &&CertificateInfo| certificate.not_after;
    let soonest = observed.chain.iter().min_by_key(until_end).unwrap_or(own);
    let left = soonest.not_after.duration_since(now).unwrap_or_default();
    let lifetime = soonest.not_after.duration_since(soonest.not_before);
    let lifetime = lifetime.unwrap_or_default();
    let days = days_text(left);
    let what = format!("signed by {:?}, {days} left", own.issuer);
    let unverified = if observed.verifies {
        ""
    } else {
        "not verified, although it is valid: "
    };
    let what = format!("{unverified}{what}");
    if left < MIN_TIME_LEFT.min(lifetime / 3) {
        let end = format_timestamp(soonest.not_after);
        return Finding::warning(check, what).with_remedy(
            [format!(
                "the certificate of {:?} ends at {end}. On the server:",
                soonest.subject
            )]
            .into_iter()
            .chain(renewal()),
        );
    }
    let verdict = if observed.verifies {
        Verdict::Ok
    } else {
        Verdict::Warning
    };
    let finding = Finding::new(check, verdict, what);
    if observed.verifies {
        finding
    } else {
        finding.with_remedy(["omit --insecure, and remove the registry from insecure-registries"])
    }
}

/// Returns why the certificate is not accepted, and what to do.
fn explain(
    observed: &CertificateObservation<'_>,
    error: &Error,
    kind: ConnectErrorKind,
) -> (String, Vec<String>) {
    let CertificateObservation {
        registry,
        chain,
        now,
        ..
    } = *observed;
    let unexplained = || {
        let hint = Failure::from(error.clone()).hint;
        (error.to_string(), hint.into_iter().collect())
    };
    let Some(own) = chain.first() else {
        return unexplained();
    };
    match kind {
        ConnectErrorKind::UnknownAuthority => {
            let issuer = chain.last().unwrap_or(own);
            let issuer = if issuer.is_self_signed {
                &issuer.subject
            } else {
                &issuer.issuer
            };
            let what = format!("it is signed by {issuer:?}, which this machine does not trust");
            let mut remedy = Vec::new();
            if let [own] = chain
                && !own.is_self_signed
            {
                remedy.extend([
                    "if this is a public CA, the server does not send its intermediate \
                     certificate. nginx, with the file that has the whole chain:"
                        .to_owned(),
                    "  ssl_certificate /etc/letsencrypt/live/NAME/fullchain.pem;".to_owned(),
                ]);
            }
            let path = advised_certificate_path(registry.as_str(), "ca.crt", System::CURRENT);
            remedy.extend([
                "for your own CA, copy its certificate to this machine, for Docker and imgsync:"
                    .to_owned(),
                format!("  {path}"),
                "for imgsync alone, pass --ca-file ca.crt".to_owned(),
            ]);
            (what, remedy)
        }
        ConnectErrorKind::Certificate => explain_dates_or_name(registry, chain, own, now),
        ConnectErrorKind::Network
        | ConnectErrorKind::UnknownHost
        | ConnectErrorKind::PlainHttp
        | ConnectErrorKind::UnusableCertificate
        | ConnectErrorKind::ClientCertificate
        | ConnectErrorKind::Handshake => unexplained(),
    }
}

/// Explains a certificate of a trusted CA that is not valid now, or not for this host.
fn explain_dates_or_name(
    registry: &Registry,
    chain: &[CertificateInfo],
    own: &CertificateInfo,
    now: SystemTime,
) -> (String, Vec<String>) {
    let clock = "if the date of this machine is wrong, correct it: timedatectl set-ntp true";
    if let Some(expired) = chain.iter().find(|found| found.not_after < now) {
        let (name, end) = (&expired.subject, format_timestamp(expired.not_after));
        let ago = now.duration_since(expired.not_after).unwrap_or_default();
        let what = format!(
            "the certificate of {name:?} expired {} ago, at {end}",
            days_text(ago)
        );
        let remedy = ["renew it on the server:".to_owned()]
            .into_iter()
            .chain(renewal());
        return (what, remedy.chain([clock.to_owned()]).collect());
    }
    if let Some(future) = chain.iter().find(|found| found.not_before > now) {
        let (name, start) = (&future.subject, format_timestamp(future.not_before));
        let what = format!("the certificate of {name:?} is not valid before {start}");
        return (what, vec![clock.to_owned()]);
    }
    let host = registry.host();
    let kind = if host.parse::<std::net::IpAddr>().is_ok() {
        "IP"
    } else {
        "DNS"
    };
    let shown = own.names.iter().take(MAX_SHOWN_NAMES).cloned();
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if own.names.is_empty() {
        "no name (it has no subjectAltName)".clone_into(&mut shown);
    } else if own.names.len() > MAX_SHOWN_NAMES {
        shown.push_str(", …");
    }
    let what = format!("it is valid for {shown}, and not for {host}");
    let remedy = vec![
        "use a name that it is valid for, or a certificate that also has this name. For your own \
         CA, in the extensions of the certificate:"
            .to_owned(),
        format!("  subjectAltName={kind}:{host}"),
    ];
    (what, remedy)
}

/// Returns the lines that renew a certificate.
fn renewal() -> [String; 1] {
    ["  certbot renew && nginx -s reload".to_owned()]
}

/// Formats a duration in whole days.
fn days_text(duration: Duration) -> String {
    match duration.as_secs() / DAY.as_secs() {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::connect_error;
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn at(days: i64) -> SystemTime {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let distance = DAY * u32::try_from(days.abs()).unwrap();
        if days < 0 {
            now - distance
        } else {
            now + distance
        }
    }

    /// A certificate that is valid between these days from now.
    fn certificate(subject: &str, issuer: &str, from: i64, to: i64) -> CertificateInfo {
        CertificateInfo {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            is_self_signed: subject == issuer,
            not_before: at(from),
            not_after: at(to),
            names: vec!["registry.example.com".to_owned()],
        }
    }

    fn judged(
        chain: &[CertificateInfo],
        kind: Option<ConnectErrorKind>,
        verifies: bool,
    ) -> Finding {
        let error = kind.map(connect_error);
        judge(&CertificateObservation {
            registry: &"nas:5000".parse().unwrap(),
            chain,
            error: error.as_ref(),
            verifies,
            now: at(0),
        })
    }

    #[test]
    fn the_soonest_end_in_the_chain_counts() {
        let own = certificate("nas", "CA", -10, 80);
        let finding = judged(std::slice::from_ref(&own), None, true);
        assert_eq!(finding.verdict, Verdict::Ok);
        assert_eq!(finding.what, "signed by \"CA\", 80 days left");
        let chain = [own, certificate("CA", "Root", -1000, 13)];
        let finding = judged(&chain, None, true);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.what.contains("13 days left"), "{finding:?}");
        assert!(finding.remedy[0].contains("\"CA\""), "{finding:?}");
        // A certificate that is renewed every few days.
        let short = [certificate("nas", "CA", -2, 4)];
        assert_eq!(judged(&short, None, true).verdict, Verdict::Ok);
        assert_eq!(judged(&short, None, false).verdict, Verdict::Warning);
        assert_eq!(judged(&[], None, true).verdict, Verdict::NotChecked);
    }

    #[test]
    fn certificates_that_are_not_accepted() {
        use ConnectErrorKind::{Certificate, Handshake, UnknownAuthority};
        let own = certificate("nas", "CA", -10, 80);
        let root = certificate("CA", "CA", -10, 80);
        let itself = certificate("nas", "nas", -10, 80);
        let ca_path = "  /etc/docker/certs.d/nas:5000/ca.crt";
        let chain_line = "  ssl_certificate /etc/letsencrypt/live/NAME/fullchain.pem;";
        for (chain, kind, text, lines, not) in [
            (
                vec![own.clone()],
                UnknownAuthority,
                "\"CA\"",
                vec![ca_path, chain_line],
                "",
            ),
            (
                vec![own.clone(), root],
                UnknownAuthority,
                "\"CA\"",
                vec![ca_path],
                chain_line,
            ),
            (
                vec![itself],
                UnknownAuthority,
                "\"nas\"",
                vec![ca_path],
                chain_line,
            ),
            (
                vec![own.clone()],
                Certificate,
                "valid for registry.example.com, and not for nas",
                vec!["  subjectAltName=DNS:nas"],
                ca_path,
            ),
            (
                vec![certificate("nas", "CA", -10, -3)],
                Certificate,
                "expired 3 days ago, at 20",
                vec!["  certbot renew && nginx -s reload"],
                ca_path,
            ),
            (
                vec![certificate("nas", "CA", 3, 10)],
                Certificate,
                "not valid before",
                vec!["if the date of this machine is wrong, correct it: timedatectl set-ntp true"],
                ca_path,
            ),
            (vec![own], Handshake, "it failed", vec![], ca_path),
        ] {
            let finding = judged(&chain, Some(kind), true);
            assert_eq!(finding.verdict, Verdict::Fault, "{finding:?}");
            assert!(finding.what.contains(text), "{finding:?}");
            for line in lines {
                assert!(
                    finding.remedy.iter().any(|found| found == line),
                    "{finding:?}"
                );
            }
            assert!(
                !finding.remedy.iter().any(|found| found == not),
                "{finding:?}"
            );
            let finding = judged(&chain, Some(kind), false);
            assert_eq!(finding.verdict, Verdict::Warning, "{finding:?}");
        }
    }
}
