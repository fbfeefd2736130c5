//! The check of the largest request.

use std::time::Duration;

use http::StatusCode;
use imgsync_oci::client::{BodyAnnouncement, Client, Error};
use imgsync_oci::{Registry, Repository};

use super::finding::{DoctorCheck, Finding};
use crate::exit;
use crate::text::format_bytes;
use crate::upload::MIN_CHUNK_BYTES;

/// The smallest and the largest request that is announced, as powers of two. A push sends chunks of
/// at most 64 MiB; docker sends a whole layer in one request.
const MIN_SIZE_BITS: u32 = 16;
const MAX_SIZE_BITS: u32 = 30;
/// How long a refusal is waited for. It comes before the body, so it takes a few round trips.
const ANNOUNCEMENT_PATIENCE: Duration = Duration::from_secs(2);

/// The limit that announced requests have shown.
#[derive(Debug, Clone, Default)]
pub(super) struct AnnouncedSizes {
    /// The largest request that was not refused.
    pub(super) accepted: Option<u64>,
    /// The smallest request that was refused as too large, and the response.
    pub(super) refused: Option<(u64, Error)>,
}

/// The requests that were sent with their body.
#[derive(Debug, Clone, Default)]
pub(super) struct SentSizes {
    /// The largest request that was accepted.
    pub(super) accepted: Option<u64>,
    /// The first request that failed, and the error.
    pub(super) failed: Option<(u64, Error)>,
}

/// Announces requests of different sizes, and searches for the largest that is not refused.
///
/// # Errors
/// Fails on network errors.
pub(super) async fn announce(
    client: &Client,
    repository: &Repository,
) -> Result<AnnouncedSizes, Error> {
    let mut sizes = AnnouncedSizes::default();
    let mut search = SizeSearch::default();
    while let Some(size) = search.next_size() {
        let answer = client.announce_body(repository, size, ANNOUNCEMENT_PATIENCE);
        let is_refused = match answer.await? {
            BodyAnnouncement::Refused(error) => {
                sizes.refused = Some((size, error));
                true
            }
            BodyAnnouncement::NotRefused => {
                sizes.accepted = Some(size);
                false
            }
        };
        search.record(size, is_refused);
    }
    Ok(sizes)
}

/// A binary search over powers of two that begins with the largest size, because most registries
/// have no limit.
#[derive(Debug, Clone, Copy, Default)]
struct SizeSearch {
    accepted_bits: Option<u32>,
    refused_bits: Option<u32>,
}

impl SizeSearch {
    /// Returns the next size to try; `None` if the limit is known.
    fn next_size(&self) -> Option<u64> {
        let bits = match (self.accepted_bits, self.refused_bits) {
            (None, None) => MAX_SIZE_BITS,
            (Some(_), None) => return None,
            (None, Some(refused)) if refused == MIN_SIZE_BITS => return None,
            (accepted, Some(refused)) => {
                let accepted = accepted.unwrap_or(MIN_SIZE_BITS - 1);
                if accepted + 1 >= refused {
                    return None;
                }
                accepted.midpoint(refused)
            }
        };
        Some(1 << bits)
    }

    fn record(&mut self, size: u64, is_refused: bool) {
        let bits = Some(size.ilog2());
        if is_refused {
            self.refused_bits = bits;
        } else {
            self.accepted_bits = bits;
        }
    }
}

/// Judges the size of requests. `sent` are those of a run with `--write`.
pub(super) fn judge(
    registry: &Registry,
    announced: &AnnouncedSizes,
    sent: Option<&SentSizes>,
) -> Finding {
    let check = DoctorCheck::RequestSize;
    let failed = sent.and_then(|sent| sent.failed.as_ref());
    let is_refusal = |error: &Error| error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE);
    let refused = [
        failed.filter(|(_, error)| is_refusal(error)),
        announced.refused.as_ref(),
    ];
    let refused = refused.into_iter().flatten().min_by_key(|(size, _)| *size);
    if let Some((size, error)) = refused {
        let shown = format_bytes(*size);
        let (who, hint) = exit::refuser(error)
            .unwrap_or_else(|| (registry.to_string(), "raise its limit".to_owned()));
        if *size <= MIN_CHUNK_BYTES {
            let what = format!("{who} refuses requests of {shown} as too large");
            return Finding::fault(check, what).with_remedy([hint]);
        }
        let what = format!(
            "{who} refuses requests of {shown} as too large: imgsync sends smaller ones, docker \
             push fails at larger layers"
        );
        return Finding::warning(check, what).with_remedy([hint]);
    }
    if let Some((size, error)) = failed {
        let what = format!("a request of {} fails: {error}", format_bytes(*size));
        return Finding::warning(check, what).with_remedy([
            "a proxy in front of the registry can have a limit or a timeout. nginx:",
            "  client_max_body_size 0;",
            "  proxy_read_timeout 900s;",
            "  proxy_send_timeout 900s;",
        ]);
    }
    let announced = announced.accepted.map(format_bytes).unwrap_or_default();
    let sent = sent.and_then(|sent| sent.accepted);
    let sent = sent.map_or(String::new(), |size| {
        format!(", and one of {} was accepted", format_bytes(size))
    });
    Finding::ok(
        check,
        format!("a request of {announced} is not refused when it is announced{sent}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::{no_credentials, status_error};
    use super::*;

    /// Searches for a limit, and returns what was accepted and what was refused.
    fn search(limit: u64) -> (Option<u32>, Option<u32>) {
        let mut search = SizeSearch::default();
        let mut count = 0;
        while let Some(size) = search.next_size() {
            search.record(size, size > limit);
            count += 1;
            assert!(count <= 5, "{search:?}");
        }
        (search.accepted_bits, search.refused_bits)
    }

    #[test]
    fn the_limit_is_found_in_few_steps() {
        assert_eq!(search(u64::MAX), (Some(30), None));
        assert_eq!(search(1 << 20), (Some(20), Some(21)));
        assert_eq!(search(100_000_000), (Some(26), Some(27)));
        assert_eq!(search(1 << 16), (Some(16), Some(17)));
        assert_eq!(search(1000), (None, Some(16)));
        assert_eq!(search((1 << 30) - 1), (Some(29), Some(30)));
    }

    fn judged(refused: Option<u64>, sent: Option<SentSizes>) -> Finding {
        let error = status_error(413, Some("nginx/1.22.1"), no_credentials());
        let announced = AnnouncedSizes {
            accepted: Some(1 << 20),
            refused: refused.map(|size| (size, error)),
        };
        judge(&"nas:5000".parse().unwrap(), &announced, sent.as_ref())
    }

    #[test]
    fn verdicts() {
        let finding = judged(None, None);
        assert_eq!(finding.verdict, Verdict::Ok);
        let finding = judged(Some(2 << 20), None);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(
            finding
                .what
                .contains("nginx/1.22.1 in front of nas:5000 refuses"),
            "{finding:?}"
        );
        assert!(
            finding.remedy[0].contains("client_max_body_size 0;"),
            "{finding:?}"
        );
        assert_eq!(judged(Some(1 << 16), None).verdict, Verdict::Fault);

        let broken = SentSizes {
            accepted: Some(1 << 20),
            failed: Some((4 << 20, status_error(504, None, no_credentials()))),
        };
        let finding = judged(None, Some(broken));
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(
            finding.what.starts_with("a request of 4.2 MB fails"),
            "{finding:?}"
        );
        let sent = SentSizes {
            accepted: Some(16 << 20),
            failed: None,
        };
        assert!(
            judged(None, Some(sent))
                .what
                .ends_with("one of 16.8 MB was accepted")
        );
    }
}
