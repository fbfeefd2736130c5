//! Formats the plan and the result of a push as text.

use imgsync_oci::Digest;

use super::PushSummary;
use crate::plan::{BlobCandidate, BlobStep, PlanTotals, PushPlan};
use crate::text::{format_bytes, format_count, format_duration, sanitize};

/// Returns the last line of a push.
pub fn push_summary_line(summary: &PushSummary) -> String {
    format!(
        "{}@{}: {}",
        summary.image,
        summary.digest,
        format_transfer(summary)
    )
}

/// Returns the last line of a push of several tags.
pub fn push_totals_line(summaries: &[PushSummary]) -> String {
    let sum = |bytes: fn(&PushSummary) -> u64| {
        let all = summaries.iter().map(bytes);
        all.fold(0, u64::saturating_add)
    };
    let Some(first) = summaries.first() else {
        return "no tags".to_owned();
    };
    let totals = PushSummary {
        sent: sum(|summary| summary.sent),
        resent: sum(|summary| summary.resent),
        resumed: sum(|summary| summary.resumed),
        saved: sum(|summary| summary.saved),
        elapsed: summaries.iter().map(|summary| summary.elapsed).sum(),
        ..first.clone()
    };
    let tags = format_count(summaries.len(), "tag", "tags");
    format!("{tags}: {}", format_transfer(&totals))
}

fn format_transfer(summary: &PushSummary) -> String {
    let sent = format_sent(summary.sent, summary.resent);
    let resumed = match summary.resumed {
        0 => String::new(),
        bytes => format!(" and {} by an earlier push", format_bytes(bytes)),
    };
    let (saved, elapsed) = (
        format_bytes(summary.saved),
        format_duration(summary.elapsed),
    );
    format!("sent {sent}{resumed}, saved {saved}, {elapsed}")
}

/// Formats the bytes that were sent, each counted once, and those that were sent again.
pub(super) fn format_sent(sent: u64, resent: u64) -> String {
    let sent = format_bytes(sent);
    match resent {
        0 => sent,
        resent => format!("{sent}, resent {}", format_bytes(resent)),
    }
}

/// Returns the lines of a plan: one for each layer or blob, with its name, and one for the totals.
pub fn plan_lines(plan: &PushPlan, name: impl Fn(&Digest) -> String) -> Vec<String> {
    let layers = plan.steps.iter();
    let layers = layers.map(|(digest, step)| {
        let name = sanitize(&name(digest));
        format!("{name}: {}", step_text(step))
    });
    layers.chain([totals_line(&plan.totals())]).collect()
}

fn step_text(step: &BlobStep) -> String {
    match step {
        BlobStep::AlreadyPresent(BlobCandidate { blob, evidence }) => {
            format!("already exists ({}; {evidence})", format_bytes(blob.size))
        }
        BlobStep::Verify {
            candidate: BlobCandidate { blob, evidence },
            ..
        } => {
            let size = format_bytes(blob.size);
            format!("would verify by downloading {size} ({evidence}), and send if it differs")
        }
        BlobStep::Send {
            read,
            send,
            mount,
            is_packed,
            delta,
        } => {
            let read = read.map_or("read".to_owned(), |size| {
                format!("read {}", format_bytes(size))
            });
            let send = match send.map(format_bytes) {
                Some(size) if *is_packed => format!("in the spool, send {size}"),
                Some(size) => format!("{read}, send {size}"),
                None => format!("{read}, compress, send if the registry does not have it"),
            };
            let send = match delta {
                Some(delta) => format!("{send}, as a delta against {delta} if that is smaller"),
                None => send,
            };
            match mount {
                Some(from) => format!("try to mount from {from}, otherwise {send}"),
                None => send,
            }
        }
        BlobStep::Mount { from, size } => format!("mount {} from {from}", format_bytes(*size)),
        BlobStep::SentByAnother { .. } => "sent with another image".to_owned(),
        BlobStep::Duplicate => "same as an earlier layer".to_owned(),
    }
}

fn totals_line(totals: &PlanTotals) -> String {
    let unknown = |count: usize| match count {
        0 => String::new(),
        count => format!(
            " and {} of unknown size",
            format_count(count, "layer", "layers")
        ),
    };
    let verify = match totals.verify {
        0 => String::new(),
        bytes => format!(", verify {}", format_bytes(bytes)),
    };
    let mountable = match totals.mountable {
        0 => String::new(),
        bytes => format!(" ({} of it only if a mount fails)", format_bytes(bytes)),
    };
    format!(
        "read {}{}, send {}{mountable}{}, saved {}{verify}",
        format_bytes(totals.read),
        unknown(totals.unsized_layers),
        format_bytes(totals.send),
        unknown(totals.unpacked_layers),
        format_bytes(totals.saved)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sizes_and_times() {
        let line = push_summary_line(&PushSummary {
            image: "host/app:v1".to_owned(),
            digest: Digest::of(b""),
            sent: 2_000_000,
            resent: 0,
            resumed: 0,
            saved: 5,
            elapsed: Duration::from_secs(61),
        });
        let digest = Digest::of(b"");
        let expected = format!("host/app:v1@{digest}: sent 2.0 MB, saved 5 B, 1 min 1 s");
        assert_eq!(line, expected);
        assert_eq!(format_sent(2_000_000, 3000), "2.0 MB, resent 3.0 kB");
    }

    #[test]
    fn totals_of_several_tags() {
        let push = |resumed| PushSummary {
            image: "host/app:v1".to_owned(),
            digest: Digest::of(b""),
            sent: 1_000_000,
            resent: 0,
            resumed,
            saved: 5,
            elapsed: Duration::from_secs(1),
        };
        let line = push_totals_line(&[push(0), push(3000)]);
        let expected = "2 tags: sent 2.0 MB and 3.0 kB by an earlier push, saved 10 B, 2.0 s";
        assert_eq!(line, expected);
    }
}
