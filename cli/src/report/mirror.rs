//! What mirrors tell: a line for every tag, and the sum.

use std::time::Duration;

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::{CopyChange, CopyOutcome, TransferVerb};
use crate::exit::Failure;
use crate::text::{format_bytes, sanitize};

/// What became of a tag, or, of a dry run, would.
#[derive(Debug, Clone)]
pub struct MirroredTag {
    /// What it is at the source, with the tag.
    pub source: String,
    /// What it is at the target, with the tag.
    pub target: String,
    /// What became of it.
    pub outcome: TagOutcome,
    /// Whether nothing was changed.
    pub is_dry_run: bool,
}

/// What becomes of a tag.
#[derive(Debug, Clone)]
pub enum TagOutcome {
    /// It is at the target.
    Present(Box<CopyOutcome>),
    /// It was the mirror's, is wanted no more for this reason, and went.
    Pruned(Digest, String),
    /// It was the mirror's, and is wanted no more for the reason given, but stays, and names this.
    Kept(Digest, String, KeepReason),
    /// It is not wanted, for this reason.
    Skipped(String),
    /// It could not be brought, or not be deleted.
    Failed(Failure),
}

/// Why a tag stays that is wanted no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// Somebody has moved it.
    Moved,
    /// The registry cannot delete a tag and leave what it names.
    Undeletable,
}

/// What mirrors came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSummary {
    /// Tags that are new at the target.
    pub copied: usize,
    /// Tags that named something else before.
    pub moved: usize,
    /// Tags that were right, and got company: signatures and the like.
    pub referrers_added: usize,
    /// Tags that were right.
    pub unchanged: usize,
    /// Tags that went.
    pub pruned: usize,
    /// Tags that were not pruned, since somebody has moved them, or the registry does not delete.
    pub kept: usize,
    /// Tags, or whole mirrors, that failed.
    pub failed: usize,
    /// Tags of sources that are not wanted.
    pub skipped: usize,
    /// Blob bytes that were sent, or, of a dry run, are to be.
    pub sent: u64,
    /// Blob bytes that did not have to.
    pub saved: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether nothing was changed.
    pub is_dry_run: bool,
}

impl MirrorSummary {
    /// Counts one more.
    pub fn add(&mut self, fate: &TagOutcome) {
        let count = match fate {
            TagOutcome::Present(copied) => {
                self.sent += copied.sent;
                self.saved += copied.saved;
                match (copied.change, &copied.previous_digest) {
                    (CopyChange::Nothing, _) => &mut self.unchanged,
                    (CopyChange::Referrers, _) => &mut self.referrers_added,
                    (CopyChange::Tag | CopyChange::Image, None) => &mut self.copied,
                    (CopyChange::Tag | CopyChange::Image, Some(_)) => &mut self.moved,
                }
            }
            TagOutcome::Pruned(..) => &mut self.pruned,
            TagOutcome::Kept(..) => &mut self.kept,
            TagOutcome::Skipped(_) => &mut self.skipped,
            TagOutcome::Failed(_) => &mut self.failed,
        };
        *count += 1;
    }

    /// Whether anything changed, or would.
    pub fn is_idle(&self) -> bool {
        self.copied + self.moved + self.referrers_added + self.pruned == 0
    }

    /// How many tags are as they should be.
    pub fn succeeded(&self) -> usize {
        self.copied + self.moved + self.referrers_added + self.unchanged + self.pruned + self.kept
    }
}

/// The word for a fate, as JSON has it.
fn state_name(fate: &TagOutcome) -> &'static str {
    match fate {
        TagOutcome::Present(copied) => match (copied.change, &copied.previous_digest) {
            (CopyChange::Nothing, _) => "unchanged",
            (CopyChange::Referrers, _) => "accompanied",
            (CopyChange::Tag | CopyChange::Image, None) => "copied",
            (CopyChange::Tag | CopyChange::Image, Some(_)) => "moved",
        },
        TagOutcome::Pruned(..) => "pruned",
        TagOutcome::Kept(..) => "kept",
        TagOutcome::Skipped(_) => "left",
        TagOutcome::Failed(_) => "failed",
    }
}

