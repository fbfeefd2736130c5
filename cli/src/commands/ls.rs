//! `imgsync ls`: the repositories of a registry, or the tags of a repository, one a line.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{Client, ListPage};
use imgsync_oci::{Reference, Registry, RemoteName, Repository, Tag};

use super::contents::{self, ManifestContents};
use super::manifest_name::{ManifestName, not_found};
use crate::args;
use crate::exit::{Failure, FailureKind};
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::format_bytes;

/// Tags that are looked at at a time, for the long form.
const MAX_CONCURRENT_TAGS: usize = 8;

/// Prints through `line` what is there.
///
/// # Errors
/// The registry does not tell.
pub(super) async fn ls(
    args: &args::LsArgs,
    report: &Arc<dyn Report>,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let remote: RemoteName = args
        .remote
        .parse()
        .map_err(|error: imgsync_oci::ParseError| {
            Failure::new(FailureKind::Usage, error.to_string())
                .with_hint("write host[:port] or host[:port]/repository")
        })?;
    let access = RegistryAccess::parse(&args.access)?;
    let registry = &remote.registry;
    match remote.name {
        None => {
            let client = access.connect(registry, None, false, report).await?;
            repositories(&client, line).await
        }
        Some((repository, None)) => {
            let client = access
                .connect(registry, Some(&repository), false, report)
                .await?;
            tags(&client, registry, &repository, args.long, line).await
        }
        Some((_, Some(tag))) => {
            let what = format!("ls lists repositories or tags, and {tag} is a tag already");
            let hint = format!("imgsync inspect {} shows what it names", args.remote);
            Err(Failure::new(FailureKind::Usage, what).with_hint(hint))
        }
    }
}

async fn repositories(
    client: &Client,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let mut next = None;
    loop {
        let ListPage { names, next: more } = client.list_repositories(next).await?;
        for name in names {
            line(name.to_string());
        }
        match more {
            Some(more) => next = Some(more),
            None => return Ok(()),
        }
    }
}

async fn tags(
    client: &Client,
    registry: &Registry,
    repository: &Repository,
    long: bool,
    line: &mut (dyn FnMut(String) + Send),
) -> Result<(), Failure> {
    let mut next = None;
    loop {
        let Some(found) = client.list_tags(repository, next).await? else {
            let what = format!("target: {registry} has no repository {repository}");
            let hint = format!("see which it has: imgsync ls {registry}");
            return Err(Failure::new(FailureKind::Target, what).with_hint(hint));
        };
        if long {
            let lines = found
                .names
                .into_iter()
                .map(|tag| tag_line(client, registry, repository, tag));
            let mut lines =
                std::pin::pin!(futures::stream::iter(lines).buffered(MAX_CONCURRENT_TAGS));
            while let Some(text) = lines.try_next().await? {
                line(text);
            }
        } else {
            for tag in found.names {
                line(tag.to_string());
            }
        }
        match found.next {
            Some(more) => next = Some(more),
            None => return Ok(()),
        }
    }
}

/// A tag's line: tag, digest, size, platforms.
async fn tag_line(
    client: &Client,
    registry: &Registry,
    repository: &Repository,
    tag: Tag,
) -> Result<String, Failure> {
    let manifest = ManifestName {
        registry: registry.clone(),
        repository: repository.clone(),
        reference: Reference::Tag(tag.clone()),
    };
    let found = match contents::fetch_contents(client, &manifest).await {
        Ok(found) => found,
        // Gone since it was listed, or of a kind that is none of ours.
        Err(failure) if failure.kind == FailureKind::Target => {
            let gone = not_found(&manifest).what == failure.what;
            let why = if gone { "(gone)" } else { "(unreadable)" };
            return Ok(format!("{tag}\t{why}\t\t"));
        }
        Err(failure) => return Err(failure),
    };
    let ManifestContents { digest, images, .. } = &found;
    let mut once = HashSet::new();
    let size: u64 = images
        .iter()
        .flat_map(|image| image.blobs())
        .filter(|blob| once.insert(&blob.digest))
        .map(|blob| blob.size)
        .sum();
    let platforms: Vec<String> = images
        .iter()
        .filter_map(|image| image.platform.clone())
        .collect();
    let size = format_bytes(size);
    Ok(format!("{tag}\t{digest}\t{size}\t{}", platforms.join(",")))
}
