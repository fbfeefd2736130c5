//! The check that broken transfers can be continued.

use imgsync_oci::client::Error;

use super::finding::{DoctorCheck, Finding};

/// For a proxy that reads a whole request before it passes it on.
const BUFFERING_REMEDY: [&str; 3] = [
    "if a proxy is in front of the registry, it must pass requests on at once. nginx:",
    "  proxy_request_buffering off;",
    "  proxy_http_version 1.1;",
];

/// The end of an upload whose connection broke, and of the blob afterwards.
#[derive(Debug)]
pub(super) struct ResumeObservation {
    /// The result of the first chunk.
    pub(super) chunk: Result<(), Error>,
    /// The bytes of the session before the request that broke.
    pub(super) confirmed: u64,
    /// The bytes that the registry reports afterwards; `None` if the session no longer exists.
    pub(super) offset: Result<Option<u64>, Error>,
    /// The result of completing the upload.
    pub(super) finish: Result<(), Error>,
    /// Whether a download from an offset begins there; `None` if it was not tried.
    pub(super) has_ranges: Option<Result<bool, Error>>,
}

impl ResumeObservation {
    /// Returns whether an upload works at all, in chunks or in one request.
    pub(super) fn upload(&self) -> Result<(), &Error> {
        match (&self.chunk, &self.finish) {
            (Err(error), Err(_)) => Err(error),
            _ => Ok(()),
        }
    }
}

pub(super) fn judge(observed: &ResumeObservation) -> Finding {
    let check = DoctorCheck::Resume;
    if let Err(error) = &observed.finish {
        let what = format!("an upload cannot be completed: {error}");
        return Finding::fault(check, what)
            .with_remedy(["see the log of the registry, or of the proxy in front of it"]);
    }
    if let Err(error) = &observed.chunk {
        let what = format!("a blob is accepted in one request only, and starts again: {error}");
        return Finding::warning(check, what)
            .with_remedy(["use a registry that accepts uploads in chunks"]);
    }
    let (what, remedy) = match &observed.offset {
        Ok(Some(offset)) if *offset > observed.confirmed => return judge_download(observed),
        Ok(Some(_)) => (
            "after a lost connection, a request starts again: its bytes are lost".to_owned(),
            &BUFFERING_REMEDY[..],
        ),
        Ok(None) => (
            "after a lost connection, a blob starts again: the upload session is gone".to_owned(),
            &["the stock registry does this; imgsync-server keeps the session"][..],
        ),
        Err(error) => (
            format!("after a lost connection, a blob starts again: {error}"),
            &["see the log of the registry, or of the proxy in front of it"][..],
        ),
    };
    Finding::warning(check, what).with_remedy(remedy.iter().copied())
}

/// Judges the download, after an upload that was continued.
fn judge_download(observed: &ResumeObservation) -> Finding {
    let check = DoctorCheck::Resume;
    match &observed.has_ranges {
        Some(Ok(true)) => Finding::ok(
            check,
            "uploads and downloads continue after a lost connection",
        ),
        None => Finding::ok(check, "uploads continue after a lost connection"),
        Some(Ok(false)) => Finding::warning(
            check,
            "uploads continue after a lost connection, but downloads start again: Range is ignored",
        )
        .with_remedy([
            "a proxy in front of the registry must pass the header on. nginx:",
            "  proxy_set_header Range $http_range;",
        ]),
        Some(Err(error)) => {
            let what =
                format!("uploads continue after a lost connection, but downloads fail: {error}");
            Finding::warning(check, what)
                .with_remedy(["see the log of the registry, or of the proxy in front of it"])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::testing::{no_credentials, status_error};
    use super::*;

    fn judged(
        offset: Result<Option<u64>, Error>,
        finish: Result<(), Error>,
        has_ranges: Option<Result<bool, Error>>,
    ) -> Finding {
        judge(&ResumeObservation {
            chunk: Ok(()),
            confirmed: 100,
            offset,
            finish,
            has_ranges,
        })
    }

    #[test]
    fn verdicts() {
        let error = || status_error(500, None, no_credentials());
        let buffering = "  proxy_request_buffering off;";
        let range = "  proxy_set_header Range $http_range;";
        for (offset, ranges, verdict, line) in [
            (Ok(Some(150)), Some(Ok(true)), Verdict::Ok, ""),
            (Ok(Some(150)), None, Verdict::Ok, ""),
            (Ok(Some(150)), Some(Ok(false)), Verdict::Warning, range),
            (Ok(Some(100)), Some(Ok(true)), Verdict::Warning, buffering),
            (
                Ok(None),
                Some(Ok(true)),
                Verdict::Warning,
                "the stock registry does this; imgsync-server keeps the session",
            ),
            (
                Err(error()),
                Some(Ok(true)),
                Verdict::Warning,
                "see the log of the registry, or of the proxy in front of it",
            ),
        ] {
            let finding = judged(offset, Ok(()), ranges);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            let has_line = finding.remedy.iter().any(|found| found == line);
            assert_eq!(has_line, !line.is_empty(), "{finding:?}");
        }
        assert_eq!(
            judged(Ok(Some(150)), Err(error()), None).verdict,
            Verdict::Fault
        );
        let whole = ResumeObservation {
            chunk: Err(error()),
            confirmed: 0,
            offset: Ok(None),
            finish: Ok(()),
            has_ranges: None,
        };
        assert_eq!(whole.upload().map_err(ToString::to_string), Ok(()));
        assert_eq!(judge(&whole).verdict, Verdict::Warning);
    }
}