/// A tag's line.
pub(super) fn tag_line(it: &MirroredTag, verb: TransferVerb) -> String {
    let would = if it.is_dry_run { "would be " } else { "" };
    let text = match &it.outcome {
        TagOutcome::Present(copied) => present_text(copied, would, verb),
        TagOutcome::Pruned(_, why) => format!("{would}pruned: {why}"),
        TagOutcome::Kept(now, why, KeepReason::Moved) => {
            format!("kept: {why}, but somebody moved it to {}", now.short())
        }
        TagOutcome::Kept(_, why, KeepReason::Undeletable) => {
            format!("kept: {why}, but the registry deletes no tag alone")
        }
        TagOutcome::Skipped(why) => return format!("{}: left out: {why}", it.source),
        TagOutcome::Failed(failure) => format!("failed: {}", failure.what),
    };
    format!("{}: {text}", it.target)
}

fn present_text(copied: &CopyOutcome, would: &str, verb: TransferVerb) -> String {
    let sent = match would.is_empty() {
        true => verb.moved(),
        false => verb.to_move(),
    };
    let (sent, saved) = (
        format!("{sent} {}", format_bytes(copied.sent)),
        format_bytes(copied.saved),
    );
    let mut text = match (copied.change, &copied.previous_digest) {
        (CopyChange::Nothing, _) => "unchanged".to_owned(),
        (CopyChange::Referrers, _) => {
            format!("unchanged; what speaks about it {would}copied, {sent}")
        }
        (CopyChange::Tag | CopyChange::Image, None) => {
            format!("{would}copied, {sent}, saved {saved}")
        }
        (CopyChange::Tag | CopyChange::Image, Some(before)) => {
            let before = before.short();
            format!("{would}moved from {before}, {sent}, saved {saved}")
        }
    };
    if !copied.left_out.is_empty() {
        let parts = copied.left_out.join(", ");
        text += &format!("; without {parts}");
    }
    if copied.digest != copied.source_digest {
        let (source, digest) = (copied.source_digest.short(), copied.digest.short());
        text += &format!("; so {source} became {digest}");
    }
    text
}

