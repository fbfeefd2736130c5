//! Progress bars on a terminal.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Report;

const TEMPLATE: &str = "{prefix:<20} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} {decimal_bytes_per_sec:>12} {eta:>5} {msg}";

/// A bar for every blob on its way.
#[derive(Debug)]
pub(super) struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    /// No bar yet.
    pub(super) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            bars: Mutex::default(),
        }
    }

    fn bar(&self, digest: &Digest) -> Option<ProgressBar> {
        let bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        bars.get(digest).cloned()
    }
}

impl Report for Bars {
    fn note(&self, text: &str) {
        // A terminal that is gone is no reason to stop a push.
        let _ = self.all.println(text);
    }

    fn begin(&self, digest: &Digest, label: &str, size: u64) {
        let style =
            ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = self.all.add(ProgressBar::new(size).with_style(style));
        bar.set_prefix(label.to_owned());
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        bars.insert(digest.clone(), bar);
    }

    fn position(&self, digest: &Digest, offset: u64) {
        if let Some(bar) = self.bar(digest) {
            bar.set_position(offset);
        }
    }

    fn done(&self, digest: &Digest) {
        if let Some(bar) = self.bar(digest) {
            bar.finish_with_message("done");
        }
    }
}
