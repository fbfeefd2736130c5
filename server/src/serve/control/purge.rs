//! The option `--purge` of the command `garbage-collect`.

use imgsync_oci::Reference;
use imgsync_oci::units::{format_bytes, format_count};

use super::target::parse_target;
use super::{CommandContext, CommandOutput, error_text};
use crate::registry::{ImageName, PurgeOptions, PurgeOutcome, PurgeReport, TrashEntry};

/// How many blobs that stay are listed.
const MAX_LISTED_BLOBS: usize = 100;

/// Removes for good what `target` names, and prints what was removed.
pub(super) fn purge(
    context: &CommandContext<'_>,
    target: &str,
    options: PurgeOptions,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let parsed = parse_target(target)?;
    let storage = &context.config.storage;
    if storage.is_read_only && !options.is_dry_run {
        return Err("nothing is removed in read-only mode".to_owned());
    }
    let removed = if options.is_dry_run {
        "would be removed"
    } else {
        "removed"
    };
    let purged = context
        .registry
        .purge(&parsed, options, &mut |entry| match entry {
            TrashEntry::Tag {
                repository, tag, ..
            } => output.detail(&format!("{repository}:{tag} {removed}")),
            TrashEntry::Revision {
                repository, digest, ..
            } => output.detail(&format!("{repository}@{digest} {removed}")),
            TrashEntry::Layer { digest, .. } => output.detail(&format!("{digest} {removed}")),
            TrashEntry::Blob { size, digest } => {
                let size = format_bytes(*size);
                output.detail(&format!("{digest} ({size}) {removed}"));
            }
        });
    match purged.map_err(error_text)? {
        PurgeOutcome::Absent => Err(format!(
            "nothing to purge: {target} is neither stored nor in the trash"
        )),
        PurgeOutcome::Refused(images) => {
            for image in &images {
                output.detail(&format!("{} would become incomplete", name(image)));
            }
            Err(format!(
                "{target} was not purged, because other images need it; purge them, or add --force"
            ))
        }
        PurgeOutcome::Purged(report) => {
            print_report(&report, removed, output);
            match report.unfinished_uploads {
                0 => Ok(()),
                count => Err(format!(
                    "{count} uploads of the same content are still being received; run the command \
                     again"
                )),
            }
        }
    }
}

fn print_report(report: &PurgeReport, removed: &str, output: &mut dyn CommandOutput) {
    for image in &report.incomplete {
        output.detail(&format!("{} is incomplete now: push it again", name(image)));
    }
    for (digest, image) in report.kept.iter().take(MAX_LISTED_BLOBS) {
        output.detail(&match image {
            Some(image) => format!("{digest} stays: {} needs it", name(image)),
            None => format!("{digest} stays: an image that needs it was pushed meanwhile"),
        });
    }
    let unlisted = report.kept.len().saturating_sub(MAX_LISTED_BLOBS);
    if unlisted > 0 {
        output.detail(&format!("{unlisted} more stay"));
    }
    let bytes = format_bytes(report.bytes);
    let kept = format_count(report.kept.len(), "blob", "blobs");
    output.output(&format!(
        "{removed} for good: {bytes}; kept for other images: {kept}"
    ));
}

fn name((repository, reference): &ImageName) -> String {
    match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    }
}
