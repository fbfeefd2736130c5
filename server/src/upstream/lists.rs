//! Lists tags and referrers of repositories with an upstream: those at the upstream merged with
//! those stored here.
//!
//! Upstream lists are only kept in memory, for a short time. Start reading at [`Upstreams::tags`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::endpoint::Pagination;
use imgsync_oci::referrers::ReferrerDescriptor;
use imgsync_oci::{Digest, Repository, Tag};

use super::error::{Error, UpstreamFailure};
use super::manifests::Freshness;
use super::singleflight::SingleFlight;
use super::{UpstreamRepository, Upstreams, run_blocking};
use crate::registry;

/// Time limit for fetching a list, with all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of tags taken from an upstream. The stock registry returns up to 1,000 per page.
const MAX_UPSTREAM_TAGS: usize = 20_000;
/// How long a tag list is reused, so that a client that pages through it causes one fetch.
const TAG_LIST_TTL: Duration = Duration::from_secs(60);
/// Maximum number of repositories whose tag lists are kept.
const MAX_TAG_LISTS: usize = 16;

type TagSet = Arc<BTreeSet<Tag>>;

/// The tag lists fetched recently, and those being fetched.
#[derive(Default)]
pub(super) struct TagListCache {
    cached: Mutex<HashMap<Repository, (Instant, TagSet)>>,
    requests: SingleFlight<Repository, Result<Option<TagSet>, UpstreamFailure>>,
}

impl TagListCache {
    /// Returns the tags of a repository, if they were fetched recently.
    fn get(&self, repository: &Repository) -> Option<TagSet> {
        let lists = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, names) = lists.get(repository)?;
        (since.elapsed() < TAG_LIST_TTL).then(|| Arc::clone(names))
    }

    /// Stores the tags of a repository.
    fn insert(&self, repository: Repository, names: TagSet) {
        let mut lists = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, (since, _)| since.elapsed() < TAG_LIST_TTL);
        if lists.len() >= MAX_TAG_LISTS {
            lists.clear();
        }
        lists.insert(repository, (Instant::now(), names));
    }
}

