//! Reports progress and results while a command runs: as progress bars on a terminal, as lines
//! elsewhere, or as JSON.
//!
//! `progress` has the state, `screen` lays it out, and `live_region` draws it for `display`.
//!
//! The modules that do the work know only the trait [`Report`]. Messages for people go to stderr;
//! results and JSON go to stdout. This module does not decide what is done. Start reading at
//! [`Report`].

mod copy;
mod display;
mod formatting;
mod json;
mod live_region;
mod mirror;
mod progress;
mod screen;
mod stdout;
mod style;
mod task;
mod text;

use std::sync::Arc;

use console::Term;
use imgsync_oci::Digest;

use crate::disk::System;
use crate::exit::Failure;
use crate::plan::PushPlan;
use crate::text::{Language, format_bytes};

pub use copy::{CopyChange, CopyOutcome};
pub use formatting::{plan_lines, push_summary_line, push_totals_line};
pub use mirror::{KeepReason, MirrorSummary, MirroredTag, TagOutcome, TagState};
pub use stdout::StdoutWriter;
pub use task::{ProgressTask, TaskReader};

/// Receives the events of a command as they happen.
pub trait Report: Send + Sync {
    /// Returns how much is shown.
    fn verbosity(&self) -> Verbosity;
    /// Shows a message, whatever the verbosity is. `event` is its name in JSON. Callers use
    /// [`Report::note`] and [`Report::detail`].
    fn show_message(&self, event: &str, text: &str);
    /// Shows the plan of a push.
    fn show_plan(&self, plan: &PushPlan);
    /// Reports that blobs will be uploaded, before the first byte.
    fn start_upload(&self) {}
    /// Reports a blob that will be uploaded.
    fn plan_blob(&self, _size: PlannedSize) {}
    /// Reports that a planned layer of `uncompressed` bytes has become a blob of `size` bytes.
    fn record_compressed(&self, _uncompressed: u64, _size: u64) {}
    /// Reports that a planned blob of `size` bytes need not be uploaded, because the target has it.
    fn skip_blob(&self, _size: u64) {}
    /// Reports work other than the transfer of a blob, of `size` bytes if that is known, and returns
    /// its ID. Callers use [`ProgressTask`].
    fn start_task(&self, _text: &str, _size: Option<u64>) -> u64 {
        0
    }
    /// Reports how many bytes of a task are processed.
    fn update_task(&self, _id: u64, _position: u64) {}
    /// Reports the end of a task.
    fn finish_task(&self, _id: u64) {}
    /// Reports that the transfer of a blob of `size` bytes has started, of which the target has
    /// `offset` bytes already. `label` is the name to show.
    fn start_blob(&self, digest: &Digest, label: &str, size: u64, offset: u64);
    /// Reports the offset that a blob has reached. After an error it may be less than before.
    fn update_blob(&self, digest: &Digest, offset: u64);
    /// Reports that a blob is at the target.
    fn finish_blob(&self, digest: &Digest);
    /// Reports that the target has assembled a layer from a delta.
    fn show_delta(&self, delta: &SentDelta) {
        self.note(&delta.to_string());
    }

    /// Reports the result of a successful push.
    fn show_push_summary(&self, summary: &PushSummary);
    /// Reports the start of a mirror with its source, its target and the number of tags; `tags` is
    /// `None` for a single image.
    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>);
    /// Reports what was done with a tag of a mirror.
    fn finish_tag(&self, tag: &MirroredTag);
    /// Reports the totals of all mirrors.
    fn show_mirror_summary(&self, summary: &MirrorSummary);
    /// Reports that the command has failed.
    fn show_failure(&self, failure: &Failure);
    /// Returns the writer for stdout.
    fn output(&self) -> &StdoutWriter;

    /// Shows a message, unless the verbosity is [`Verbosity::Quiet`].
    fn note(&self, text: &str) {
        if self.verbosity() != Verbosity::Quiet {
            self.show_message("note", text);
        }
    }
    /// Shows a message only at verbosity [`Verbosity::Verbose`].
    fn detail(&self, text: &str) {
        if self.verbosity() == Verbosity::Verbose {
            self.show_message("detail", text);
        }
    }
    /// Reports a tag that a mirror does not select. Shown only in a dry run and at verbosity
    /// [`Verbosity::Verbose`].
    fn skip_tag(&self, tag: &MirroredTag) {
        if tag.is_dry_run || self.verbosity() == Verbosity::Verbose {
            self.finish_tag(tag);
        }
    }
}

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors and the final result.
    Quiet,
    /// Progress, results and notes.
    #[default]
    Normal,
    /// Network errors and retries, too.
    Verbose,
}

