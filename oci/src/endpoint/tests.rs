//! Tests of parsing and building endpoints.

use super::*;
use crate::{Algorithm, Digest, ErrorCode, Reference};

fn parse(method: &str, target: &str) -> Result<Endpoint, EndpointError> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Endpoint::parse(&method.parse().unwrap(), path, query)
}

fn start_upload(
    mount: Option<Mount>,
    digest: Option<Digest>,
    algorithm: Option<Algorithm>,
) -> RepositoryOperation {
    RepositoryOperation::StartUpload {
        mount,
        digest,
        algorithm,
    }
}

#[test]
fn every_endpoint_is_parsed_from_its_own_path() {
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
    let registry_operations = [
        RegistryOperation::Check,
        RegistryOperation::Catalog {
            page: Pagination::default(),
        },
        RegistryOperation::Catalog { page: page.clone() },
        RegistryOperation::DiscoverExtensions,
        RegistryOperation::Token,
    ];
    let repository_operations = [
        RepositoryOperation::ListTags { page },
        RepositoryOperation::GetManifest {
            reference: tag.clone(),
        },
        RepositoryOperation::HeadManifest {
            reference: by_digest.clone(),
        },
        RepositoryOperation::PutManifest {
            reference: tag.clone(),
            tags: Vec::new(),
        },
        RepositoryOperation::PutManifest {
            reference: by_digest.clone(),
            tags: vec!["v1".parse().unwrap(), "v1.2".parse().unwrap()],
        },
        RepositoryOperation::DeleteManifest { reference: tag },
        RepositoryOperation::DeleteManifest {
            reference: by_digest,
        },
        RepositoryOperation::ListReferrers {
            digest: digest.clone(),
            artifact_type: None,
            last: None,
        },
        RepositoryOperation::ListReferrers {
            digest: digest.clone(),
            artifact_type: Some("application/a+b; c=d&e".to_owned()),
            last: Some(digest.clone()),
        },
        RepositoryOperation::DeleteBlob {
            digest: digest.clone(),
        },
        RepositoryOperation::ResolveLayers,
        RepositoryOperation::GetLayerIndex {
            digest: Digest::of(b"x"),
        },
        RepositoryOperation::AssembleLayer,
        RepositoryOperation::GetAssembly {
            diff_id: Digest::of(b"x"),
        },
        RepositoryOperation::Restore,
        RepositoryOperation::DeleteRepository,
        RepositoryOperation::GetBlob {
            digest: digest.clone(),
        },
        RepositoryOperation::HeadBlob {
            digest: digest.clone(),
        },
        start_upload(None, None, None),
        start_upload(None, None, Some(Algorithm::Sha512)),
        start_upload(Some(mount), None, None),
        start_upload(None, Some(digest.clone()), None),
        RepositoryOperation::Upload(id, UploadOperation::Status),
        RepositoryOperation::Upload(id, UploadOperation::Append),
        RepositoryOperation::Upload(id, UploadOperation::Finish { digest }),
        RepositoryOperation::Upload(id, UploadOperation::Cancel),
    ];
    let registry_wide = registry_operations.into_iter().map(Endpoint::from);
    let scoped = repository_operations
        .into_iter()
        .map(|operation| Endpoint::within(&repository, operation));
    for endpoint in registry_wide.chain(scoped) {
        let path = endpoint.path();
        let parsed = parse(endpoint.method().as_str(), &path);
        assert_eq!(parsed.as_ref(), Ok(&endpoint), "{path}");
    }
}

#[test]
fn paths_are_accepted_in_other_spellings() {
    let digest = Digest::of(b"x").to_string();
    let escaped = digest.replace(':', "%3A");
    assert_eq!(parse("GET", "/v2"), Ok(Endpoint::CHECK));
    assert_eq!(
        parse("GET", "/v2/team/app/_oci/ext/discover"),
        Ok(RegistryOperation::DiscoverExtensions.into())
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
fn invalid_requests_are_answered_with_their_error_code() {
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
