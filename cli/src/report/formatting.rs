//! Formats the plan and the result of a push as text.

use super::PushSummary;
use crate::plan::{BlobCandidate, BlobStep, PlanTotals, PushPlan};
use crate::text::{format_bytes, format_duration};

/// Returns the last line of a push.
pub fn push_summary_line(summary: &PushSummary) -> String {
    format!(
        "{}@{}: sent {}, saved {}, {}",
        summary.image,
        summary.digest,
        format_bytes(summary.sent),
        format_bytes(summary.saved),
        format_duration(summary.elapsed)
    )
}

/// Returns the lines of a plan: one for each layer or blob, as `noun` says, and one for the totals.
pub fn plan_lines(plan: &PushPlan, noun: &str) -> Vec<String> {
    let count = plan.steps.len();
    let layers = plan.steps.iter().enumerate();
    let layers = layers.map(|(position, (digest, step))| {
        let (number, digest) = (position + 1, digest.short());
        format!("{noun} {number}/{count} {digest}: {}", step_text(step))
    });
    layers.chain([totals_line(&plan.totals())]).collect()
}

fn step_text(step: &BlobStep) -> String {
    match step {
        BlobStep::AlreadyPresent(BlobCandidate { blob, evidence }) => {
            format!("already exists, {} ({evidence})", format_bytes(blob.size))
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
        } => {
            let read = read.map_or("read".to_owned(), |size| {
                format!("read {}", format_bytes(size))
            });
            let send = match send.map(format_bytes) {
                Some(size) if *is_packed => format!("in the spool, send {size}"),
                Some(size) => format!("{read}, send {size}"),
                None => format!("{read}, compress, send if the registry does not have it"),
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
        1 => " and 1 layer of unknown size".to_owned(),
        count => format!(" and {count} layers of unknown size"),
    };
    let verify = match totals.verify {
        0 => String::new(),
        bytes => format!(", verify {}", format_bytes(bytes)),
    };
    format!(
        "read {}{}, send {}{}, saved {}{verify}",
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
            digest: imgsync_oci::Digest::of(b""),
            sent: 2_000_000,
            saved: 5,
            elapsed: Duration::from_secs(61),
        });
        let digest = imgsync_oci::Digest::of(b"");
        let expected = format!("host/app:v1@{digest}: sent 2.0 MB, saved 5 B, 1 min 1 s");
        assert_eq!(line, expected);
    }
}
