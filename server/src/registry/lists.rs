//! Lists of tags and of repositories, page by page.

use imgsync_oci::endpoint::Page;
use imgsync_oci::{Repository, Tag};

use super::Registry;
use super::error::{Error, Result};
use crate::store::{Key, List};

/// At most so many repositories in one answer, as in the stock registry.
const REPOSITORIES: usize = 1000;

/// One page of a list, in the order of the names' bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The names.
    pub(crate) names: Vec<String>,
    /// Where there are more: the page that follows.
    pub(crate) next: Option<Page>,
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
    pub(crate) fn tags(&self, repository: &Repository, page: &Page) -> Result<Names> {
        if !self.store.has_repository(repository)? {
            return Err(Error::NameUnknown(repository.clone()));
        }
        let limit = page.limit.unwrap_or(usize::MAX);
        self.page(List::Tags(repository), page, limit, |name| {
            let Ok(tag) = name.parse::<Tag>() else {
                return Ok(false);
            };
            let current = self.store.len(Key::TagCurrent(repository, &tag))?;
            Ok(current.is_some_and(|len| len > 0))
        })
    }

    /// The repositories, 1,000 a page where nobody says how many.
    pub(crate) fn repositories(&self, page: &Page) -> Result<Names> {
        let limit = page.limit.unwrap_or(REPOSITORIES);
        self.page(List::Repositories, page, limit, |name| {
            Ok(name.parse::<Repository>().is_ok())
        })
    }

    /// Collects names that count until there is one more than the page takes.
    fn page(
        &self,
        list: List<'_>,
        page: &Page,
        limit: usize,
        counts: impl Fn(&str) -> Result<bool>,
    ) -> Result<Names> {
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
        let next = more.then(|| Page {
            limit: Some(limit),
            last: names.last().cloned(),
        });
        Ok(Names { names, next })
    }
}
