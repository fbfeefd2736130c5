//! Serves the HTTP API of the registry (OCI distribution-spec).
//!
//! Only this module and `listen` may use the types of the HTTP server. This module must not access
//! the disk: it calls [`crate::registry`] and [`crate::upstream`]. Start reading at [`serve`].

mod access_log;
mod app;
mod assemble;
mod authentication;
mod blob_pieces;
mod blobs;
mod blocking;
mod body;
mod buffer_pool;
mod buffered_body;
mod caller;
mod challenge;
mod changes;
mod client_presence;
mod connection_activity;
mod entity_tag;
mod error_response;
mod extensions;
mod forwarded;
mod forwarded_headers;
mod index_updater;
mod layer_index;
mod leased_body;
mod lists;
mod manifests;
mod mapped_bytes;
mod mirror_access;
mod multipart_ranges;
mod options;
mod page;
mod receive;
mod referrers;
mod repository_resolution;
mod request_body;
mod request_id;
mod resolve_layers;
mod responses;
mod restored_pushes;
mod trash;
mod uploads;
mod walks;
mod write_policy;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use imgsync_oci::endpoint::{RegistryOperation, RepositoryOperation, UploadOperation};
use imgsync_oci::{Endpoint, ErrorCode};

pub(crate) use self::app::App;
pub(crate) use self::connection_activity::{CloseReason, ConnectionActivity, ConnectionStanding};
pub(crate) use self::forwarded::ConnectionInfo;

use self::body::ResponseBody;
use self::caller::Caller;
use self::client_presence::ClientGuard;
use self::error_response::ErrorResponse;
use self::forwarded::{ForwardedInfo, PublicUrlConfig};
use self::repository_resolution::ResolvedOperation;
use self::request_body::RequestBody;
use self::request_id::RequestId;
use self::write_policy::WritePolicy;
use crate::client_address::ClientAddress;
use crate::config::Config;
use crate::metrics::{OTHER_HANDLER, RequestInFlight, handler_of};

/// Serves one request, and logs it.
pub(crate) async fn serve(
    app: Arc<App>,
    connection: ConnectionInfo,
    activity: Arc<ConnectionActivity>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let client = ClientGuard::default();
    let request_guard = activity.begin_request(request.version());
    let config = app.config.load_full();
    let (mut parts, body) = request.into_parts();
    let forwarded = Arc::new(ForwardedInfo::of(
        &parts,
        connection,
        PublicUrlConfig::from(&*config),
    ));
    warn_about_untrusted_proxy(&app, &forwarded);
    // Over HTTP/2, a proxy sends the requests of many clients on one connection.
    if parts.version < Version::HTTP_2
        && let Some(client) = forwarded.proxied_client
    {
        activity.set_forwarded_client(ClientAddress::from(Some(client)));
    }
    let request_activity = Arc::clone(request_guard.activity());
    let id = RequestId::of(&parts.headers, forwarded.is_trusted);
    parts.extensions.insert(id.clone());
    let log_entry = access_log::AccessLogEntry::new(&parts, id, &forwarded, request_guard);
    let body = RequestBody::new(
        body,
        log_entry.received_counter(),
        request_activity,
        Arc::clone(&app.is_shutting_down),
        client.presence(),
    );
    let is_head = parts.method == Method::HEAD;
    let is_read = is_head || parts.method == Method::GET;
    let responding = respond(
        Arc::clone(&app),
        Arc::clone(&config),
        Arc::clone(&forwarded),
        parts,
        body,
    );
    let mut response = if is_read {
        responding.await
    } else {
        // A task of its own keeps the bytes that arrived, even if the connection is closed and this
        // future is dropped.
        let task = app.tasks.spawn(responding);
        task.await
            .unwrap_or_else(|error| ErrorResponse::internal(&error).into_response())
    };
    forwarded.rewrite_locations(&mut response);
    if is_head {
        response = responses::without_body(response);
    }
    let in_flight = response.extensions_mut().remove();
    let in_flight = in_flight.unwrap_or_else(|| Arc::new(app.metrics.begin(OTHER_HANDLER)));
    let response = responses::add_common_headers(response, &config.http.headers);
    Ok(log_entry.attach(response, in_flight))
}