/// The verb for a transfer in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransferVerb {
    /// The bytes are sent to a registry.
    #[default]
    Send,
    /// The bytes are fetched for the user who runs `imgsync pull`.
    Fetch,
}

impl TransferVerb {
    /// Returns the participle for a transfer in progress.
    fn moving(self) -> &'static str {
        match self {
            Self::Send => "sending",
            Self::Fetch => "fetching",
        }
    }

    /// Returns the participle for a finished transfer.
    fn moved(self) -> &'static str {
        match self {
            Self::Send => "sent",
            Self::Fetch => "fetched",
        }
    }

    /// Returns the words before a number of bytes that were moved, or would be in a dry run.
    fn in_totals(self, is_dry_run: bool) -> &'static str {
        match self {
            Self::Send if is_dry_run => "to send",
            Self::Fetch if is_dry_run => "to fetch",
            _ => self.moved(),
        }
    }
}

/// Creates the report for the given options: JSON, or progress bars if stderr is a terminal, or
/// lines.
pub fn new(verbosity: Verbosity, is_json: bool, verb: TransferVerb) -> Arc<dyn Report> {
    if is_json {
        return Arc::new(json::JsonReport::new(verbosity));
    }
    let terminal = Term::stderr();
    // A terminal that cannot move its cursor gets lines.
    let is_dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
    // A console of Windows knows escape sequences only after it is asked about colours, and old ones
    // never.
    let knows_escapes =
        System::CURRENT != System::Windows || terminal.features().colors_supported();
    let can_draw = terminal.is_term() && !is_dumb && knows_escapes;
    let has_bars = verbosity != Verbosity::Quiet && can_draw;
    let variable = |name: &str| std::env::var(name).ok();
    let language = Language::choose(variable, system_language().as_deref());
    Arc::new(text::TextReport::new(verbosity, verb, language, has_bars))
}

/// Returns the language that the user has chosen for the whole system, for example `zh-Hans-CN`. On
/// Linux, the variables of the environment state it.
fn system_language() -> Option<String> {
    match System::CURRENT {
        System::Unix => None,
        System::MacOs | System::Windows => sys_locale::get_locale(),
    }
}

/// The size of a blob that will be uploaded, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlannedSize {
    /// The size of the blob.
    Exact(u64),
    /// The size of the layer before it is compressed. That of the blob is not known yet.
    Uncompressed(u64),
}

/// A layer that was sent as a delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentDelta {
    /// The name of the layer to show.
    pub label: String,
    /// The blob of the layer.
    pub blob: Digest,
    /// The size of the delta in bytes.
    pub sent: u64,
    /// The size of the blob in bytes.
    pub instead: u64,
    /// The tag of the image with the layers that the delta is based on.
    pub tag: String,
}

impl std::fmt::Display for SentDelta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sent, instead) = (format_bytes(self.sent), format_bytes(self.instead));
        let (label, tag) = (&self.label, &self.tag);
        write!(f, "{label}: {sent} instead of {instead}, based on {tag}")
    }
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSummary {
    /// The reference of the image at the target.
    pub image: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The blob bytes that were sent, each counted once.
    pub sent: u64,
    /// The blob bytes that were sent again, after an error.
    pub resent: u64,
    /// The blob bytes that an earlier push sent before it was interrupted.
    pub resumed: u64,
    /// The bytes of the image's blobs that did not have to be sent.
    pub saved: u64,
    /// The duration of the push.
    pub elapsed: std::time::Duration,
}
