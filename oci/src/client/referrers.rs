//! Which manifests speak about another one, as the registry lists them (OCI distribution-spec,
//! "Listing Referrers").

use http::StatusCode;
use http::header::LINK;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::lists::next_of;
use super::{Client, Error, reply};
use crate::referrers::Referrer;
use crate::{Descriptor, Digest, Endpoint, Repository};

/// The most referrers of one manifest that are read; who has more is filling lists.
const MOST: usize = 1000;
/// The most parts that a list is read in.
const MOST_PARTS: usize = 100;
/// The largest part of a list in bytes.
const LONGEST_PART: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct List<T> {
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
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        self.listed(repository, digest, artifact_type).await
    }

    /// The same list with all that it says of each, to be shown to others.
    ///
    /// # Errors
    /// As [`Client::referrers`].
    pub async fn shown_referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Referrer>>, Error> {
        self.listed(repository, digest, artifact_type).await
    }

    async fn listed<T: DeserializeOwned>(
        &self,
        repository: &Repository,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<T>>, Error> {
        let endpoint = Endpoint::ListReferrers {
            repository: repository.clone(),
            digest: digest.clone(),
            artifact_type: artifact_type.map(str::to_owned),
            last: None,
        };
        let mut all = Vec::new();
        let mut url = self.url(&endpoint.path());
        for part in 0..MOST_PARTS {
            let Some((list, next)) = self.part(&endpoint, &url, part).await? else {
                return Ok(None);
            };
            all.extend(list);
            all.truncate(MOST);
            match next {
                Some(next) if all.len() < MOST => url = next,
                Some(_) | None => break,
            }
        }
        Ok(Some(all))
    }

    async fn part<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        part: usize,
    ) -> Result<Option<(Vec<T>, Option<Url>)>, Error> {
        let operation = endpoint.to_string();
        let scopes = self.scopes(endpoint);
        let response = self
            .retrying(|| async {
                let request = self.http_for(url).get(url.clone());
                let request = request.timeout(super::SMALL_REQUEST);
                let response = self.send(&operation, &scopes, url, request).await?;
                match super::error::is_passing(response.status()) {
                    true => Err(self.refused(endpoint, response).await),
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
            _ => return Err(self.refused(endpoint, response).await),
        }
        let next = reply::text(response.headers(), &LINK).and_then(next_of);
        let next = match next.map(|target| url.join(&target)) {
            Some(Ok(next)) if self.is_own(&next) && next != *url => Some(next),
            Some(_) => return Err(self.odd(endpoint, "its Link leads nowhere".to_owned())),
            None => None,
        };
        let body = self.bounded(&operation, response, LONGEST_PART).await?;
        let list: List<T> =
            serde_json::from_slice(&body).map_err(|error| self.odd(endpoint, error.to_string()))?;
        Ok(Some((list.manifests.unwrap_or_default(), next)))
    }
}
