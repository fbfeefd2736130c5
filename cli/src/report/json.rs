//! Prints events as JSON lines for programs.
//!
//! The events are listed in docs/push.md. New fields may be added, but none is removed or renamed.
//! Start reading at [`JsonReport`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::{
    KeepReason, MirrorSummary, MirroredTag, PushSummary, Report, SentDelta, StdoutWriter,
    TagOutcome, TagState, Verbosity,
};
use crate::exit::Failure;
use crate::plan::{BlobCandidate, BlobStep, DeltaPlan, PushPlan};
use crate::text::{format_json, sanitize};

/// The shortest time between two progress events of a blob.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A report of JSON lines on stdout.
#[derive(Debug)]
pub(super) struct JsonReport {
    verbosity: Verbosity,
    output: StdoutWriter,
    last_progress: Mutex<HashMap<Digest, Instant>>,
}

impl JsonReport {
    /// Creates a report that has printed nothing yet.
    pub(super) fn new(verbosity: Verbosity) -> Self {
        Self {
            verbosity,
            output: StdoutWriter::default(),
            last_progress: Mutex::default(),
        }
    }

    fn event(&self, name: &str, fields: Value) {
        let line = concat(json!({ "event": name }), fields);
        self.output.print(&format_json(&line));
    }

    fn last_progress(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        let last_progress = self.last_progress.lock();
        last_progress.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report for JsonReport {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn show_message(&self, event: &str, text: &str) {
        self.event(event, json!({ "text": sanitize(text) }));
    }

    fn show_plan(&self, plan: &PushPlan) {
        self.event("plan", plan_fields(plan));
    }

    fn start_blob(&self, digest: &Digest, label: &str, size: u64, offset: u64) {
        let label = sanitize(label);
        let blob = json!({ "blob": digest, "label": label, "size": size, "offset": offset });
        self.event("begin", blob);
    }

    fn update_blob(&self, digest: &Digest, offset: u64) {
        let now = Instant::now();
        let mut last_progress = self.last_progress();
        let last = last_progress.get(digest);
        if last.is_none_or(|last| now.duration_since(*last) >= PROGRESS_INTERVAL) {
            last_progress.insert(digest.clone(), now);
            self.event("progress", json!({ "blob": digest, "offset": offset }));
        }
    }

    fn finish_blob(&self, digest: &Digest) {
        self.last_progress().remove(digest);
        self.event("done", json!({ "blob": digest }));
    }

    fn show_delta(&self, delta: &SentDelta) {
        let fields = json!({
            "blob": delta.blob,
            "label": sanitize(&delta.label),
            "sent": delta.sent,
            "instead": delta.instead,
            "tag": delta.tag,
        });
        self.event("delta", fields);
    }

    fn show_push_summary(&self, summary: &PushSummary) {
        let fields = json!({
            "image": summary.image,
            "digest": summary.digest,
            "sent": summary.sent,
            "resent": summary.resent,
            "resumed": summary.resumed,
            "saved": summary.saved,
            "seconds": summary.elapsed.as_secs_f64(),
        });
        self.event("outcome", fields);
    }

    fn start_mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        let tags = tags.unwrap_or(1);
        let fields = json!({ "source": source, "target": target, "tags": tags });
        self.event("mirror", fields);
    }

    fn finish_tag(&self, tag: &MirroredTag) {
        self.event("tag", tag_fields(tag));
    }

    fn show_mirror_summary(&self, summary: &MirrorSummary) {
        self.event("summary", summary_fields(summary));
    }

    fn show_failure(&self, failure: &Failure) {
        self.event("failure", failure_fields(failure));
    }

    fn output(&self) -> &StdoutWriter {
        &self.output
    }
}

/// Returns the fields of the event for a plan. Sizes are in bytes, and `null` if they are not
/// known.
fn plan_fields(plan: &PushPlan) -> Value {
    let layer = |(digest, step): &(Digest, BlobStep)| match step {
        BlobStep::AlreadyPresent(BlobCandidate { blob, evidence }) => json!({
            "layer": digest,
            "step": "have",
            "blob": blob.digest,
            "size": blob.size,
            "why": evidence.to_string(),
        }),
        BlobStep::Verify { candidate, read } => json!({
            "layer": digest,
            "step": "verify",
            "blob": candidate.blob.digest,
            "size": candidate.blob.size,
            "read": read,
            "why": candidate.evidence.to_string(),
        }),
        BlobStep::Send {
            read,
            send,
            mount,
            is_packed,
            delta,
        } => json!({
            "layer": digest,
            "step": "send",
            "read": read,
            "send": send,
            "mount": mount.as_ref().map(ToString::to_string),
            "kept": is_packed,
            "delta": delta.as_ref().map(delta_fields),
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
    let totals = plan.totals();
    json!({
        "layers": plan.steps.iter().map(layer).collect::<Vec<_>>(),
        "read": totals.read,
        "send": totals.send,
        "saved": totals.saved,
        "verify": totals.verify,
    })
}

/// Returns the layers that a delta would be based on.
fn delta_fields(delta: &DeltaPlan) -> Value {
    let bases = delta.bases.iter().map(|base| &base.blob);
    json!({ "tag": delta.tag.as_str(), "bases": bases.collect::<Vec<_>>() })
}

/// Returns the fields of the event for a tag.
fn tag_fields(tag: &MirroredTag) -> Value {
    let fields = json!({
        "source": tag.source,
        "target": tag.target,
        "state": tag.outcome.state().name(),
        "dry": tag.is_dry_run,
    });
    let more = match &tag.outcome {
        TagOutcome::Present(copied) => json!({
            "digest": copied.digest,
            "sourceDigest": copied.source_digest,
            "before": copied.previous_digest,
            "sent": copied.sent,
            "resent": copied.resent,
            "saved": copied.saved,
            "linked": copied.mounted,
            "referrers": copied.referrer_count,
            "companions": copied.referrer_tags.iter().map(|(tag, digest)| {
                json!({ "tag": tag.as_str(), "digest": digest })
            }).collect::<Vec<_>>(),
            "leftOut": copied.left_out.iter().map(|text| sanitize(text)).collect::<Vec<_>>(),
        }),
        TagOutcome::Pruned(digest, why) => json!({ "digest": digest, "why": sanitize(why) }),
        TagOutcome::Kept(digest, why, reason) => json!({
            "digest": digest,
            "why": sanitize(why),
            "stays": match reason {
                KeepReason::Moved => "moved",
                KeepReason::Undeletable => "undeletable",
            },
        }),
        TagOutcome::Skipped(why) => json!({ "why": sanitize(why) }),
        TagOutcome::Failed(failure) => failure_fields(failure),
    };
    concat(fields, more)
}

fn failure_fields(failure: &Failure) -> Value {
    json!({
        "code": failure.kind.exit_code(),
        "what": sanitize(&failure.what),
        "hint": failure.hint.as_deref().map(sanitize),
    })
}

/// Returns the fields of the event for the totals.
fn summary_fields(summary: &MirrorSummary) -> Value {
    let counts = TagState::ALL.map(|state| (state.name().to_owned(), summary.count(state).into()));
    let totals = json!({
        "sent": summary.sent,
        "resent": summary.resent,
        "saved": summary.saved,
        "seconds": summary.elapsed.as_secs_f64(),
        "dry": summary.is_dry_run,
    });
    concat(Value::Object(counts.into_iter().collect()), totals)
}

/// Returns an object with the fields of both objects, in this order.
fn concat(mut first: Value, mut second: Value) -> Value {
    if let (Some(first), Some(second)) = (first.as_object_mut(), second.as_object_mut()) {
        first.append(second);
    }
    first
}
