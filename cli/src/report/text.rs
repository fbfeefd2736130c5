//! Reports as text for people: messages on stderr, with progress bars if it is a terminal, and
//! results on stdout. Without bars, a line shows when a blob starts, and one when it is finished.
//!
//! Start reading at [`TextReport`].

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::Digest;

use super::bars::ProgressBars;
use super::mirror::{summary_line, tag_line};
use super::{
    MirrorSummary, MirroredTag, PushSummary, Report, StdoutWriter, TagOutcome, TransferVerb,
    Verbosity, push_summary_line,
};
use crate::exit::Failure;
use crate::plan::PushPlan;
use crate::text::{format_bytes, sanitize};

/// A report for people.
#[derive(Debug)]
pub(super) struct TextReport {
    verbosity: Verbosity,
    verb: TransferVerb,
    output: StdoutWriter,
    bars: Option<ProgressBars>,
    /// The labels and sizes of the blobs that have a line and no bar.
    blobs: Mutex<HashMap<Digest, (String, u64)>>,
}

impl TextReport {
    /// Creates a report that has printed nothing yet.
    pub(super) fn new(
        verbosity: Verbosity,
        verb: TransferVerb,
        bars: Option<ProgressBars>,
    ) -> Self {
        Self {
            verbosity,
            verb,
            output: StdoutWriter::default(),
            bars,
            blobs: Mutex::default(),
        }
    }

    /// Removes the bar of the total, because a result follows.
    fn clear_bars(&self) {
        self.bars.iter().for_each(ProgressBars::clear);
    }
}

impl Report for TextReport {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn show_message(&self, _event: &str, text: &str) {
        let text = sanitize(text);
        match &self.bars {
            Some(bars) => bars.print_above(&text),
            None => write_stderr(&text),
        }
    }

    fn show_plan(&self, _plan: &PushPlan) {}

    fn start_blob(&self, digest: &Digest, label: &str, size: u64) {
        if let Some(bars) = &self.bars {
            return bars.start(digest, label, size);
        }
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(digest.clone(), (label.to_owned(), size));
        drop(blobs);
        let size = format_bytes(size);
        self.note(&format!("{label}: {} {size}", self.verb.moving()));
    }

    fn update_blob(&self, digest: &Digest, offset: u64) {
        if let Some(bars) = &self.bars {
            bars.update(digest, offset);
        }
    }

    fn finish_blob(&self, digest: &Digest) {
        if let Some(bars) = &self.bars {
            return bars.finish(digest);
        }
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let blob = blobs.remove(digest);
        drop(blobs);
        if let Some((label, size)) = blob {
            let size = format_bytes(size);
            self.note(&format!("{label}: {} {size}", self.verb.moved()));
        }
    }

    fn show_push_summary(&self, summary: &PushSummary) {
        self.clear_bars();
        self.output.print(&push_summary_line(summary));
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        self.bars.iter().for_each(ProgressBars::start_mirror);
        // For a single image, the line of its tag contains the same information.
        if let Some(tags) = tags {
            let plural = if tags == 1 { "" } else { "s" };
            self.note(&format!("{source} to {target}: {tags} tag{plural}"));
        }
    }

    fn finish_tag(&self, tag: &MirroredTag) {
        let line = sanitize(&tag_line(tag, self.verb));
        let is_failure = matches!(tag.outcome, TagOutcome::Failed(_));
        match &self.bars {
            Some(bars) => bars.suspend(|| self.output.print(&line)),
            None if self.verbosity != Verbosity::Quiet => self.output.print(&line),
            None if is_failure => write_stderr(&format!("error: {line}")),
            None => {}
        }
    }

    fn show_mirror_summary(&self, summary: &MirrorSummary) {
        self.clear_bars();
        self.output.print(&summary_line(summary, self.verb));
    }

    fn show_failure(&self, failure: &Failure) {
        self.clear_bars();
        write_stderr(&failure.text());
    }

    fn output(&self) -> &StdoutWriter {
        &self.output
    }
}

/// Prints a line to stderr that is safe to print. Errors are ignored, because a log that cannot be
/// written is no reason to stop.
fn write_stderr(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
