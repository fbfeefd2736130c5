//! Runs `imgsync undelete`: restores deleted tags, manifests and repositories at our own server.

use std::sync::Arc;

use imgsync_oci::Reference;
use imgsync_oci::client::TrashOutcome;
use imgsync_oci::ext::trash::RestoreResponse;

use crate::args::{ContentName, UndeleteArgs, WithScheme};
use crate::exit::Failure;
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::format_count;

/// Restores one name after the other, and prints what was restored.
///
/// # Errors
/// Returns the first failure; what comes before it is restored.
pub(super) async fn undelete(args: UndeleteArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let access = RegistryAccess::parse(args.access)?;
    for WithScheme { scheme, name } in &args.remotes {
        let access = access.clone().with_scheme(*scheme)?;
        let (registry, repository) = (&name.registry, Some(&name.repository));
        let client = access.connect(registry, repository, false, report).await?;
        let restored = client.restore(&name.repository, name.reference.as_ref());
        match restored.await? {
            TrashOutcome::Done(response) => show(name, &response, report)?,
            TrashOutcome::NotFound(reason) => {
                let what = format!("{registry} cannot restore {name}: {reason}");
                return Err(Failure::target(what).with_hint("push the image again"));
            }
            TrashOutcome::Unsupported => {
                let what = format!("{registry} cannot restore what was deleted");
                let hint = "only imgsync-server has a trash, and only if it allows deletions \
                            (storage.delete.enabled)";
                return Err(Failure::target(what).with_hint(hint));
            }
        }
    }
    Ok(())
}

fn show(
    name: &ContentName,
    response: &RestoreResponse,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let repository = ContentName {
        reference: None,
        ..name.clone()
    };
    for tag in &response.tags {
        report
            .output()
            .print(&format!("restored {repository}:{tag}"));
    }
    for tag in &response.occupied {
        report.note(&format!(
            "{repository}:{tag} was not restored: the tag points at another image now"
        ));
    }
    if let Some(first) = response.gone.first() {
        let count = response.gone.len();
        let count = format_count(count, "blob or manifest is", "blobs or manifests are");
        let what = format!(
            "{name} cannot be restored completely: {count} gone from the trash, the first is {first}"
        );
        return Err(Failure::target(what).with_hint("push the missing images again"));
    }
    if let (Some(Reference::Digest(_)), true) = (&name.reference, response.manifest_count > 0) {
        report.output().print(&format!("restored {name}"));
    } else if response.tag_count > response.tags.len() as u64 || response.tags.is_empty() {
        let (tags, manifests) = (response.tag_count, response.manifest_count);
        report.note(&match tags + manifests {
            0 if response.occupied.is_empty() => format!("nothing to restore: {name} exists"),
            _ => {
                let tags = format_count(tags, "tag", "tags");
                let manifests = format_count(manifests, "manifest", "manifests");
                format!("restored {tags} and {manifests} of {repository}")
            }
        });
    }
    Ok(())
}
