//! Observations for the unit tests.

use http::StatusCode;
use imgsync_oci::ApiError;
use imgsync_oci::client::{ConnectErrorKind, CredentialUse, Error, ProbeResponse};

/// Returns a response with this status and nothing else.
pub(super) fn response(status: u16) -> ProbeResponse {
    ProbeResponse {
        status: StatusCode::from_u16(status).unwrap(),
        server: None,
        api_version: None,
        date: None,
        location: None,
        schemes: Vec::new(),
        faults: Vec::new(),
        is_web_page: false,
    }
}

/// Returns the error of a connection that could not be opened.
pub(super) fn connect_error(kind: ConnectErrorKind) -> Error {
    Error::Connect {
        registry: "nas:5000".parse().unwrap(),
        redirected_by: None,
        what: "it failed".to_owned(),
        kind,
    }
}

/// Returns the error of a request that the registry answered with this status.
pub(super) fn status_error(status: u16, server: Option<&str>, credentials: CredentialUse) -> Error {
    Error::Status {
        registry: "nas:5000".parse().unwrap(),
        operation: "PATCH of an upload".to_owned(),
        status: StatusCode::from_u16(status).unwrap(),
        faults: Vec::<ApiError>::new(),
        server: server.map(Into::into),
        retry_after: None,
        is_login: false,
        credentials: Box::new(credentials),
    }
}

/// Returns that a request had no credentials.
pub(super) fn no_credentials() -> CredentialUse {
    CredentialUse::NoCredentials { variables: None }
}
