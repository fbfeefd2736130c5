//! Checks a registry, lists its repositories and tags, and deletes manifests.

use http::header::{ALLOW, LINK};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::paging::NextPage;
use super::{Client, Error, response_headers};
use crate::endpoint::{Pagination, RegistryOperation, RepositoryOperation};
use crate::ext::trash::RESTORABLE_HEADER;
use crate::{Endpoint, Reference, Repository, Tag};

/// The number of names to request in a page; the stock registry accepts no more.
const LIST_PAGE_SIZE: usize = 1000;
/// The largest page in bytes, because a registry may ignore the requested number of names.
const MAX_LIST_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage<T> {
    /// The names, in the order of the registry. Invalid names are left out.
    pub names: Vec<T>,
    /// The next page; `None` after the last one.
    pub next: Option<NextPage>,
}

/// The outcome of deleting a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The manifest or tag was deleted.
    Deleted {
        /// Whether the registry can restore it; see [`crate::ext::trash`].
        is_restorable: bool,
    },
    /// The manifest or tag does not exist.
    NotFound,
    /// The registry does not support deleting, or not by this kind of reference.
    Unsupported,
    /// The registry allows no deletion: DELETE is not among the methods that it lists.
    Disabled,
}

#[derive(Deserialize)]
struct ListBody {
    repositories: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Client {
    /// Checks that the address is a registry, and that it accepts the login.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached, rejects the login, or is no registry.
    pub async fn check(&self) -> Result<(), Error> {
        let response = self
            .send_with_retry(&Endpoint::CHECK, HeaderMap::new())
            .await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(self.status_error(&Endpoint::CHECK, response).await),
        }
    }

    /// Lists the repositories of the registry: the first page, or the page `next`.
    ///
    /// # Errors
    /// Fails on an error status and on an invalid response, and if the list does not end.
    pub async fn list_repositories(
        &self,
        next: Option<NextPage>,
    ) -> Result<ListPage<Repository>, Error> {
        let page = first_page();
        let endpoint = RegistryOperation::Catalog { page }.into();
        let (list, next) = self.fetch_list_page(&endpoint, next).await?;
        Ok(ListPage {
            names: names(list.repositories),
            next,
        })
    }

    /// Lists the tags of a repository: the first page, or the page `next`. `None` if the repository
    /// does not exist.
    ///
    /// # Errors
    /// As [`Client::list_repositories`].
    pub async fn list_tags(
        &self,
        repository: &Repository,
        next: Option<NextPage>,
    ) -> Result<Option<ListPage<Tag>>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::ListTags { page: first_page() },
        );
        match self.fetch_list_page(&endpoint, next).await {
            Ok((list, next)) => Ok(Some(ListPage {
                names: names(list.tags),
                next,
            })),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn fetch_list_page(
        &self,
        endpoint: &Endpoint,
        next: Option<NextPage>,
    ) -> Result<(ListBody, Option<NextPage>), Error> {
        let mut page = next.unwrap_or_else(|| NextPage::first(self.url(&endpoint.path())));
        let url = page.url().clone();
        let operation = endpoint.to_string();
        let scopes = self.scopes(endpoint);
        let response = self
            .retry(|| async {
                let request = self.http_for(&operation, &url)?.get(url.clone());
                let request = request.timeout(super::SMALL_REQUEST_TIMEOUT);
                let response = self.send(&operation, &scopes, &url, request).await?;
                if super::error::is_transient(response.status()) {
                    return Err(self.status_error(endpoint, response).await);
                }
                self.reject_web_page(endpoint, &response)?;
                Ok(response)
            })
            .await?;
        if response.status() != StatusCode::OK {
            return Err(self.status_error(endpoint, response).await);
        }
        let next = response_headers::text(response.headers(), &LINK)
            .and_then(next_link)
            .map(|target| url.join(&target));
        let next = match next {
            // A page of another origin is not from this registry.
            Some(Ok(next)) if next.origin() == self.base.origin() => Some(next),
            Some(_) => {
                return Err(
                    self.invalid_response(endpoint, "its Link header is invalid".to_owned())
                );
            }
            None => None,
        };
        let body = self
            .read_bounded(&operation, response, MAX_LIST_PAGE_BYTES)
            .await?;
        let list = serde_json::from_slice(&body);
        let list: ListBody =
            list.map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        let Some(next) = next else {
            return Ok((list, None));
        };
        let names = list.repositories.iter().chain(&list.tags).flatten();
        page.advance(next, names)
            .map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        Ok((list, Some(page)))
    }

    /// Deletes a tag, or, by digest, a manifest with all its tags.
    ///
    /// # Errors
    /// Fails if the caller lacks the permission, and on other error statuses.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<DeleteOutcome, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::DeleteManifest {
                reference: reference.clone(),
            },
        );
        let response = self.send_with_retry(&endpoint, HeaderMap::new()).await?;
        let allowed = response_headers::text(response.headers(), &ALLOW);
        let is_disabled = allowed.is_some_and(|methods| !methods.contains("DELETE"));
        match (response.status(), reference) {
            (status, _) if status.is_success() => Ok(DeleteOutcome::Deleted {
                is_restorable: response.headers().contains_key(RESTORABLE_HEADER),
            }),
            (StatusCode::NOT_FOUND, _) => Ok(DeleteOutcome::NotFound),
            (StatusCode::METHOD_NOT_ALLOWED, _) if is_disabled => Ok(DeleteOutcome::Disabled),
            (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _)
            // The response of registries that expect a digest.
            | (StatusCode::BAD_REQUEST, Reference::Tag(_)) => Ok(DeleteOutcome::Unsupported),
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }
}

fn first_page() -> Pagination {
    Pagination {
        limit: Some(LIST_PAGE_SIZE),
        last: None,
    }
}

/// Parses names, and leaves out those that are invalid.
fn names<T: std::str::FromStr>(texts: Option<Vec<String>>) -> Vec<T> {
    let texts = texts.unwrap_or_default().into_iter();
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Returns the target of `<…>; rel="next"` in a `Link` header (RFC 8288).
pub(super) fn next_link(link: &str) -> Option<String> {
    link.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters
            .split(';')
            .any(|parameter| matches!(parameter.trim(), "rel=next" | "rel=\"next\""));
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let next = |link| next_link(link).unwrap_or_default();
        assert_eq!(
            next("</v2/_catalog?last=b&n=2>; rel=\"next\""),
            "/v2/_catalog?last=b&n=2"
        );
        assert_eq!(next("</a>; rel=prev, </b>; rel=next"), "/b");
        assert_eq!(next("</a>; rel=prev"), "");
        assert_eq!(next("nonsense"), "");
    }
}
