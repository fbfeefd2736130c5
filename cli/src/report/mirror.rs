//! The results of mirrors, and their text: one for each tag, and the totals.
//!
//! This module does not decide which tags to mirror. Start reading at [`TagOutcome`].

use std::time::Duration;

use imgsync_oci::Digest;

use super::formatting::format_sent;
use super::{CopyChange, CopyOutcome, TransferVerb};
use crate::exit::Failure;
use crate::text::{format_bytes, format_duration};

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

/// The outcome of a tag. In a dry run, the outcome that is expected.
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

/// The state of a tag after a run, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagState {
    /// The tag was created at the target.
    Copied,
    /// The tag had another digest at the target before.
    Moved,
    /// The tag was up to date, and referrers were added, such as signatures.
    Accompanied,
    /// The tag was up to date.
    Unchanged,
    /// The tag was deleted at the target.
    Pruned,
    /// The tag is not selected any more, but could not be deleted.
    Kept,
    /// The tag, or a whole mirror, failed.
    Failed,
    /// The rules do not select the tag.
    Left,
}

impl TagState {
    /// All states, in the order in which they are shown.
    pub(super) const ALL: [Self; 8] = [
        Self::Copied,
        Self::Moved,
        Self::Accompanied,
        Self::Unchanged,
        Self::Pruned,
        Self::Kept,
        Self::Failed,
        Self::Left,
    ];

    /// Returns the name in JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::Moved => "moved",
            Self::Accompanied => "accompanied",
            Self::Unchanged => "unchanged",
            Self::Pruned => "pruned",
            Self::Kept => "kept",
            Self::Failed => "failed",
            Self::Left => "left",
        }
    }

    /// Returns the words for people.
    fn words(self) -> &'static str {
        match self {
            Self::Accompanied => "with new referrers",
            Self::Left => "not selected",
            _ => self.name(),
        }
    }
}

impl TagOutcome {
    /// Returns the state that is counted.
    pub(super) fn state(&self) -> TagState {
        match self {
            Self::Present(copied) => match (copied.change, &copied.previous_digest) {
                (CopyChange::Nothing, _) => TagState::Unchanged,
                (CopyChange::Referrers, _) => TagState::Accompanied,
                (CopyChange::Tag | CopyChange::Image, None) => TagState::Copied,
                (CopyChange::Tag | CopyChange::Image, Some(_)) => TagState::Moved,
            },
            Self::Pruned(..) => TagState::Pruned,
            Self::Kept(..) => TagState::Kept,
            Self::Skipped(_) => TagState::Left,
            Self::Failed(_) => TagState::Failed,
        }
    }
}

/// The totals of all mirrors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSummary {
    /// The number of tags in each state, in the order of the states.
    counts: [usize; TagState::ALL.len()],
    /// The blob bytes that were sent, each counted once, or would be sent in a dry run.
    pub sent: u64,
    /// The blob bytes that were sent again, after an error.
    pub resent: u64,
    /// The blob bytes that did not have to be sent.
    pub saved: u64,
    /// The duration of all mirrors.
    pub elapsed: Duration,
    /// Whether this was a dry run, which changes nothing.
    pub is_dry_run: bool,
}

impl MirrorSummary {
    /// Counts the outcome of one tag.
    pub fn add(&mut self, outcome: &TagOutcome) {
        if let TagOutcome::Present(copied) = outcome {
            self.sent += copied.sent;
            self.resent += copied.resent;
            self.saved += copied.saved;
        }
        self.counts[outcome.state() as usize] += 1;
    }

    /// Returns the number of tags in a state.
    pub fn count(&self, state: TagState) -> usize {
        self.counts[state as usize]
    }

    /// Returns whether nothing was changed, or would be changed in a dry run.
    pub fn is_idle(&self) -> bool {
        self.succeeded() == self.count(TagState::Unchanged) + self.count(TagState::Kept)
    }

    /// Returns the number of tags that are in the desired state, or were kept.
    pub fn succeeded(&self) -> usize {
        let others = self.count(TagState::Failed) + self.count(TagState::Left);
        self.counts.iter().sum::<usize>() - others
    }
}

