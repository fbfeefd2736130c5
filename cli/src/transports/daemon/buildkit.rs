//! Reads the config of an image in Docker's classic store, byte for byte. No request of the engine's
//! own API returns it without an export of the whole image, but BuildKit in the engine resolves it
//! for the builds of a client.
//!
//! A client runs a build without steps (`Control.Solve` without a definition), and resolves the
//! image in it (`LLBBridge.ResolveImageConfig`; BuildKit's `api/services/control/control.proto` and
//! `frontend/gateway/pb/gateway.proto`). Nothing is built, and the build ends when it is dropped.
//! Start reading at [`read_config`].

use bytes::Bytes;
use imgsync_oci::Digest;
use imgsync_oci::endpoint::UploadId;

use super::connect::Connector;
use super::grpc::{
    FieldReader, FieldValue, GrpcConnection, GrpcError, call, open, write_bytes, write_number,
};
use crate::image::limits::MAX_METADATA_BYTES;

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const RESOLVE_IMAGE_CONFIG: &str = "/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig";
/// The header that names the build of a request.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// `SolveRequest.Ref`: the name of the build.
const SOLVE_REF: u64 = 1;
/// `SolveRequest.Internal`: keeps the build out of the list of builds. Versions without a list ignore
/// the field.
const SOLVE_INTERNAL: u64 = 11;
/// `ResolveImageConfigRequest.Ref`: the name of the image.
const IMAGE_REF: u64 = 1;
/// `ResolveImageConfigRequest.ResolveMode`.
const RESOLVE_MODE: u64 = 3;
/// Uses the image of the engine, and not that of a registry.
const PREFER_LOCAL: &[u8] = b"local";
/// `ResolveImageConfigResponse.Config`.
const CONFIG: u64 = 2;

/// Returns the config with the digest `expected` of the image that has the name `reference`.
///
/// # Errors
/// Returns the reason why the engine does not return it.
pub(super) async fn read_config(
    connector: &Connector,
    reference: &str,
    expected: &Digest,
) -> Result<Bytes, String> {
    let read = read_any_config(connector, reference).await;
    let config = read.map_err(|error| format!("BuildKit does not return its config: {error}"))?;
    if config.len() as u64 > MAX_METADATA_BYTES || Digest::of(&config) != *expected {
        return Err("BuildKit returned another config".to_owned());
    }
    Ok(config)
}

async fn read_any_config(connector: &Connector, reference: &str) -> Result<Bytes, GrpcError> {
    let mut connection = open(connector).await?;
    let build = UploadId::random().to_string();
    let mut request = Vec::new();
    write_bytes(&mut request, SOLVE_REF, build.as_bytes());
    write_number(&mut request, SOLVE_INTERNAL, 1);
    let mut solving = connection.clone();
    let solve = async {
        // Returns only if the build fails or is ended.
        let ended = match call(&mut solving, SOLVE, &[], &request).await {
            Ok(mut messages) => messages.next().await.map(drop),
            Err(error) => Err(error),
        };
        Err(ended.err().unwrap_or_else(|| malformed("the build ended")))
    };
    let resolve = resolve_config(&mut connection, &build, reference);
    tokio::select! {
        config = resolve => config,
        ended = solve => ended,
    }
}

async fn resolve_config(
    connection: &mut GrpcConnection,
    build: &str,
    reference: &str,
) -> Result<Bytes, GrpcError> {
    let mut request = Vec::new();
    write_bytes(&mut request, IMAGE_REF, reference.as_bytes());
    write_bytes(&mut request, RESOLVE_MODE, PREFER_LOCAL);
    let headers = [(BUILD_ID, build)];
    let mut messages = call(connection, RESOLVE_IMAGE_CONFIG, &headers, &request).await?;
    let message = messages.next().await?;
    let message = message.ok_or_else(|| malformed("no response"))?;
    let mut fields = FieldReader::new(message);
    while let Some((field, value)) = fields.next().map_err(|_| malformed("no valid response"))? {
        if let (CONFIG, FieldValue::Bytes(config)) = (field, value) {
            return Ok(config);
        }
    }
    Err(malformed("no config"))
}

fn malformed(what: &str) -> GrpcError {
    GrpcError::Malformed(what.to_owned())
}
