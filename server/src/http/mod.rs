//! The room that knows requests and answers, and the only one beside `listen` that does.

mod access;
mod blobs;
mod body;
mod buffers;
mod caller;
mod extensions;
mod failure;
mod flow;
mod forwarded;
mod lists;
mod login;
mod manifests;
mod meaning;
mod options;
mod receive;
mod received;
mod reconciling;
mod referrers;
mod reply;
mod request_id;
mod resolve;
mod rules;
mod uploads;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use imgsync_oci::Endpoint;
use tokio_util::task::TaskTracker;

pub(crate) use self::body::Body;
pub(crate) use self::flow::{Flow, GivenUp, Stalls};
pub(crate) use self::forwarded::Connection;
pub(crate) use self::rules::Rules;

use self::caller::Caller;
use self::failure::Failure;
use self::forwarded::{Origin, Reach};
use self::meaning::Meant;
use self::received::Received;
use self::reconciling::Reconciling;
use crate::auth::Auth;
use crate::config::Config;
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// What handling a request takes.
pub(crate) struct App {
    registry: Registry,
    upstreams: Upstreams,
    auth: Arc<Auth>,
    /// What is told now; another one after a reload.
    config: Arc<ArcSwap<Config>>,
    /// The requests that go on when their connection is gone.
    tasks: TaskTracker,
    patience: Patience,
    reconciling: Reconciling,
    /// Whether bodies of requests count as broken off: the server is about to end.
    is_over: Arc<AtomicBool>,
    /// Whether it was told once that a proxy is not trusted.
    has_doubted: AtomicBool,
}

/// How long a request's body may say nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Before it counts as broken off.
    pub(crate) quiet: Duration,
    /// The same, once another request wants to write to the same upload session: a client whose
    /// line went dead comes back on a new one while the old one still seems to be there.
    pub(crate) wanted: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            quiet: Duration::from_secs(60),
            wanted: Duration::from_secs(5),
        }
    }
}

impl App {
    pub(crate) fn new(
        registry: Registry,
        upstreams: Upstreams,
        auth: Arc<Auth>,
        config: Arc<ArcSwap<Config>>,
    ) -> Arc<Self> {
        let patience = Patience {
            quiet: config.load().imgsync.stall,
            ..Patience::default()
        };
        Arc::new(Self {
            registry,
            upstreams,
            auth,
            config,
            tasks: TaskTracker::new(),
            patience,
            reconciling: Reconciling::default(),
            is_over: Arc::default(),
            has_doubted: AtomicBool::new(false),
        })
    }

    /// How long a client may take nothing of what it asked for.
    pub(crate) fn stalls(&self) -> Stalls {
        let http1 = self.config.load().imgsync.write_stall;
        Stalls {
            http1,
            http2: http1.min(self.patience.quiet),
        }
    }

    /// Has the bodies of all requests end here, so that what arrived of them is kept.
    pub(crate) fn break_off(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.upstreams.break_off();
    }

    /// Waits for the requests whose connection is gone, and for what is being fetched to be kept as
    /// far as it came.
    pub(crate) async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.upstreams.settle().await;
    }
}

/// Answers one request, and writes a line about it.
pub(crate) async fn serve(
    app: Arc<App>,
    connection: Connection,
    flow: Arc<Flow>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let running = flow.request(request.version());
    let config = app.config.load_full();
    let (parts, body) = request.into_parts();
    let origin = Arc::new(Origin::of(&parts, connection, Reach::from(&*config)));
    if origin.is_doubted && !app.has_doubted.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            client = origin.client.map(tracing::field::display),
            "a proxy says how it was asked, and is not believed: if it is yours, name its address \
             in imgsync.trustedproxies"
        );
    }
    let line = access::Line::new(&parts, &origin, running);
    let body = Received::new(body, line.received(), Arc::clone(&app.is_over));
    let is_head = parts.method == Method::HEAD;
    let only_reads = is_head || parts.method == Method::GET;
    let answering = answer(
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
                .unwrap_or_else(|error| Failure::internal(&error).into_response())
        }
    };
    origin.locate(&mut response);
    if is_head {
        response = reply::without_body(response);
    }
    Ok(line.attach(reply::complete(response, &config.http.headers)))
}

