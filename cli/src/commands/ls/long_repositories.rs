//! Lists repositories with the number of their tags, their sizes and times.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Reference, Repository, Tag};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::columns::{Columns, SIZE_WIDTH};
use super::line_errors::LineErrors;
use super::{ImageTime, Listing, MAX_CONCURRENT_TAGS};
use crate::args::ManifestName;
use crate::commands::contents::{ContentsError, RemoteImage, fetch_creation_time, read_contents};
use crate::exit::Failure;
use crate::text::format_bytes;

/// The width of the number of tags, or of `(error)`.
const COUNT_WIDTH: usize = 7;
/// The number of repositories that are read at the same time. They share the requests for tags.
const MAX_CONCURRENT_REPOSITORIES: usize = 4;

/// The sums of a repository.
#[derive(Debug, Default)]
struct RepositorySummary {
    tag_count: u64,
    /// The number of tags whose manifests have an unknown format.
    unreadable_count: u64,
    /// The size in bytes of all blobs that the manifests name, each counted once.
    size: u64,
    /// The newest times.
    time: ImageTime,
}

/// The sums so far, and what is in them already. Hashes of digests take less memory, and a collision
/// only leaves out a blob from the size.
#[derive(Default)]
struct Sums {
    summary: RepositorySummary,
    manifests: HashSet<u64>,
    blobs: HashSet<u64>,
}

impl Listing<'_> {
    pub(super) async fn print_long_repositories(&self) -> Result<(), Failure> {
        let requests = Semaphore::new(MAX_CONCURRENT_TAGS);
        let (mut next, mut errors) = (None, LineErrors::default());
        loop {
            let page = self.client.list_repositories(next).await?;
            let names = page.names.iter().map(Repository::as_str);
            let columns = Columns::new(names, &[COUNT_WIDTH, SIZE_WIDTH]);
            let rows = page.names.into_iter().map(|repository| async {
                let summary = self.summarize(&repository, &requests).await;
                (repository, summary)
            });
            let mut rows = futures::stream::iter(rows).buffered(MAX_CONCURRENT_REPOSITORIES);
            while let Some((repository, summary)) = rows.next().await {
                errors.add(&summary, self.report)?;
                let [tags, size, time] = row_fields(&summary);
                let fields = [repository.as_str(), &tags, &size, &time];
                self.print_row(&columns, &fields, || row_json(&repository, &summary));
            }
            next = page.next;
            if next.is_none() {
                return errors.finish("repositories");
            }
        }
    }

    /// Reads all manifests of a repository.
    async fn summarize(
        &self,
        repository: &Repository,
        requests: &Semaphore,
    ) -> Result<RepositorySummary, Failure> {
        let sums = Mutex::new(Sums::default());
        let mut next = None;
        loop {
            // A repository whose tags were all deleted can be listed, and not be found.
            let Some(page) = self.client.list_tags(repository, next).await? else {
                break;
            };
            lock(&sums).summary.tag_count += page.names.len() as u64;
            let reads = page.names.into_iter().map(|tag| async {
                // The semaphore is never closed.
                let _permit = requests.acquire().await.ok();
                self.add_tag(repository, tag, &sums).await
            });
            let reads = futures::stream::iter(reads).buffer_unordered(MAX_CONCURRENT_TAGS);
            reads.try_collect::<()>().await?;
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        let summary = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(summary.summary)
    }

    async fn add_tag(
        &self,
        repository: &Repository,
        tag: Tag,
        sums: &Mutex<Sums>,
    ) -> Result<(), Failure> {
        let name = ManifestName {
            registry: self.registry.clone(),
            repository: repository.clone(),
            reference: Reference::Tag(tag),
        };
        let fetched = self
            .client
            .fetch_manifest(&name.repository, &name.reference);
        // The tag may have been deleted since it was listed.
        let Some(fetched) = fetched.await? else {
            return Ok(());
        };
        let pushed_at = fetched.modified_at;
        let is_new = {
            let mut sums = lock(sums);
            let time = &mut sums.summary.time;
            time.pushed_at = time.pushed_at.max(pushed_at);
            sums.manifests.insert(hash(&fetched.digest))
        };
        if !is_new {
            return Ok(());
        }
        let contents = match read_contents(&self.client, &name, fetched).await {
            Ok(contents) => contents,
            Err(ContentsError::UnknownFormat(_)) => {
                lock(sums).summary.unreadable_count += 1;
                return Ok(());
            }
            Err(ContentsError::Request(failure)) => return Err(failure),
        };
        let created_at = match pushed_at {
            Some(_) => None,
            None => fetch_creation_time(&self.client, &name, &contents).await?,
        };
        let mut sums = lock(sums);
        let time = &mut sums.summary.time;
        time.created_at = time.created_at.max(created_at);
        sums.add_blobs(contents.images.iter().flat_map(RemoteImage::blobs));
        Ok(())
    }
}

impl Sums {
    fn add_blobs<'a>(&mut self, blobs: impl Iterator<Item = &'a Descriptor>) {
        for blob in blobs {
            if self.blobs.insert(hash(&blob.digest)) {
                self.summary.size = self.summary.size.saturating_add(blob.size);
            }
        }
    }
}

fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hash(digest: &Digest) -> u64 {
    let mut hasher = DefaultHasher::new();
    digest.hash(&mut hasher);
    hasher.finish()
}

/// Returns the fields of a line that follow the name.
fn row_fields(summary: &Result<RepositorySummary, Failure>) -> [String; 3] {
    match summary {
        Ok(summary) => {
            let (tags, size) = (summary.tag_count.to_string(), format_bytes(summary.size));
            [tags, size, summary.time.text()]
        }
        Err(_) => ["(error)".to_owned(), String::new(), String::new()],
    }
}

fn row_json(repository: &Repository, summary: &Result<RepositorySummary, Failure>) -> Value {
    let repository = repository.as_str();
    match summary {
        Ok(summary) => {
            let [pushed, created] = summary.time.json();
            json!({
                "repository": repository,
                "tags": summary.tag_count,
                "unreadableTags": summary.unreadable_count,
                "size": summary.size,
                "pushed": pushed,
                "created": created,
            })
        }
        Err(failure) => json!({ "repository": repository, "error": failure.what }),
    }
}