/// Warns, once, that forwarding headers are ignored.
fn warn_about_untrusted_proxy(app: &App, forwarded: &ForwardedInfo) {
    if !forwarded.is_untrusted_proxy || app.has_warned_untrusted_proxy.swap(true, Ordering::Relaxed)
    {
        return;
    }
    tracing::warn!(
        client = forwarded.client.map(tracing::field::display),
        "ignored Forwarded and X-Forwarded-* headers from an untrusted proxy: if the proxy is \
         yours, add its address to imgsync.trustedproxies"
    );
}

async fn respond(
    app: Arc<App>,
    config: Arc<Config>,
    forwarded: Arc<ForwardedInfo>,
    parts: Parts,
    mut body: RequestBody,
) -> Response<ResponseBody> {
    let response = handle(&app, &config, &forwarded, &parts, &mut body).await;
    receive::drain_unread(&parts.headers, body);
    response
}

/// Handles a request, and reads as much of its body as the operation needs.
async fn handle(
    app: &App,
    config: &Config,
    forwarded: &Arc<ForwardedInfo>,
    parts: &Parts,
    body: &mut RequestBody,
) -> Response<ResponseBody> {
    let method = &parts.method;
    // RFC 9112, section 3.2: a proxy may have routed the request by the other one.
    if parts.headers.get_all(HOST).iter().nth(1).is_some() {
        let detail = "more than one Host header";
        return ErrorResponse::new(ErrorCode::RequestInvalid, detail).into_response();
    }
    let path = strip_path_prefix(&config.http.prefix, parts.uri.path());
    if config.imgsync.is_page_enabled {
        let served = page::serve(app, config, forwarded, parts, path, body).await;
        if let Some(response) = served {
            return response;
        }
    }
    if path == "/" && matches!(*method, Method::GET | Method::HEAD) {
        return responses::empty(StatusCode::OK);
    }
    if method == Method::OPTIONS {
        return options::respond(path, parts.uri.query());
    }
    let endpoint = match Endpoint::parse(method, path, parts.uri.query()) {
        Ok(endpoint) => endpoint,
        Err(error) => return ErrorResponse::from(error).into_response(),
    };
    let in_flight: Arc<RequestInFlight> = Arc::new(app.metrics.begin(handler_of(&endpoint)));
    let mut response = perform(app, config, forwarded, parts, endpoint, body).await;
    response.extensions_mut().insert(in_flight);
    response
}

/// Performs an operation, if its caller may.
async fn perform(
    app: &App,
    config: &Config,
    forwarded: &Arc<ForwardedInfo>,
    parts: &Parts,
    endpoint: Endpoint,
    body: &mut RequestBody,
) -> Response<ResponseBody> {
    let headers = &parts.headers;
    let (resolved, caller) = match admit(app, config, forwarded, parts, endpoint).await {
        Ok(admitted) => admitted,
        Err(response) => return response.into_response(),
    };
    let ResolvedOperation { endpoint, fallback } = resolved;
    let mut result = dispatch(app, config, &caller, endpoint, headers, body).await;
    // A client that is about to push must not depend on the upstream of a mirror.
    if let Some(fallback) = fallback
        && result
            .as_ref()
            .is_err_and(|response| response.is_from_upstream)
    {
        result = dispatch(app, config, &caller, fallback, headers, body).await;
    }
    let mut response = result.unwrap_or_else(ErrorResponse::into_response);
    changes::record(app, &caller, forwarded, parts, &mut response).await;
    if let Some(user) = caller.user() {
        response.extensions_mut().insert(user.clone());
    }
    response
}

/// Removes the configured prefix from a path. A path without the prefix becomes empty, which
/// matches no operation.
fn strip_path_prefix<'a>(prefix: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(prefix) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => "",
    }
}

