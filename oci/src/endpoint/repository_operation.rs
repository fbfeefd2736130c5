//! Operations within one repository.

use http::Method;

use super::{Action, Pagination, UploadId, query_string};
use crate::ext::EXTENSION_NAME;
use crate::{Algorithm, Digest, Reference, Repository, Tag};

/// A request to link a blob into a repository instead of uploading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The digest of the blob.
    pub digest: Digest,
    /// The repository to mount from; `None` leaves the choice to the registry.
    pub from: Option<Repository>,
}

/// An operation within one repository; the repository itself is in [`super::Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the parameters of the URL")]
pub enum RepositoryOperation {
    /// `GET /v2/<name>/tags/list`
    ListTags { page: Pagination },
    /// `GET /v2/<name>/manifests/<reference>`
    GetManifest { reference: Reference },
    /// `HEAD /v2/<name>/manifests/<reference>`
    HeadManifest { reference: Reference },
    /// `PUT /v2/<name>/manifests/<reference>`, with one `tag` in the query for each further tag.
    PutManifest {
        reference: Reference,
        tags: Vec<Tag>,
    },
    /// `DELETE /v2/<name>/manifests/<reference>`: a tag deletes the tag alone; a digest deletes
    /// the manifest with all its tags.
    DeleteManifest { reference: Reference },
    /// `GET /v2/<name>/referrers/<digest>`, filtered by `artifactType`; `last` is the last
    /// referrer of the previous page.
    ListReferrers {
        digest: Digest,
        artifact_type: Option<String>,
        last: Option<Digest>,
    },
    /// `GET /v2/<name>/blobs/<digest>`
    GetBlob { digest: Digest },
    /// `HEAD /v2/<name>/blobs/<digest>`
    HeadBlob { digest: Digest },
    /// `DELETE /v2/<name>/blobs/<digest>`
    DeleteBlob { digest: Digest },
    /// `POST /v2/<name>/blobs/uploads/`: with `mount` and `from`; or with `digest` and the blob as
    /// the body; or with the `digest-algorithm` of the digest that will finish the session.
    StartUpload {
        mount: Option<Mount>,
        digest: Option<Digest>,
        algorithm: Option<Algorithm>,
    },
    /// An operation on the upload session `/v2/<name>/blobs/uploads/<id>`.
    Upload(UploadId, UploadOperation),
    /// `POST /v2/<name>/_imgsync/layers/resolve`, see [`crate::ext::resolve`].
    ResolveLayers,
    /// `GET /v2/<name>/_imgsync/layers/<digest>/index`, see [`crate::delta::index`].
    GetLayerIndex { digest: Digest },
    /// `POST /v2/<name>/_imgsync/layers/assemble`, see [`crate::ext::assemble`].
    AssembleLayer,
    /// `GET /v2/<name>/_imgsync/layers/assemble/<diffID>`, see [`crate::ext::assemble`].
    GetAssembly { diff_id: Digest },
    /// `POST /v2/<name>/_imgsync/trash/restore`, see [`crate::ext::trash`].
    Restore,
    /// `POST /v2/<name>/_imgsync/repository/delete`, see [`crate::ext::trash`].
    DeleteRepository,
}

/// An operation on an open upload session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the field is the parameter of the URL")]
pub enum UploadOperation {
    /// `GET`: reports how many bytes the session holds.
    Status,
    /// `PATCH`: appends a chunk.
    Append,
    /// `PUT` with `?digest=…`: appends the last chunk, if any, and commits the blob.
    Finish { digest: Digest },
    /// `DELETE`: discards the session.
    Cancel,
}

impl RepositoryOperation {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::GetBlob { .. }
            | Self::GetLayerIndex { .. }
            | Self::GetAssembly { .. }
            | Self::ListReferrers { .. } => Method::GET,
            Self::HeadManifest { .. } | Self::HeadBlob { .. } => Method::HEAD,
            Self::PutManifest { .. } => Method::PUT,
            Self::StartUpload { .. }
            | Self::ResolveLayers
            | Self::AssembleLayer
            | Self::Restore
            | Self::DeleteRepository => Method::POST,
            Self::DeleteManifest { .. } | Self::DeleteBlob { .. } => Method::DELETE,
            Self::Upload(_, operation) => operation.method(),
        }
    }

    /// The path below `/v2/<name>/`, with the query.
    pub(super) fn path(&self) -> String {
        match self {
            Self::ListTags { page } => format!("tags/list{}", page.query()),
            Self::GetManifest { reference }
            | Self::HeadManifest { reference }
            | Self::DeleteManifest { reference } => format!("manifests/{reference}"),
            Self::PutManifest { reference, tags } => {
                let pairs = tags.iter().map(|tag| ("tag", tag.to_string()));
                format!("manifests/{reference}{}", query_string(pairs.collect()))
            }
            Self::ListReferrers {
                digest,
                artifact_type,
                last,
            } => {
                let mut pairs = Vec::new();
                let artifact_type = artifact_type.iter();
                pairs.extend(artifact_type.map(|filter| ("artifactType", filter.clone())));
                pairs.extend(last.iter().map(|last| ("last", last.to_string())));
                format!("referrers/{digest}{}", query_string(pairs))
            }
            Self::GetBlob { digest } | Self::HeadBlob { digest } | Self::DeleteBlob { digest } => {
                format!("blobs/{digest}")
            }
            Self::StartUpload {
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
                let name = algorithm.map(|algorithm| algorithm.as_str().to_owned());
                pairs.extend(name.map(|name| ("digest-algorithm", name)));
                format!("blobs/uploads/{}", query_string(pairs))
            }
            Self::Upload(id, operation) => format!("blobs/uploads/{id}{}", operation.query()),
            Self::ResolveLayers => format!("{EXTENSION_NAME}/layers/resolve"),
            Self::GetLayerIndex { digest } => format!("{EXTENSION_NAME}/layers/{digest}/index"),
            Self::AssembleLayer => format!("{EXTENSION_NAME}/layers/assemble"),
            Self::GetAssembly { diff_id } => {
                format!("{EXTENSION_NAME}/layers/assemble/{diff_id}")
            }
            Self::Restore => format!("{EXTENSION_NAME}/trash/restore"),
            Self::DeleteRepository => format!("{EXTENSION_NAME}/repository/delete"),
        }
    }

    pub(super) fn action(&self) -> Action {
        match self {
            Self::ListTags { .. }
            | Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::GetBlob { .. }
            | Self::HeadBlob { .. }
            | Self::ListReferrers { .. }
            | Self::GetLayerIndex { .. }
            | Self::ResolveLayers => Action::Pull,
            Self::PutManifest { .. }
            | Self::StartUpload { .. }
            | Self::AssembleLayer
            | Self::GetAssembly { .. }
            | Self::Upload(..) => Action::Push,
            Self::DeleteManifest { .. }
            | Self::DeleteBlob { .. }
            | Self::Restore
            | Self::DeleteRepository => Action::Delete,
        }
    }
}

impl UploadOperation {
    fn method(&self) -> Method {
        match self {
            Self::Status => Method::GET,
            Self::Append => Method::PATCH,
            Self::Finish { .. } => Method::PUT,
            Self::Cancel => Method::DELETE,
        }
    }

    fn query(&self) -> String {
        match self {
            Self::Finish { digest } => query_string(vec![("digest", digest.to_string())]),
            Self::Status | Self::Append | Self::Cancel => String::new(),
        }
    }
}
