//! From a request's line to an operation. Repository names contain slashes, so paths are read from
//! the right.

use http::Method;
use percent_encoding::percent_decode_str;

use super::{Endpoint, Mount, Pagination, UploadId};
use crate::{Digest, ErrorCode, Reference, Repository, Tag, ext};

/// How many tags one manifest may get at once; the distribution-spec asks for at least ten.
const MAX_TAGS_PER_MANIFEST: usize = 100;

/// Why a request is no operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// The status and code to answer with.
    pub code: ErrorCode,
    /// What was wrong, for the error body.
    pub detail: String,
    /// On a 405: the methods that the path does have.
    pub allow: &'static [Method],
}

impl EndpointError {
    fn new(code: ErrorCode, detail: &str) -> Self {
        Self {
            code,
            detail: detail.to_owned(),
            allow: &[],
        }
    }

    fn method_not_allowed(allow: &'static [Method]) -> Self {
        Self {
            code: ErrorCode::Unsupported,
            detail: String::new(),
            allow,
        }
    }
}

impl Endpoint {
    /// Reads a request's method, path and query.
    ///
    /// # Errors
    /// A path outside the API, a method that the path does not have, a malformed name, tag,
    /// digest, session or page, each with the code to answer with.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, EndpointError> {
        // What is not UTF-8 can only be a bad name, where there are names.
        let garbled = match path.starts_with("/v2/") {
            true => ErrorCode::NameInvalid,
            false => ErrorCode::NotFound,
        };
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| EndpointError::new(garbled, path))?;
        let unknown = || EndpointError::new(ErrorCode::NotFound, &path);
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        let query = Query::parse(query);
        match *segments.as_slice() {
            [] | [""] if matches!(rest, "" | "/") => match *method {
                Method::GET | Method::HEAD => Ok(Self::Check),
                _ => Err(EndpointError::method_not_allowed(&[
                    Method::GET,
                    Method::HEAD,
                ])),
            },
            ["_catalog"] => match *method {
                Method::GET => Ok(Self::Catalog {
                    page: query.page()?,
                }),
                _ => Err(EndpointError::method_not_allowed(&[Method::GET])),
            },
            // The same for every repository.
            [ref name @ .., "_oci", "ext", "discover"] => {
                if !name.is_empty() {
                    repository(name)?;
                }
                match *method {
                    Method::GET => Ok(Self::DiscoverExtensions),
                    _ => Err(EndpointError::method_not_allowed(&[Method::GET])),
                }
            }
            [ext::EXTENSION_NAME, "token"] => match *method {
                Method::GET => Ok(Self::Token),
                _ => Err(EndpointError::method_not_allowed(&[Method::GET])),
            },
            [ref name @ .., ext::EXTENSION_NAME, "layers", "resolve"] if !name.is_empty() => {
                let repository = repository(name)?;
                match *method {
                    Method::POST => Ok(Self::ResolveLayers { repository }),
                    _ => Err(EndpointError::method_not_allowed(&[Method::POST])),
                }
            }
            [ref name @ .., "tags", "list"] => {
                let repository = repository(name)?;
                match *method {
                    Method::GET => Ok(Self::ListTags {
                        repository,
                        page: query.page()?,
                    }),
                    _ => Err(EndpointError::method_not_allowed(&[Method::GET])),
                }
            }
            [ref name @ .., "manifests", text] => {
                Self::manifest(method, repository(name)?, reference(text)?, &query)
            }
            [ref name @ .., "referrers", text] => {
                let (repository, digest) = (repository(name)?, digest(text)?);
                match *method {
                    Method::GET => query.referrers(repository, digest),
                    _ => Err(EndpointError::method_not_allowed(&[Method::GET])),
                }
            }
            [ref name @ .., "blobs", "uploads"] | [ref name @ .., "blobs", "uploads", ""] => {
                let repository = repository(name)?;
                match *method {
                    Method::POST => query.start_upload(repository),
                    _ => Err(EndpointError::method_not_allowed(&[Method::POST])),
                }
            }
            [ref name @ .., "blobs", "uploads", id] => {
                let repository = repository(name)?;
                let id = id
                    .parse()
                    .map_err(|_| EndpointError::new(ErrorCode::BlobUploadUnknown, id))?;
                Self::upload(method, repository, id, &query)
            }
            [ref name @ .., "blobs", text] => {
                let (repository, digest) = (repository(name)?, digest(text)?);
                match *method {
                    Method::GET => Ok(Self::GetBlob { repository, digest }),
                    Method::HEAD => Ok(Self::HeadBlob { repository, digest }),
                    Method::DELETE => Ok(Self::DeleteBlob { repository, digest }),
                    _ => Err(EndpointError::method_not_allowed(&[
                        Method::GET,
                        Method::HEAD,
                        Method::DELETE,
                    ])),
                }
            }
            _ => Err(unknown()),
        }
    }

    fn manifest(
        method: &Method,
        repository: Repository,
        reference: Reference,
        query: &Query,
    ) -> Result<Self, EndpointError> {
        match *method {
            Method::GET => Ok(Self::GetManifest {
                repository,
                reference,
            }),
            Method::HEAD => Ok(Self::HeadManifest {
                repository,
                reference,
            }),
            Method::PUT => Ok(Self::PutManifest {
                repository,
                reference,
                tags: query.tags()?,
            }),
            Method::DELETE => Ok(Self::DeleteManifest {
                repository,
                reference,
            }),
            _ => Err(EndpointError::method_not_allowed(&[
                Method::GET,
                Method::HEAD,
                Method::PUT,
                Method::DELETE,
            ])),
        }
    }

    fn upload(
        method: &Method,
        repository: Repository,
        id: UploadId,
        query: &Query,
    ) -> Result<Self, EndpointError> {
        match *method {
            Method::GET | Method::HEAD => Ok(Self::UploadStatus { repository, id }),
            Method::PATCH => Ok(Self::AppendUpload { repository, id }),
            Method::PUT => match query.get("digest") {
                Some(text) => {
                    let digest = digest(text)?;
                    Ok(Self::FinishUpload {
                        repository,
                        id,
                        digest,
                    })
                }
                None => Err(EndpointError::new(
                    ErrorCode::DigestInvalid,
                    "no digest in the query",
                )),
            },
            Method::DELETE => Ok(Self::CancelUpload { repository, id }),
            _ => Err(EndpointError::method_not_allowed(&[
                Method::GET,
                Method::HEAD,
                Method::PATCH,
                Method::PUT,
                Method::DELETE,
            ])),
        }
    }
}

