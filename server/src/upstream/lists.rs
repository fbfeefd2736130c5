//! Tags and referrers of a repository with an upstream: what is there, and what is here beside.

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

/// How long a list may take, all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// How many tags are taken from an upstream. The stock registry gives 1,000 a page.
const MAX_UPSTREAM_TAGS: usize = 20_000;
/// How long a list of tags counts: who reads it page by page has it fetched once.
const TAG_LIST_TTL: Duration = Duration::from_secs(60);
/// How many repositories' lists are remembered.
const MAX_TAG_LISTS: usize = 16;

type TagSet = Arc<BTreeSet<Tag>>;

/// Lists of tags that upstreams gave a moment ago, or are about to give.
#[derive(Default)]
pub(super) struct TagListCache {
    cached: Mutex<HashMap<Repository, (Instant, TagSet)>>,
    requests: SingleFlight<Repository, Result<Option<TagSet>, UpstreamFailure>>,
}

impl TagListCache {
    fn get(&self, repository: &Repository) -> Option<TagSet> {
        let lists = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, names) = lists.get(repository)?;
        (since.elapsed() < TAG_LIST_TTL).then(|| Arc::clone(names))
    }

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
    /// A page of a repository's tags: the upstream's and those that are only here, in the order of
    /// their bytes. Where the upstream cannot be asked, those that are here.
    ///
    /// # Errors
    /// There is no such repository, here or there; it is not here, and the upstream cannot be
    /// asked.
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

    /// The referrers that the upstream knows of a manifest, beside those `here`; at most a
    /// thousand. Where it cannot be asked, none, if there are any here.
    ///
    /// # Errors
    /// It cannot be asked, and there are none here: to say so would mean that nobody signed what
    /// came from there.
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
                // Not every registry sifts.
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

/// The part that a page asks for, of names in any order.
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
