//! Lists the extensions of the distribution API (OCI distribution-spec, "Extensions").

use hyper::{Response, StatusCode};
use imgsync_oci::ext::EXTENSION_NAME;
use serde_json::json;

use super::body::ResponseBody;
use super::responses;
use crate::config::Config;

/// Serves `GET /v2/_oci/ext/discover`.
pub(super) fn discover(config: &Config) -> Response<ResponseBody> {
    let specification =
        "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md";
    let mut calls = vec!["layers/resolve", "repository/delete", "trash/restore"];
    if config.imgsync.delta.is_enabled && !config.storage.is_read_only {
        calls.extend(["layers/index", "layers/assemble"]);
    }
    let calls = calls.iter().map(|call| format!("{EXTENSION_NAME}/{call}"));
    let body = json!({ "extensions": [
        {
            "name": "_oci",
            "url": specification,
            "description": "lists the extensions",
            "endpoints": ["_oci/ext/discover"],
        },
        {
            "name": EXTENSION_NAME,
            // The extension has no public specification, so a URN stands for it.
            "url": "urn:imgsync:ext:layers",
            "description": "tells which layers, named by diffID, are held, and as which blobs; \
                            assembles layers from other layers and a delta; deletes repositories, and \
                            restores what was deleted",
            "endpoints": calls.collect::<Vec<_>>(),
        },
    ]});
    responses::json(StatusCode::OK, format!("{body}\n"))
}
