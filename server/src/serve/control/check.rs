//! The command `check`.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use imgsync_oci::units::{format_bytes, format_count};
use serde_json::{Value, json};

use super::{CommandContext, CommandOutput, count_blobs, error_text};
use crate::low_priority::with_low_priority;
use crate::registry::{AffectedImage, CheckEvent, CheckOptions, CheckStats, Finding, Repair};

/// How often the progress is printed.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// How many digests are named for an image in text.
const MAX_NAMED_DIGESTS: usize = 3;

/// The options of the command.
pub(super) struct CheckRequest {
    pub(super) repairs: bool,
    pub(super) is_json: bool,
}

/// Checks everything, and prints what is damaged and which images are affected. Damage is an error,
/// also if it was repaired.
pub(super) fn check(
    context: &CommandContext<'_>,
    request: &CheckRequest,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    // A server needs the disk and the processor for requests.
    let is_gentle = context.server.is_some();
    let options = CheckOptions {
        repairs: request.repairs,
        is_gentle,
        platforms: &context.config.index_platforms,
    };
    let mut printed_at = Instant::now();
    let mut report = |event: CheckEvent<'_>| {
        match event {
            CheckEvent::Finding(finding) if request.is_json => {
                output.output(&finding_json(finding).to_string());
            }
            CheckEvent::Finding(finding) => output.output(&finding.to_string()),
            CheckEvent::Image(image) if request.is_json => {
                output.output(&image_json(image).to_string());
            }
            CheckEvent::Image(image) => output.output(&describe(image)),
            CheckEvent::Progress(stats) if printed_at.elapsed() >= PROGRESS_INTERVAL => {
                printed_at = Instant::now();
                let bytes = format_bytes(stats.bytes);
                output.detail(&format!("read {}, {bytes}", count_blobs(stats.blobs)));
            }
            CheckEvent::Progress(_) => {}
        }
        if (context.is_gone)() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    };
    let registry = context.registry;
    let mut run = || registry.check_content(&options, &mut report);
    let checked = if is_gentle {
        with_low_priority("the check", run)?
    } else {
        run()
    };
    let Some(stats) = checked.map_err(error_text)? else {
        return Err("the check was cancelled".to_owned());
    };
    print_totals(&stats, request, output);
    let CheckStats {
        findings, images, ..
    } = stats;
    if findings == 0 && images == 0 {
        return Ok(());
    }
    let next = match (request.repairs, images) {
        (_, 0) => "",
        (true, _) => "; push these images again",
        (false, _) => "; run the command with --repair, then push these images again",
    };
    let findings = format_count(findings, "finding", "findings");
    let images = format_count(images, "image", "images");
    Err(format!(
        "damage was found: {findings}, {images} cannot be pulled completely{next}"
    ))
}

fn describe(image: &AffectedImage) -> String {
    let name = image.name();
    let lacking = &image.lacking;
    let named: Vec<String> = lacking
        .iter()
        .take(MAX_NAMED_DIGESTS)
        .map(ToString::to_string)
        .collect();
    let more = if lacking.len() > named.len() {
        " and others"
    } else {
        ""
    };
    if named.is_empty() {
        return format!("affected image: {name}: push it again, or delete the tag");
    }
    format!(
        "affected image: {name} lacks {}{more}: push it again",
        named.join(", ")
    )
}

fn finding_json(finding: &Finding) -> Value {
    let (digest, repository) = finding.subject();
    let (repair, error) = match finding.repair() {
        Repair::None => (None, None),
        Repair::Quarantined => (Some("quarantined"), None),
        Repair::Rewritten => (Some("rewritten"), None),
        Repair::Removed => (Some("removed"), None),
        Repair::Failed(error) => (Some("failed"), Some(error)),
    };
    let tag = match finding {
        Finding::DamagedTag { tag, .. } => Some(tag.to_string()),
        _ => None,
    };
    let path = match finding {
        Finding::Foreign { path } => Some(path.display().to_string()),
        _ => None,
    };
    json!({
        "type": "finding",
        "kind": finding.kind(),
        "digest": digest.map(ToString::to_string),
        "repository": repository.map(ToString::to_string),
        "tag": tag,
        "path": path,
        "repair": repair,
        "repairError": error,
        "message": finding.to_string(),
    })
}

fn image_json(image: &AffectedImage) -> Value {
    json!({
        "type": "image",
        "repository": image.repository.to_string(),
        "tag": image.tag.as_ref().map(ToString::to_string),
        "digest": image.manifest.as_ref().map(ToString::to_string),
        "lacking": image.lacking.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print_totals(stats: &CheckStats, request: &CheckRequest, output: &mut dyn CommandOutput) {
    let CheckStats {
        blobs,
        bytes,
        repositories,
        tags,
        findings,
        images,
    } = *stats;
    if request.is_json {
        let totals = json!({
            "type": "summary",
            "blobs": blobs,
            "bytes": bytes,
            "repositories": repositories,
            "tags": tags,
            "findings": findings,
            "images": images,
        });
        output.output(&totals.to_string());
        return;
    }
    let (blobs, bytes) = (count_blobs(blobs), format_bytes(bytes));
    let repositories = format_count(repositories, "repository", "repositories");
    let tags = format_count(tags, "tag", "tags");
    output.output(&format!("checked {repositories}, {tags}, {blobs}, {bytes}"));
}
