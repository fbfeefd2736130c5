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

use super::error::{Error, UpstreamFailure, UpstreamFailureKind};
use super::manifests::Freshness;
use super::singleflight::SingleFlight;
use super::{UpstreamRepository, Upstreams};
use crate::registry::{self, ManifestState};

/// Time limit for fetching a list, with all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of tags taken from an upstream. The stock registry returns up to 1,000 per page.
const MAX_UPSTREAM_TAGS: usize = 20_000;
/// Maximum number of pages of a tag list that are requested.
const MAX_TAG_PAGES: usize = 1000;
/// Maximum number of pages without a new tag, one after the other. Some registries send a few,
/// because they filter tags after they cut the pages.
const MAX_TAG_PAGES_WITHOUT_NEWS: usize = 10;
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
        let (fetched_at, tags) = lists.get(repository)?;
        (fetched_at.elapsed() < TAG_LIST_TTL).then(|| Arc::clone(tags))
    }

    /// Stores the tags of a repository.
    fn insert(&self, repository: Repository, tags: TagSet) {
        let mut lists = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, (fetched_at, _)| fetched_at.elapsed() < TAG_LIST_TTL);
        if lists.len() >= MAX_TAG_LISTS {
            lists.clear();
        }
        lists.insert(repository, (Instant::now(), tags));
    }
}

impl Upstreams {
    /// Returns a page of a repository's tags, in byte order: those at the upstream and those stored
    /// here. If the upstream cannot be asked, returns only those stored here, which are `local`: the
    /// names on the page that [`local_page`] returns; `None` if there is no such repository here.
    ///
    /// # Errors
    /// Returns an error if the repository exists neither here nor at the upstream; or if it does
    /// not exist here and the upstream cannot be asked.
    pub(crate) async fn tags(
        &self,
        source: &UpstreamRepository,
        page: &Pagination,
        local: Option<Vec<String>>,
    ) -> Result<(registry::NamePage, Freshness), Error> {
        let remote = if source.is_allowed() {
            self.upstream_tags(source).await
        } else if local.is_some() {
            Ok(None)
        } else {
            return Err(source.not_allowed_error());
        };
        let (remote, freshness) = match remote {
            Ok(remote) => (remote, Freshness::Fresh),
            Err(failure) if local.is_some() => {
                source.upstream.log_stale(&failure);
                (None, Freshness::Stale)
            }
            Err(failure) => return Err(failure.into()),
        };
        if local.is_none() && remote.is_none() {
            return Err(registry::Error::NameUnknown(source.repository.clone()).into());
        }
        let local = local.iter().flatten().map(String::as_str);
        let local = local.filter(|name| name.parse::<Tag>().is_ok());
        let remote = remote.iter().flat_map(|tags| tags.iter().map(Tag::as_str));
        Ok((paginate(local.chain(remote), page), freshness))
    }

    /// Returns all tags at the upstream, cached or fetched; `None` if it has no such repository.
    async fn upstream_tags(
        &self,
        source: &UpstreamRepository,
    ) -> Result<Option<TagSet>, UpstreamFailure> {
        let tag_lists = &self.inner.tag_lists;
        if let Some(tags) = tag_lists.get(&source.repository) {
            return Ok(Some(tags));
        }
        if let Some(failure) = source.current_failure() {
            return Err(failure);
        }
        let (this, at) = (self.clone(), source.clone());
        let fetch = || async move { this.fetch_tags(&at).await };
        let fetched = tag_lists.requests.run(source.repository.clone(), fetch);
        fetched
            .await
            .unwrap_or_else(|error| Err(source.singleflight_failure(error)))
    }

    /// Fetches all tags from the upstream, up to [`MAX_UPSTREAM_TAGS`], and caches them.
    async fn fetch_tags(
        &self,
        source: &UpstreamRepository,
    ) -> Result<Option<TagSet>, UpstreamFailure> {
        let tags = source.request(LIST_TIMEOUT, |client, name| async move {
            let (mut list, mut next) = (TagPages::default(), None);
            loop {
                let Some(page) = client.list_tags(name, next).await? else {
                    return Ok(None);
                };
                list.add(page.names);
                next = page.next;
                if next.is_none() || list.tags.len() >= MAX_UPSTREAM_TAGS {
                    return Ok(Some(Ok(list.tags)));
                }
                if list.is_endless() {
                    return Ok(Some(Err(list.pages)));
                }
            }
        });
        let endless = |pages| {
            let message = format!("its list of tags did not end after {pages} pages");
            source.record_failure(source.failure(UpstreamFailureKind::InvalidResponse, &message))
        };
        let tags = tags.await?.transpose().map_err(endless)?.map(Arc::new);
        if let Some(tags) = &tags {
            let repository = source.repository.clone();
            self.inner.tag_lists.insert(repository, Arc::clone(tags));
        }
        Ok(tags)
    }

