//! The command `undelete`.

use imgsync_oci::units::format_bytes;

use super::target::parse_target;
use super::{CommandOutput, error_text};
use crate::config::GarbageCollectionConfig;
use crate::registry::{Registry, RestoreReport, TrashEntry};

/// Prints what is in the trash: a line for each tag, manifest and blob, the oldest first.
pub(super) fn list(
    registry: &Registry,
    gc: &GarbageCollectionConfig,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let mut blobs = (0_usize, 0_u64);
    let listed = registry.for_each_removed(gc.undo, &mut |_, entry| match entry {
        TrashEntry::Tag {
            repository,
            tag,
            digest,
        } => output.output(&format!("{repository}:{tag} {digest}")),
        TrashEntry::Revision {
            repository, digest, ..
        } => output.output(&format!("{repository}@{digest} manifest")),
        TrashEntry::Layer {
            repository, digest, ..
        } => output.output(&format!("{repository}@{digest} blob")),
        TrashEntry::Blob { size, .. } => {
            blobs.0 += 1;
            blobs.1 += size;
        }
    });
    listed.map_err(error_text)?;
    let (count, bytes) = (blobs.0, format_bytes(blobs.1));
    output.detail(&format!(
        "{count} blobs and manifests in the trash, {bytes}"
    ));
    Ok(())
}

/// Restores what `target` names, and prints what was restored.
pub(super) fn undelete(
    registry: &Registry,
    target: &str,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let parsed = parse_target(target)?;
    let report = registry.restore(&parsed).map_err(error_text)?;
    let RestoreReport {
        restored,
        occupied,
        gone,
    } = report;
    for entry in &restored {
        match entry {
            TrashEntry::Tag {
                repository, tag, ..
            } => output.output(&format!("restored {repository}:{tag}")),
            TrashEntry::Revision {
                repository, digest, ..
            } => output.output(&format!("restored {repository}@{digest}")),
            TrashEntry::Layer { digest, .. } | TrashEntry::Blob { digest, .. } => {
                output.detail(&format!("restored the blob {digest}"));
            }
        }
    }
    for (repository, tag) in &occupied {
        output.detail(&format!(
            "{repository}:{tag} was not restored: the tag points at another image now"
        ));
    }
    match gone.first() {
        Some(digest) => Err(format!(
            "{target} cannot be restored completely: {} blobs or manifests are gone from the trash, \
             the first is {digest}",
            gone.len()
        )),
        None if restored.is_empty() && occupied.is_empty() => Err(format!(
            "nothing to restore for {target}: the trash does not list it, or it exists already"
        )),
        None => Ok(()),
    }
}
