//! What is told while a command runs: bars on a terminal, lines elsewhere, or JSON. The rooms that
//! do the work only speak to [`Report`]. What is for people goes to stderr; JSON is data, and goes
//! to stdout.

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

/// Takes what happens, as it happens.
pub trait Report: Send + Sync {
    /// Something worth a line.
    fn note(&self, text: &str);
    /// Something for those who want to know everything.
    fn detail(&self, text: &str);
    /// What is going to happen.
    fn show_plan(&self, plan: &PushPlan);
    /// A blob of `size` bytes is on its way; `label` names it for people.
    fn start_blob(&self, digest: &Digest, label: &str, size: u64);
    /// The blob has come to this offset; after a fault it may be less than before.
    fn update_blob(&self, digest: &Digest, offset: u64);
    /// The blob is at the target.
    fn finish_blob(&self, digest: &Digest);
    /// The push is over, and the image is there.
    fn show_push_summary(&self, outcome: &PushSummary);
    /// A mirror begins: from where, to where, and how many tags it wants; `None` where it is for one
    /// image alone.
    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>);
    /// A mirror is done with a tag.
    fn finish_tag(&self, mirrored: &MirroredTag);
    /// A mirror does not want a tag. Told where nothing is changed, and to those who want to know
    /// everything.
    fn skip_tag(&self, left: &MirroredTag);
    /// All mirrors are over.
    fn show_mirror_summary(&self, sum: &MirrorSummary);
    /// The command has failed.
    fn show_failure(&self, failure: &Failure);
    /// The way to stdout.
    fn output(&self) -> &StdoutWriter;
}

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Failures only.
    Quiet,
    /// What a user wants to follow.
    #[default]
    Normal,
    /// Every fault of the line, too.
    Verbose,
}

/// What it is called for people that bytes move.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransferVerb {
    /// They go where somebody wants them to be.
    #[default]
    Send,
    /// They come to who types.
    Fetch,
}

impl TransferVerb {
    /// While they move.
    fn moving(self) -> &'static str {
        match self {
            Self::Send => "sending",
            Self::Fetch => "fetching",
        }
    }

    /// When they have moved.
    fn moved(self) -> &'static str {
        match self {
            Self::Send => "sent",
            Self::Fetch => "fetched",
        }
    }

    /// Before they move.
    fn to_move(self) -> &'static str {
        match self {
            Self::Send => "to send",
            Self::Fetch => "to fetch",
        }
    }
}

/// The report that was asked for, or that fits where stderr goes.
pub fn new(voice: Verbosity, json: bool, verb: TransferVerb) -> Arc<dyn Report> {
    if json {
        Arc::new(json::JsonReport::new(voice))
    } else if voice != Verbosity::Quiet && std::io::stderr().is_terminal() {
        Arc::new(bars::BarReport::new(voice, verb))
    } else {
        Arc::new(lines::LineReport::new(voice, verb))
    }
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSummary {
    /// Where the image is now.
    pub image: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Blob bytes that went over the network, repeated ones included.
    pub sent: u64,
    /// Bytes of the image's blobs that did not have to.
    pub saved: u64,
    /// How long it took.
    pub elapsed: std::time::Duration,
}
