//! Runs `imgsync push`: pushes an image, or with `--dry-run` prints the plan.

use std::sync::Arc;

use super::run_resumable;
use crate::args::PushArgs;
use crate::exit::Failure;
use crate::push::{self, PushSettings};
use crate::report::{self, Report};

pub(super) fn push(args: PushArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let is_json = args.json;
    let settings = PushSettings::parse(args)?;
    run_resumable(async {
        for settings in push::for_each_tag(settings).await? {
            if settings.is_dry_run {
                preview(&settings, is_json, report).await?;
            } else {
                let summary = push::push(&settings, report).await?;
                report.show_push_summary(&summary);
            }
        }
        Ok(())
    })
}

async fn preview(
    settings: &PushSettings,
    is_json: bool,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let preview = push::preview(settings, report).await?;
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
