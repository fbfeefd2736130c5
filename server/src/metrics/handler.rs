//! The label `handler` of a request: the kind of operation, as the stock registry names it.

use imgsync_oci::Endpoint;
use imgsync_oci::endpoint::{RegistryOperation, RepositoryOperation};

/// The label of requests that are no operation of the API.
pub(crate) const OTHER_HANDLER: &str = "other";

/// Returns the label of an operation. The stock registry has no `referrers`, `token` and
/// `extension`.
pub(crate) fn handler_of(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Registry(operation) => match operation {
            RegistryOperation::Check => "base",
            RegistryOperation::Catalog { .. } => "catalog",
            RegistryOperation::Token => "token",
            RegistryOperation::DiscoverExtensions => "extension",
        },
        Endpoint::Repository(_, operation) => match operation {
            RepositoryOperation::ListTags { .. } => "tags",
            RepositoryOperation::GetManifest { .. }
            | RepositoryOperation::HeadManifest { .. }
            | RepositoryOperation::PutManifest { .. }
            | RepositoryOperation::DeleteManifest { .. } => "manifest",
            RepositoryOperation::ListReferrers { .. } => "referrers",
            RepositoryOperation::GetBlob { .. }
            | RepositoryOperation::HeadBlob { .. }
            | RepositoryOperation::DeleteBlob { .. } => "blob",
            RepositoryOperation::StartUpload { .. } => "blob_upload",
            RepositoryOperation::Upload(..) => "blob_upload_chunk",
            RepositoryOperation::ResolveLayers
            | RepositoryOperation::GetLayerIndex { .. }
            | RepositoryOperation::AssembleLayer
            | RepositoryOperation::GetAssembly { .. }
            | RepositoryOperation::Restore
            | RepositoryOperation::DeleteRepository => "extension",
        },
    }
}
