//! Runs `imgsync push`: pushes an image, or with `--dry-run` prints the plan.

use std::sync::Arc;

use super::run_until_stopped;
use crate::args::PushArgs;
use crate::exit::Failure;
use crate::push::{self, PushSettings};
use crate::report::{self, Report};

pub(super) fn push(args: PushArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let is_json = args.json;
    let settings = PushSettings::parse(args)?;
    if !settings.is_dry_run {
        let summary = run_until_stopped(push::push(&settings, report))?;
        report.show_push_summary(&summary);
        return Ok(());
    }
    let preview = run_until_stopped(push::preview(&settings, report))?;
    if is_json {
        report.show_plan(&preview.plan);
        preview.notes.iter().for_each(|note| report.note(note));
    } else {
        let lines = report::plan_lines(&preview.plan, |digest| preview.names.name(digest));
        let lines = lines.into_iter();
        let lines = lines.chain(preview.notes);
        lines.for_each(|line| report.output().print(&line));
    }
    Ok(())
}
