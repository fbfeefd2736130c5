//! Which manifests speak about another one, as the registry lists them (OCI distribution-spec,
//! "Listing Referrers").

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

/// The most referrers of one manifest that are read; who has more is filling lists.
const MAX_REFERRERS: usize = 1000;
/// The most parts that a list is read in.
const MAX_REFERRERS_PAGES: usize = 100;
/// The largest part of a list in bytes.
const MAX_REFERRERS_PAGE_BYTES: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct ReferrersBody<T> {
    #[serde(default)]
    manifests: Option<Vec<T>>,
}

impl Client {
    /// The manifests that speak about `digest`, in the registry's order, at most a thousand; of
    /// one type only where that is named and the registry sifts. `None` where it keeps no such
    /// list: then the tag of the fallback scheme may name one.
    ///
    /// # Errors
    /// The registry does not tell; its answer makes no sense.
    pub async fn list_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        self.fetch_referrers(repository, digest, artifact_type)
            .await
    }

    /// The same list with all that it says of each, to be shown to others.
    ///
    /// # Errors
    /// As [`Client::referrers`].
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
        for part in 0..MAX_REFERRERS_PAGES {
            let Some((list, next)) = self.fetch_referrers_page(&endpoint, &url, part).await? else {
                return Ok(None);
            };
            all.extend(list);
            all.truncate(MAX_REFERRERS);
            match next {
                Some(next) if all.len() < MAX_REFERRERS => url = next,
                Some(_) | None => break,
            }
        }
        Ok(Some(all))
    }

    async fn fetch_referrers_page<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        part: usize,
    ) -> Result<Option<(Vec<T>, Option<Url>)>, Error> {
        let operation = endpoint.to_string();
        let scopes = self.scopes(endpoint);
        let response = self
            .retry(|| async {
                let request = self.http_for(url).get(url.clone());
                let request = request.timeout(super::SMALL_REQUEST_TIMEOUT);
                let response = self.send(&operation, &scopes, url, request).await?;
                match super::error::is_transient(response.status()) {
                    true => Err(self.status_error(endpoint, response).await),
                    false => Ok(response),
                }
            })
            .await?;
        match response.status() {
            StatusCode::OK => {}
            // What registries say to a path that they do not know.
            StatusCode::NOT_FOUND
            | StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
                if part == 0 =>
            {
                return Ok(None);
            }
            _ => return Err(self.status_error(endpoint, response).await),
        }
        let next = response_headers::text(response.headers(), &LINK).and_then(next_link);
        let next = match next.map(|target| url.join(&target)) {
            Some(Ok(next)) if self.is_registry_url(&next) && next != *url => Some(next),
            Some(_) => {
                return Err(self.invalid_response(endpoint, "its Link leads nowhere".to_owned()));
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