/// Identifies and authorizes the caller of a request, and returns the operation with its repository
/// resolved.
async fn admit(
    app: &App,
    config: &Config,
    forwarded: &Arc<ForwardedInfo>,
    parts: &Parts,
    endpoint: Endpoint,
) -> Result<(ResolvedOperation, Caller), ErrorResponse> {
    let query = parts.uri.query();
    let caller = authentication::identify(app, &endpoint, query, &parts.headers, forwarded).await?;
    let resolved =
        repository_resolution::resolve_repository(app, &caller, endpoint, query, &parts.headers)
            .await?;
    if let Err(challenge) = caller.authorize(&resolved.endpoint)
        && !mirror_access::is_open(app, &caller, &resolved.endpoint).await?
    {
        return Err(challenge);
    }
    WritePolicy::from(config).check(&resolved.endpoint)?;
    uploads::check_owner(app, &caller, &resolved.endpoint).await?;
    Ok((resolved, caller))
}

/// Calls the handler of an operation.
async fn dispatch(
    app: &App,
    config: &Config,
    caller: &Caller,
    endpoint: Endpoint,
    headers: &HeaderMap,
    body: &mut RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    let (repository, operation) = match endpoint {
        Endpoint::Registry(RegistryOperation::Check) => return Ok(responses::check()),
        Endpoint::Registry(RegistryOperation::Catalog { page }) => {
            return lists::catalog(app, &body.client(), page, config.catalog_max_entries).await;
        }
        Endpoint::Registry(RegistryOperation::DiscoverExtensions) => {
            return Ok(extensions::discover(config));
        }
        Endpoint::Registry(RegistryOperation::Token) => {
            return Ok(authentication::issue_token(app, caller));
        }
        Endpoint::Repository(repository, operation) => (repository, operation),
    };
    match operation {
        RepositoryOperation::ListTags { page } => {
            lists::tags(app, &body.client(), repository, page, config.tags_max).await
        }
        RepositoryOperation::GetManifest { reference } => {
            manifests::get(app, repository, reference, headers).await
        }
        RepositoryOperation::HeadManifest { reference } => {
            manifests::head(app, repository, reference, headers).await
        }
        RepositoryOperation::PutManifest { reference, tags } => {
            manifests::put(app, caller, repository, (reference, tags), headers, body).await
        }
        RepositoryOperation::DeleteManifest { reference } => {
            manifests::delete(app, &body.client(), repository, reference).await
        }
        RepositoryOperation::ListReferrers {
            digest,
            artifact_type,
            last,
        } => {
            let filter = referrers::ReferrersFilter {
                artifact_type,
                last,
            };
            referrers::list(app, &body.client(), repository, digest, filter).await
        }
        RepositoryOperation::GetBlob { digest } => {
            blobs::get(app, caller, repository, digest, headers).await
        }
        RepositoryOperation::HeadBlob { digest } => {
            blobs::head(app, caller, repository, digest, headers).await
        }
        RepositoryOperation::DeleteBlob { digest } => blobs::delete(app, repository, digest).await,
        RepositoryOperation::StartUpload {
            mount,
            digest,
            algorithm,
        } => {
            let query = uploads::StartUploadQuery {
                mount,
                digest,
                algorithm,
            };
            uploads::start(app, caller, repository, query, headers, body).await
        }
        RepositoryOperation::Upload(id, operation) => match operation {
            UploadOperation::Status => uploads::status(app, repository, id).await,
            UploadOperation::Append => uploads::append(app, repository, id, headers, body).await,
            UploadOperation::Finish { digest } => {
                uploads::finish(app, repository, id, digest, headers, body).await
            }
            UploadOperation::Cancel => uploads::cancel(app, repository, id).await,
        },
        RepositoryOperation::ResolveLayers => {
            resolve_layers::post(app, caller, repository, body).await
        }
        RepositoryOperation::GetLayerIndex { digest } => {
            layer_index::get(app, repository, digest, headers).await
        }
        RepositoryOperation::AssembleLayer => assemble::post(app, caller, repository, body).await,
        RepositoryOperation::GetAssembly { diff_id } => {
            assemble::get(app, caller, repository, diff_id).await
        }
        RepositoryOperation::Restore => trash::restore(app, repository, body).await,
        RepositoryOperation::DeleteRepository => {
            trash::delete_repository(app, &body.client(), repository).await
        }
    }
}
