//! Shows progress bars on a terminal: one for each blob, and one for the total.
//!
//! This module formats no results. Start reading at [`BarReport`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lines::{mirror_start_line, write_stderr};
use super::mirror::{summary_line, tag_line};
use super::{
    MirrorSummary, MirroredTag, PushSummary, Report, StdoutWriter, TransferVerb, Verbosity,
    push_summary_line,
};
use crate::exit::Failure;
use crate::plan::PushPlan;
use crate::text::sanitize;

const BLOB_TEMPLATE: &str =
    "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} {msg}";
const TOTAL_TEMPLATE: &str = "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} \
                     {decimal_bytes_per_sec} {eta} left";

/// A report with progress bars.
#[derive(Debug)]
pub(super) struct BarReport {
    verbosity: Verbosity,
    verb: TransferVerb,
    data: StdoutWriter,
    multi_progress: MultiProgress,
    visible: Mutex<VisibleBars>,
}

#[derive(Debug, Default)]
struct VisibleBars {
    blobs: HashMap<Digest, ProgressBar>,
    /// The bar for the total. Set once a blob has started.
    total: Option<ProgressBar>,
    /// Whether a mirror is running, which may transfer more blobs than the terminal has lines. The
    /// bar of a finished blob is then removed.
    is_mirror: bool,
}

impl BarReport {
    /// Creates a report without bars.
    pub(super) fn new(verbosity: Verbosity, verb: TransferVerb) -> Self {
        Self {
            verbosity,
            verb,
            data: StdoutWriter::default(),
            multi_progress: MultiProgress::new(),
            visible: Mutex::default(),
        }
    }

    fn visible(&self) -> MutexGuard<'_, VisibleBars> {
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(total) = self.visible().total.take() {
            total.finish_and_clear();
        }
    }
}

fn bar(template: &str, size: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style)
}

impl Report for BarReport {
    fn note(&self, text: &str) {
        // A terminal that was closed is no reason to stop a push.
        let _ = self.multi_progress.println(sanitize(text));
    }

    fn detail(&self, text: &str) {
        match self.verbosity {
            Verbosity::Quiet | Verbosity::Normal => {}
            Verbosity::Verbose => self.note(text),
        }
    }

    fn show_plan(&self, _plan: &PushPlan) {}

    fn start_blob(&self, digest: &Digest, label: &str, size: u64) {
        let mut shown = self.visible();
        let total = match &shown.total {
            Some(total) => total.clone(),
            None => {
                let total = self.multi_progress.add(bar(TOTAL_TEMPLATE, 0));
                total.set_prefix("total");
                shown.total = Some(total.clone());
                total
            }
        };
        total.inc_length(size);
        let bar = self
            .multi_progress
            .insert_before(&total, bar(BLOB_TEMPLATE, size));
        bar.set_prefix(sanitize(label));
        shown.blobs.insert(digest.clone(), bar);
    }

    fn update_blob(&self, digest: &Digest, offset: u64) {
        let shown = self.visible();
        let (Some(bar), Some(total)) = (shown.blobs.get(digest), &shown.total) else {
            return;
        };
        let all = total.position().saturating_sub(bar.position()) + offset;
        bar.set_position(offset);
        total.set_position(all);
    }

    fn finish_blob(&self, digest: &Digest) {
        let mut shown = self.visible();
        if shown.is_mirror {
            if let Some(bar) = shown.blobs.remove(digest) {
                bar.finish_and_clear();
                self.multi_progress.remove(&bar);
            }
        } else if let Some(bar) = shown.blobs.get(digest) {
            bar.finish_with_message("done");
        }
    }

    fn show_push_summary(&self, result: &PushSummary) {
        self.clear();
        self.data.print(&push_summary_line(result));
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        self.visible().is_mirror = true;
        if let Some(tags) = tags {
            self.note(&mirror_start_line(source, target, tags));
        }
    }

    fn finish_tag(&self, it: &MirroredTag) {
        // Stdout may be the same terminal, so the bars are hidden while the line is printed.
        self.multi_progress
            .suspend(|| self.data.print(&sanitize(&tag_line(it, self.verb))));
    }

    fn skip_tag(&self, left: &MirroredTag) {
        if left.is_dry_run || self.verbosity == Verbosity::Verbose {
            self.finish_tag(left);
        }
    }

    fn show_mirror_summary(&self, it: &MirrorSummary) {
        self.clear();
        self.data.print(&summary_line(it, self.verb));
    }

    fn show_failure(&self, failure: &Failure) {
        self.clear();
        write_stderr(&failure.text());
    }

    fn output(&self) -> &StdoutWriter {
        &self.data
    }
}
