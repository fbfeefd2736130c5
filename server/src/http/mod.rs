//! The room that knows requests and answers, and the only one beside `listen` that does.

mod access_log;
mod authentication;
mod blobs;
mod body;
mod buffer_pool;
mod caller;
mod connection_activity;
mod error_response;
mod extensions;
mod forwarded;
mod lists;
mod manifests;
mod options;
mod receive;
mod referrers;
mod referrers_reconciler;
mod repository_resolution;
mod request_body;
mod request_id;
mod resolve_layers;
mod responses;
mod uploads;
mod write_policy;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use imgsync_oci::endpoint::{RegistryOperation, RepositoryOperation, UploadOperation};
use imgsync_oci::{Endpoint, Repository};
use tokio_util::task::TaskTracker;

pub(crate) use self::body::ResponseBody;
pub(crate) use self::connection_activity::{CloseReason, ConnectionActivity, WriteTimeouts};
pub(crate) use self::forwarded::ConnectionInfo;
pub(crate) use self::write_policy::WritePolicy;

use self::caller::Caller;
use self::error_response::ErrorResponse;
use self::forwarded::{ForwardedInfo, PublicUrlConfig};
use self::referrers_reconciler::ReferrersReconciler;
use self::repository_resolution::ResolvedOperation;
use self::request_body::RequestBody;
use crate::auth::AccessController;
use crate::config::Config;
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// What handling a request takes.
pub(crate) struct App {
    registry: Registry,
    upstreams: Upstreams,
    auth: Arc<AccessController>,
    /// What is told now; another one after a reload.
    config: Arc<ArcSwap<Config>>,
    /// The requests that go on when their connection is gone.
    tasks: TaskTracker,
    read_timeouts: ReadTimeouts,
    referrers_reconciler: ReferrersReconciler,
    /// Whether bodies of requests count as broken off: the server is about to end.
    is_shutting_down: Arc<AtomicBool>,
    /// Whether it was told once that a proxy is not trusted.
    has_warned_untrusted_proxy: AtomicBool,
}

/// How long a request's body may say nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadTimeouts {
    /// Before it counts as broken off.
    pub(crate) idle: Duration,
    /// The same, once another request wants to write to the same upload session: a client whose
    /// line went dead comes back on a new one while the old one still seems to be there.
    pub(crate) contended: Duration,
}

impl Default for ReadTimeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            contended: Duration::from_secs(5),
        }
    }
}

impl App {
    pub(crate) fn new(
        registry: Registry,
        upstreams: Upstreams,
        auth: Arc<AccessController>,
        config: Arc<ArcSwap<Config>>,
    ) -> Arc<Self> {
        let patience = ReadTimeouts {
            idle: config.load().imgsync.read_timeout,
            ..ReadTimeouts::default()
        };
        Arc::new(Self {
            registry,
            upstreams,
            auth,
            config,
            tasks: TaskTracker::new(),
            read_timeouts: patience,
            referrers_reconciler: ReferrersReconciler::default(),
            is_shutting_down: Arc::default(),
            has_warned_untrusted_proxy: AtomicBool::new(false),
        })
    }

    /// How long a client may take nothing of what it asked for.
    pub(crate) fn write_timeouts(&self) -> WriteTimeouts {
        let http1 = self.config.load().imgsync.write_timeout;
        WriteTimeouts {
            http1,
            http2: http1.min(self.read_timeouts.idle),
        }
    }

    /// Has the bodies of all requests end here, so that what arrived of them is kept.
    pub(crate) fn interrupt_bodies(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
        self.upstreams.cancel_downloads();
    }

    /// Waits for the requests whose connection is gone, and for what is being fetched to be kept as
    /// far as it came.
    pub(crate) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.upstreams.drain().await;
    }
}

/// Answers one request, and writes a line about it.
pub(crate) async fn serve(
    app: Arc<App>,
    connection: ConnectionInfo,
    flow: Arc<ConnectionActivity>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let running = flow.begin_request(request.version());
    let config = app.config.load_full();
    let (parts, body) = request.into_parts();
    let origin = Arc::new(ForwardedInfo::of(
        &parts,
        connection,
        PublicUrlConfig::from(&*config),
    ));
    if origin.is_untrusted_proxy && !app.has_warned_untrusted_proxy.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            client = origin.client.map(tracing::field::display),
            "a proxy says how it was asked, and is not believed: if it is yours, name its address \
             in imgsync.trustedproxies"
        );
    }
    let line = access_log::AccessLogEntry::new(&parts, &origin, running);
    let body = RequestBody::new(
        body,
        line.received_counter(),
        Arc::clone(&app.is_shutting_down),
    );
    let is_head = parts.method == Method::HEAD;
    let only_reads = is_head || parts.method == Method::GET;
    let answering = respond(
        Arc::clone(&app),
        Arc::clone(&config),
        Arc::clone(&origin),
        parts,
        body,
    );
    let mut response = match only_reads {
        true => answering.await,
        // What has arrived is to be kept also when the connection, and this future, are gone.
        false => {
            let task = app.tasks.spawn(answering);
            task.await
                .unwrap_or_else(|error| ErrorResponse::internal(&error).into_response())
        }
    };
    origin.rewrite_locations(&mut response);
    if is_head {
        response = responses::without_body(response);
    }
    Ok(line.attach(responses::add_common_headers(
        response,
        &config.http.headers,
    )))
}

