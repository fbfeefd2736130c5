//! Prints plain lines, for logs: one when a blob starts, and one when it is at the target.
//!
//! This module shows no progress within a blob. Start reading at [`LineReport`].

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::Digest;

use super::mirror::{summary_line, tag_line};
use super::{
    MirrorSummary, MirroredTag, PushSummary, Report, StdoutWriter, TagOutcome, TransferVerb,
    Verbosity, push_summary_line,
};
use crate::exit::Failure;
use crate::plan::PushPlan;
use crate::text::{format_bytes, sanitize};

/// A report of lines on stderr, with the results on stdout.
#[derive(Debug)]
pub(super) struct LineReport {
    verbosity: Verbosity,
    verb: TransferVerb,
    data: StdoutWriter,
    labels: Mutex<HashMap<Digest, (String, u64)>>,
}

impl LineReport {
    /// Creates a report that has printed nothing yet.
    pub(super) fn new(verbosity: Verbosity, verb: TransferVerb) -> Self {
        Self {
            verbosity,
            verb,
            data: StdoutWriter::default(),
            labels: Mutex::default(),
        }
    }
}

impl Report for LineReport {
    fn note(&self, text: &str) {
        match self.verbosity {
            Verbosity::Quiet => {}
            Verbosity::Normal | Verbosity::Verbose => write_sanitized(text),
        }
    }

    fn detail(&self, text: &str) {
        match self.verbosity {
            Verbosity::Quiet | Verbosity::Normal => {}
            Verbosity::Verbose => write_sanitized(text),
        }
    }

    fn show_plan(&self, _plan: &PushPlan) {}

    fn start_blob(&self, digest: &Digest, label: &str, size: u64) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        labels.insert(digest.clone(), (label.to_owned(), size));
        drop(labels);
        self.note(&format!(
            "{label}: {} {}",
            self.verb.moving(),
            format_bytes(size)
        ));
    }

    fn update_blob(&self, _digest: &Digest, _offset: u64) {}

    fn finish_blob(&self, digest: &Digest) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = labels.remove(digest);
        drop(labels);
        if let Some((label, size)) = known {
            self.note(&format!(
                "{label}: {} {}",
                self.verb.moved(),
                format_bytes(size)
            ));
        }
    }

    fn show_push_summary(&self, result: &PushSummary) {
        self.data.print(&push_summary_line(result));
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        // For a single image, the line of its tag contains the same information.
        if let Some(tags) = tags {
            self.note(&mirror_start_line(source, target, tags));
        }
    }

    fn finish_tag(&self, it: &MirroredTag) {
        let line = sanitize(&tag_line(it, self.verb));
        match (self.verbosity, &it.outcome) {
            (Verbosity::Normal | Verbosity::Verbose, _) => self.data.print(&line),
            (Verbosity::Quiet, TagOutcome::Failed(_)) => write_stderr(&format!("error: {line}")),
            (Verbosity::Quiet, _) => {}
        }
    }

    fn skip_tag(&self, left: &MirroredTag) {
        if left.is_dry_run || self.verbosity == Verbosity::Verbose {
            self.finish_tag(left);
        }
    }

    fn show_mirror_summary(&self, it: &MirrorSummary) {
        self.data.print(&summary_line(it, self.verb));
    }

    fn show_failure(&self, failure: &Failure) {
        write_stderr(&failure.text());
    }

    fn output(&self) -> &StdoutWriter {
        &self.data
    }
}

/// Returns the first line of a mirror.
pub(super) fn mirror_start_line(source: &str, target: &str, tags: usize) -> String {
    let tags = match tags {
        1 => "1 tag".to_owned(),
        many => format!("{many} tags"),
    };
    format!("{source} to {target}: {tags}")
}

/// Prints a line to stderr, with control characters replaced.
fn write_sanitized(text: &str) {
    write_stderr(&sanitize(text));
}

/// Prints a line to stderr that is safe to print. Errors are ignored, because a log that cannot be
/// written is no reason to stop.
pub(super) fn write_stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
