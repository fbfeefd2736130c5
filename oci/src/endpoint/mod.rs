//! The operations of the distribution API, one variant each: route, subject of authorization and
//! label of logs in one value. The server parses what the client builds.

mod namespace;
mod parse;
mod upload_id;

use http::Method;

pub use parse::EndpointError;
pub use upload_id::UploadId;

use crate::{Algorithm, Digest, Reference, Repository, Tag};

/// Which part of a list is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pagination {
    /// At most so many names; `None` leaves it to the registry.
    pub limit: Option<usize>,
    /// Only names after this one.
    pub last: Option<String>,
}

/// A blob that should be linked into a repository instead of being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The blob.
    pub digest: Digest,
    /// A repository that holds it, if the caller knows one.
    pub from: Option<Repository>,
}

/// One operation, with everything that the URL says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parts of the URL")]
pub enum Endpoint {
    /// `GET /v2/`: does this speak the API, and am I known?
    Check,
    /// `GET /v2/_catalog`
    Catalog { page: Pagination },
    /// `GET /v2/<name>/tags/list`
    ListTags {
        repository: Repository,
        page: Pagination,
    },
    /// `GET /v2/<name>/manifests/<reference>`
    GetManifest {
        repository: Repository,
        reference: Reference,
    },
    /// `HEAD /v2/<name>/manifests/<reference>`
    HeadManifest {
        repository: Repository,
        reference: Reference,
    },
    /// `PUT /v2/<name>/manifests/<reference>`, with a `tag` for each name it gets beside that.
    PutManifest {
        repository: Repository,
        reference: Reference,
        tags: Vec<Tag>,
    },
    /// `DELETE /v2/<name>/manifests/<reference>`: a tag alone; or, by digest, the manifest with
    /// all its tags.
    DeleteManifest {
        repository: Repository,
        reference: Reference,
    },
    /// `GET /v2/<name>/referrers/<digest>`, with `artifactType`; `last` is the last referrer of the
    /// page before.
    ListReferrers {
        repository: Repository,
        digest: Digest,
        artifact_type: Option<String>,
        last: Option<Digest>,
    },
    /// `GET /v2/<name>/blobs/<digest>`
    GetBlob {
        repository: Repository,
        digest: Digest,
    },
    /// `HEAD /v2/<name>/blobs/<digest>`
    HeadBlob {
        repository: Repository,
        digest: Digest,
    },
    /// `DELETE /v2/<name>/blobs/<digest>`
    DeleteBlob {
        repository: Repository,
        digest: Digest,
    },
    /// `POST /v2/<name>/blobs/uploads/`, with `mount` and `from`, or with `digest` and the blob
    /// itself as body, or with the `digest-algorithm` that the blob will be named by.
    StartUpload {
        repository: Repository,
        mount: Option<Mount>,
        digest: Option<Digest>,
        algorithm: Option<Algorithm>,
    },
    /// `GET /v2/<name>/blobs/uploads/<id>`
    UploadStatus {
        repository: Repository,
        id: UploadId,
    },
    /// `PATCH /v2/<name>/blobs/uploads/<id>`
    AppendUpload {
        repository: Repository,
        id: UploadId,
    },
    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=…`
    FinishUpload {
        repository: Repository,
        id: UploadId,
        digest: Digest,
    },
    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    CancelUpload {
        repository: Repository,
        id: UploadId,
    },
    /// `GET /v2/_oci/ext/discover`
    DiscoverExtensions,
    /// `GET /v2/_imgsync/token`: who proves with a name and a password who they are, or does not,
    /// gets a token that says so.
    Token,
    /// `POST /v2/<name>/_imgsync/layers/resolve`, see [`crate::ext::resolve`].
    ResolveLayers { repository: Repository },
}

/// What a caller must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See that the registry is there.
    Check,
    /// See all repositories' names.
    Catalog,
    /// Read from a repository.
    Pull,
    /// Write to a repository.
    Push,
    /// Take something out of a repository.
    Delete,
}

impl Endpoint {
    /// The method to ask with.
    pub fn method(&self) -> Method {
        match self {
            Self::Check
            | Self::Catalog { .. }
            | Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::GetBlob { .. }
            | Self::ListReferrers { .. }
            | Self::DiscoverExtensions
            | Self::Token
            | Self::UploadStatus { .. } => Method::GET,
            Self::HeadManifest { .. } | Self::HeadBlob { .. } => Method::HEAD,
            Self::PutManifest { .. } | Self::FinishUpload { .. } => Method::PUT,
            Self::StartUpload { .. } | Self::ResolveLayers { .. } => Method::POST,
            Self::AppendUpload { .. } => Method::PATCH,
            Self::DeleteManifest { .. } | Self::DeleteBlob { .. } | Self::CancelUpload { .. } => {
                Method::DELETE
            }
        }
    }

    /// The path, and the query where there is one: what goes behind the registry's address, and
    /// into a relative `Location`.
    pub fn path(&self) -> String {
        match self {
            Self::Check => "/v2/".to_owned(),
            Self::Catalog { page } => format!("/v2/_catalog{}", page.query()),
            Self::ListTags { repository, page } => {
                format!("/v2/{repository}/tags/list{}", page.query())
            }
            Self::GetManifest {
                repository,
                reference,
            }
            | Self::HeadManifest {
                repository,
                reference,
            }
            | Self::DeleteManifest {
                repository,
                reference,
            } => {
                format!("/v2/{repository}/manifests/{reference}")
            }
            Self::PutManifest {
                repository,
                reference,
                tags,
            } => {
                let pairs = tags.iter().map(|tag| ("tag", tag.to_string()));
                let query = query_of(pairs.collect());
                format!("/v2/{repository}/manifests/{reference}{query}")
            }
            Self::ListReferrers {
                repository,
                digest,
                artifact_type,
                last,
            } => {
                let mut pairs = Vec::new();
                pairs.extend(
                    artifact_type
                        .iter()
                        .map(|wanted| ("artifactType", wanted.clone())),
                );
                pairs.extend(last.iter().map(|last| ("last", last.to_string())));
                let query = query_of(pairs);
                format!("/v2/{repository}/referrers/{digest}{query}")
            }
            Self::GetBlob { repository, digest }
            | Self::HeadBlob { repository, digest }
            | Self::DeleteBlob { repository, digest } => {
                format!("/v2/{repository}/blobs/{digest}")
            }
            Self::StartUpload {
                repository,
                mount,
                digest,
                algorithm,
            } => {
                let mut pairs = Vec::new();
                if let Some(mount) = mount {
                    pairs.push(("mount", mount.digest.to_string()));
                    pairs.extend(mount.from.iter().map(|from| ("from", from.to_string())));
                }
                pairs.extend(digest.iter().map(|digest| ("digest", digest.to_string())));
                let name = |algorithm: &Algorithm| algorithm.as_str().to_owned();
                pairs.extend(algorithm.iter().map(|it| ("digest-algorithm", name(it))));
                format!("/v2/{repository}/blobs/uploads/{}", query_of(pairs))
            }
            Self::UploadStatus { repository, id }
            | Self::AppendUpload { repository, id }
            | Self::CancelUpload { repository, id } => {
                format!("/v2/{repository}/blobs/uploads/{id}")
            }
            Self::FinishUpload {
                repository,
                id,
                digest,
            } => {
                let query = query_of(vec![("digest", digest.to_string())]);
                format!("/v2/{repository}/blobs/uploads/{id}{query}")
            }
            Self::DiscoverExtensions => "/v2/_oci/ext/discover".to_owned(),
            Self::Token => format!("/v2/{}/token", crate::ext::EXTENSION_NAME),
            Self::ResolveLayers { repository } => {
                format!(
                    "/v2/{repository}/{}/layers/resolve",
                    crate::ext::EXTENSION_NAME
                )
            }
        }
    }

    /// The upload session that this is about, if it is about one.
    pub fn session(&self) -> Option<(&Repository, UploadId)> {
        match self {
            Self::UploadStatus { repository, id }
            | Self::AppendUpload { repository, id }
            | Self::FinishUpload { repository, id, .. }
            | Self::CancelUpload { repository, id } => Some((repository, *id)),
            Self::Check
            | Self::Catalog { .. }
            | Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::PutManifest { .. }
            | Self::DeleteManifest { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::DeleteBlob { .. }
            | Self::StartUpload { .. }
            | Self::ListReferrers { .. }
            | Self::DiscoverExtensions
            | Self::Token
            | Self::ResolveLayers { .. } => None,
        }
    }

    /// What the caller must be allowed to do, and where. A mount needs pull on its source as well,
    /// and resolving with `mount` needs push: who carries them out asks for that.
    pub fn access(&self) -> (Action, Option<&Repository>) {
        match self {
            Self::Check | Self::DiscoverExtensions | Self::Token => (Action::Check, None),
            Self::Catalog { .. } => (Action::Catalog, None),
            Self::ListTags { repository, .. }
            | Self::GetManifest { repository, .. }
            | Self::HeadManifest { repository, .. }
            | Self::GetBlob { repository, .. }
            | Self::HeadBlob { repository, .. }
            | Self::ListReferrers { repository, .. }
            | Self::ResolveLayers { repository } => (Action::Pull, Some(repository)),
            Self::PutManifest { repository, .. }
            | Self::StartUpload { repository, .. }
            | Self::UploadStatus { repository, .. }
            | Self::AppendUpload { repository, .. }
            | Self::FinishUpload { repository, .. }
            | Self::CancelUpload { repository, .. } => (Action::Push, Some(repository)),
            Self::DeleteManifest { repository, .. } | Self::DeleteBlob { repository, .. } => {
                (Action::Delete, Some(repository))
            }
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}

impl Pagination {
    fn query(&self) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.last.iter().map(|last| ("last", last.clone())));
        pairs.extend(self.limit.map(|limit| ("n", limit.to_string())));
        query_of(pairs)
    }
}

fn query_of(pairs: Vec<(&str, String)>) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
    query.extend_pairs(pairs);
    query.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorCode;

    fn parse(method: &str, target: &str) -> Result<Endpoint, EndpointError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Endpoint::parse(&method.parse().unwrap(), path, query)
    }

    #[test]
    fn every_endpoint_is_read_as_it_was_written() {
        let repository: Repository = "team/blobs/uploads/app".parse().unwrap();
        let digest = Digest::of(b"x");
        let id = UploadId::random();
        let page = Pagination {
            limit: Some(5),
            last: Some("a&b".to_owned()),
        };
        let mount = Mount {
            digest: digest.clone(),
            from: Some("other".parse().unwrap()),
        };
        let tag: Reference = "v1".parse().unwrap();
        let by_digest: Reference = digest.to_string().parse().unwrap();
        let repository = || repository.clone();
        for endpoint in [
            Endpoint::Check,
            Endpoint::Catalog {
                page: Pagination::default(),
            },
            Endpoint::Catalog { page: page.clone() },
            Endpoint::ListTags {
                repository: repository(),
                page,
            },
            Endpoint::GetManifest {
                repository: repository(),
                reference: tag.clone(),
            },
            Endpoint::HeadManifest {
                repository: repository(),
                reference: by_digest.clone(),
            },
            Endpoint::PutManifest {
                repository: repository(),
                reference: tag.clone(),
                tags: Vec::new(),
            },
            Endpoint::PutManifest {
                repository: repository(),
                reference: by_digest.clone(),
                tags: vec!["v1".parse().unwrap(), "v1.2".parse().unwrap()],
            },
            Endpoint::DeleteManifest {
                repository: repository(),
                reference: tag,
            },
            Endpoint::DeleteManifest {
                repository: repository(),
                reference: by_digest,
            },
            Endpoint::ListReferrers {
                repository: repository(),
                digest: digest.clone(),
                artifact_type: None,
                last: None,
            },
            Endpoint::ListReferrers {
                repository: repository(),
                digest: digest.clone(),
                artifact_type: Some("application/a+b; c=d&e".to_owned()),
                last: Some(digest.clone()),
            },
            Endpoint::DeleteBlob {
                repository: repository(),
                digest: digest.clone(),
            },
            Endpoint::DiscoverExtensions,
            Endpoint::Token,
            Endpoint::ResolveLayers {
                repository: repository(),
            },
            Endpoint::GetBlob {
                repository: repository(),
                digest: digest.clone(),
            },
            Endpoint::HeadBlob {
                repository: repository(),
                digest: digest.clone(),
            },
            Endpoint::StartUpload {
                repository: repository(),
                mount: None,
                digest: None,
                algorithm: None,
            },
            Endpoint::StartUpload {
                repository: repository(),
                mount: None,
                digest: None,
                algorithm: Some(Algorithm::Sha512),
            },
            Endpoint::StartUpload {
                repository: repository(),
                mount: Some(mount),
                digest: None,
                algorithm: None,
            },
            Endpoint::StartUpload {
                repository: repository(),
                mount: None,
                digest: Some(digest.clone()),
                algorithm: None,
            },
            Endpoint::UploadStatus {
                repository: repository(),
                id,
            },
            Endpoint::AppendUpload {
                repository: repository(),
                id,
            },
            Endpoint::FinishUpload {
                repository: repository(),
                id,
                digest,
            },
            Endpoint::CancelUpload {
                repository: repository(),
                id,
            },
        ] {
            let path = endpoint.path();
            let read = parse(endpoint.method().as_str(), &path);
            assert_eq!(read.as_ref(), Ok(&endpoint), "{path}");
        }
    }

    #[test]
    fn other_spellings() {
        let digest = Digest::of(b"x").to_string();
        let escaped = digest.replace(':', "%3A");
        assert_eq!(parse("GET", "/v2"), Ok(Endpoint::Check));
        assert_eq!(
            parse("GET", "/v2/team/app/_oci/ext/discover"),
            Ok(Endpoint::DiscoverExtensions)
        );
        let plain = parse("GET", &format!("/v2/a/blobs/{digest}"));
        assert!(plain.is_ok());
        assert_eq!(parse("GET", &format!("/v2/a/blobs/{escaped}")), plain);
        assert_eq!(
            parse("POST", "/v2/a/blobs/uploads"),
            parse("POST", "/v2/a/blobs/uploads/")
        );
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let code = |method, target: &str| parse(method, target).unwrap_err().code;
        assert_eq!(code("GET", "/"), ErrorCode::NotFound);
        assert_eq!(code("GET", "/v1/_ping"), ErrorCode::NotFound);
        assert_eq!(code("GET", "/v2x"), ErrorCode::NotFound);
        assert_eq!(code("GET", "/v2/a/nothing/here"), ErrorCode::NotFound);
        assert_eq!(code("GET", "/v2/A/tags/list"), ErrorCode::NameInvalid);
        assert_eq!(code("GET", "/v2/tags/list"), ErrorCode::NameInvalid);
        assert_eq!(code("GET", "/v2/a/../b/tags/list"), ErrorCode::NameInvalid);
        assert_eq!(
            code("GET", "/v2/a/%2e%2e%2fb/tags/list"),
            ErrorCode::NameInvalid
        );
        assert_eq!(code("GET", "/v2/a/%ff/tags/list"), ErrorCode::NameInvalid);
        assert_eq!(code("GET", "/%ff"), ErrorCode::NotFound);
        assert_eq!(
            code("GET", "/v2/_imgsync/layers/resolve"),
            ErrorCode::NotFound
        );
        assert_eq!(code("GET", "/v2/a/manifests/-x"), ErrorCode::TagInvalid);
        assert_eq!(
            code("PUT", "/v2/a/manifests/x?tag=-x"),
            ErrorCode::TagInvalid
        );
        let tags = "&tag=x".repeat(101);
        let target = format!("/v2/a/manifests/x?{tags}");
        assert_eq!(code("PUT", &target), ErrorCode::TooManyTags);
        assert_eq!(code("GET", "/v2/a/referrers/x"), ErrorCode::DigestInvalid);
        assert_eq!(
            code("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5"),
            ErrorCode::DigestInvalid
        );
        assert_eq!(
            code("GET", "/v2/a/manifests/sha256:x"),
            ErrorCode::DigestInvalid
        );
        assert_eq!(code("GET", "/v2/a/blobs/x"), ErrorCode::DigestInvalid);
        assert_eq!(
            code("GET", "/v2/a/tags/list?n=x"),
            ErrorCode::PaginationNumberInvalid
        );
        assert_eq!(
            code("PATCH", "/v2/a/blobs/uploads/x"),
            ErrorCode::BlobUploadUnknown
        );
        let id = UploadId::random();
        assert_eq!(
            code("PUT", &format!("/v2/a/blobs/uploads/{id}")),
            ErrorCode::DigestInvalid
        );
        let refusal = parse("POST", "/v2/a/tags/list").unwrap_err();
        assert_eq!(
            (refusal.code, refusal.allow),
            (ErrorCode::Unsupported, &[Method::GET][..])
        );
    }

    #[test]
    fn upload_ids_have_one_spelling() {
        let id = UploadId::random().to_string();
        assert!(id.parse::<UploadId>().is_ok());
        assert!(id.to_uppercase().parse::<UploadId>().is_err());
        assert!(id.replace('-', "").parse::<UploadId>().is_err());
    }
}
