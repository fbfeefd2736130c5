//! Progress bars on a terminal: one a blob, and one for all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use imgsync_oci::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::lines::{wanted, write};
use super::mirror::{mirrored, sum};
use super::{Data, Mirrored, Outcome, Report, Sum, Verb, Voice, outcome, shown};
use crate::exit::Failure;
use crate::plan::Plan;

const BLOB: &str = "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} {msg}";
const TOTAL: &str = "{prefix:<14} {bar:24} {decimal_bytes:>10}/{decimal_total_bytes:<10} \
                     {decimal_bytes_per_sec} {eta} left";

/// The bars.
#[derive(Debug)]
pub(super) struct Bars {
    voice: Voice,
    verb: Verb,
    data: Data,
    all: MultiProgress,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    blobs: HashMap<Digest, ProgressBar>,
    /// There once a blob is on its way.
    total: Option<ProgressBar>,
    /// Whether there may be more blobs than lines: then a bar goes when its blob is there.
    is_mirror: bool,
}

impl Bars {
    /// No bar yet.
    pub(super) fn new(voice: Voice, verb: Verb) -> Self {
        Self {
            voice,
            verb,
            data: Data::default(),
            all: MultiProgress::new(),
            shown: Mutex::default(),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        if let Some(total) = self.shown().total.take() {
            total.finish_and_clear();
        }
    }
}

fn bar(template: &str, size: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style)
}

impl Report for Bars {
    fn note(&self, text: &str) {
        // A terminal that is gone is no reason to stop a push.
        let _ = self.all.println(shown(text));
    }

    fn detail(&self, text: &str) {
        match self.voice {
            Voice::Quiet | Voice::Normal => {}
            Voice::Verbose => self.note(text),
        }
    }

    fn plan(&self, _plan: &Plan) {}

    fn begin(&self, digest: &Digest, label: &str, size: u64) {
        let mut shown = self.shown();
        let total = match &shown.total {
            Some(total) => total.clone(),
            None => {
                let total = self.all.add(bar(TOTAL, 0));
                total.set_prefix("total");
                shown.total = Some(total.clone());
                total
            }
        };
        total.inc_length(size);
        let bar = self.all.insert_before(&total, bar(BLOB, size));
        bar.set_prefix(super::shown(label));
        shown.blobs.insert(digest.clone(), bar);
    }

    fn position(&self, digest: &Digest, offset: u64) {
        let shown = self.shown();
        let (Some(bar), Some(total)) = (shown.blobs.get(digest), &shown.total) else {
            return;
        };
        let all = total.position().saturating_sub(bar.position()) + offset;
        bar.set_position(offset);
        total.set_position(all);
    }

    fn done(&self, digest: &Digest) {
        let mut shown = self.shown();
        if shown.is_mirror {
            if let Some(bar) = shown.blobs.remove(digest) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
        } else if let Some(bar) = shown.blobs.get(digest) {
            bar.finish_with_message("done");
        }
    }

    fn outcome(&self, result: &Outcome) {
        self.clear();
        self.data.print(&outcome(result));
    }

    fn mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        self.shown().is_mirror = true;
        if let Some(tags) = tags {
            self.note(&wanted(source, target, tags));
        }
    }

    fn mirrored(&self, it: &Mirrored) {
        // Stdout may be the same terminal.
        self.all
            .suspend(|| self.data.print(&shown(&mirrored(it, self.verb))));
    }

    fn left(&self, left: &Mirrored) {
        if left.is_dry || self.voice == Voice::Verbose {
            self.mirrored(left);
        }
    }

    fn sum(&self, it: &Sum) {
        self.clear();
        self.data.print(&sum(it, self.verb));
    }

    fn failure(&self, failure: &Failure) {
        self.clear();
        write(&failure.text());
    }

    fn data(&self) -> &Data {
        &self.data
    }
}
