//! The table that compares the times of imgsync with those of the other programs.

use std::fmt;

use super::client::{Program, PushClient, Source};
use super::measure::Cost;

const HEAD: &str = "| link | registry | source | step | imgsync | engine's own push | skopeo | \
                    imgsync / own push | imgsync / skopeo |\n\
                    |---|---|---|---|---:|---:|---:|---:|---:|\n";

/// Rows in Markdown.
#[derive(Default)]
pub(super) struct RatioTable(String);

impl RatioTable {
    /// Adds a row for each step, and for each way to run imgsync.
    pub(super) fn add(
        &mut self,
        link: &str,
        source: Source,
        measured: &[(&'static str, PushClient, Cost)],
    ) {
        let is_imgsync = |program| matches!(program, Program::Imgsync | Program::ImgsyncUnverified);
        for (what, client, cost) in measured {
            if !is_imgsync(client.program) {
                continue;
            }
            let seconds_of = |program| {
                let mut others = measured.iter();
                let found =
                    others.find(|(step, other, _)| step == what && other.program == program);
                found.map(|(_, _, cost)| cost.seconds())
            };
            let own = cost.seconds();
            let (engine, skopeo) = (seconds_of(Program::Engine), seconds_of(Program::Skopeo));
            let time = |seconds: Option<f64>| seconds.map(|seconds| format!("{seconds:.3}"));
            let ratio =
                |seconds: Option<f64>| seconds.map(|seconds| format!("{:.2}", own / seconds));
            let option = match client.program {
                Program::ImgsyncUnverified => ", --no-verify",
                _ => "",
            };
            let cells = [
                time(Some(own)),
                time(engine),
                time(skopeo),
                ratio(engine),
                ratio(skopeo),
            ];
            let cells = cells.map(Option::unwrap_or_default).join(" | ");
            let source = source.name();
            self.0 += &format!("| {link} | {source}{option} | {what} | {cells} |\n");
        }
    }
}

impl fmt::Display for RatioTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}{}", self.0)
    }
}
