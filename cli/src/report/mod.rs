//! Reports progress and results while a command runs: as progress bars on a terminal, as lines
//! elsewhere, or as JSON.
//!
//! The modules that do the work know only the trait [`Report`]. Messages for people go to stderr;
//! results and JSON go to stdout. This module does not decide what is done. Start reading at
//! [`Report`].

mod bars;
mod copy;
mod formatting;
mod json;
mod lines;
mod mirror;
mod stdout;

use std::io::IsTerminal;
use std::sync::Arc;

use imgsync_oci::Digest;

use crate::exit::Failure;
use crate::plan::PushPlan;

pub use copy::{CopyChange, CopyOutcome};
pub use formatting::{plan_lines, push_summary_line};
pub use mirror::{KeepReason, MirrorSummary, MirroredTag, TagOutcome};

pub use stdout::StdoutWriter;

/// Receives the events of a command as they happen.
pub trait Report: Send + Sync {
    /// Shows a message at normal verbosity.
    fn note(&self, text: &str);
    /// Shows a message only at verbosity [`Verbosity::Verbose`].
    fn detail(&self, text: &str);
    /// Shows the plan of a push.
    fn show_plan(&self, plan: &PushPlan);
    /// Reports that the upload of a blob of `size` bytes has started. `label` is the name to show.
    fn start_blob(&self, digest: &Digest, label: &str, size: u64);
    /// Reports the offset that a blob has reached. After a fault it may be less than before.
    fn update_blob(&self, digest: &Digest, offset: u64);
    /// Reports that a blob is at the target.
    fn finish_blob(&self, digest: &Digest);
    /// Reports the result of a successful push.
    fn show_push_summary(&self, outcome: &PushSummary);
    /// Reports the start of a mirror with its source, its target and the number of tags; `tags` is
    /// `None` for a single image.
    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>);
    /// Reports what was done with a tag of a mirror.
    fn finish_tag(&self, mirrored: &MirroredTag);
    /// Reports a tag that a mirror does not select. Shown only in a dry run and at verbosity
    /// [`Verbosity::Verbose`].
    fn skip_tag(&self, left: &MirroredTag);
    /// Reports the totals of all mirrors.
    fn show_mirror_summary(&self, sum: &MirrorSummary);
    /// Reports that the command has failed.
    fn show_failure(&self, failure: &Failure);
    /// Returns the writer for stdout.
    fn output(&self) -> &StdoutWriter;
}

/// How much is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Only failures.
    Quiet,
    /// What a user usually wants to follow.
    #[default]
    Normal,
    /// All network errors and retries as well.
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

    /// Returns the infinitive for a transfer in a dry run.
    fn to_move(self) -> &'static str {
        match self {
            Self::Send => "to send",
            Self::Fetch => "to fetch",
        }
    }
}

/// Creates the report for the given options: JSON, or progress bars if stderr is a terminal, or
/// lines.
pub fn new(voice: Verbosity, json: bool, verb: TransferVerb) -> Arc<dyn Report> {
    if json {
        Arc::new(json::JsonReport::new(voice))
    } else if voice != Verbosity::Quiet && std::io::stderr().is_terminal() {
        Arc::new(bars::BarReport::new(voice, verb))
    } else {
        Arc::new(lines::LineReport::new(voice, verb))
    }
}

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSummary {
    /// The reference of the image at the target.
    pub image: String,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The blob bytes sent over the network, repeated ones included.
    pub sent: u64,
    /// The bytes of the image's blobs that did not have to be sent.
    pub saved: u64,
    /// The duration of the push.
    pub elapsed: std::time::Duration,
}
