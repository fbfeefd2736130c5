//! Runs `imgsync rm`: deletes tags, manifests with all their tags, or repositories.

use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::{Client, DeleteOutcome};

use super::{not_found, resolve, rm_repository};
use crate::args::{ManifestName, RmArgs, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;

/// Deletes one manifest or tag after the other, and prints each.
///
/// # Errors
/// Returns the first failure; what comes before it is deleted.
pub(super) async fn rm(args: RmArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let access = RegistryAccess::parse(args.access)?;
    for WithScheme { scheme, name } in &args.repository {
        let access = access.clone().with_scheme(*scheme)?;
        let repository = Some(&name.repository);
        let client = access.connect(&name.registry, repository, false, report);
        rm_repository::delete_repository(&client.await?, name, report).await?;
    }
    for WithScheme { scheme, mut name } in args.remotes {
        let access = access.clone().with_scheme(scheme)?;
        let (registry, repository) = (&name.registry, Some(&name.repository));
        let client = access.connect(registry, repository, false, report);
        let client = client.await?;
        if args.digest {
            name = resolve(&client, &name).await?;
        }
        delete(&client, &name).await?;
        report.output().print(&format!("deleted {name}"));
    }
    Ok(())
}

async fn delete(client: &Client, name: &ManifestName) -> Result<(), Failure> {
    let registry = &name.registry;
    let deleted = client.delete_manifest(&name.repository, &name.reference);
    match (deleted.await?, &name.reference) {
        (DeleteOutcome::Deleted, _) => Ok(()),
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
        (DeleteOutcome::Unsupported, Reference::Digest(_)) => {
            let what = format!("{registry} does not allow manifests to be deleted");
            let hint = "set storage.delete.enabled: true in the configuration of the registry";
            Err(Failure::target(what).with_hint(hint))
        }
    }
}
