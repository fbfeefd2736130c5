//! Progress bars on a terminal: one for each blob, and one for the total.
//!
//! This module formats no results. Start reading at [`ProgressBars`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::text::sanitize;

const BLOB_TEMPLATE: &str =
    "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} {msg}";
const TOTAL_TEMPLATE: &str = "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} \
                     {decimal_bytes_per_sec} {eta} left";

/// The bars on a terminal.
#[derive(Debug, Default)]
pub(super) struct ProgressBars {
    terminal: MultiProgress,
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

impl ProgressBars {
    fn visible(&self) -> MutexGuard<'_, VisibleBars> {
        self.visible.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line above the bars.
    pub(super) fn print_above(&self, line: &str) {
        // A terminal that was closed is no reason to stop a push.
        let _ = self.terminal.println(line);
    }

    /// Hides the bars while something else is printed, because stdout may be the same terminal.
    pub(super) fn suspend(&self, print: impl FnOnce()) {
        self.terminal.suspend(print);
    }

    /// Removes the bar of the total.
    pub(super) fn clear(&self) {
        if let Some(total) = self.visible().total.take() {
            total.finish_and_clear();
        }
    }

    /// Removes the bars of finished blobs from now on.
    pub(super) fn start_mirror(&self) {
        self.visible().is_mirror = true;
    }

    /// Adds the bar of a blob.
    pub(super) fn start(&self, digest: &Digest, label: &str, size: u64) {
        let mut visible = self.visible();
        let total = visible.total.get_or_insert_with(|| {
            let total = self.terminal.add(bar(TOTAL_TEMPLATE, 0));
            total.with_prefix("total")
        });
        total.inc_length(size);
        let bar = self.terminal.insert_before(total, bar(BLOB_TEMPLATE, size));
        bar.set_prefix(sanitize(label));
        visible.blobs.insert(digest.clone(), bar);
    }

    /// Moves the bar of a blob, and the bar of the total.
    pub(super) fn update(&self, digest: &Digest, offset: u64) {
        let visible = self.visible();
        let (Some(bar), Some(total)) = (visible.blobs.get(digest), &visible.total) else {
            return;
        };
        let all = total.position().saturating_sub(bar.position()) + offset;
        bar.set_position(offset);
        total.set_position(all);
    }

    /// Marks the bar of a blob as finished.
    pub(super) fn finish(&self, digest: &Digest) {
        let mut visible = self.visible();
        if visible.is_mirror {
            if let Some(bar) = visible.blobs.remove(digest) {
                bar.finish_and_clear();
                self.terminal.remove(&bar);
            }
        } else if let Some(bar) = visible.blobs.get(digest) {
            bar.finish_with_message("done");
        }
    }
}

fn bar(template: &str, size: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style)
}
