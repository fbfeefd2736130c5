//! What is told while a command runs: bars on a terminal, lines elsewhere, or JSON. The rooms that
//! do the work only speak to [`Report`]. What is for people goes to stderr; JSON is data, and goes
//! to stdout.

mod bars;
mod data;
mod json;
mod lines;
mod mirror;
mod text;
mod words;

use std::io::IsTerminal;
use std::sync::Arc;

use imgsync_oci::Digest;

use crate::exit::Failure;
use crate::plan::Plan;

pub use data::Data;
pub use mirror::{Fate, Mirrored, Stays, Sum};
pub use text::shown;
pub use words::{bytes, outcome, plan};

/// Takes what happens, as it happens.
pub trait Report: Send + Sync {
    /// Something worth a line.
    fn note(&self, text: &str);
    /// Something for those who want to know everything.
    fn detail(&self, text: &str);
    /// What is going to happen.
    fn plan(&self, plan: &Plan);
    /// A blob of `size` bytes is on its way; `label` names it for people.
    fn begin(&self, digest: &Digest, label: &str, size: u64);
    /// The blob has come to this offset; after a fault it may be less than before.
    fn position(&self, digest: &Digest, offset: u64);
    /// The blob is at the target.
    fn done(&self, digest: &Digest);
    /// The push is over, and the image is there.
    fn outcome(&self, outcome: &Outcome);
    /// A mirror begins: from where, to where, and how many tags it wants; `None` where it is for one
    /// image alone.
    fn mirror(&self, source: &str, target: &str, tags: Option<usize>);
    /// A mirror is done with a tag.
    fn mirrored(&self, mirrored: &Mirrored);
    /// A mirror does not want a tag. Told where nothing is changed, and to those who want to know
    /// everything.
    fn left(&self, left: &Mirrored);
    /// All mirrors are over.
    fn sum(&self, sum: &Sum);
    /// The command has failed.
    fn failure(&self, failure: &Failure);
    /// The way to stdout.
    fn data(&self) -> &Data;
}

/// How much is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Voice {
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
pub enum Verb {
    /// They go where somebody wants them to be.
    #[default]
    Send,
    /// They come to who types.
    Fetch,
}

impl Verb {
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
pub fn new(voice: Voice, json: bool, verb: Verb) -> Arc<dyn Report> {
    if json {
        Arc::new(json::Json::new(voice))
    } else if voice != Voice::Quiet && std::io::stderr().is_terminal() {
        Arc::new(bars::Bars::new(voice, verb))
    } else {
        Arc::new(lines::Lines::new(voice, verb))
    }
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the image is now.
    pub image: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Blob bytes that went over the network, repeated ones included.
    pub sent: u64,
    /// Bytes of the image's blobs that did not have to.
    pub saved: u64,
    /// How long it took.
    pub took: std::time::Duration,
}
