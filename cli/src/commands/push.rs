//! Runs `imgsync push`: pushes an image, or with `--dry-run` prints the plan.

use std::sync::Arc;

use imgsync_oci::Registry;

use super::run_resumable;
use crate::args::PushArgs;
use crate::exit::{Failure, FailureKind};
use crate::push::{self, PushSettings};
use crate::report::{self, Report};

pub(super) fn push(args: PushArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let is_json = args.json;
    let settings = PushSettings::parse(args)?;
    run_resumable(async {
        let mut summaries = Vec::new();
        for settings in push::for_each_tag(settings).await? {
            let registry = &settings.remote.registry;
            let suggest = |failure| suggest_doctor(failure, registry);
            if settings.is_dry_run {
                preview(&settings, is_json, report).await.map_err(suggest)?;
            } else {
                let pushed = push::push(&settings, report).await;
                let summary = pushed.map_err(suggest)?;
                report.show_push_summary(&summary);
                summaries.push(summary);
            }
        }
        if summaries.len() > 1 && !is_json {
            report.output().print(&report::push_totals_line(&summaries));
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

/// Adds to a failure of the network whose remedy is not known that `imgsync doctor` examines it.
fn suggest_doctor(mut failure: Failure, registry: &Registry) -> Failure {
    // A hint with an option or a path names the remedy.
    let is_open = |hint: &str| !hint.contains("--") && !hint.contains("certs.d");
    if failure.kind == FailureKind::Network && failure.hint.as_deref().is_none_or(is_open) {
        failure.hint = Some(match failure.hint {
            Some(hint) => format!("{hint}; imgsync doctor {registry} examines this"),
            None => format!("imgsync doctor {registry} examines this"),
        });
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_is_suggested_where_no_remedy_is_known() {
        let hint = |kind, hint: &str| {
            let failure = Failure::new(kind, "it failed").with_hint(hint);
            suggest_doctor(failure, &"nas:5000".parse().unwrap())
                .hint
                .unwrap()
        };
        let expected = "check the address; imgsync doctor nas:5000 examines this";
        assert_eq!(hint(FailureKind::Network, "check the address"), expected);
        for (kind, text) in [
            (FailureKind::Network, "pass --plain-http"),
            (FailureKind::Source, "check the address"),
        ] {
            assert_eq!(hint(kind, text), text);
        }
    }
}
