//! Lists the referrers of a manifest (OCI distribution-spec, "Listing Referrers").

use http::StatusCode;
use http::header::LINK;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::lists::next_link;
use super::{Client, Error, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::referrers::ReferrerDescriptor;
use crate::{Descriptor, Digest, Endpoint, Repository};

/// The most referrers of one manifest that are read; no real manifest has more.
const MAX_REFERRERS: usize = 1000;
/// The most pages of a list that are read.
const MAX_REFERRERS_PAGES: usize = 100;
/// The largest page of a list in bytes.
const MAX_REFERRERS_PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct ReferrersBody<T> {
    #[serde(default)]
    manifests: Option<Vec<T>>,
}

impl Client {
    /// Lists the referrers of the manifest `digest` in the order of the registry, at most a thousand.
    /// With `artifact_type`, the registry may leave out referrers of other types. `None` if the
    /// registry does not have the API; the tag of the fallback scheme may have a list then.
    ///
    /// # Errors
    /// Fails on an error status and on an invalid response.
    pub async fn list_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        self.fetch_referrers(repository, digest, artifact_type)
            .await
    }

    /// Lists the referrers as [`Client::list_referrers`] does, with the fields that only such lists
    /// have.
    ///
    /// # Errors
    /// As [`Client::list_referrers`].
    pub async fn list_referrer_descriptors(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<ReferrerDescriptor>>, Error> {
        self.fetch_referrers(repository, digest, artifact_type)
            .await
    }

    async fn fetch_referrers<T: DeserializeOwned>(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<T>>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::ListReferrers {
                digest: digest.clone(),
                artifact_type: artifact_type.map(str::to_owned),
                last: None,
            },
        );
        let mut all = Vec::new();
        let mut url = self.url(&endpoint.path());
        for page in 0..MAX_REFERRERS_PAGES {
            let Some((list, next)) = self.fetch_referrers_page(&endpoint, &url, page).await? else {
                return Ok(None);
            };
            all.extend(list);
            all.truncate(MAX_REFERRERS);
            match next {
                Some(next) if all.len() < MAX_REFERRERS => url = next,
                _ => break,
            }
        }
        Ok(Some(all))
    }

    async fn fetch_referrers_page<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        page: usize,
    ) -> Result<Option<(Vec<T>, Option<Url>)>, Error> {
        let operation = endpoint.to_string();
        let scopes = self.scopes(endpoint);
        let response = self
            .retry(|| async {
                let request = self.http_for(&operation, url)?.get(url.clone());
                let request = request.timeout(super::SMALL_REQUEST_TIMEOUT);
                let response = self.send(&operation, &scopes, url, request).await?;
                if super::error::is_transient(response.status()) {
                    return Err(self.status_error(endpoint, response).await);
                }
                Ok(response)
            })
            .await?;
        match response.status() {
            StatusCode::OK => {}
            // The statuses with which registries answer an unknown path.
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
                if page == 0 =>
            {
                return Ok(None);
            }
            _ => return Err(self.status_error(endpoint, response).await),
        }
        let next = response_headers::text(response.headers(), &LINK).and_then(next_link);
        let next = match next.map(|target| url.join(&target)) {
            Some(Ok(next)) if self.is_registry_url(&next) && next != *url => Some(next),
            Some(_) => {
                return Err(
                    self.invalid_response(endpoint, "its Link header is invalid".to_owned())
                );
            }
            None => None,
        };
        let body = self
            .read_bounded(&operation, response, MAX_REFERRERS_PAGE_BYTES)
            .await?;
        let list: ReferrersBody<T> = serde_json::from_slice(&body)
            .map_err(|error| self.invalid_response(endpoint, error.to_string()))?;
        Ok(Some((list.manifests.unwrap_or_default(), next)))
    }
}