async fn answer(
    app: Arc<App>,
    config: Arc<Config>,
    origin: Arc<Origin>,
    parts: Parts,
    body: Received,
) -> Response<Body> {
    let (method, headers) = (&parts.method, &parts.headers);
    let path = below(&config.http.prefix, parts.uri.path());
    if path == "/" && matches!(*method, Method::GET | Method::HEAD) {
        return reply::empty(StatusCode::OK);
    }
    if method == Method::OPTIONS {
        receive::decline(headers, body);
        return options::answer(path, parts.uri.query());
    }
    let (meant, caller) = match admit(&app, &config, &origin, &parts, path).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            receive::decline(headers, body);
            return failure.into_response();
        }
    };
    let version = parts.version;
    let Meant { endpoint, plain } = meant;
    let mut result = operate(&app, &config, &caller, endpoint, version, headers, body).await;
    // Nobody's own pushes depend on whether a mirror's upstream answers.
    if let Some(plain) = plain
        && result.as_ref().is_err_and(|failure| failure.is_upstreams)
    {
        let nothing = Received::nothing();
        result = operate(&app, &config, &caller, plain, version, headers, nothing).await;
    }
    let mut response = result.unwrap_or_else(Failure::into_response);
    if let Some(user) = caller.user() {
        response.extensions_mut().insert(user.clone());
    }
    response
}

/// The part of a path that stands below the prefix under which this server is told to be; of any
/// other path nothing, which is no operation.
fn below<'a>(prefix: &str, path: &'a str) -> &'a str {
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
    origin: &Arc<Origin>,
    parts: &Parts,
    path: &str,
) -> Result<(Meant, Caller), Failure> {
    let query = parts.uri.query();
    let endpoint = Endpoint::parse(&parts.method, path, query)?;
    let caller = login::identify(app, &endpoint, query, &parts.headers, origin).await?;
    let meant = meaning::meant(app, &caller, endpoint, query, &parts.headers).await?;
    caller.permit(&meant.endpoint)?;
    Rules::from(config).check(&meant.endpoint)?;
    uploads::check_owner(app, &caller, &meant.endpoint).await?;
    Ok((meant, caller))
}

async fn operate(
    app: &App,
    config: &Config,
    caller: &Caller,
    endpoint: Endpoint,
    version: Version,
    headers: &HeaderMap,
    body: Received,
) -> Result<Response<Body>, Failure> {
    match endpoint {
        Endpoint::Check => Ok(reply::check()),
        Endpoint::Catalog { page } => lists::catalog(app, page, config.catalog_max_entries).await,
        Endpoint::ListTags { repository, page } => {
            lists::tags(app, repository, page, config.tags_max).await
        }
        Endpoint::GetManifest {
            repository,
            reference,
        }
        | Endpoint::HeadManifest {
            repository,
            reference,
        } => manifests::get(app, repository, reference, headers).await,
        Endpoint::PutManifest {
            repository,
            reference,
            tags,
        } => manifests::put(app, repository, reference, tags, headers, body).await,
        Endpoint::DeleteManifest {
            repository,
            reference,
        } => manifests::delete(app, repository, reference).await,
        Endpoint::ListReferrers {
            repository,
            digest,
            artifact_type,
            last,
        } => referrers::list(app, repository, digest, artifact_type, last).await,
        Endpoint::GetBlob { repository, digest } => {
            blobs::get(app, repository, digest, version, headers).await
        }
        Endpoint::HeadBlob { repository, digest } => {
            blobs::head(app, caller, repository, digest).await
        }
        Endpoint::DeleteBlob { repository, digest } => blobs::delete(app, repository, digest).await,
        Endpoint::StartUpload {
            repository,
            mount,
            digest,
            algorithm,
        } => {
            let asked = uploads::Asked {
                mount,
                digest,
                algorithm,
            };
            uploads::start(app, caller, repository, asked, headers, body).await
        }
        Endpoint::UploadStatus { repository, id } => uploads::status(app, repository, id).await,
        Endpoint::AppendUpload { repository, id } => {
            uploads::append(app, repository, id, headers, body).await
        }
        Endpoint::FinishUpload {
            repository,
            id,
            digest,
        } => uploads::finish(app, repository, id, digest, headers, body).await,
        Endpoint::CancelUpload { repository, id } => uploads::cancel(app, repository, id).await,
        Endpoint::Token => Ok(login::token(app, caller)),
        Endpoint::DiscoverExtensions => Ok(extensions::discover()),
        Endpoint::ResolveLayers { repository } => {
            resolve::layers(app, caller, repository, headers, body).await
        }
    }
}

/// Runs what blocks on the disk where that is allowed.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::internal(&error))
}

/// The same, for what may fail in a way that needs no more said.
async fn attempt<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Into<Failure> + Send + 'static,
{
    blocking(work).await?.map_err(Into::into)
}
