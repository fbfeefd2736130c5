//! Lists of tags and of repositories, page by page.

use imgsync_oci::endpoint::Pagination;
use imgsync_oci::{Repository, Tag};

use super::Registry;
use super::error::{Error, Result};
use crate::store::{ListScope, ObjectKey};

/// At most so many repositories in one answer, as in the stock registry.
const DEFAULT_REPOSITORIES_PER_PAGE: usize = 1000;

/// One page of a list, in the order of the names' bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamePage {
    /// The names.
    pub(crate) names: Vec<String>,
    /// Where there are more: the page that follows.
    pub(crate) next: Option<Pagination>,
}

impl Registry {
    /// Whether there is a repository of that name.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn has_repository(&self, repository: &Repository) -> Result<bool> {
        Ok(self.store.has_repository(repository)?)
    }

    /// A repository's tags; all of them, unless the page is limited.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] where there is no such repository.
    pub(crate) fn list_tags(&self, repository: &Repository, page: &Pagination) -> Result<NamePage> {
        if !self.store.has_repository(repository)? {
            return Err(Error::NameUnknown(repository.clone()));
        }
        let limit = page.limit.unwrap_or(usize::MAX);
        self.collect_page(ListScope::Tags(repository), page, limit, |name| {
            let Ok(tag) = name.parse::<Tag>() else {
                return Ok(false);
            };
            let current = self.store.len(ObjectKey::TagCurrent(repository, &tag))?;
            Ok(current.is_some_and(|len| len > 0))
        })
    }

    /// The repositories, 1,000 a page where nobody says how many.
    pub(crate) fn list_repositories(&self, page: &Pagination) -> Result<NamePage> {
        let limit = page.limit.unwrap_or(DEFAULT_REPOSITORIES_PER_PAGE);
        self.collect_page(ListScope::Repositories, page, limit, |name| {
            Ok(name.parse::<Repository>().is_ok())
        })
    }

    /// Collects names that count until there is one more than the page takes.
    fn collect_page(
        &self,
        list: ListScope<'_>,
        page: &Pagination,
        limit: usize,
        counts: impl Fn(&str) -> Result<bool>,
    ) -> Result<NamePage> {
        let mut names: Vec<String> = Vec::new();
        let mut after = page.last.clone().unwrap_or_default();
        while limit > 0 && names.len() <= limit {
            let wanted = limit.saturating_add(1) - names.len();
            let batch = self.store.list(list, &after, wanted)?;
            let is_last = batch.len() < wanted;
            if let Some(last) = batch.last() {
                after.clone_from(last);
            }
            for name in batch {
                if counts(&name)? {
                    names.push(name);
                }
            }
            if is_last {
                break;
            }
        }
        let more = names.len() > limit;
        names.truncate(limit);
        let next = more.then(|| Pagination {
            limit: Some(limit),
            last: names.last().cloned(),
        });
        Ok(NamePage { names, next })
    }
}
