//! The extension `_imgsync` of the distribution API (OCI distribution-spec, "Extensions"), one
//! module for each call. Calls are scoped to a repository, so that its permissions apply.

pub mod assemble;
pub mod resolve;
pub mod trash;

/// The name of the extension, as `GET /v2/_oci/ext/discover` lists it.
pub const EXTENSION_NAME: &str = "_imgsync";
