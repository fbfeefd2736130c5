//! Lists tags and repositories, page by page.
//!
//! Start reading at [`NamePage`].

use imgsync_oci::endpoint::Pagination;
use imgsync_oci::{Repository, Tag};

use super::Registry;
use super::error::{Error, Result};
use crate::store::{ListScope, Walk};

/// The page size of a list of repositories if the client names none, as in the stock registry.
const DEFAULT_REPOSITORIES_PER_PAGE: usize = 1000;

/// How many repositories are read at a time when all of them are iterated over.
const REPOSITORIES_PER_READ: usize = 1000;

/// The memory that a name in a list takes in addition to its text, in bytes.
const BYTES_PER_NAME: usize = 4;
/// The length of the longest tag in bytes.
const MAX_TAG_BYTES: usize = 128;

/// One page of a list, in the byte order of the names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamePage {
    pub(crate) names: Vec<String>,
    /// The page that follows; `None` if there is none.
    pub(crate) next: Option<Pagination>,
}

impl Registry {
    /// Returns whether a repository exists.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        Ok(self.store.has_repository(repository)?)
    }

    /// Returns about how many tags a repository has; `None` if there is no such repository.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn count_tags(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
    ) -> Result<Option<usize>> {
        if !self.store.has_repository(repository)? {
            return Ok(None);
        }
        let names = self.store.tag_names(repository, "", walk)?;
        Ok(Some(names.count_and_bytes().0))
    }

    /// Calls `visit` with the tags of a repository, in the byte order of their names: with all of
    /// them, unless the page has a limit. Returns the next page, if there is one.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] if there is no such repository; [`Error::Store`].
    pub(crate) fn visit_tags(
        &self,
        repository: &Repository,
        page: &Pagination,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(&str),
    ) -> Result<Option<Pagination>> {
        if !self.store.has_repository(repository)? {
            return Err(Error::NameUnknown(repository.clone()));
        }
        let limit = page.limit.unwrap_or(usize::MAX);
        if limit == 0 {
            return Ok(None);
        }
        let last = page.last.as_deref().unwrap_or_default();
        let names = self.store.tag_names(repository, last, walk)?;
        let (count, bytes) = names.count_and_bytes();
        let count = count.min(limit);
        walk.check_memory(bytes.min(limit.saturating_mul(MAX_TAG_BYTES)) + count * BYTES_PER_NAME)?;
        walk.check_steps(count)?;
        let (mut visited, mut last_visited) = (0, "");
        for name in names.after(last) {
            walk.step()?;
            if name.parse::<Tag>().is_err() || !names.has_current_link(name)? {
                continue;
            }
            if visited == limit {
                return Ok(Some(Pagination {
                    limit: Some(limit),
                    last: Some(last_visited.to_owned()),
                }));
            }
            visit(name);
            visited += 1;
            last_visited = name;
        }
        Ok(None)
    }

    /// Lists the tags of a repository as [`Registry::visit_tags`] does.
    ///
    /// # Errors
    /// As [`Registry::visit_tags`].
    pub(crate) fn list_tags(
        &self,
        repository: &Repository,
        page: &Pagination,
        walk: &Walk<'_>,
    ) -> Result<NamePage> {
        let mut names = Vec::new();
        let mut add = |name: &str| names.push(name.to_owned());
        let next = self.visit_tags(repository, page, walk, &mut add)?;
        Ok(NamePage { names, next })
    }

    /// Returns all tags of a repository, including those without a current link.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) fn all_tags(&self, repository: &Repository, walk: &Walk<'_>) -> Result<Vec<Tag>> {
        let names = self.store.tag_names(repository, "", walk)?;
        Ok(names
            .after("")
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// Lists the repositories, 1,000 on a page if the page has no limit.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn list_repositories(&self, page: &Pagination, walk: &Walk<'_>) -> Result<NamePage> {
        let limit = page.limit.unwrap_or(DEFAULT_REPOSITORIES_PER_PAGE);
        self.collect_page(ListScope::Repositories, page, limit, walk, |name| {
            Ok(name.parse::<Repository>().is_ok())
        })
    }

    /// Iterates over the repositories of a scope, in the order of their names. An error of the
    /// store ends the iteration.
    pub(super) fn repositories<'a>(
        &'a self,
        scope: ListScope,
        walk: &'a Walk<'_>,
    ) -> impl Iterator<Item = Result<Repository>> + 'a {
        let (mut after, mut is_at_end) = (String::new(), false);
        let pages = std::iter::from_fn(move || {
            if is_at_end {
                return None;
            }
            let page = self.store.list(scope, &after, REPOSITORIES_PER_READ, walk);
            match page.as_deref() {
                Ok([.., last]) => after.clone_from(last),
                _ => is_at_end = true,
            }
            Some(page)
        });
        pages.flat_map(|page| {
            let (names, error) = match page {
                Ok(names) => (names, None),
                Err(error) => (Vec::new(), Some(Err(error.into()))),
            };
            let repositories = names
                .into_iter()
                .filter_map(|name| name.parse().ok().map(Ok));
            repositories.chain(error)
        })
    }

    /// Collects the names for which `is_listed` is true, and one more than fits on the page: that
    /// tells whether there is a next page.
    fn collect_page(
        &self,
        scope: ListScope,
        page: &Pagination,
        limit: usize,
        walk: &Walk<'_>,
        is_listed: impl Fn(&str) -> Result<bool>,
    ) -> Result<NamePage> {
        let mut names: Vec<String> = Vec::new();
        let mut after = page.last.clone().unwrap_or_default();
        while limit > 0 && names.len() <= limit {
            let missing = limit.saturating_add(1) - names.len();
            let batch = self.store.list(scope, &after, missing, walk)?;
            let is_last = batch.len() < missing;
            if let Some(last) = batch.last() {
                after.clone_from(last);
            }
            walk.check_steps(batch.len())?;
            for name in batch {
                walk.step()?;
                if is_listed(&name)? {
                    names.push(name);
                }
            }
            if is_last {
                break;
            }
        }
        let has_more = names.len() > limit;
        names.truncate(limit);
        let next = has_more.then(|| Pagination {
            limit: Some(limit),
            last: names.last().cloned(),
        });
        Ok(NamePage { names, next })
    }
}
