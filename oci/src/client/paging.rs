//! The position in a list of several pages, with limits, because a registry can link from page to
//! page without end.
//!
//! This module sends no requests. Start reading at [`NextPage`].

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use url::Url;

/// The most pages of one list.
const MAX_LIST_PAGES: usize = 20_000;
/// The most pages in a row without a name. Some registries leave out the names that the caller may
/// not see after they have cut the list into pages.
const MAX_EMPTY_PAGES: usize = 100;

/// The next page of a list, and what is needed to notice that the list does not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPage {
    url: Url,
    pages: usize,
    empty_pages: usize,
    /// The hashes of the URLs of all pages, and of the names on each page that has names. Hashes
    /// take less memory, and a collision ends only a list of a registry that seeks one.
    seen: HashSet<u64>,
}

/// The list does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EndlessList {
    #[error("the list does not end: a page links to a page that was read before")]
    RepeatedUrl,
    #[error("the list does not end: two pages have the same names")]
    RepeatedNames,
    #[error("the list does not end: {MAX_EMPTY_PAGES} pages in a row have no names")]
    EmptyPages,
    #[error("the list has more than {MAX_LIST_PAGES} pages")]
    TooManyPages,
}

impl NextPage {
    /// Returns the first page.
    pub(super) fn first(url: Url) -> Self {
        let seen = HashSet::from([hash(url.as_str())]);
        Self {
            url,
            pages: 0,
            empty_pages: 0,
            seen,
        }
    }

    /// Returns the URL of the page.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Moves on to the page `next`, after this page with its `names` was read.
    ///
    /// # Errors
    /// Fails if the list does not end.
    pub(super) fn advance<'a>(
        &mut self,
        next: Url,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), EndlessList> {
        let names: Vec<&String> = names.collect();
        self.pages += 1;
        self.empty_pages = if names.is_empty() {
            self.empty_pages + 1
        } else {
            0
        };
        if self.pages >= MAX_LIST_PAGES {
            return Err(EndlessList::TooManyPages);
        }
        if self.empty_pages >= MAX_EMPTY_PAGES {
            return Err(EndlessList::EmptyPages);
        }
        if !names.is_empty() && !self.seen.insert(hash(&names)) {
            return Err(EndlessList::RepeatedNames);
        }
        if !self.seen.insert(hash(next.as_str())) {
            return Err(EndlessList::RepeatedUrl);
        }
        self.url = next;
        Ok(())
    }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a list whose page `n` is `page(n)`: the query of the next page, and the names.
    /// Returns the error and the number of pages that were read.
    fn follow(page: impl Fn(usize) -> (String, Vec<String>)) -> (EndlessList, usize) {
        let url: Url = "http://registry/v2/app/tags/list".parse().unwrap();
        let mut next = NextPage::first(url.clone());
        for pages in 1.. {
            let (query, names) = page(pages);
            let mut linked = url.clone();
            linked.set_query(Some(&query));
            if let Err(error) = next.advance(linked, names.iter()) {
                return (error, pages);
            }
        }
        unreachable!()
    }

    #[test]
    fn endless_lists_end() {
        let cursor = |page: usize| format!("last={page}");
        let empty = |page| (cursor(page), Vec::new());
        assert_eq!(follow(empty), (EndlessList::EmptyPages, MAX_EMPTY_PAGES));
        let same = |page| (cursor(page), vec!["v1".to_owned()]);
        assert_eq!(follow(same), (EndlessList::RepeatedNames, 2));
        let cycle = |page| (cursor(page % 3), vec![format!("v{page}")]);
        assert_eq!(follow(cycle), (EndlessList::RepeatedUrl, 4));
        let new = |page| (cursor(page), vec![format!("v{page}")]);
        assert_eq!(follow(new), (EndlessList::TooManyPages, MAX_LIST_PAGES));
    }

    #[test]
    fn empty_pages_between_others_are_no_error() {
        let sparse = |page: usize| {
            let is_empty = !page.is_multiple_of(MAX_EMPTY_PAGES);
            let names = if is_empty {
                vec![]
            } else {
                vec![format!("v{page}")]
            };
            (format!("last={page}"), names)
        };
        assert_eq!(follow(sparse), (EndlessList::TooManyPages, MAX_LIST_PAGES));
    }
}
