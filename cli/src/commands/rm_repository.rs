//! Runs `imgsync rm --repository`: deletes repositories, at other registries than our own tag by tag.

use std::sync::Arc;

use imgsync_oci::client::{Client, DeleteOutcome, NextPage, TrashOutcome};
use imgsync_oci::{Reference, Tag};

use super::resolve;
use crate::args::{ContentName, ManifestName};
use crate::exit::Failure;
use crate::report::Report;
use crate::text::format_count;

/// How many tags that were not deleted are named.
const MAX_NAMED_TAGS: usize = 20;

/// Whether a tag was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TagDeletion {
    /// The tag was deleted, or was gone already.
    Deleted,
    /// The registry does not allow it.
    Refused,
}

/// Deletes a repository, and prints what was deleted.
///
/// # Errors
/// Fails if there is no such repository, and if a part of it cannot be deleted.
pub(super) async fn delete_repository(
    client: &Client,
    name: &ContentName,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    match client.delete_repository(&name.repository).await? {
        TrashOutcome::Done(deleted) => {
            let tags = format_count(deleted.tag_count, "tag", "tags");
            let manifests = format_count(deleted.manifest_count, "manifest", "manifests");
            report.output().print(&format!("deleted {name}"));
            report.note(&format!(
                "deleted {tags} and {manifests}; to restore them: imgsync undelete {name}"
            ));
            Ok(())
        }
        TrashOutcome::NotFound(_) => Err(no_repository(name)),
        TrashOutcome::Unsupported => delete_tags(client, name, report).await,
    }
}

/// Deletes all tags of a repository, one after the other.
async fn delete_tags(
    client: &Client,
    name: &ContentName,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let tags = list_all_tags(client, name).await?;
    let mut remaining = Vec::new();
    for tag in &tags {
        match delete_tag(client, name, tag).await? {
            TagDeletion::Deleted => report.output().print(&format!("deleted {name}:{tag}")),
            TagDeletion::Refused => remaining.push(tag),
        }
    }
    let registry = &name.registry;
    if remaining.is_empty() {
        report.note(&format!(
            "{registry} cannot delete a repository at once: its tags are deleted, but it may keep the \
             name and manifests without a tag"
        ));
        return Ok(());
    }
    let named: Vec<&str> = remaining
        .iter()
        .take(MAX_NAMED_TAGS)
        .map(|tag| tag.as_str())
        .collect();
    let more = match remaining.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let of = format_count(tags.len(), "tag", "tags");
    let (count, named) = (remaining.len(), named.join(", "));
    let what = format!("{registry} does not allow {count} of {of} to be deleted: {named}{more}");
    let hint = "set storage.delete.enabled: true in the configuration of the registry";
    Err(Failure::target(what).with_hint(hint))
}

async fn list_all_tags(client: &Client, name: &ContentName) -> Result<Vec<Tag>, Failure> {
    let (mut tags, mut next): (Vec<Tag>, Option<NextPage>) = (Vec::new(), None);
    loop {
        let page = client.list_tags(&name.repository, next).await?;
        let Some(page) = page else {
            return Err(no_repository(name));
        };
        tags.extend(page.names);
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    if tags.is_empty() {
        return Err(no_repository(name));
    }
    Ok(tags)
}

/// Deletes a tag; if the registry cannot delete a single tag, its manifest with all its tags.
async fn delete_tag(
    client: &Client,
    name: &ContentName,
    tag: &Tag,
) -> Result<TagDeletion, Failure> {
    let reference = Reference::Tag(tag.clone());
    let deleted = client.delete_manifest(&name.repository, &reference).await?;
    match deleted {
        DeleteOutcome::Deleted { .. } | DeleteOutcome::NotFound => return Ok(TagDeletion::Deleted),
        DeleteOutcome::Disabled => return Ok(TagDeletion::Refused),
        DeleteOutcome::Unsupported => {}
    }
    let manifest = ManifestName {
        registry: name.registry.clone(),
        repository: name.repository.clone(),
        reference,
    };
    let head = client.head_manifest(&name.repository, &manifest.reference);
    if head.await?.is_none() {
        // The tag was deleted with another one of the same manifest.
        return Ok(TagDeletion::Deleted);
    }
    let by_digest = resolve(client, &manifest).await?;
    let deleted = client.delete_manifest(&name.repository, &by_digest.reference);
    Ok(match deleted.await? {
        DeleteOutcome::Deleted { .. } | DeleteOutcome::NotFound => TagDeletion::Deleted,
        DeleteOutcome::Unsupported | DeleteOutcome::Disabled => TagDeletion::Refused,
    })
}

fn no_repository(name: &ContentName) -> Failure {
    let ContentName {
        registry,
        repository,
        ..
    } = name;
    let hint = format!("list the repositories with imgsync ls {registry}");
    Failure::target(format!(
        "{registry} has no repository {repository}, or it has no tags"
    ))
    .with_hint(hint)
}
