//! The command `garbage-collect`.

use imgsync_oci::units::{format_bytes, format_count, format_duration};

use super::{CommandOutput, count_blobs, error_text};
use crate::config::GarbageCollectionConfig;
use crate::registry::{CollectOptions, CollectStats, Registry, TrashEntry, UntaggedPolicy};
use crate::wall_clock::unix_now;

/// The options of the command.
pub(super) struct CollectRequest {
    pub(super) is_dry_run: bool,
    pub(super) deletes_untagged: bool,
    pub(super) is_quiet: bool,
}

/// Collects garbage once, and prints what was removed and the totals.
pub(super) fn collect(
    registry: &Registry,
    gc: &GarbageCollectionConfig,
    request: &CollectRequest,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let options = CollectOptions {
        grace: gc.grace,
        untagged: if request.deletes_untagged {
            UntaggedPolicy::RemoveAll
        } else {
            UntaggedPolicy::Keep
        },
        is_dry_run: request.is_dry_run,
    };
    let now = unix_now();
    let report = &mut |entry: &TrashEntry| {
        if !request.is_quiet {
            output.detail(&describe(entry, request.is_dry_run));
        }
    };
    let collected = registry.collect_garbage(&options, now, report);
    let Some(stats) = collected.map_err(error_text)? else {
        return Err(
            "another garbage collection or a backup is running, or the folder is read-only"
                .to_owned(),
        );
    };
    if !request.is_dry_run {
        registry.expire_trash(gc.undo, now).map_err(error_text)?;
    }
    print_totals(&stats, gc, request, output);
    Ok(())
}

fn describe(entry: &TrashEntry, is_dry_run: bool) -> String {
    let removed = if is_dry_run {
        "would be removed"
    } else {
        "removed"
    };
    match entry {
        TrashEntry::Layer {
            repository, digest, ..
        } => format!("{repository}: blob {digest} {removed}: no manifest names it"),
        TrashEntry::Revision {
            repository, digest, ..
        } => format!("{repository}: manifest {digest} {removed}: no tag needs it"),
        TrashEntry::Tag {
            repository, tag, ..
        } => format!("{repository}:{tag} {removed}"),
        TrashEntry::Blob { size, digest } => {
            let size = format_bytes(*size);
            format!("{digest} ({size}) {removed}: no repository uses it")
        }
    }
}

fn print_totals(
    stats: &CollectStats,
    gc: &GarbageCollectionConfig,
    request: &CollectRequest,
    output: &mut dyn CommandOutput,
) {
    let CollectStats {
        manifests,
        links,
        blobs,
        bytes,
        recent,
        damaged,
        expired: _,
        untagged_bytes,
    } = *stats;
    let (removed, moved) = if request.is_dry_run {
        ("would be removed", "would be moved")
    } else {
        ("removed", "moved")
    };
    if request.deletes_untagged {
        output.output(&format!(
            "manifests {removed} from repositories: {manifests}"
        ));
    }
    output.output(&format!("blobs {removed} from repositories: {links}"));
    let (content, bytes) = (count_blobs(blobs), format_bytes(bytes));
    output.output(&format!("content {moved} to the trash: {content}, {bytes}"));
    if blobs > 0 && !request.is_dry_run {
        let undo = format_duration(gc.undo);
        output.detail(&format!(
            "the trash is deleted after {undo} (imgsync.gc.undo)"
        ));
    }
    if recent > 0 {
        let (one, several) = ("unused blob or manifest", "unused blobs and manifests");
        let (kept, grace) = (
            format_count(recent, one, several),
            format_duration(gc.grace),
        );
        output.detail(&format!(
            "kept {kept}: pushed or requested within the last {grace} (imgsync.gc.grace), or the \
             server started within that time"
        ));
    }
    if untagged_bytes > 0 {
        let bytes = format_bytes(untagged_bytes);
        output.detail(&format!(
            "images without a tag hold {bytes}; --delete-untagged removes them once, and \
             \"untagged: 168h\" in imgsync.retention regularly"
        ));
    }
    if damaged > 0 {
        output.detail(&format!("damaged manifests: {damaged}; the log names them"));
    }
}