fn repository(segments: &[&str]) -> Result<Repository, EndpointError> {
    let name = segments.join("/");
    name.parse()
        .map_err(|_| EndpointError::new(ErrorCode::NameInvalid, &name))
}

fn reference(text: &str) -> Result<Reference, EndpointError> {
    let code = if text.contains(':') {
        ErrorCode::DigestInvalid
    } else {
        ErrorCode::TagInvalid
    };
    text.parse().map_err(|_| EndpointError::new(code, text))
}

fn digest(text: &str) -> Result<Digest, EndpointError> {
    text.parse()
        .map_err(|_| EndpointError::new(ErrorCode::DigestInvalid, text))
}

/// A query string, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }

    fn page(&self) -> Result<Pagination, EndpointError> {
        let limit = self.get("n").map(|n| {
            n.parse()
                .map_err(|_| EndpointError::new(ErrorCode::PaginationNumberInvalid, n))
        });
        Ok(Pagination {
            limit: limit.transpose()?,
            last: self.get("last").map(str::to_owned),
        })
    }

    fn tags(&self) -> Result<Vec<Tag>, EndpointError> {
        let texts = self.0.iter().filter(|(name, _)| name == "tag");
        let mut tags = Vec::new();
        for (_, text) in texts {
            if tags.len() == MAX_TAGS_PER_MANIFEST {
                let detail = format!("at most {MAX_TAGS_PER_MANIFEST} tags at once");
                return Err(EndpointError::new(ErrorCode::TooManyTags, &detail));
            }
            tags.push(
                text.parse()
                    .map_err(|_| EndpointError::new(ErrorCode::TagInvalid, text))?,
            );
        }
        Ok(tags)
    }

    fn referrers(&self, repository: Repository, of: Digest) -> Result<Endpoint, EndpointError> {
        Ok(Endpoint::ListReferrers {
            repository,
            digest: of,
            artifact_type: self
                .get("artifactType")
                .filter(|wanted| !wanted.is_empty())
                .map(str::to_owned),
            last: self.get("last").map(digest).transpose()?,
        })
    }

    fn start_upload(&self, repository: Repository) -> Result<Endpoint, EndpointError> {
        let wanted = self.get("mount").map(digest).transpose()?;
        let mount = match (wanted, self.get("from").map(str::parse)) {
            (Some(digest), Some(Ok(from))) => Some(Mount {
                digest,
                from: Some(from),
            }),
            (Some(digest), None) => Some(Mount { digest, from: None }),
            // A source that cannot exist is a mount that fails: the upload starts instead.
            (Some(_), Some(Err(_))) | (None, _) => None,
        };
        let digest = self.get("digest").map(digest).transpose()?;
        let algorithm = self.get("digest-algorithm").map(|name| {
            name.parse()
                .map_err(|_| EndpointError::new(ErrorCode::DigestInvalid, name))
        });
        Ok(Endpoint::StartUpload {
            repository,
            mount,
            digest,
            algorithm: algorithm.transpose()?,
        })
    }
}
