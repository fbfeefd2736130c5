//! Reads and writes manifests (OCI distribution-spec, "Pulling manifests", "Pushing Manifests").

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};

use super::error::is_transient;
use super::send::FetchedBody;
use super::{Client, Error, SMALL_REQUEST_TIMEOUT, response_headers};
use crate::endpoint::RepositoryOperation;
use crate::{Digest, Endpoint, ErrorCode, MAX_MANIFEST_BYTES, Reference, Repository, media};

/// The description of a manifest in the response to a HEAD request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// The digest, if the registry states it.
    pub digest: Option<Digest>,
    /// The media type, if the registry states it.
    pub media_type: Option<String>,
    /// The size in bytes, if the registry states it.
    pub size: Option<u64>,
}

/// A manifest that was fetched from the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedManifest {
    /// The digest, computed from the bytes.
    pub digest: Digest,
    /// The media type, if the registry states it.
    pub media_type: Option<String>,
    /// When the tag was pushed, or the manifest stored, if the registry states it.
    pub modified_at: Option<SystemTime>,
    /// The bytes.
    pub bytes: Bytes,
}

impl Client {
    /// Asks for the description of a manifest; `None` if the registry does not have the manifest.
    /// Where the registry refuses the HEAD request, the manifest is fetched instead: some registries
    /// and proxies support only GET, and the response to a HEAD request does not tell why it failed.
    ///
    /// # Errors
    /// Fails if the registry answers neither 200 nor 404: a failed request does not mean that the
    /// manifest is missing.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::HeadManifest {
                reference: reference.clone(),
            },
        );
        let scopes = self.scopes(&endpoint);
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .headers(accept_manifests());
                let operation = endpoint.to_string();
                let response = self.send(&operation, &scopes, &self.base, request).await?;
                let status = response.status();
                if is_transient(status) && status != StatusCode::INTERNAL_SERVER_ERROR {
                    return Err(self.status_error(&endpoint, response).await);
                }
                self.reject_web_page(&endpoint, &response)?;
                Ok(response)
            })
            .await?;
        match response.status() {
            StatusCode::OK => Ok(Some(ManifestHead {
                digest: response_headers::digest(response.headers()),
                media_type: response_headers::media_type(response.headers()),
                size: response_headers::number(response.headers(), &CONTENT_LENGTH),
            })),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::BAD_REQUEST
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::NOT_IMPLEMENTED => {
                let fetched = self.fetch_manifest(repository, reference).await?;
                Ok(fetched.map(|fetched| ManifestHead {
                    size: Some(fetched.bytes.len() as u64),
                    digest: Some(fetched.digest),
                    media_type: fetched.media_type,
                }))
            }
            _ => Err(self.status_error(&endpoint, response).await),
        }
    }

    /// Fetches a manifest; `None` if the registry does not have it. A client for pushing also returns
    /// `None` for one that is damaged at the registry.
    ///
    /// # Errors
    /// As [`Client::head_manifest`]; also on more than [`MAX_MANIFEST_BYTES`], and on bytes that do
    /// not match the requested digest.
    pub async fn fetch_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<FetchedManifest>, Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::GetManifest {
                reference: reference.clone(),
            },
        );
        let fetch = self.fetch_with_retry(&endpoint, accept_manifests(), MAX_MANIFEST_BYTES);
        let body = match fetch.await {
            // A push of the manifest repairs it.
            Err(error) if self.is_for_push && error.has_fault(ErrorCode::ManifestDamaged) => {
                return Ok(None);
            }
            body => body?,
        };
        let (headers, bytes) = match body {
            FetchedBody::Complete(headers, bytes) => (headers, bytes),
            FetchedBody::Unread(response) if response.status() == StatusCode::NOT_FOUND => {
                return Ok(None);
            }
            FetchedBody::Unread(response) => {
                return Err(self.status_error(&endpoint, response).await);
            }
        };
        let media_type = response_headers::media_type(&headers);
        let modified_at = response_headers::last_modified(&headers);
        let digest = match reference {
            Reference::Tag(_) => Digest::of(&bytes),
            Reference::Digest(requested) => {
                let digest = Digest::of_with(requested.algorithm(), &bytes);
                if digest != *requested {
                    return Err(self
                        .invalid_response(&endpoint, format!("the content has digest {digest}")));
                }
                digest
            }
        };
        Ok(Some(FetchedManifest {
            digest,
            media_type,
            modified_at,
            bytes,
        }))
    }

    /// Puts a manifest under a tag or its digest. The request is idempotent, and is retried after
    /// transient errors.
    ///
    /// # Errors
    /// Fails if the registry rejects the manifest, for example because a blob is missing there, and
    /// if it reports success and does not have the manifest afterwards.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<(), Error> {
        let endpoint = Endpoint::within(
            repository,
            RepositoryOperation::PutManifest {
                reference: reference.clone(),
                tags: Vec::new(),
            },
        );
        let response = self
            .retry(|| async {
                let request = self
                    .request(&endpoint)
                    .timeout(SMALL_REQUEST_TIMEOUT)
                    .header(CONTENT_TYPE, media_type)
                    .body(bytes.clone());
                self.send_once(&endpoint, request).await
            })
            .await?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.status_error(&endpoint, response).await);
        }
        let is_ours = |digest: &Digest| *digest == Digest::of_with(digest.algorithm(), &bytes);
        let stated = response_headers::digest(response.headers());
        if status == StatusCode::CREATED && stated.as_ref().is_some_and(is_ours) {
            return Ok(());
        }
        // A proxy may have sent this response, so ask whether the registry has stored the manifest.
        let is_stored = match self.head_manifest(repository, reference).await? {
            None => false,
            Some(ManifestHead {
                digest: Some(digest),
                ..
            }) => is_ours(&digest),
            Some(ManifestHead { digest: None, .. }) => {
                let stored = self.fetch_manifest(repository, reference).await?;
                stored.is_some_and(|stored| stored.bytes == bytes)
            }
        };
        if !is_stored {
            let what = format!("status {status}, but the manifest is not there");
            return Err(self.invalid_response(&endpoint, what));
        }
        Ok(())
    }
}

fn accept_manifests() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for media_type in media::MANIFEST_TYPES {
        headers.append(ACCEPT, http::HeaderValue::from_static(media_type));
    }
    headers
}