impl Upstreams {
    /// Returns a page of a repository's tags, in byte order: those at the upstream and those stored
    /// here. If the upstream cannot be asked, returns only those stored here.
    ///
    /// # Errors
    /// Returns an error if the repository exists neither here nor at the upstream; or if it does
    /// not exist here and the upstream cannot be asked.
    pub(crate) async fn tags(
        &self,
        place: &UpstreamRepository,
        page: &Pagination,
    ) -> Result<(registry::NamePage, Freshness), Error> {
        let (registry, repository, _) = self.disk_context(place, ());
        let all = Pagination::default();
        let here = run_blocking(move || registry.list_tags(&repository, &all)).await;
        let here = match here {
            Ok(names) => Some(names.names),
            Err(registry::Error::NameUnknown(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if !place.is_allowed() && here.is_none() {
            return Err(place.not_allowed_error());
        }
        let there = match place.is_allowed() {
            true => self.upstream_tags(place).await,
            false => Ok(None),
        };
        let (there, freshness) = match (there, &here) {
            (Ok(there), _) => (there, Freshness::Fresh),
            (Err(failed), Some(_)) => {
                place.upstream.log_stale(&failed);
                (None, Freshness::Stale)
            }
            (Err(failed), None) => return Err(failed.into()),
        };
        if here.is_none() && there.is_none() {
            return Err(registry::Error::NameUnknown(place.repository.clone()).into());
        }
        let here = here.iter().flatten().map(String::as_str);
        let here = here.filter(|name| name.parse::<Tag>().is_ok());
        let there = there.iter().flat_map(|there| there.iter().map(Tag::as_str));
        Ok((paginate(here.chain(there), page), freshness))
    }

    /// Returns all tags at the upstream, cached or fetched; `None` if it has no such repository.
    async fn upstream_tags(
        &self,
        place: &UpstreamRepository,
    ) -> Result<Option<TagSet>, UpstreamFailure> {
        if let Some(names) = self.inner.tag_lists.get(&place.repository) {
            return Ok(Some(names));
        }
        if let Some(failed) = place
            .read_only_failure()
            .or_else(|| place.upstream.breaker.current_failure())
        {
            return Err(failed);
        }
        let (this, at) = (self.clone(), place.clone());
        let question = || async move { this.fetch_tags(&at).await };
        let asked = self
            .inner
            .tag_lists
            .requests
            .run(place.repository.clone(), question);
        asked
            .await
            .unwrap_or_else(|lost| Err(place.singleflight_failure(lost)))
    }

    /// Fetches all tags from the upstream, up to [`MAX_UPSTREAM_TAGS`], and caches them.
    async fn fetch_tags(
        &self,
        place: &UpstreamRepository,
    ) -> Result<Option<TagSet>, UpstreamFailure> {
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        let listing = || async move {
            let (mut names, mut next) = (BTreeSet::new(), None);
            loop {
                let Some(part) = client.list_tags(name, next).await? else {
                    return Ok(None);
                };
                names.extend(part.names);
                next = part.next;
                if next.is_none() || names.len() >= MAX_UPSTREAM_TAGS {
                    return Ok(Some(names));
                }
            }
        };
        let names = place
            .upstream
            .request(LIST_TIMEOUT, listing)
            .await?
            .map(Arc::new);
        if let Some(names) = &names {
            self.inner
                .tag_lists
                .insert(place.repository.clone(), Arc::clone(names));
        }
        Ok(names)
    }

    /// Returns the referrers of a manifest that the upstream has and that are not among those
    /// stored `here`; at most a thousand. If the upstream cannot be asked and some are stored here,
    /// returns none.
    ///
    /// # Errors
    /// Returns an error if the upstream cannot be asked and no referrers are stored here, unless
    /// the manifest was pushed. An empty list would mean that the image has no signatures.
    pub(crate) async fn referrers(
        &self,
        place: &UpstreamRepository,
        digest: &Digest,
        artifact_type: Option<&str>,
        here: &[ReferrerDescriptor],
    ) -> Result<(Vec<ReferrerDescriptor>, Freshness), Error> {
        if !place.is_allowed() {
            return Ok((Vec::new(), Freshness::Fresh));
        }
        let (client, name) = (place.upstream.client(), &place.upstream_name);
        let answer = match place
            .read_only_failure()
            .or_else(|| place.upstream.breaker.current_failure())
        {
            Some(failed) => Err(failed),
            None => {
                place
                    .upstream
                    .request(LIST_TIMEOUT, || {
                        client.list_referrer_descriptors(name, digest, artifact_type)
                    })
                    .await
            }
        };
        match answer {
            Ok(there) => {
                let known: BTreeSet<_> = here.iter().map(|it| &it.digest).collect();
                let there = there.into_iter().flatten();
                let news = there.filter(|it| !known.contains(&it.digest));
                // Not every registry filters by artifact type.
                let news = news.filter(|it| {
                    artifact_type.is_none_or(|wanted| it.artifact_type.as_deref() == Some(wanted))
                });
                let news: BTreeMap<_, _> = news.map(|it| (it.digest.clone(), it)).collect();
                Ok((news.into_values().collect(), Freshness::Fresh))
            }
            Err(failed) if here.is_empty() && !self.is_pushed(place, digest).await? => {
                Err(failed.into())
            }
            Err(failed) => {
                place.upstream.log_stale(&failed);
                Ok((Vec::new(), Freshness::Stale))
            }
        }
    }
}

/// Returns the requested page of names, which may come in any order.
fn paginate<'a>(names: impl Iterator<Item = &'a str>, page: &Pagination) -> registry::NamePage {
    let after = page.last.as_deref().unwrap_or_default();
    let names: BTreeSet<&str> = names.filter(|name| *name > after).collect();
    let mut rest = names.into_iter();
    let limit = page.limit.unwrap_or(usize::MAX);
    let names: Vec<String> = rest.by_ref().take(limit).map(str::to_owned).collect();
    let next = (limit > 0 && rest.next().is_some()).then(|| Pagination {
        limit: Some(limit),
        last: names.last().cloned(),
    });
    registry::NamePage { names, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gaps() {
        let names = ["c", "a", "b", "a"];
        let page = |limit, last: Option<&str>| {
            let page = Pagination {
                limit,
                last: last.map(str::to_owned),
            };
            let cut = paginate(names.into_iter(), &page);
            (cut.names.concat(), cut.next.and_then(|next| next.last))
        };
        assert_eq!(page(None, None), ("abc".to_owned(), None));
        assert_eq!(page(Some(2), None), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(page(Some(2), Some("b")), ("c".to_owned(), None));
        assert_eq!(page(Some(0), None), (String::new(), None));
    }
}
