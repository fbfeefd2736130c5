//! Lists the tags of a source, fetches the creation dates that decide, and selects.
//!
//! The rules themselves are in `mirror`.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::Tag;

use super::MirrorRunner;
use crate::copy::fetch_creation_date;
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::MirrorJob;
use crate::mirror::selection::{MissingDates, SkipReason, TagDates, TagSelection, select_tags};
use crate::text::format_count;
use crate::transports::CopySource;

/// The number of creation dates that are fetched at the same time.
const MAX_CONCURRENT_DATE_REQUESTS: usize = 8;
/// The largest number of tags of a repository.
const MAX_TAGS: usize = 1_000_000;

/// The tags of a source.
pub(super) struct SourceTags {
    /// All tags.
    pub(super) listed: Arc<HashSet<Tag>>,
    /// The selected tags, in the order in which they are copied.
    pub(super) selected: Vec<Tag>,
    /// The tags that are not selected, with the reasons.
    pub(super) skipped: Vec<(Tag, SkipReason)>,
    /// The tags whose creation dates decide and could not be read.
    pub(super) undated: Vec<(Tag, Failure)>,
}

impl MirrorRunner<'_> {
    /// Lists the tags of a source, and selects.
    ///
    /// # Errors
    /// Fails if the tags cannot be listed.
    pub(super) async fn select_tags(
        &self,
        source: &dyn CopySource,
        job: &MirrorJob,
    ) -> Result<SourceTags, Failure> {
        let listed = list_tags(source).await?;
        let tags: Vec<Tag> = listed.iter().cloned().collect();
        let mut dates = TagDates::new();
        let TagSelection { selected, skipped } = loop {
            match select_tags(&tags, &job.rules, &dates, self.now) {
                Ok(selection) => break selection,
                Err(MissingDates(missing)) => {
                    let images = format_count(missing.len(), "image", "images");
                    self.report
                        .detail(&format!("fetching the creation dates of {images}"));
                    fetch_dates(source, missing, &mut dates).await;
                }
            }
        };
        let (undated, skipped): (Vec<_>, Vec<_>) = skipped
            .into_iter()
            .partition(|(_, reason)| *reason == SkipReason::DateUnavailable);
        Ok(SourceTags {
            listed: Arc::new(listed),
            selected,
            skipped,
            undated: undated
                .into_iter()
                .filter_map(|(tag, _)| Some((tag.clone(), dates.remove(&tag)?.err()?)))
                .collect(),
        })
    }
}

/// Fetches the creation dates of tags.
async fn fetch_dates(source: &dyn CopySource, tags: Vec<Tag>, dates: &mut TagDates) {
    let requests = tags.into_iter().map(|tag| async move {
        let date = fetch_creation_date(source, &tag).await;
        (tag, date)
    });
    let requests = futures::stream::iter(requests).buffer_unordered(MAX_CONCURRENT_DATE_REQUESTS);
    dates.extend(requests.collect::<Vec<_>>().await);
}

async fn list_tags(source: &dyn CopySource) -> Result<HashSet<Tag>, Failure> {
    let mut listed = HashSet::new();
    let mut pages = source.list_tags();
    while let Some(page) = pages.try_next().await? {
        listed.extend(page);
        if listed.len() > MAX_TAGS {
            let what = format!("source: {} lists more than {MAX_TAGS} tags", source.name());
            return Err(Failure::new(FailureKind::Source, what));
        }
    }
    Ok(listed)
}
