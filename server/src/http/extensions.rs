//! Lists the extensions of the distribution API (OCI distribution-spec, "Extensions").

use hyper::{Response, StatusCode};
use imgsync_oci::ext;
use serde_json::json;

use super::body::ResponseBody;
use super::responses;

/// Serves `GET /v2/_oci/ext/discover`.
pub(super) fn discover() -> Response<ResponseBody> {
    let specification =
        "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md";
    let calls = ["layers/resolve", "repository/delete", "trash/restore"];
    let calls = calls.map(|call| format!("{}/{call}", ext::EXTENSION_NAME));
    let body = json!({ "extensions": [
        {
            "name": "_oci",
            "url": specification,
            "description": "lists the extensions",
            "endpoints": ["_oci/ext/discover"],
        },
        {
            "name": ext::EXTENSION_NAME,
            // The extension has no public specification, so a URN stands for it.
            "url": "urn:imgsync:ext:layers",
            "description": "tells which layers, named by diffID, are held, and as which blobs; deletes \
                            repositories, and restores what was deleted",
            "endpoints": calls,
        },
    ]});
    responses::json(StatusCode::OK, format!("{body}\n"))
}
