//! Describes restored content to the receivers of events: it counts as pushed.
//!
//! Receivers build inventories from events, and the deletion has had one. Start reading at
//! [`restored_pushes`].

use std::collections::{BTreeMap, BTreeSet};

use imgsync_oci::{Digest, Reference, Repository};

use crate::events::{ChangeAction, Events, RegistryChange};
use crate::registry::{Registry, RestoreReport, TrashEntry};

/// Returns a push for each restored tag, and for each restored manifest without one, in the order in
/// which they were restored. Blocks on the disk.
pub(super) fn restored_pushes(
    events: &Events,
    registry: &Registry,
    report: &RestoreReport,
) -> Vec<RegistryChange> {
    if !events.is_active() {
        return Vec::new();
    }
    let tagged = report.restored.iter().filter_map(|entry| match entry {
        TrashEntry::Tag { digest, .. } => Some(digest),
        _ => None,
    });
    let tagged: BTreeSet<_> = tagged.collect();
    let mut known = BTreeMap::new();
    let mut push = |repository: &Repository, digest: &Digest| {
        let push = known.entry(digest.clone());
        push.or_insert_with(|| manifest_push(events, registry, repository, digest))
            .clone()
    };
    let pushes = report.restored.iter().filter_map(|entry| match entry {
        TrashEntry::Tag {
            repository,
            tag,
            digest,
        } => Some(push(repository, digest)?.with_tag(tag)),
        TrashEntry::Revision { digest, .. } if tagged.contains(digest) => None,
        TrashEntry::Revision {
            repository, digest, ..
        } => push(repository, digest),
        TrashEntry::Layer { .. } | TrashEntry::Blob { .. } => None,
    });
    pushes.collect()
}

/// Returns the push of a manifest; `None` if the manifest cannot be read, which is logged.
fn manifest_push(
    events: &Events,
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
) -> Option<RegistryChange> {
    let manifest = registry.get_manifest(repository, &Reference::Digest(digest.clone()));
    let manifest = manifest.inspect_err(|error| {
        tracing::warn!(%repository, %digest, %error, "no event of a restored manifest");
    });
    let manifest = manifest.ok()?;
    let (media_type, size) = (&manifest.media_type, manifest.bytes.len());
    let push = RegistryChange::manifest(ChangeAction::Push, repository, digest, media_type, size);
    Some(push.with_references(events.references(&manifest.bytes)))
}
