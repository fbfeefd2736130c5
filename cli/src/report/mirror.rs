//! What mirrors tell: a line for every tag, and the sum.

use std::time::Duration;

use imgsync_oci::Digest;
use serde_json::{Value, json};

use super::{Verb, bytes, shown};
use crate::exit::Failure;
use crate::mirror::{Change, Copied};

/// What became of a tag, or, of a dry run, would.
#[derive(Debug, Clone)]
pub struct Mirrored {
    /// What it is at the source, with the tag.
    pub source: String,
    /// What it is at the target, with the tag.
    pub target: String,
    /// What became of it.
    pub fate: Fate,
    /// Whether nothing was changed.
    pub is_dry: bool,
}

/// What becomes of a tag.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is at the target.
    There(Box<Copied>),
    /// It was the mirror's, is wanted no more for this reason, and went.
    Pruned(Digest, String),
    /// It was the mirror's, and is wanted no more for the reason given, but stays, and names this.
    Kept(Digest, String, Stays),
    /// It is not wanted, for this reason.
    Left(String),
    /// It could not be brought, or not be deleted.
    Failed(Failure),
}

/// Why a tag stays that is wanted no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// Somebody has moved it.
    Moved,
    /// The registry cannot delete a tag and leave what it names.
    Undeletable,
}

/// What mirrors came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// Tags that are new at the target.
    pub copied: usize,
    /// Tags that named something else before.
    pub moved: usize,
    /// Tags that were right, and got company: signatures and the like.
    pub accompanied: usize,
    /// Tags that were right.
    pub unchanged: usize,
    /// Tags that went.
    pub pruned: usize,
    /// Tags that were not pruned, since somebody has moved them, or the registry does not delete.
    pub kept: usize,
    /// Tags, or whole mirrors, that failed.
    pub failed: usize,
    /// Tags of sources that are not wanted.
    pub left: usize,
    /// Blob bytes that were sent, or, of a dry run, are to be.
    pub sent: u64,
    /// Blob bytes that did not have to.
    pub saved: u64,
    /// How long it took.
    pub took: Duration,
    /// Whether nothing was changed.
    pub is_dry: bool,
}

impl Sum {
    /// Counts one more.
    pub fn add(&mut self, fate: &Fate) {
        let count = match fate {
            Fate::There(copied) => {
                self.sent += copied.sent;
                self.saved += copied.saved;
                match (copied.change, &copied.before) {
                    (Change::Nothing, _) => &mut self.unchanged,
                    (Change::Companions, _) => &mut self.accompanied,
                    (Change::Tag | Change::Image, None) => &mut self.copied,
                    (Change::Tag | Change::Image, Some(_)) => &mut self.moved,
                }
            }
            Fate::Pruned(..) => &mut self.pruned,
            Fate::Kept(..) => &mut self.kept,
            Fate::Left(_) => &mut self.left,
            Fate::Failed(_) => &mut self.failed,
        };
        *count += 1;
    }

    /// Whether anything changed, or would.
    pub fn is_idle(&self) -> bool {
        self.copied + self.moved + self.accompanied + self.pruned == 0
    }

    /// How many tags are as they should be.
    pub fn good(&self) -> usize {
        self.copied + self.moved + self.accompanied + self.unchanged + self.pruned + self.kept
    }
}

/// The word for a fate, as JSON has it.
fn word(fate: &Fate) -> &'static str {
    match fate {
        Fate::There(copied) => match (copied.change, &copied.before) {
            (Change::Nothing, _) => "unchanged",
            (Change::Companions, _) => "accompanied",
            (Change::Tag | Change::Image, None) => "copied",
            (Change::Tag | Change::Image, Some(_)) => "moved",
        },
        Fate::Pruned(..) => "pruned",
        Fate::Kept(..) => "kept",
        Fate::Left(_) => "left",
        Fate::Failed(_) => "failed",
    }
}

/// A tag's line.
pub(super) fn mirrored(it: &Mirrored, verb: Verb) -> String {
    let would = if it.is_dry { "would be " } else { "" };
    let text = match &it.fate {
        Fate::There(copied) => there(copied, would, verb),
        Fate::Pruned(_, why) => format!("{would}pruned: {why}"),
        Fate::Kept(now, why, Stays::Moved) => {
            format!("kept: {why}, but somebody moved it to {}", now.short())
        }
        Fate::Kept(_, why, Stays::Undeletable) => {
            format!("kept: {why}, but the registry deletes no tag alone")
        }
        Fate::Left(why) => return format!("{}: left out: {why}", it.source),
        Fate::Failed(failure) => format!("failed: {}", failure.what),
    };
    format!("{}: {text}", it.target)
}

fn there(copied: &Copied, would: &str, verb: Verb) -> String {
    let sent = match would.is_empty() {
        true => verb.moved(),
        false => verb.to_move(),
    };
    let (sent, saved) = (
        format!("{sent} {}", bytes(copied.sent)),
        bytes(copied.saved),
    );
    let mut text = match (copied.change, &copied.before) {
        (Change::Nothing, _) => "unchanged".to_owned(),
        (Change::Companions, _) => {
            format!("unchanged; what speaks about it {would}copied, {sent}")
        }
        (Change::Tag | Change::Image, None) => format!("{would}copied, {sent}, saved {saved}"),
        (Change::Tag | Change::Image, Some(before)) => {
            let before = before.short();
            format!("{would}moved from {before}, {sent}, saved {saved}")
        }
    };
    if !copied.left_out.is_empty() {
        let parts = copied.left_out.join(", ");
        text += &format!("; without {parts}");
    }
    if copied.digest != copied.source {
        let (source, digest) = (copied.source.short(), copied.digest.short());
        text += &format!("; so {source} became {digest}");
    }
    text
}

