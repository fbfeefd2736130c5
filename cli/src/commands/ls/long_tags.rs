//! Lists tags with their digests, sizes, platforms and times.

use std::collections::HashSet;

use futures::StreamExt;
use imgsync_oci::{Digest, Reference, Repository, Tag};
use serde_json::{Value, json};

use super::columns::{Columns, DIGEST_WIDTH, SIZE_WIDTH};
use super::line_errors::LineErrors;
use super::{ImageTime, Listing, MAX_CONCURRENT_TAGS};
use crate::args::ManifestName;
use crate::commands::contents::{
    ContentsError, RemoteImage, fetch_creation_time, read_contents, total_size,
};
use crate::exit::Failure;
use crate::text::format_bytes;

/// What a tag points at.
struct TagDetails {
    digest: Digest,
    media_type: String,
    /// The size of all blobs in bytes, each counted once.
    size: u64,
    platforms: Vec<String>,
    time: ImageTime,
}

/// What is known about a tag.
enum TagState {
    Read(TagDetails),
    /// The tag was deleted since it was listed.
    Gone,
    /// The manifest has an unknown format.
    Unreadable,
}

impl Listing<'_> {
    /// Prints a page of tags.
    ///
    /// # Errors
    /// Fails if the list must end. Other failures are added to `errors`.
    pub(super) async fn print_long_tags(
        &self,
        repository: &Repository,
        tags: Vec<Tag>,
        errors: &mut LineErrors,
    ) -> Result<(), Failure> {
        let platform_width = "linux/amd64".len();
        let widths = [DIGEST_WIDTH, SIZE_WIDTH, platform_width];
        let columns = Columns::new(tags.iter().map(Tag::as_str), &widths);
        let rows = tags.into_iter().map(|tag| async {
            let name = ManifestName {
                registry: self.registry.clone(),
                repository: repository.clone(),
                reference: Reference::Tag(tag.clone()),
            };
            (tag, self.read_tag(&name).await)
        });
        let rows = futures::stream::iter(rows).buffered(MAX_CONCURRENT_TAGS);
        let mut rows = std::pin::pin!(rows);
        while let Some((tag, state)) = rows.next().await {
            errors.add(&state, self.report)?;
            let fields = row_fields(&state);
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let fields = [&[tag.as_str()], &fields[..]].concat();
            self.print_row(&columns, &fields, || row_json(&tag, &state));
        }
        Ok(())
    }

    async fn read_tag(&self, name: &ManifestName) -> Result<TagState, Failure> {
        let fetched = self
            .client
            .fetch_manifest(&name.repository, &name.reference);
        let Some(fetched) = fetched.await? else {
            return Ok(TagState::Gone);
        };
        let contents = match read_contents(&self.client, name, fetched).await {
            Ok(contents) => contents,
            Err(ContentsError::UnknownFormat(_)) => return Ok(TagState::Unreadable),
            Err(ContentsError::Request(failure)) => return Err(failure),
        };
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
        Ok(TagState::Read(TagDetails {
            digest: contents.fetched.digest,
            media_type: contents.media_type,
            size,
            platforms,
            time: ImageTime {
                pushed_at,
                created_at,
            },
        }))
    }
}

/// Returns the fields of a line that follow the tag.
fn row_fields(state: &Result<TagState, Failure>) -> [String; 4] {
    let why = match state {
        Ok(TagState::Read(details)) => {
            let (digest, size) = (details.digest.to_string(), format_bytes(details.size));
            return [
                digest,
                size,
                details.platforms.join(","),
                details.time.text(),
            ];
        }
        Ok(TagState::Gone) => "gone",
        Ok(TagState::Unreadable) => "unreadable",
        Err(_) => "error",
    };
    let mut fields: [String; 4] = Default::default();
    fields[0] = format!("({why})");
    fields
}

fn row_json(tag: &Tag, state: &Result<TagState, Failure>) -> Value {
    let error = match state {
        Ok(TagState::Read(details)) => {
            let [pushed, created] = details.time.json();
            return json!({
                "tag": tag.as_str(),
                "digest": details.digest,
                "mediaType": details.media_type,
                "size": details.size,
                "platforms": details.platforms,
                "pushed": pushed,
                "created": created,
            });
        }
        Ok(TagState::Gone) => "gone",
        Ok(TagState::Unreadable) => "unreadable",
        Err(failure) => &failure.what,
    };
    json!({ "tag": tag.as_str(), "error": error })
}
