//! Runs `imgsync ls`: prints the repositories of a registry, or the tags of a repository.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::client::{Client, ListPage};
use imgsync_oci::{Reference, Registry, Repository, Tag};

use super::contents::{RemoteImage, fetch_contents};
use super::not_found;
use crate::args::{LsArgs, ManifestName, WithScheme};
use crate::exit::{Failure, FailureKind};
use crate::login::RegistryAccess;
use crate::report::Report;
use crate::text::format_bytes;

/// The number of tags that are inspected at the same time for `--long`.
const MAX_CONCURRENT_TAGS: usize = 8;

/// Prints repositories or tags, one on each line.
///
/// # Errors
/// Fails if the repository does not exist, or if a request fails.
pub(super) async fn ls(args: LsArgs, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let WithScheme { scheme, name } = &args.remote;
    let registry = &name.registry;
    let repository = match &name.name {
        None => None,
        Some((repository, None)) => Some(repository),
        Some((repository, Some(tag))) => {
            let hint = format!("to show the image: imgsync inspect {registry}/{repository}:{tag}");
            let what = format!("ls lists repositories or tags, but {tag} is a single tag");
            return Err(Failure::usage(what).with_hint(hint));
        }
    };
    let access = RegistryAccess::parse(args.access)?.with_scheme(*scheme)?;
    let client = access.connect(registry, repository, false, report).await?;
    match repository {
        Some(repository) => print_tags(&client, registry, repository, args.long, report).await,
        None => print_repositories(&client, report).await,
    }
}

async fn print_repositories(client: &Client, report: &Arc<dyn Report>) -> Result<(), Failure> {
    let mut next = None;
    loop {
        let page = client.list_repositories(next).await?;
        print_all(&page.names, report);
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

fn print_all<T: ToString>(names: &[T], report: &Arc<dyn Report>) {
    for name in names {
        report.output().print(&name.to_string());
    }
}

async fn print_tags(
    client: &Client,
    registry: &Registry,
    repository: &Repository,
    is_long: bool,
    report: &Arc<dyn Report>,
) -> Result<(), Failure> {
    let mut next = None;
    loop {
        let Some(ListPage { names, next: more }) = client.list_tags(repository, next).await? else {
            let hint = format!("list the repositories with imgsync ls {registry}");
            let what = format!("{registry} has no repository {repository}");
            return Err(Failure::target(what).with_hint(hint));
        };
        if is_long {
            let lines = names
                .into_iter()
                .map(|tag| long_line(client, registry, repository, tag));
            let lines = futures::stream::iter(lines).buffered(MAX_CONCURRENT_TAGS);
            let mut lines = std::pin::pin!(lines);
            while let Some(line) = lines.try_next().await? {
                report.output().print(&line);
            }
        } else {
            print_all(&names, report);
        }
        next = more;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// Returns tag, digest, size and platforms.
async fn long_line(
    client: &Client,
    registry: &Registry,
    repository: &Repository,
    tag: Tag,
) -> Result<String, Failure> {
    let name = ManifestName {
        registry: registry.clone(),
        repository: repository.clone(),
        reference: Reference::Tag(tag.clone()),
    };
    let contents = match fetch_contents(client, &name).await {
        Ok(contents) => contents,
        // The tag was deleted since it was listed, or its manifest has an unknown format.
        Err(failure) if failure.kind == FailureKind::Target => {
            let is_deleted = failure.what == not_found(&name).what;
            let why = if is_deleted { "(gone)" } else { "(unreadable)" };
            return Ok(format!("{tag}\t{why}\t\t"));
        }
        Err(failure) => return Err(failure),
    };
    let (digest, images) = (&contents.fetched.digest, &contents.images);
    let mut seen = HashSet::new();
    let blobs = images.iter().flat_map(RemoteImage::blobs);
    let blobs = blobs.filter(|blob| seen.insert(&blob.digest));
    let size = format_bytes(blobs.map(|blob| blob.size).sum());
    let platforms = images.iter().filter_map(|image| image.platform.as_deref());
    let platforms = platforms.collect::<Vec<_>>().join(",");
    Ok(format!("{tag}\t{digest}\t{size}\t{platforms}"))
}
