//! What is at a registry: is it one, which repositories, which tags; and taking manifests out.

use http::header::LINK;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use url::Url;

use super::{Client, Error, response_headers};
use crate::endpoint::{Pagination, RegistryOperation, RepositoryOperation};
use crate::{Endpoint, Reference, Repository, Tag};

/// How many names to ask for at a time; the stock registry refuses more.
const LIST_PAGE_SIZE: usize = 1000;
/// The largest list taken at a time, in bytes: a registry may ignore how much it is asked for.
const MAX_LIST_PAGE_BYTES: usize = 16 * 1024 * 1024;

/// A part of a list, and where it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage<T> {
    /// The names, in the registry's order.
    pub names: Vec<T>,
    /// Where the next part is; `None` after the last.
    pub next: Option<NextPage>,
}

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPage(Url);

/// What became of a manifest that was to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is gone.
    Deleted,
    /// There is none of that name.
    NotFound,
    /// The registry does not delete by that kind of reference, or at all.
    Unsupported,
}

#[derive(Deserialize)]
struct ListBody {
    repositories: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Client {
    /// Asks whether the registry is there and knows the caller.
    ///
    /// # Errors
    /// It is not there, it refuses the caller, or it is no registry.
    pub async fn check(&self) -> Result<(), Error> {
        let response = self
            .send_with_retry(&Endpoint::CHECK, HeaderMap::new())
            .await?;
        match response.status() {
            StatusCode::OK => Ok(()),
            _ => Err(self.status_error(&Endpoint::CHECK, response).await),
        }
    }

    /// Whether anything answers at the address, in the way that this client speaks: one request,
    /// without login, whatever the answer.
    ///
    /// # Errors
    /// No connection came about.
    pub async fn probe(&self) -> Result<(), Error> {
        let request = self
            .request(&Endpoint::CHECK)
            .timeout(super::SMALL_REQUEST_TIMEOUT);
        let sent = super::send::execute(request).await;
        let operation = Endpoint::CHECK.to_string();
        sent.map(drop)
            .map_err(|error| self.request_error(&self.registry, operation, error))
    }

    /// The names of the registry's repositories, a part at a time: the first, or the one at
    /// `next`.
    ///
    /// # Errors
    /// The registry does not tell; its answer makes no sense.
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

    /// A repository's tags, a part at a time; `None` where there is no such repository.
    ///
    /// # Errors
    /// As [`Client::repositories`].
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
        let url = next.map_or_else(|| self.url(&endpoint.path()), |NextPage(url)| url);
        let operation = endpoint.to_string();
        let scopes = self.scopes(endpoint);
        let response = self
            .retry(|| async {
                let request = self.http_for(&url).get(url.clone());
                let request = request.timeout(super::SMALL_REQUEST_TIMEOUT);
                let response = self.send(&operation, &scopes, &url, request).await?;
                match super::error::is_transient(response.status()) {
                    true => Err(self.status_error(endpoint, response).await),
                    false => Ok(response),
                }
            })
            .await?;
        if response.status() != StatusCode::OK {
            return Err(self.status_error(endpoint, response).await);
        }
        let next = response_headers::text(response.headers(), &LINK)
            .and_then(next_link)
            .map(|target| url.join(&target));
        let next = match next {
            // Anywhere else it would not be this registry's list; in place it would never end.
            Some(Ok(next)) if next.origin() == self.base.origin() && next != url => {
                Some(NextPage(next))
            }
            Some(_) => {
                return Err(self.invalid_response(endpoint, "its Link leads nowhere".to_owned()));
            }
            None => None,
        };
        let body = self
            .read_bounded(&operation, response, MAX_LIST_PAGE_BYTES)
            .await?;
        let list = serde_json::from_slice(&body);
        let list = list.map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        Ok((list, next))
    }

    /// Takes a manifest out: by tag the tag alone, by digest the manifest with all its tags.
    ///
    /// # Errors
    /// The caller may not, or the registry fails.
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
        match (response.status(), reference) {
            (status, _) if status.is_success() => Ok(DeleteOutcome::Deleted),
            (StatusCode::NOT_FOUND, _) => Ok(DeleteOutcome::NotFound),
            (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _)
            // The answer of registries that expect a digest.
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

/// Those that are names.
fn names<T: std::str::FromStr>(texts: Option<Vec<String>>) -> Vec<T> {
    let texts = texts.unwrap_or_default().into_iter();
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// The target of `<…>; rel="next"` (RFC 8288, as distribution-spec's lists use it).
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