async fn respond(
    app: Arc<App>,
    config: Arc<Config>,
    origin: Arc<ForwardedInfo>,
    parts: Parts,
    body: RequestBody,
) -> Response<ResponseBody> {
    let (method, headers) = (&parts.method, &parts.headers);
    let path = strip_path_prefix(&config.http.prefix, parts.uri.path());
    if path == "/" && matches!(*method, Method::GET | Method::HEAD) {
        return responses::empty(StatusCode::OK);
    }
    if method == Method::OPTIONS {
        receive::discard_unread(headers, body);
        return options::respond(path, parts.uri.query());
    }
    let (meant, caller) = match admit(&app, &config, &origin, &parts, path).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            receive::discard_unread(headers, body);
            return failure.into_response();
        }
    };
    let version = parts.version;
    let ResolvedOperation {
        endpoint,
        fallback: plain,
    } = meant;
    let mut result = dispatch(&app, &config, &caller, endpoint, version, headers, body).await;
    // Nobody's own pushes depend on whether a mirror's upstream answers.
    if let Some(plain) = plain
        && result
            .as_ref()
            .is_err_and(|failure| failure.is_from_upstream)
    {
        let nothing = RequestBody::empty();
        result = dispatch(&app, &config, &caller, plain, version, headers, nothing).await;
    }
    let mut response = result.unwrap_or_else(ErrorResponse::into_response);
    if let Some(user) = caller.user() {
        response.extensions_mut().insert(user.clone());
    }
    response
}

/// The part of a path that stands below the prefix under which this server is told to be; of any
/// other path nothing, which is no operation.
fn strip_path_prefix<'a>(prefix: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(prefix) {
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) | None => "",
    }
}

/// What a request asks for, as it is meant, and who asks, once it is clear that they may.
async fn admit(
    app: &App,
    config: &Config,
    origin: &Arc<ForwardedInfo>,
    parts: &Parts,
    path: &str,
) -> Result<(ResolvedOperation, Caller), ErrorResponse> {
    let query = parts.uri.query();
    let endpoint = Endpoint::parse(&parts.method, path, query)?;
    let caller = authentication::identify(app, &endpoint, query, &parts.headers, origin).await?;
    let meant =
        repository_resolution::resolve_repository(app, &caller, endpoint, query, &parts.headers)
            .await?;
    caller.authorize(&meant.endpoint)?;
    WritePolicy::from(config).check(&meant.endpoint)?;
    uploads::check_owner(app, &caller, &meant.endpoint).await?;
    Ok((meant, caller))
}

async fn dispatch(
    app: &App,
    config: &Config,
    caller: &Caller,
    endpoint: Endpoint,
    version: Version,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    match endpoint {
        Endpoint::Registry(operation) => {
            dispatch_registry_operation(app, config, caller, operation).await
        }
        Endpoint::Repository(repository, operation) => {
            let scoped = (repository, operation);
            dispatch_repository_operation(app, config, caller, scoped, version, headers, body).await
        }
    }
}

async fn dispatch_registry_operation(
    app: &App,
    config: &Config,
    caller: &Caller,
    operation: RegistryOperation,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    match operation {
        RegistryOperation::Check => Ok(responses::check()),
        RegistryOperation::Catalog { page } => {
            lists::catalog(app, page, config.catalog_max_entries).await
        }
        RegistryOperation::DiscoverExtensions => Ok(extensions::discover()),
        RegistryOperation::Token => Ok(authentication::issue_token(app, caller)),
    }
}

async fn dispatch_repository_operation(
    app: &App,
    config: &Config,
    caller: &Caller,
    (repository, operation): (Repository, RepositoryOperation),
    version: Version,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<Response<ResponseBody>, ErrorResponse> {
    match operation {
        RepositoryOperation::ListTags { page } => {
            lists::tags(app, repository, page, config.tags_max).await
        }
        RepositoryOperation::GetManifest { reference }
        | RepositoryOperation::HeadManifest { reference } => {
            manifests::get(app, repository, reference, headers).await
        }
        RepositoryOperation::PutManifest { reference, tags } => {
            manifests::put(app, repository, reference, tags, headers, body).await
        }
        RepositoryOperation::DeleteManifest { reference } => {
            manifests::delete(app, repository, reference).await
        }
        RepositoryOperation::ListReferrers {
            digest,
            artifact_type,
            last,
        } => referrers::list(app, repository, digest, artifact_type, last).await,
        RepositoryOperation::GetBlob { digest } => {
            blobs::get(app, repository, digest, version, headers).await
        }
        RepositoryOperation::HeadBlob { digest } => {
            blobs::head(app, caller, repository, digest).await
        }
        RepositoryOperation::DeleteBlob { digest } => blobs::delete(app, repository, digest).await,
        RepositoryOperation::StartUpload {
            mount,
            digest,
            algorithm,
        } => {
            let asked = uploads::StartUploadQuery {
                mount,
                digest,
                algorithm,
            };
            uploads::start(app, caller, repository, asked, headers, body).await
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
            resolve_layers::post(app, caller, repository, headers, body).await
        }
    }
}

/// Runs what blocks on the disk where that is allowed.
async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorResponse> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ErrorResponse::internal(&error))
}

/// The same, for what may fail in a way that needs no more said.
async fn try_blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, ErrorResponse>
where
    T: Send + 'static,
    E: Into<ErrorResponse> + Send + 'static,
{
    run_blocking(work).await?.map_err(Into::into)
}
