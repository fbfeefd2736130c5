//! Parses the method, path and query of a request into an [`Endpoint`]. Repository names contain
//! slashes, so paths are matched from the right.

use http::Method;
use percent_encoding::percent_decode_str;

use super::{
    Endpoint, Mount, Pagination, RegistryOperation, RepositoryOperation, UploadId, UploadOperation,
};
use crate::{Digest, ErrorCode, Reference, Repository, Tag, ext};

/// The most tags that one manifest may get in one request; the distribution-spec asks for at least
/// ten.
const MAX_TAGS_PER_MANIFEST: usize = 100;

const MANIFEST_METHODS: &[Method] = &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE];
const BLOB_METHODS: &[Method] = &[Method::GET, Method::HEAD, Method::DELETE];
const SESSION_METHODS: &[Method] = &[
    Method::GET,
    Method::HEAD,
    Method::PATCH,
    Method::PUT,
    Method::DELETE,
];

/// The reason why a request is no operation of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointError {
    /// The error code to answer with, which implies the status.
    pub code: ErrorCode,
    /// The invalid part of the request, for the error body.
    pub detail: String,
    /// The methods that the path supports; empty unless the method was wrong (status 405).
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
    /// Parses the method, path and query of a request.
    ///
    /// # Errors
    /// Fails on a path outside the API, on a method that the path does not support, and on a
    /// malformed name, tag, digest, session id or page. The error has the code to answer with.
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, EndpointError> {
        // Everything but names is ASCII, so in a path that is not UTF-8 the name is invalid.
        let invalid = if path.starts_with("/v2/") {
            ErrorCode::NameInvalid
        } else {
            ErrorCode::NotFound
        };
        let path = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| EndpointError::new(invalid, path))?;
        let not_found = || EndpointError::new(ErrorCode::NotFound, &path);
        let rest = path.strip_prefix("/v2").ok_or_else(not_found)?;
        let segments: Vec<&str> = rest.split('/').skip(1).collect();
        let query = Query::parse(query);
        match *segments.as_slice() {
            [] | [""] if matches!(rest, "" | "/") => {
                require(method, &[Method::GET, Method::HEAD])?;
                Ok(Self::CHECK)
            }
            ["_catalog"] => {
                require(method, &[Method::GET])?;
                let page = query.page()?;
                Ok(RegistryOperation::Catalog { page }.into())
            }
            // The extensions are the same for every repository.
            [ref name @ .., "_oci", "ext", "discover"] => {
                if !name.is_empty() {
                    repository(name)?;
                }
                require(method, &[Method::GET])?;
                Ok(RegistryOperation::DiscoverExtensions.into())
            }
            [ext::EXTENSION_NAME, "token"] => {
                require(method, &[Method::GET])?;
                Ok(Self::TOKEN)
            }
            _ => repository_operation(method, &segments, &query).ok_or_else(not_found)?,
        }
    }
}

/// Parses a path within a repository; `None` for paths outside the API. The name is checked before
/// the rest of the path.
fn repository_operation(
    method: &Method,
    segments: &[&str],
    query: &Query,
) -> Option<Result<Endpoint, EndpointError>> {
    let parse = |name, operation: &dyn Fn() -> Result<RepositoryOperation, EndpointError>| {
        Some(repository(name).and_then(|name| Ok(Endpoint::Repository(name, operation()?))))
    };
    match *segments {
        [ref name @ .., ext::EXTENSION_NAME, "layers", "resolve"] if !name.is_empty() => {
            parse(name, &|| {
                extension_call(method, RepositoryOperation::ResolveLayers)
            })
        }
        [
            ref name @ ..,
            ext::EXTENSION_NAME,
            "layers",
            digest,
            "index",
        ] if !name.is_empty() => parse(name, &|| layer_index(method, digest)),
        [ref name @ .., ext::EXTENSION_NAME, "layers", "assemble"] if !name.is_empty() => {
            parse(name, &|| {
                extension_call(method, RepositoryOperation::AssembleLayer)
            })
        }
        [
            ref name @ ..,
            ext::EXTENSION_NAME,
            "layers",
            "assemble",
            diff_id,
        ] if !name.is_empty() => parse(name, &|| assembly(method, diff_id)),
        [ref name @ .., ext::EXTENSION_NAME, "trash", "restore"] if !name.is_empty() => {
            parse(name, &|| {
                extension_call(method, RepositoryOperation::Restore)
            })
        }
        [ref name @ .., ext::EXTENSION_NAME, "repository", "delete"] if !name.is_empty() => {
            parse(name, &|| {
                extension_call(method, RepositoryOperation::DeleteRepository)
            })
        }
        [ref name @ .., "tags", "list"] => parse(name, &|| list_tags(method, query)),
        [ref name @ .., "manifests", reference] => {
            parse(name, &|| manifest(method, reference, query))
        }
        [ref name @ .., "referrers", subject] => {
            parse(name, &|| list_referrers(method, subject, query))
        }
        [ref name @ .., "blobs", "uploads"] | [ref name @ .., "blobs", "uploads", ""] => {
            parse(name, &|| start_upload(method, query))
        }
        [ref name @ .., "blobs", "uploads", id] => parse(name, &|| upload(method, id, query)),
        [ref name @ .., "blobs", digest] => parse(name, &|| blob(method, digest)),
        _ => None,
    }
}

