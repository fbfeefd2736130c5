//! The command `undelete`.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, UNIX_EPOCH};

use imgsync_oci::units::{format_bytes, format_count};

use super::target::parse_target;
use super::{CommandOutput, error_text};
use crate::config::GarbageCollectionConfig;
use crate::registry::{Registry, RestoreReport, TrashEntry};
use crate::store::format_time;

/// Prints what can be restored: a line for each tag, manifest and blob with the time until which it
/// can be, the oldest first. Of what was removed several times, the last removal counts.
pub(super) fn list(
    registry: &Registry,
    gc: &GarbageCollectionConfig,
    output: &mut dyn CommandOutput,
) -> Result<(), String> {
    let mut removals = HashMap::<u64, u64>::new();
    let hasher = RandomState::new();
    let listed = registry.for_each_removed(gc.undo, &mut |_, entry| {
        if let Some(name) = restorable_name(&entry) {
            // The hash, because the trash may list very many names.
            *removals.entry(hasher.hash_one(&name)).or_default() += 1;
        }
    });
    listed.map_err(error_text)?;
    let names = removals.len();
    let mut blobs = (0_usize, 0_u64);
    let listed = registry.for_each_removed(gc.undo, &mut |expires_at, entry| {
        if let Some(name) = restorable_name(&entry) {
            let hash = hasher.hash_one(&name);
            match removals.get_mut(&hash) {
                Some(left) if *left > 1 => *left -= 1,
                Some(_) => {
                    removals.remove(&hash);
                    output.output(&describe(&entry, &name, expires_at));
                }
                // The content was removed again meanwhile.
                None => {}
            }
        } else if let TrashEntry::Blob { size, .. } = entry {
            blobs.0 += 1;
            blobs.1 += size;
        }
    });
    listed.map_err(error_text)?;
    let (files, bytes) = (
        format_count(blobs.0, "file", "files"),
        format_bytes(blobs.1),
    );
    output.detail(&format!(
        "tags, manifests and blobs that can be restored: {names}; the trash holds {files}, {bytes}"
    ));
    Ok(())
}

/// Returns the name that `undelete` restores an entry by; `None` for bytes, which are restored with
/// what names them.
fn restorable_name(entry: &TrashEntry) -> Option<String> {
    match entry {
        TrashEntry::Tag {
            repository, tag, ..
        } => Some(format!("{repository}:{tag}")),
        TrashEntry::Revision {
            repository, digest, ..
        }
        | TrashEntry::Layer {
            repository, digest, ..
        } => Some(format!("{repository}@{digest}")),
        TrashEntry::Blob { .. } => None,
    }
}

fn describe(entry: &TrashEntry, name: &str, expires_at: u64) -> String {
    let what = match entry {
        TrashEntry::Tag { digest, .. } => digest.to_string(),
        TrashEntry::Revision { .. } => "manifest".to_owned(),
        TrashEntry::Layer { .. } | TrashEntry::Blob { .. } => "blob".to_owned(),
    };
    let until = format_time(UNIX_EPOCH + Duration::from_secs(expires_at));
    format!("{name} {what} until {until}")
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
    // A blob is restored with its bytes and its link, and the bytes of a manifest are a blob, too.
    let mut named = HashSet::new();
    for entry in &restored {
        if let TrashEntry::Revision { digest, .. } = entry {
            named.insert(digest);
        }
    }
    for entry in &restored {
        match entry {
            TrashEntry::Tag {
                repository, tag, ..
            } => output.output(&format!("restored {repository}:{tag}")),
            TrashEntry::Revision {
                repository, digest, ..
            } => output.output(&format!("restored {repository}@{digest}")),
            TrashEntry::Layer { digest, .. } | TrashEntry::Blob { digest, .. } => {
                if named.insert(digest) {
                    output.detail(&format!("restored the blob {digest}"));
                }
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
        None if restored.is_empty() && !occupied.is_empty() => Err(format!(
            "nothing was restored for {target}: delete the tag first if its image in the trash is the right one"
        )),
        None if restored.is_empty() => Err(format!(
            "nothing to restore for {target}: the trash does not list it, or it exists already"
        )),
        None => Ok(()),
    }
}
