//! Lists tags with their digests, sizes, platforms and times.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::{Digest, Reference, Repository, Tag};
use serde_json::{Value, json};

use super::{ImageTime, Listing, MAX_CONCURRENT_TAGS};
use crate::args::ManifestName;
use crate::commands::contents::{RemoteImage, fetch_contents, fetch_creation_time, total_size};
use crate::commands::not_found;
use crate::exit::{Failure, FailureKind};
use crate::text::format_bytes;

/// A line of the list.
struct TagRow {
    tag: Tag,
    details: Result<TagDetails, UnreadTag>,
}

/// What a tag points at.
struct TagDetails {
    digest: Digest,
    media_type: String,
    /// The size of all blobs in bytes, each counted once.
    size: u64,
    platforms: Vec<String>,
    time: ImageTime,
}

/// The reason why a tag has no details.
#[derive(Clone, Copy)]
enum UnreadTag {
    /// The tag was deleted since it was listed.
    Gone,
    /// The manifest has an unknown format.
    Unreadable,
}

impl UnreadTag {
    fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Listing<'_> {
    /// Prints a page of tags.
    pub(super) async fn print_long_tags(
        &self,
        repository: &Repository,
        tags: Vec<Tag>,
    ) -> Result<(), Failure> {
        let rows = tags.into_iter().map(|tag| self.read_row(repository, tag));
        let rows = futures::stream::iter(rows).buffered(MAX_CONCURRENT_TAGS);
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await? {
            self.print(&row.text(), || row.json());
        }
        Ok(())
    }

    async fn read_row(&self, repository: &Repository, tag: Tag) -> Result<TagRow, Failure> {
        let name = ManifestName {
            registry: self.registry.clone(),
            repository: repository.clone(),
            reference: Reference::Tag(tag.clone()),
        };
        let details = match self.read_details(&name).await {
            Ok(details) => Ok(details),
            Err(failure) if failure.kind != FailureKind::Target => return Err(failure),
            Err(failure) if failure.what == not_found(&name).what => Err(UnreadTag::Gone),
            Err(_) => Err(UnreadTag::Unreadable),
        };
        Ok(TagRow { tag, details })
    }

    async fn read_details(&self, name: &ManifestName) -> Result<TagDetails, Failure> {
        let contents = fetch_contents(&self.client, name).await?;
        let mut seen = HashSet::new();
        let blobs = contents.images.iter().flat_map(RemoteImage::blobs);
        let blobs = blobs.filter(|blob| seen.insert(&blob.digest));
        let size = total_size(blobs);
        let images = contents.images.iter();
        let platforms = images.filter_map(|image| image.platform.clone()).collect();
        let pushed_at = contents.fetched.modified_at;
        let created_at = match pushed_at {
            Some(_) => None,
            None => fetch_creation_time(&self.client, name, &contents).await?,
        };
        Ok(TagDetails {
            digest: contents.fetched.digest,
            media_type: contents.media_type,
            size,
            platforms,
            time: ImageTime {
                pushed_at,
                created_at,
            },
        })
    }
}

impl TagRow {
    fn text(&self) -> String {
        let tag = &self.tag;
        match &self.details {
            Ok(details) => {
                let (digest, size) = (&details.digest, format_bytes(details.size));
                let (platforms, time) = (details.platforms.join(","), details.time.text());
                format!("{tag}\t{digest}\t{size}\t{platforms}\t{time}")
            }
            Err(why) => format!("{tag}\t({})\t\t\t", why.name()),
        }
    }

    fn json(&self) -> Value {
        match &self.details {
            Ok(details) => {
                let [pushed, created] = details.time.json();
                json!({
                    "tag": self.tag.as_str(),
                    "digest": details.digest,
                    "mediaType": details.media_type,
                    "size": details.size,
                    "platforms": details.platforms,
                    "pushed": pushed,
                    "created": created,
                })
            }
            Err(why) => json!({ "tag": self.tag.as_str(), "error": why.name() }),
        }
    }
}
