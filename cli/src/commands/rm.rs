//! `imgsync rm`: takes tags, or manifests with their tags, out of a registry.

use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::{Client, DeleteOutcome};

use super::manifest_name::ManifestName;
use crate::args;
use crate::exit::{Failure, FailureKind};
use crate::login::RegistryAccess;
use crate::report::Report;

/// Removes what was named, one after the other, and prints through `line` what is gone.
///
/// # Errors
/// The first that cannot be removed; what came before it is gone.
pub(super) async fn rm(
    args: &args::RmArgs,
    report: &Arc<dyn Report>,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let access = RegistryAccess::parse(&args.access)?;
    let all = args.remotes.iter().map(|text| parse_explicit(text));
    // All words first: a typing error must not be found halfway.
    let all: Vec<ManifestName> = all.collect::<Result<_, _>>()?;
    for manifest in all {
        let (registry, repository) = (&manifest.registry, &manifest.repository);
        let client = access
            .connect(registry, Some(repository), false, report)
            .await?;
        let reference = match args.digest {
            true => Reference::Digest(super::manifest_name::digest(&client, &manifest).await?),
            false => manifest.reference.clone(),
        };
        remove(&client, &manifest, &reference).await?;
        line(format!("removed {}", manifest.with_reference(&reference)));
    }
    Ok(())
}

fn parse_explicit(text: &str) -> Result<ManifestName, Failure> {
    if !ManifestName::is_explicit(text) {
        let what = format!("{text} names neither tag nor digest");
        let hint = "removing takes an explicit one: host/repository:tag or host/repository@digest";
        return Err(Failure::new(FailureKind::Usage, what).with_hint(hint));
    }
    text.parse()
}

async fn remove(
    client: &Client,
    manifest: &ManifestName,
    reference: &Reference,
) -> Result<(), Failure> {
    let repository = &manifest.repository;
    let deleted = client.delete_manifest(repository, reference).await?;
    let target = |what: String| Failure::new(FailureKind::Target, format!("target: {what}"));
    match (deleted, reference) {
        (DeleteOutcome::Deleted, _) => Ok(()),
        (DeleteOutcome::NotFound, _) => Err(target(format!(
            "there is no {}",
            manifest.with_reference(reference)
        ))),
        (DeleteOutcome::Unsupported, Reference::Tag(tag)) => {
            let registry = &manifest.registry;
            let what = format!("{registry} cannot delete the tag {tag} alone, or nothing at all");
            let digest = super::manifest_name::digest(client, manifest).await;
            let by_digest = match digest {
                Ok(digest) => manifest.with_reference(&Reference::Digest(digest)),
                Err(_) => "its digest".to_owned(),
            };
            Err(target(what).with_hint(format!(
                "deleting its manifest would take every other tag of the same image along; if \
                 that is what you want: imgsync rm {by_digest}"
            )))
        }
        (DeleteOutcome::Unsupported, Reference::Digest(_)) => {
            let what = format!("{} does not delete anything", manifest.registry);
            Err(target(what).with_hint(
                "deleting is switched off there; a stock registry allows it with \
                 storage.delete.enabled: true",
            ))
        }
    }
}