/// The line of the sum.
pub(super) fn sum(sum: &Sum, verb: Verb) -> String {
    let counts = [
        (sum.copied, "copied"),
        (sum.moved, "moved"),
        (sum.accompanied, "accompanied"),
        (sum.unchanged, "unchanged"),
        (sum.pruned, "pruned"),
        (sum.kept, "kept"),
        (sum.failed, "failed"),
        (sum.left, "left out"),
    ];
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let told = match told.is_empty() {
        true => "no tags".to_owned(),
        false => told.join(", "),
    };
    let (sent, saved) = (bytes(sum.sent), bytes(sum.saved));
    match sum.is_dry {
        true => format!("would be: {told}; {} {sent}, saved {saved}", verb.to_move()),
        false => {
            let took = super::words::seconds(sum.took);
            format!("{told}; {} {sent}, saved {saved}, {took}", verb.moved())
        }
    }
}

/// The fields of a tag's event.
pub(super) fn mirrored_fields(it: &Mirrored) -> Value {
    let mut fields = json!({
        "source": it.source,
        "target": it.target,
        "state": word(&it.fate),
        "dry": it.is_dry,
    });
    let more = match &it.fate {
        Fate::There(copied) => json!({
            "digest": copied.digest,
            "sourceDigest": copied.source,
            "before": copied.before,
            "sent": copied.sent,
            "saved": copied.saved,
            "linked": copied.linked,
            "referrers": copied.referrers,
            "companions": copied.companions.iter().map(|(tag, digest)| {
                json!({ "tag": tag.as_str(), "digest": digest })
            }).collect::<Vec<_>>(),
            "leftOut": copied.left_out.iter().map(|text| shown(text)).collect::<Vec<_>>(),
        }),
        Fate::Pruned(digest, why) => json!({ "digest": digest, "why": shown(why) }),
        Fate::Kept(digest, why, stays) => json!({
            "digest": digest,
            "why": shown(why),
            "stays": match stays {
                Stays::Moved => "moved",
                Stays::Undeletable => "undeletable",
            },
        }),
        Fate::Left(why) => json!({ "why": shown(why) }),
        Fate::Failed(failure) => json!({
            "code": failure.kind.code(),
            "what": shown(&failure.what),
            "hint": failure.hint.as_deref().map(shown),
        }),
    };
    if let (Some(fields), Value::Object(mut more)) = (fields.as_object_mut(), more) {
        fields.append(&mut more);
    }
    fields
}

/// The fields of the sum's event.
pub(super) fn sum_fields(sum: &Sum) -> Value {
    json!({
        "copied": sum.copied,
        "moved": sum.moved,
        "accompanied": sum.accompanied,
        "unchanged": sum.unchanged,
        "pruned": sum.pruned,
        "kept": sum.kept,
        "failed": sum.failed,
        "left": sum.left,
        "sent": sum.sent,
        "saved": sum.saved,
        "seconds": sum.took.as_secs_f64(),
        "dry": sum.is_dry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(change: Change, before: Option<&[u8]>) -> Fate {
        Fate::There(Box::new(Copied {
            source: Digest::of(b"1"),
            digest: Digest::of(b"1"),
            before: before.map(Digest::of),
            change,
            sent: 2000,
            saved: 5,
            linked: 0,
            companions: Vec::new(),
            referrers: 0,
            left_out: Vec::new(),
            notes: Vec::new(),
        }))
    }

    #[test]
    fn lines_and_sum() {
        let line = |fate: Fate, is_dry| {
            let (source, target) = ("a/b:v1".to_owned(), "c/d:v1".to_owned());
            let it = Mirrored {
                source,
                target,
                fate,
                is_dry,
            };
            let fetched = mirrored(&it, Verb::Fetch);
            let sent = mirrored(&it, Verb::Send);
            assert_eq!(
                fetched,
                sent.replace("to send", "to fetch")
                    .replace("sent", "fetched")
            );
            sent
        };
        let new = copied(Change::Image, None);
        assert_eq!(
            line(new.clone(), false),
            "c/d:v1: copied, sent 2.0 kB, saved 5 B"
        );
        assert_eq!(
            line(new.clone(), true),
            "c/d:v1: would be copied, to send 2.0 kB, saved 5 B"
        );
        let moved = copied(Change::Tag, Some(b"0"));
        assert!(line(moved.clone(), false).starts_with("c/d:v1: moved from "));
        let left = Fate::Left("is no version".to_owned());
        assert_eq!(line(left.clone(), true), "a/b:v1: left out: is no version");
        let mut all = Sum::default();
        assert!(all.is_idle());
        assert_eq!(sum(&all, Verb::Send), "no tags; sent 0 B, saved 0 B, 0.0 s");
        [new, moved, left].iter().for_each(|fate| all.add(fate));
        assert!(!all.is_idle() && all.good() == 2);
        assert_eq!(
            sum(&all, Verb::Send),
            "1 copied, 1 moved, 1 left out; sent 4.0 kB, saved 10 B, 0.0 s"
        );
    }
}
