//! Runs `imgsync push`: pushes an image, or with `--dry-run` prints the plan.

use std::sync::Arc;

use super::run_until_stopped;
use crate::args;
use crate::exit::Failure;
use crate::push::{self, PushSettings};
use crate::report::{self, Report};

pub(super) fn push(
    args: &args::PushArgs,
    report: &Arc<dyn Report>,
    print: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    let settings = PushSettings::parse(args)?;
    if !settings.is_dry_run {
        let outcome = run_until_stopped(push::push(&settings, report))?;
        report.show_push_summary(&outcome);
        return Ok(());
    }
    let preview = run_until_stopped(push::preview(&settings, report))?;
    if args.json {
        report.show_plan(&preview.plan);
        preview.notes.iter().for_each(|line| report.note(line));
    } else {
        let lines = report::plan_lines(&preview.plan).into_iter();
        lines.chain(preview.notes).for_each(print);
    }
    Ok(())
}
