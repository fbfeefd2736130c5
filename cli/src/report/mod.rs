//! What a person is told while a command runs: bars on a terminal, lines elsewhere. The rooms that
//! do the work only speak to [`Report`]. All of it goes to stderr.

mod bars;
mod lines;
mod words;

use std::io::IsTerminal;
use std::sync::Arc;

use imgsync_oci::Digest;

pub use words::{bytes, outcome};

/// Takes what happens, as it happens.
pub trait Report: Send + Sync {
    /// Something worth a line.
    fn note(&self, text: &str);
    /// A blob of `size` bytes is on its way; `label` names it for people.
    fn begin(&self, digest: &Digest, label: &str, size: u64);
    /// The blob has come to this offset; after a fault it may be less than before.
    fn position(&self, digest: &Digest, offset: u64);
    /// The blob is at the target.
    fn done(&self, digest: &Digest);
}

/// The report that fits where stderr goes.
pub fn for_stderr() -> Arc<dyn Report> {
    if std::io::stderr().is_terminal() {
        Arc::new(bars::Bars::new())
    } else {
        Arc::new(lines::Lines::new())
    }
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Where the image is now, with its digest.
    pub image: String,
    /// Blob bytes that went over the network, repeated ones included.
    pub sent: u64,
    /// Bytes of the image's blobs that did not have to.
    pub saved: u64,
    /// How long it took.
    pub took: std::time::Duration,
}
