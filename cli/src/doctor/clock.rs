//! The check of the clocks.

use std::time::{Duration, SystemTime};

use super::finding::{DoctorCheck, Finding};
use crate::text::format_estimate;

/// Tokens of registries are often refused if the clocks differ by more than this.
const MAX_DIFFERENCE: Duration = Duration::from_secs(60);

/// Judges the `Date` of a response that arrived at the local time `now`.
pub(super) fn judge(date: Option<SystemTime>, now: SystemTime) -> Finding {
    let check = DoctorCheck::Clock;
    let Some(date) = date else {
        return Finding::not_checked(check, "the response has no Date header");
    };
    let (difference, side) = match date.duration_since(now) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(error) => (error.duration(), "behind"),
    };
    if difference <= MAX_DIFFERENCE {
        return Finding::ok(check, "the clocks of the server and of this machine agree");
    }
    let difference = format_estimate(difference);
    let what = format!(
        "the clock of the server is {difference} {side} that of this machine, so tokens and \
         certificates can be refused"
    );
    Finding::warning(check, what).with_remedy([
        "on the machine whose time is wrong:",
        "  timedatectl set-ntp true",
    ])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn verdicts() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let seconds = Duration::from_secs;
        for (date, verdict, text) in [
            (Some(now), Verdict::Ok, "agree"),
            (Some(now - seconds(60)), Verdict::Ok, "agree"),
            (Some(now + seconds(60)), Verdict::Ok, "agree"),
            (
                Some(now + seconds(7200)),
                Verdict::Warning,
                "2 h 0 min ahead of",
            ),
            (Some(now - seconds(90)), Verdict::Warning, "90 s behind"),
            (None, Verdict::NotChecked, "no Date"),
        ] {
            let finding = judge(date, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(text), "{finding:?}");
        }
    }
}
