//! Runs `imgsync rm`: deletes tags, manifests with all their tags, or repositories.

use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::{Client, DeleteOutcome};

use super::{not_found, resolve, rm_repository};
use crate::args::{ContentName, ManifestName, RmArgs, WithScheme};
use crate::exit::{Failure, FailureKind};
use crate::login::RegistryAccess;
use crate::report::Report;

/// Deletes one manifest, tag or repository after the other, and prints each. What cannot be deleted
/// does not keep the rest.
///
/// # Errors
/// Fails at the end if something was not deleted. Of several failures, each is shown.
pub(super) async fn rm(args: RmArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let access = RegistryAccess::parse(args.access)?;
    let count = args.repository.len() + args.remotes.len();
    let mut failures = Vec::new();
    let mut note = |result: Result<(), Failure>| {
        if let Err(failure) = result {
            if count > 1 {
                report.show_failure(&failure);
            }
            failures.push(failure);
        }
    };
    for target in &args.repository {
        note(delete_repository(&access, target, report).await);
    }
    for target in args.remotes {
        note(delete_name(&access, target, args.digest, report).await);
    }
    summarize(failures, count)
}

/// Returns the failure of a command that was to delete `count` names.
fn summarize(failures: Vec<Failure>, count: usize) -> Result<(), Failure> {
    let failed = failures.len();
    let Some(first) = failures.into_iter().next() else {
        return Ok(());
    };
    if count == 1 {
        return Err(first);
    }
    let kind = if failed == count {
        first.kind
    } else {
        FailureKind::Partial
    };
    Err(Failure::new(
        kind,
        format!("{failed} of {count} names were not deleted"),
    ))
}

async fn delete_repository(
    access: &RegistryAccess,
    WithScheme { scheme, name }: &WithScheme<ContentName>,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let access = access.clone().with_scheme(*scheme)?;
    let repository = Some(&name.repository);
    let client = access.connect(&name.registry, repository, false, report);
    rm_repository::delete_repository(&client.await?, name, report).await
}

async fn delete_name(
    access: &RegistryAccess,
    WithScheme { scheme, mut name }: WithScheme<ManifestName>,
    by_digest: bool,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let access = access.clone().with_scheme(scheme)?;
    let (registry, repository) = (&name.registry, Some(&name.repository));
    let client = access.connect(registry, repository, false, report);
    let client = client.await?;
    if by_digest {
        name = resolve(&client, &name).await?;
    }
    let is_restorable = delete(&client, &name).await?;
    report.output().print(&format!("deleted {name}"));
    if is_restorable {
        report.note(&format!("to restore it: imgsync undelete {name}"));
    }
    Ok(())
}

/// Deletes a tag or manifest, and returns whether the registry can restore it.
async fn delete(client: &Client, name: &ManifestName) -> Result<bool, Failure> {
    let registry = &name.registry;
    let deleted = client.delete_manifest(&name.repository, &name.reference);
    match (deleted.await?, &name.reference) {
        (DeleteOutcome::Deleted { is_restorable }, _) => Ok(is_restorable),
        (DeleteOutcome::NotFound, _) => Err(not_found(name)),
        (DeleteOutcome::Unsupported, Reference::Tag(tag)) => {
            let resolved = resolve(client, name).await;
            let by_digest =
                resolved.map_or_else(|_| format!("--digest {name}"), |name| name.to_string());
            let what =
                format!("{registry} cannot delete the single tag {tag}, or allows no deletion");
            Err(Failure::target(what).with_hint(format!(
                "to delete the manifest with every other tag that points at it: imgsync rm \
                 {by_digest}"
            )))
        }
        (DeleteOutcome::Disabled, _) | (DeleteOutcome::Unsupported, Reference::Digest(_)) => {
            let what = format!("{registry} does not allow manifests to be deleted");
            let hint = "set storage.delete.enabled: true in the configuration of the registry";
            Err(Failure::target(what).with_hint(hint))
        }
    }
}
