//! Prints events as JSON lines for programs.
//!
//! The events are listed in docs/push.md. New fields may be added, but none is removed or renamed.
//! Start reading at [`JsonReport`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::mirror::{summary_fields, tag_fields};
use super::{MirrorSummary, MirroredTag, PushSummary, Report, StdoutWriter, Verbosity};
use crate::exit::Failure;
use crate::plan::{BlobStep, PushPlan};
use crate::text::sanitize;

/// The shortest time between two progress events of a blob.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A report of JSON lines on stdout.
#[derive(Debug)]
pub(super) struct JsonReport {
    verbosity: Verbosity,
    data: StdoutWriter,
    last_progress: Mutex<HashMap<Digest, Instant>>,
}

impl JsonReport {
    /// Creates a report that has printed nothing yet.
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            data: StdoutWriter::default(),
            last_progress: Mutex::default(),
        }
    }

    fn event(&self, name: &str, mut fields: Value) {
        let mut line = json!({ "event": name });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object_mut()) {
            line.append(fields);
        }
        self.data.print(&line.to_string());
    }
}

impl Report for JsonReport {
    fn note(&self, text: &str) {
        match self.verbosity {
            Verbosity::Quiet => {}
            Verbosity::Normal | Verbosity::Verbose => {
                self.event("note", json!({ "text": sanitize(text) }))
            }
        }
    }

    fn detail(&self, text: &str) {
        match self.verbosity {
            Verbosity::Quiet | Verbosity::Normal => {}
            Verbosity::Verbose => self.event("detail", json!({ "text": sanitize(text) })),
        }
    }

    fn show_plan(&self, plan: &PushPlan) {
        self.event("plan", plan_fields(plan));
    }

    fn start_blob(&self, digest: &Digest, label: &str, size: u64) {
        let blob = json!({ "blob": digest, "label": sanitize(label), "size": size });
        self.event("begin", blob);
    }

    fn update_blob(&self, digest: &Digest, offset: u64) {
        let mut told = self
            .last_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = match told.get(digest) {
            Some(last) => now.duration_since(*last) >= PROGRESS_INTERVAL,
            None => true,
        };
        if due {
            told.insert(digest.clone(), now);
            self.event("progress", json!({ "blob": digest, "offset": offset }));
        }
    }

    fn finish_blob(&self, digest: &Digest) {
        let mut told = self
            .last_progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        told.remove(digest);
        drop(told);
        self.event("done", json!({ "blob": digest }));
    }

    fn show_push_summary(&self, outcome: &PushSummary) {
        let fields = json!({
            "image": outcome.image,
            "digest": outcome.digest,
            "sent": outcome.sent,
            "saved": outcome.saved,
            "seconds": outcome.elapsed.as_secs_f64(),
        });
        self.event("outcome", fields);
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        let tags = tags.unwrap_or(1);
        let fields = json!({ "source": source, "target": target, "tags": tags });
        self.event("mirror", fields);
    }

    fn finish_tag(&self, mirrored: &MirroredTag) {
        self.event("tag", tag_fields(mirrored));
    }

    fn skip_tag(&self, left: &MirroredTag) {
        if left.is_dry_run || self.verbosity == Verbosity::Verbose {
            self.finish_tag(left);
        }
    }

    fn show_mirror_summary(&self, sum: &MirrorSummary) {
        self.event("summary", summary_fields(sum));
    }

    fn show_failure(&self, failure: &Failure) {
        let fields = json!({
            "code": failure.kind.exit_code(),
            "what": sanitize(&failure.what),
            "hint": failure.hint.as_deref().map(sanitize),
        });
        self.event("failure", fields);
    }

    fn output(&self) -> &StdoutWriter {
        &self.data
    }
}

/// Returns the fields of the event for a plan. Sizes are in bytes, and `null` if they are not
/// known.
fn plan_fields(plan: &PushPlan) -> Value {
    let layer = |(digest, step): &(Digest, BlobStep)| match step {
        BlobStep::AlreadyPresent(held) => json!({
            "layer": digest,
            "step": "have",
            "blob": held.blob.digest,
            "size": held.blob.size,
            "why": held.evidence.to_string(),
        }),
        BlobStep::Send {
            read,
            send,
            mount,
            is_packed: kept,
        } => json!({
            "layer": digest,
            "step": "send",
            "read": read,
            "send": send,
            "mount": mount.as_ref().map(ToString::to_string),
            "kept": kept,
        }),
        BlobStep::Mount { from, size } => json!({
            "layer": digest,
            "step": "mount",
            "size": size,
            "mount": from.to_string(),
        }),
        BlobStep::SentByAnother { .. } | BlobStep::Duplicate => {
            json!({ "layer": digest, "step": "again" })
        }
    };
    let sums = plan.totals();
    json!({
        "layers": plan.steps.iter().map(layer).collect::<Vec<_>>(),
        "read": sums.read,
        "send": sums.send,
        "saved": sums.saved,
    })
}
