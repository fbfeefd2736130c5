//! Our extension of the distribution API (OCI distribution-spec, "Extensions"), one file a call.
//! Scoped to a repository, so that the repository's own permissions apply.

pub mod resolve;

/// The extension's name, as `GET /v2/_oci/ext/discover` lists it.
pub const EXTENSION_NAME: &str = "_imgsync";
