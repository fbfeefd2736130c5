//! The results of mirrors, formatted as text and as JSON: one for each tag, and the totals.
//!
//! This module does not decide which tags to mirror. Start reading at [`TagOutcome`].

use std::time::Duration;

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::{CopyChange, CopyOutcome, TransferVerb};
use crate::exit::Failure;
use crate::text::{format_bytes, sanitize};

/// The result for a tag, or the expected result in a dry run.
#[derive(Debug, Clone)]
pub struct MirroredTag {
    /// The reference at the source, with the tag.
    pub source: String,
    /// The reference at the target, with the tag.
    pub target: String,
    /// The result.
    pub outcome: TagOutcome,
    /// Whether this was a dry run, which changes nothing.
    pub is_dry_run: bool,
}

/// What was done with a tag, or would be done in a dry run.
#[derive(Debug, Clone)]
pub enum TagOutcome {
    /// The tag is at the target.
    Present(Box<CopyOutcome>),
    /// The tag was created by the mirror, is not selected any more for this reason, and was
    /// deleted.
    Pruned(Digest, String),
    /// The tag was created by the mirror and is not selected any more for this reason, but was kept
    /// with this digest.
    Kept(Digest, String, KeepReason),
    /// The tag is not selected, for this reason.
    Skipped(String),
    /// The tag could not be copied or deleted.
    Failed(Failure),
}

/// Why a tag was kept that is not selected any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// Another user or tool has changed the tag.
    Moved,
    /// The registry cannot delete a tag without its manifest.
    Undeletable,
}

/// The totals of all mirrors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSummary {
    /// The number of tags created at the target.
    pub copied: usize,
    /// The number of tags that had another digest before.
    pub moved: usize,
    /// The number of unchanged tags to which referrers were added, such as signatures.
    pub referrers_added: usize,
    /// The number of tags that were up to date.
    pub unchanged: usize,
    /// The number of tags deleted at the target.
    pub pruned: usize,
    /// The number of tags that were not pruned because another user or tool has changed them, or
    /// because the registry cannot delete them.
    pub kept: usize,
    /// The number of tags, or whole mirrors, that failed.
    pub failed: usize,
    /// The number of source tags that are not selected.
    pub skipped: usize,
    /// The blob bytes that were sent, or would be sent in a dry run.
    pub sent: u64,
    /// The blob bytes that did not have to be sent.
    pub saved: u64,
    /// The duration of all mirrors.
    pub elapsed: Duration,
    /// Whether this was a dry run, which changes nothing.
    pub is_dry_run: bool,
}

impl MirrorSummary {
    /// Counts the outcome of one tag.
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

    /// Returns whether nothing was changed, or would be changed in a dry run.
    pub fn is_idle(&self) -> bool {
        self.copied + self.moved + self.referrers_added + self.pruned == 0
    }

    /// Returns the number of tags that are in the desired state, or were kept.
    pub fn succeeded(&self) -> usize {
        self.copied + self.moved + self.referrers_added + self.unchanged + self.pruned + self.kept
    }
}

/// Returns the value of `state` in JSON for an outcome.
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

/// Formats the line for a tag.
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

/// Formats the line for the totals.
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

/// Returns the fields of the JSON event for a tag.
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

/// Returns the fields of the JSON event for the totals.
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