fn require(method: &Method, allow: &'static [Method]) -> Result<(), EndpointError> {
    if allow.contains(method) {
        return Ok(());
    }
    Err(EndpointError::method_not_allowed(allow))
}

fn extension_call(
    method: &Method,
    operation: RepositoryOperation,
) -> Result<RepositoryOperation, EndpointError> {
    require(method, &[Method::POST])?;
    Ok(operation)
}

fn layer_index(method: &Method, text: &str) -> Result<RepositoryOperation, EndpointError> {
    let digest = digest(text)?;
    require(method, &[Method::GET])?;
    Ok(RepositoryOperation::GetLayerIndex { digest })
}

fn assembly(method: &Method, text: &str) -> Result<RepositoryOperation, EndpointError> {
    let diff_id = digest(text)?;
    require(method, &[Method::GET])?;
    Ok(RepositoryOperation::GetAssembly { diff_id })
}

fn list_tags(method: &Method, query: &Query) -> Result<RepositoryOperation, EndpointError> {
    require(method, &[Method::GET])?;
    let page = query.page()?;
    Ok(RepositoryOperation::ListTags { page })
}

fn manifest(
    method: &Method,
    text: &str,
    query: &Query,
) -> Result<RepositoryOperation, EndpointError> {
    let reference = reference(text)?;
    match *method {
        Method::GET => Ok(RepositoryOperation::GetManifest { reference }),
        Method::HEAD => Ok(RepositoryOperation::HeadManifest { reference }),
        Method::PUT => {
            let tags = query.tags()?;
            Ok(RepositoryOperation::PutManifest { reference, tags })
        }
        Method::DELETE => Ok(RepositoryOperation::DeleteManifest { reference }),
        _ => Err(EndpointError::method_not_allowed(MANIFEST_METHODS)),
    }
}

fn list_referrers(
    method: &Method,
    subject: &str,
    query: &Query,
) -> Result<RepositoryOperation, EndpointError> {
    let subject = digest(subject)?;
    require(method, &[Method::GET])?;
    let artifact_type = query.get("artifactType");
    Ok(RepositoryOperation::ListReferrers {
        digest: subject,
        artifact_type: artifact_type
            .filter(|filter| !filter.is_empty())
            .map(str::to_owned),
        last: query.get("last").map(digest).transpose()?,
    })
}

fn blob(method: &Method, text: &str) -> Result<RepositoryOperation, EndpointError> {
    let digest = digest(text)?;
    match *method {
        Method::GET => Ok(RepositoryOperation::GetBlob { digest }),
        Method::HEAD => Ok(RepositoryOperation::HeadBlob { digest }),
        Method::DELETE => Ok(RepositoryOperation::DeleteBlob { digest }),
        _ => Err(EndpointError::method_not_allowed(BLOB_METHODS)),
    }
}

fn start_upload(method: &Method, query: &Query) -> Result<RepositoryOperation, EndpointError> {
    require(method, &[Method::POST])?;
    let mounted = query.get("mount").map(digest).transpose()?;
    let mount = match (mounted, query.get("from").map(str::parse)) {
        (Some(digest), Some(Ok(from))) => Some(Mount {
            digest,
            from: Some(from),
        }),
        (Some(digest), None) => Some(Mount { digest, from: None }),
        // A mount from an impossible name cannot succeed, so an upload session starts instead.
        (Some(_), Some(Err(_))) | (None, _) => None,
    };
    let digest = query.get("digest").map(digest).transpose()?;
    let algorithm = query.get("digest-algorithm").map(|name| {
        name.parse()
            .map_err(|_| EndpointError::new(ErrorCode::DigestInvalid, name))
    });
    Ok(RepositoryOperation::StartUpload {
        mount,
        digest,
        algorithm: algorithm.transpose()?,
    })
}

fn upload(method: &Method, id: &str, query: &Query) -> Result<RepositoryOperation, EndpointError> {
    let id: UploadId = id
        .parse()
        .map_err(|_| EndpointError::new(ErrorCode::BlobUploadUnknown, id))?;
    let operation = match *method {
        Method::GET | Method::HEAD => UploadOperation::Status,
        Method::PATCH => UploadOperation::Append,
        Method::PUT => {
            let missing = || EndpointError::new(ErrorCode::DigestInvalid, "no digest in the query");
            let digest = digest(query.get("digest").ok_or_else(missing)?)?;
            UploadOperation::Finish { digest }
        }
        Method::DELETE => UploadOperation::Cancel,
        _ => return Err(EndpointError::method_not_allowed(SESSION_METHODS)),
    };
    Ok(RepositoryOperation::Upload(id, operation))
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

/// The decoded parameters of a query string.
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
}
