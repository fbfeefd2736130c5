//! `imgsync rm`: takes tags, or manifests with their tags, out of a registry.

use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::{Client, Deleted};

use super::remote::Manifest;
use crate::access::Access;
use crate::args;
use crate::exit::{Failure, Kind};
use crate::report::Report;

/// Removes what was named, one after the other, and prints through `line` what is gone.
///
/// # Errors
/// The first that cannot be removed; what came before it is gone.
pub(super) async fn rm(
    args: &args::Rm,
    report: &Arc<dyn Report>,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let access = Access::parse(&args.access)?;
    let all = args.remotes.iter().map(|text| named(text));
    // All words first: a typing error must not be found halfway.
    let all: Vec<Manifest> = all.collect::<Result<_, _>>()?;
    for manifest in all {
        let (registry, repository) = (&manifest.registry, &manifest.repository);
        let client = access
            .connect(registry, Some(repository), false, report)
            .await?;
        let reference = match args.digest {
            true => Reference::Digest(super::remote::digest(&client, &manifest).await?),
            false => manifest.reference.clone(),
        };
        remove(&client, &manifest, &reference).await?;
        line(format!("removed {}", manifest.with(&reference)));
    }
    Ok(())
}

fn named(text: &str) -> Result<Manifest, Failure> {
    if !Manifest::is_explicit(text) {
        let what = format!("{text} names neither tag nor digest");
        let hint = "removing takes an explicit one: host/repository:tag or host/repository@digest";
        return Err(Failure::new(Kind::Usage, what).hint(hint));
    }
    text.parse()
}

async fn remove(
    client: &Client,
    manifest: &Manifest,
    reference: &Reference,
) -> Result<(), Failure> {
    let repository = &manifest.repository;
    let deleted = client.delete_manifest(repository, reference).await?;
    let target = |what: String| Failure::new(Kind::Target, format!("target: {what}"));
    match (deleted, reference) {
        (Deleted::Gone, _) => Ok(()),
        (Deleted::Absent, _) => Err(target(format!("there is no {}", manifest.with(reference)))),
        (Deleted::Unsupported, Reference::Tag(tag)) => {
            let registry = &manifest.registry;
            let what = format!("{registry} cannot delete the tag {tag} alone, or nothing at all");
            let digest = super::remote::digest(client, manifest).await;
            let by_digest = match digest {
                Ok(digest) => manifest.with(&Reference::Digest(digest)),
                Err(_) => "its digest".to_owned(),
            };
            Err(target(what).hint(format!(
                "deleting its manifest would take every other tag of the same image along; if \
                 that is what you want: imgsync rm {by_digest}"
            )))
        }
        (Deleted::Unsupported, Reference::Digest(_)) => {
            let what = format!("{} does not delete anything", manifest.registry);
            Err(target(what).hint(
                "deleting is switched off there; a stock registry allows it with \
                 storage.delete.enabled: true",
            ))
        }
    }
}
