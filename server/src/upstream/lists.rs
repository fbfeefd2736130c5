//! Tags and referrers of a repository with an upstream: what is there, and what is here beside.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use imgsync_oci::endpoint::Page;
use imgsync_oci::referrers::Referrer;
use imgsync_oci::{Digest, Repository, Tag};

use super::error::{Error, Failed};
use super::flights::Flights;
use super::manifests::Freshness;
use super::{Place, Upstreams, blocking};
use crate::registry;

/// How long a list may take, all its pages.
const TIME: Duration = Duration::from_secs(30);
/// How many tags are taken from an upstream. The stock registry gives 1,000 a page.
const MOST_TAGS: usize = 20_000;
/// How long a list of tags counts: who reads it page by page has it fetched once.
const LIFE: Duration = Duration::from_secs(60);
/// How many repositories' lists are remembered.
const MOST_LISTS: usize = 16;

type Names = Arc<BTreeSet<Tag>>;

/// Lists of tags that upstreams gave a moment ago, or are about to give.
#[derive(Default)]
pub(super) struct Lists {
    known: Mutex<HashMap<Repository, (Instant, Names)>>,
    flights: Flights<Repository, Result<Option<Names>, Failed>>,
}

impl Lists {
    fn get(&self, repository: &Repository) -> Option<Names> {
        let lists = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, names) = lists.get(repository)?;
        (since.elapsed() < LIFE).then(|| Arc::clone(names))
    }

    fn keep(&self, repository: Repository, names: Names) {
        let mut lists = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, (since, _)| since.elapsed() < LIFE);
        if lists.len() >= MOST_LISTS {
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
        place: &Place,
        page: &Page,
    ) -> Result<(registry::Names, Freshness), Error> {
        let (registry, repository, _) = self.at(place, ());
        let all = Page::default();
        let here = blocking(move || registry.tags(&repository, &all)).await;
        let here = match here {
            Ok(names) => Some(names.names),
            Err(registry::Error::NameUnknown(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if !place.is_allowed() && here.is_none() {
            return Err(place.refused());
        }
        let there = match place.is_allowed() {
            true => self.tags_there(place).await,
            false => Ok(None),
        };
        let (there, freshness) = match (there, &here) {
            (Ok(there), _) => (there, Freshness::Fresh),
            (Err(failed), Some(_)) => {
                place.remote.tell_stale(&failed);
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
        Ok((cut(here.chain(there), page), freshness))
    }

    async fn tags_there(&self, place: &Place) -> Result<Option<Names>, Failed> {
        if let Some(names) = self.inner.lists.get(&place.repository) {
            return Ok(Some(names));
        }
        if let Some(failed) = place.closed().or_else(|| place.remote.breaker.open()) {
            return Err(failed);
        }
        let (this, at) = (self.clone(), place.clone());
        let question = || async move { this.list(&at).await };
        let asked = self
            .inner
            .lists
            .flights
            .ask(place.repository.clone(), question);
        asked.await.unwrap_or_else(|lost| Err(place.lost(lost)))
    }

    async fn list(&self, place: &Place) -> Result<Option<Names>, Failed> {
        let (client, name) = (place.remote.client(), &place.name);
        let listing = || async move {
            let (mut names, mut next) = (BTreeSet::new(), None);
            loop {
                let Some(part) = client.tags(name, next).await? else {
                    return Ok(None);
                };
                names.extend(part.names);
                next = part.next;
                if next.is_none() || names.len() >= MOST_TAGS {
                    return Ok(Some(names));
                }
            }
        };
        let names = place.remote.ask(TIME, listing).await?.map(Arc::new);
        if let Some(names) = &names {
            self.inner
                .lists
                .keep(place.repository.clone(), Arc::clone(names));
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
        place: &Place,
        digest: &Digest,
        artifact_type: Option<&str>,
        here: &[Referrer],
    ) -> Result<(Vec<Referrer>, Freshness), Error> {
        if !place.is_allowed() {
            return Ok((Vec::new(), Freshness::Fresh));
        }
        let (client, name) = (place.remote.client(), &place.name);
        let answer = match place.closed().or_else(|| place.remote.breaker.open()) {
            Some(failed) => Err(failed),
            None => {
                place
                    .remote
                    .ask(TIME, || client.shown_referrers(name, digest, artifact_type))
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
                place.remote.tell_stale(&failed);
                Ok((Vec::new(), Freshness::Stale))
            }
        }
    }
}

/// The part that a page asks for, of names in any order.
fn cut<'a>(names: impl Iterator<Item = &'a str>, page: &Page) -> registry::Names {
    let after = page.last.as_deref().unwrap_or_default();
    let names: BTreeSet<&str> = names.filter(|name| *name > after).collect();
    let mut rest = names.into_iter();
    let limit = page.limit.unwrap_or(usize::MAX);
    let names: Vec<String> = rest.by_ref().take(limit).map(str::to_owned).collect();
    let next = (limit > 0 && rest.next().is_some()).then(|| Page {
        limit: Some(limit),
        last: names.last().cloned(),
    });
    registry::Names { names, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_gaps() {
        let names = ["c", "a", "b", "a"];
        let page = |limit, last: Option<&str>| {
            let page = Page {
                limit,
                last: last.map(str::to_owned),
            };
            let cut = cut(names.into_iter(), &page);
            (cut.names.concat(), cut.next.and_then(|next| next.last))
        };
        assert_eq!(page(None, None), ("abc".to_owned(), None));
        assert_eq!(page(Some(2), None), ("ab".to_owned(), Some("b".to_owned())));
        assert_eq!(page(Some(2), Some("b")), ("c".to_owned(), None));
        assert_eq!(page(Some(0), None), (String::new(), None));
    }
}