    /// Returns the referrers of a manifest that the upstream has and that are not among those
    /// here, which are `local`; at most a thousand. If the upstream cannot be asked and some are
    /// stored here, returns none.
    ///
    /// # Errors
    /// Returns an error if the upstream cannot be asked and no referrers are stored here, unless
    /// the manifest was pushed. An empty list would mean that the image has no signatures.
    pub(crate) async fn referrers(
        &self,
        source: &UpstreamRepository,
        digest: &Digest,
        artifact_type: Option<&str>,
        local: &[ReferrerDescriptor],
    ) -> Result<(Vec<ReferrerDescriptor>, Freshness), Error> {
        if !source.is_allowed() {
            return Ok((Vec::new(), Freshness::Fresh));
        }
        let response = match source.current_failure() {
            Some(failure) => Err(failure),
            None => {
                let request = source.request(LIST_TIMEOUT, |client, name| {
                    client.list_referrer_descriptors(name, digest, artifact_type)
                });
                request.await
            }
        };
        let failure = match response {
            Ok(remote) => {
                let local: BTreeSet<_> = local.iter().map(|referrer| &referrer.digest).collect();
                // Not every registry filters by artifact type.
                let is_new = |referrer: &ReferrerDescriptor| {
                    !local.contains(&referrer.digest)
                        && (artifact_type.is_none()
                            || referrer.artifact_type.as_deref() == artifact_type)
                };
                let remote = remote.into_iter().flatten().filter(is_new);
                let remote: BTreeMap<_, _> = remote
                    .map(|referrer| (referrer.digest.clone(), referrer))
                    .collect();
                return Ok((remote.into_values().collect(), Freshness::Fresh));
            }
            Err(failure) => failure,
        };
        let state = self.manifest_state(source, digest);
        if local.is_empty() && state.await? != ManifestState::Pushed {
            return Err(failure.into());
        }
        source.upstream.log_stale(&failure);
        Ok((Vec::new(), Freshness::Stale))
    }
}

/// Returns the page of the local names that are needed for a page of local and other names. It has
/// one name more, which tells whether there is a next page.
pub(crate) fn local_page(page: &Pagination) -> Pagination {
    Pagination {
        limit: page.limit.map(|limit| limit.saturating_add(1)),
        last: page.last.clone(),
    }
}

/// The pages of a tag list that were fetched so far.
#[derive(Default)]
struct TagPages {
    tags: BTreeSet<Tag>,
    pages: usize,
    pages_without_news: usize,
}

impl TagPages {
    /// Adds the tags of the next page.
    fn add(&mut self, names: Vec<Tag>) {
        let before = self.tags.len();
        self.tags.extend(names);
        self.pages += 1;
        self.pages_without_news = if self.tags.len() > before {
            0
        } else {
            self.pages_without_news + 1
        };
    }

    /// Returns whether the list seems to have no end.
    fn is_endless(&self) -> bool {
        self.pages >= MAX_TAG_PAGES || self.pages_without_news >= MAX_TAG_PAGES_WITHOUT_NEWS
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
    fn pages_without_new_tags_and_too_many_pages_are_endless() {
        let tag = |number: usize| vec![format!("v{number}").parse::<Tag>().unwrap()];
        let mut list = TagPages::default();
        for page in 0..MAX_TAG_PAGES_WITHOUT_NEWS * 3 {
            assert!(!list.is_endless(), "{page}");
            let is_new = page % MAX_TAG_PAGES_WITHOUT_NEWS == 0;
            list.add(if is_new { tag(page) } else { Vec::new() });
        }
        list.add(tag(0));
        assert!(list.is_endless());
        let mut list = TagPages::default();
        for page in 0..MAX_TAG_PAGES {
            assert!(!list.is_endless(), "{page}");
            list.add(tag(page));
        }
        assert!(list.is_endless());
    }

    #[test]
    fn pages_follow_each_other_without_gaps() {
        let names = ["c", "a", "b", "a"];
        let page = |limit, last: Option<&str>| {
            let page = Pagination {
                limit,
                last: last.map(str::to_owned),
            };
            let listed = paginate(names.into_iter(), &page);
            let last = listed.next.and_then(|next| next.last);
            (listed.names.concat(), last)
        };
        assert_eq!(page(None, None), ("abc".to_owned(), None));
        assert_eq!(page(Some(2), None), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(page(Some(2), Some("b")), ("c".to_owned(), None));
        assert_eq!(page(Some(0), None), (String::new(), None));
    }
}
