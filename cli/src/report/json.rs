//! One JSON object a line, for programs. docs/push.md lists the events; they only ever gain fields.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::mirror::{mirrored_fields, sum_fields};
use super::{Data, Mirrored, Outcome, Report, Sum, Voice, shown};
use crate::exit::Failure;
use crate::plan::{Plan, Step};

/// Between two lines about the progress of one blob.
const PAUSE: Duration = Duration::from_secs(1);

/// JSON on stdout.
#[derive(Debug)]
pub(super) struct Json {
    voice: Voice,
    data: Data,
    told: Mutex<HashMap<Digest, Instant>>,
}

impl Json {
    /// Nothing said yet.
    pub(super) fn new(voice: Voice) -> Self {
        Self {
            voice,
            data: Data::default(),
            told: Mutex::default(),
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

impl Report for Json {
    fn note(&self, text: &str) {
        match self.voice {
            Voice::Quiet => {}
            Voice::Normal | Voice::Verbose => self.event("note", json!({ "text": shown(text) })),
        }
    }

    fn detail(&self, text: &str) {
        match self.voice {
            Voice::Quiet | Voice::Normal => {}
            Voice::Verbose => self.event("detail", json!({ "text": shown(text) })),
        }
    }

    fn plan(&self, plan: &Plan) {
        self.event("plan", described(plan));
    }

    fn begin(&self, digest: &Digest, label: &str, size: u64) {
        let blob = json!({ "blob": digest, "label": shown(label), "size": size });
        self.event("begin", blob);
    }

    fn position(&self, digest: &Digest, offset: u64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = match told.get(digest) {
            Some(last) => now.duration_since(*last) >= PAUSE,
            None => true,
        };
        if due {
            told.insert(digest.clone(), now);
            self.event("progress", json!({ "blob": digest, "offset": offset }));
        }
    }

    fn done(&self, digest: &Digest) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(digest);
        drop(told);
        self.event("done", json!({ "blob": digest }));
    }

    fn outcome(&self, outcome: &Outcome) {
        let fields = json!({
            "image": outcome.image,
            "digest": outcome.digest,
            "sent": outcome.sent,
            "saved": outcome.saved,
            "seconds": outcome.took.as_secs_f64(),
        });
        self.event("outcome", fields);
    }

    fn mirror(&self, source: &str, target: &str, tags: Option<usize>) {
        let tags = tags.unwrap_or(1);
        let fields = json!({ "source": source, "target": target, "tags": tags });
        self.event("mirror", fields);
    }

    fn mirrored(&self, mirrored: &Mirrored) {
        self.event("tag", mirrored_fields(mirrored));
    }

    fn left(&self, left: &Mirrored) {
        if left.is_dry || self.voice == Voice::Verbose {
            self.mirrored(left);
        }
    }

    fn sum(&self, sum: &Sum) {
        self.event("summary", sum_fields(sum));
    }

    fn failure(&self, failure: &Failure) {
        let fields = json!({
            "code": failure.kind.code(),
            "what": shown(&failure.what),
            "hint": failure.hint.as_deref().map(shown),
        });
        self.event("failure", fields);
    }

    fn data(&self) -> &Data {
        &self.data
    }
}

/// A plan, as its event shows it; sizes in bytes, `null` where they are not known.
fn described(plan: &Plan) -> Value {
    let layer = |(digest, step): &(Digest, Step)| match step {
        Step::Have(held) => json!({
            "layer": digest,
            "step": "have",
            "blob": held.blob.digest,
            "size": held.blob.size,
            "why": held.why.to_string(),
        }),
        Step::Send {
            read,
            send,
            mount,
            kept,
        } => json!({
            "layer": digest,
            "step": "send",
            "read": read,
            "send": send,
            "mount": mount.as_ref().map(ToString::to_string),
            "kept": kept,
        }),
        Step::Again => json!({ "layer": digest, "step": "again" }),
    };
    let sums = plan.sums();
    json!({
        "layers": plan.steps.iter().map(layer).collect::<Vec<_>>(),
        "read": sums.read,
        "send": sums.send,
        "saved": sums.saved,
    })
}