/// Formats the line for a tag.
pub(super) fn tag_line(tag: &MirroredTag, verb: TransferVerb) -> String {
    let would = if tag.is_dry_run { "would be " } else { "" };
    let text = match &tag.outcome {
        TagOutcome::Present(copied) => {
            let verb = verb.in_totals(tag.is_dry_run);
            format_copy(copied, tag.outcome.state(), would, verb)
        }
        TagOutcome::Pruned(_, why) => format!("{would}pruned: {why}"),
        TagOutcome::Kept(now, why, KeepReason::Moved) => {
            format!(
                "kept: {why}, but somebody else changed it to {}",
                now.short()
            )
        }
        TagOutcome::Kept(_, why, KeepReason::Undeletable) => {
            format!("kept: {why}, but the registry cannot delete a single tag")
        }
        TagOutcome::Skipped(why) => return format!("{}: not selected: {why}", tag.source),
        TagOutcome::Failed(failure) => return format!("{}: failed: {}", tag.target, failure.what),
    };
    format!("{}: {text}", tag.target)
}

fn format_copy(copied: &CopyOutcome, state: TagState, would: &str, verb: &str) -> String {
    let sent = format!("{verb} {}", format_sent(copied.sent, copied.resent));
    let saved = format_bytes(copied.saved);
    let mut text = match (state, &copied.previous_digest) {
        (TagState::Unchanged, _) => "unchanged".to_owned(),
        (TagState::Accompanied, _) => format!("unchanged, referrers {would}copied, {sent}"),
        (_, None) => format!("{would}copied, {sent}, saved {saved}"),
        (_, Some(before)) => {
            format!(
                "{would}moved from {}, {sent}, saved {saved}",
                before.short()
            )
        }
    };
    if !copied.left_out.is_empty() {
        text += &format!("; without {}", copied.left_out.join(", "));
    }
    if copied.digest != copied.source_digest {
        let (source, digest) = (copied.source_digest.short(), copied.digest.short());
        text += &format!("; the digest changes from {source} to {digest}");
    }
    text
}

/// Formats the line for the totals.
pub(super) fn summary_line(summary: &MirrorSummary, verb: TransferVerb) -> String {
    let counts = TagState::ALL.map(|state| (summary.count(state), state.words()));
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(count, words)| format!("{count} {words}"))
        .collect();
    let counts = match &*counts {
        [] => "no tags".to_owned(),
        counts => counts.join(", "),
    };
    let verb = verb.in_totals(summary.is_dry_run);
    let sent = format_sent(summary.sent, summary.resent);
    let saved = format_bytes(summary.saved);
    let totals = format!("{counts}; {verb} {sent}, saved {saved}");
    if summary.is_dry_run {
        format!("dry run: {totals}")
    } else {
        format!("{totals}, {}", format_duration(summary.elapsed))
    }
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
            resent: 0,
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
        let line = |outcome: TagOutcome, is_dry_run| {
            let (source, target) = ("a/b:v1".to_owned(), "c/d:v1".to_owned());
            let tag = MirroredTag {
                source,
                target,
                outcome,
                is_dry_run,
            };
            let fetched = tag_line(&tag, TransferVerb::Fetch);
            let sent = tag_line(&tag, TransferVerb::Send);
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
        assert_eq!(
            line(left.clone(), true),
            "a/b:v1: not selected: is no version"
        );
        let mut all = MirrorSummary::default();
        assert!(all.is_idle());
        assert_eq!(
            summary_line(&all, TransferVerb::Send),
            "no tags; sent 0 B, saved 0 B, 0.0 s"
        );
        for outcome in [new, moved, left] {
            all.add(&outcome);
        }
        assert!(!all.is_idle() && all.succeeded() == 2);
        assert_eq!(
            summary_line(&all, TransferVerb::Send),
            "1 copied, 1 moved, 1 not selected; sent 4.0 kB, saved 10 B, 0.0 s"
        );
    }
}