/// The line of the sum.
pub(super) fn summary_line(sum: &MirrorSummary, verb: TransferVerb) -> String {
    let counts = [
        (sum.copied, "copied"),
        (sum.moved, "moved"),
        (sum.referrers_added, "accompanied"),
        (sum.unchanged, "unchanged"),
        (sum.pruned, "pruned"),
        (sum.kept, "kept"),
        (sum.failed, "failed"),
        (sum.skipped, "left out"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let told = match told.is_empty() {
        true => "no tags".to_owned(),
        false => told.join(", "),
    };
    let (sent, saved) = (format_bytes(sum.sent), format_bytes(sum.saved));
    match sum.is_dry_run {
        true => format!("would be: {told}; {} {sent}, saved {saved}", verb.to_move()),
        false => {
            let took = crate::text::format_duration(sum.elapsed);
            format!("{told}; {} {sent}, saved {saved}, {took}", verb.moved())
        }
    }
}

/// The fields of a tag's event.
pub(super) fn tag_fields(it: &MirroredTag) -> Value {
    let mut fields = json!({
        "source": it.source,
        "target": it.target,
        "state": state_name(&it.outcome),
        "dry": it.is_dry_run,
    });
    let more = match &it.outcome {
        TagOutcome::Present(copied) => json!({
            "digest": copied.digest,
            "sourceDigest": copied.source_digest,
            "before": copied.previous_digest,
            "sent": copied.sent,
            "saved": copied.saved,
            "linked": copied.mounted,
            "referrers": copied.referrer_count,
            "companions": copied.referrer_tags.iter().map(|(tag, digest)| {
                json!({ "tag": tag.as_str(), "digest": digest })
            }).collect::<Vec<_>>(),
            "leftOut": copied.left_out.iter().map(|text| sanitize(text)).collect::<Vec<_>>(),
        }),
        TagOutcome::Pruned(digest, why) => json!({ "digest": digest, "why": sanitize(why) }),
        TagOutcome::Kept(digest, why, stays) => json!({
            "digest": digest,
            "why": sanitize(why),
            "stays": match stays {
                KeepReason::Moved => "moved",
                KeepReason::Undeletable => "undeletable",
            },
        }),
        TagOutcome::Skipped(why) => json!({ "why": sanitize(why) }),
        TagOutcome::Failed(failure) => json!({
            "code": failure.kind.exit_code(),
            "what": sanitize(&failure.what),
            "hint": failure.hint.as_deref().map(sanitize),
        }),
    };
    if let (Some(fields), Value::Object(mut more)) = (fields.as_object_mut(), more) {
        fields.append(&mut more);
    }
    fields
}

/// The fields of the sum's event.
pub(super) fn summary_fields(sum: &MirrorSummary) -> Value {
    json!({
        "copied": sum.copied,
        "moved": sum.moved,
        "accompanied": sum.referrers_added,
        "unchanged": sum.unchanged,
        "pruned": sum.pruned,
        "kept": sum.kept,
        "failed": sum.failed,
        "left": sum.skipped,
        "sent": sum.sent,
        "saved": sum.saved,
        "seconds": sum.elapsed.as_secs_f64(),
        "dry": sum.is_dry_run,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(change: CopyChange, before: Option<&[u8]>) -> TagOutcome {
        TagOutcome::Present(Box::new(CopyOutcome {
            source_digest: Digest::of(b"1"),
            digest: Digest::of(b"1"),
            previous_digest: before.map(Digest::of),
            change,
            sent: 2000,
            saved: 5,
            mounted: 0,
            referrer_tags: Vec::new(),
            referrer_count: 0,
            left_out: Vec::new(),
            notes: Vec::new(),
        }))
    }

    #[test]
    fn lines_and_summary() {
        let line = |fate: TagOutcome, is_dry| {
            let (source, target) = ("a/b:v1".to_owned(), "c/d:v1".to_owned());
            let it = MirroredTag {
                source,
                target,
                outcome: fate,
                is_dry_run: is_dry,
            };
            let fetched = tag_line(&it, TransferVerb::Fetch);
            let sent = tag_line(&it, TransferVerb::Send);
            assert_eq!(
                fetched,
                sent.replace("to send", "to fetch")
                    .replace("sent", "fetched")
            );
            sent
        };
        let new = copied(CopyChange::Image, None);
        assert_eq!(
            line(new.clone(), false),
            "c/d:v1: copied, sent 2.0 kB, saved 5 B"
        );
        assert_eq!(
            line(new.clone(), true),
            "c/d:v1: would be copied, to send 2.0 kB, saved 5 B"
        );
        let moved = copied(CopyChange::Tag, Some(b"0"));
        assert!(line(moved.clone(), false).starts_with("c/d:v1: moved from "));
        let left = TagOutcome::Skipped("is no version".to_owned());
        assert_eq!(line(left.clone(), true), "a/b:v1: left out: is no version");
        let mut all = MirrorSummary::default();
        assert!(all.is_idle());
        assert_eq!(
            summary_line(&all, TransferVerb::Send),
            "no tags; sent 0 B, saved 0 B, 0.0 s"
        );
        [new, moved, left].iter().for_each(|fate| all.add(fate));
        assert!(!all.is_idle() && all.succeeded() == 2);
        assert_eq!(
            summary_line(&all, TransferVerb::Send),
            "1 copied, 1 moved, 1 left out; sent 4.0 kB, saved 10 B, 0.0 s"
        );
    }
}
