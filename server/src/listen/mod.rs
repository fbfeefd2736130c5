//! From an address to connections, and back: bind, accept, drain.

mod auth_config;
mod bind;
mod connection;
mod debug;
mod error;
mod evict;
mod metered_stream;
mod open_files;
mod purge;
mod tls;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

pub use self::error::Error;
pub use self::tls::TlsError;

use self::bind::{AcceptedStream, Listener};
use self::connection::HttpProtocol;
use self::debug::MetricsEndpoint;
use self::tls::ReloadableTls;
use crate::auth::{AccessController, AuthScheme};
use crate::config::{Config, ListenAddress, Network};
use crate::http::{App, ConnectionInfo};
use crate::registry::Registry;
use crate::upstream::Upstreams;

/// How long to wait when the system has no more connections to give.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long a connection may say nothing at its very beginning.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
/// At the end of the time to drain: how long what has arrived of uploads may take to be kept.
const MIN_SYNC_TIME: Duration = Duration::from_secs(2);
const MAX_SYNC_TIME: Duration = Duration::from_secs(5);
/// How a TLS connection begins (RFC 8446, section 5.1: the content type of a handshake).
const TLS_HANDSHAKE_CONTENT_TYPE: u8 = 0x16;
/// How much is read from a client that does not.
const MAX_PLAIN_HTTP_BYTES: u64 = 64 * 1024;
/// What a client gets that speaks plain HTTP where TLS is spoken.
const PLAIN_HTTP_RESPONSE: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: application/json\r\n\
    Connection: close\r\n\r\n{\"errors\":[{\"code\":\"UNSUPPORTED\",\
    \"message\":\"this port speaks TLS: use https://\"}]}\n";

/// Everything that a reload exchanges.
struct ServerState {
    auth: Arc<AccessController>,
    upstreams: Upstreams,
    tls: Option<ReloadableTls>,
    config: Arc<ArcSwap<Config>>,
}

/// Serves until `shutdown` comes, then lets running requests finish. `listening` is called with
/// the address, its port never 0, once connections are taken. Whatever `configs` brings later
/// counts for what can change while running, and has certificates and users read again.
///
/// # Errors
/// The store or the address cannot be had, users or certificates cannot be read.
pub async fn run(
    mut configs: watch::Receiver<Arc<Config>>,
    listening: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    open_files::raise_open_files_limit();
    let config = Arc::clone(&configs.borrow_and_update());
    let auth = Arc::new(AccessController::open(&config.as_ref().into())?);
    let tls = config.http.tls.as_ref();
    let tls = tls.map(|tls| ReloadableTls::open(tls, config.http.is_http2_enabled));
    let tls = tls.transpose()?;
    let root = config.storage.root.clone();
    let is_read_only = config.storage.is_read_only;
    let opened = tokio::task::spawn_blocking(move || match is_read_only {
        true => Registry::open_read_only(&root),
        false => Registry::open(&root),
    });
    let registry = opened
        .await
        .map_err(|error| Error::Start(error.to_string()))??;
    let upstreams = Upstreams::open(registry.clone(), &config)?;
    let importing = upstreams.clone();
    let imported = tokio::task::spawn_blocking(move || importing.import_proxied()).await;
    match imported.map_err(|error| Error::Start(error.to_string()))? {
        Ok(()) => {}
        Err(error) => tracing::warn!("what a stock registry fetched counts as pushed: {error}"),
    }
    let served = Arc::new(ServerState {
        auth,
        upstreams: upstreams.clone(),
        tls,
        config: Arc::new(ArcSwap::new(Arc::clone(&config))),
    });
    // Until the last request is done.
    let _diff_ids = registry
        .start_diff_id_worker()
        .map_err(|error| Error::Start(error.to_string()))?;
    let listener = Listener::bind(&config.http.listen_address).await?;
    let url = listener.url(served.tls.is_some());
    let place = ListenInfo {
        url,
        is_local: listener.is_local(),
    };
    place.warn_if_exposed(&served);
    let health = match config.http.debug_address.clone() {
        Some(address) => {
            let listener = Listener::bind(&ListenAddress::Tcp(address)).await?;
            tracing::info!("health is told at {}/debug/health", listener.url(false));
            let metrics = config.http.metrics_path.clone();
            let metrics = metrics.map(|path| MetricsEndpoint {
                path,
                upstreams: upstreams.clone(),
            });
            Some(tokio::spawn(debug::serve(listener, metrics)))
        }
        None => None,
    };
    listening(&place.url);
    let purging = purge::run_purge(registry.clone(), Arc::clone(&served.config));
    let purging = tokio::spawn(purging);
    let evicting = tokio::spawn(evict::run_eviction(upstreams.clone()));
    let app = App::new(
        registry,
        upstreams,
        Arc::clone(&served.auth),
        Arc::clone(&served.config),
    );
    let reloading = tokio::spawn(reload(configs, Arc::clone(&served), place));
    accept(listener, app, served, shutdown).await;
    for task in health.iter().chain([&reloading, &purging, &evicting]) {
        task.abort();
    }
    Ok(())
}

/// Where connections are taken.
struct ListenInfo {
    url: String,
    /// Whether only this machine can connect.
    is_local: bool,
}

impl ListenInfo {
    /// Says what an operator should know about who can reach this server.
    fn warn_if_exposed(&self, served: &ServerState) {
        if self.is_local {
            return;
        }
        let (url, config) = (&self.url, served.config.load());
        let Some((scheme, _)) = served.auth.scheme() else {
            tracing::warn!(
                "anyone who reaches {url} may pull and push: there is no authentication"
            );
            return;
        };
        if served.tls.is_some() {
            return;
        }
        tracing::warn!(
            "passwords come to {url} without TLS: set http.tls, or listen where only a proxy with \
             TLS can connect"
        );
        let is_default = config
            .imgsync
            .trusted_proxies
            .iter()
            .all(Network::is_loopback);
        if scheme == AuthScheme::Token && config.http.host.is_none() && is_default {
            tracing::warn!(
                "clients of {url} are told to log in at http://…: behind a proxy with TLS, name its \
                 address in imgsync.trustedproxies, or set http.host to the https:// address that \
                 clients use"
            );
        }
    }
}

/// Takes up configurations as they come. What cannot be read leaves the old one in force.
async fn reload(
    mut configs: watch::Receiver<Arc<Config>>,
    served: Arc<ServerState>,
    place: ListenInfo,
) {
    while configs.changed().await.is_ok() {
        let config = Arc::clone(&configs.borrow_and_update());
        let taking = Arc::clone(&served);
        // It reads files.
        let taken = tokio::task::spawn_blocking(move || taking.apply_config(config));
        if let Err(error) = taken.await {
            tracing::error!(%error, "a reload failed");
        }
        place.warn_if_exposed(&served);
    }
}

impl ServerState {
    fn apply_config(&self, config: Arc<Config>) {
        if let Err(error) = self.auth.reload(&config.as_ref().into()) {
            tracing::error!("{error}; those who could log in still can");
        }
        if let (Some(tls), Some(settings)) = (&self.tls, &config.http.tls)
            && let Err(error) = tls.reload(settings, config.http.is_http2_enabled)
        {
            tracing::error!("{error}; the old certificate stays");
        }
        if let Err(error) = self.upstreams.reload(&config) {
            tracing::error!("{error}; the old upstreams stay");
        }
        self.config.store(config);
    }
}

async fn accept(
    listener: Listener,
    app: Arc<App>,
    served: Arc<ServerState>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = GracefulShutdown::new();
    // More of them wait in the system's queue.
    let most = served.config.load().imgsync.max_connections;
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (accepted, place) = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok(stream) => {
                let (app, served) = (Arc::clone(&app), Arc::clone(&served));
                let serving = serve(stream, app, served, connections.watcher());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    tracing::info!("stopping: running requests may finish");
    let drain_time = served.config.load().http.drain_timeout;
    let mut draining = std::pin::pin!(async {
        connections.shutdown().await;
        app.drain().await;
    });
    let last = (drain_time / 4).clamp(MIN_SYNC_TIME, MAX_SYNC_TIME);
    let first = drain_time.saturating_sub(last);
    if timeout(first, &mut draining).await.is_ok() {
        return;
    }
    // What uploads sent so far is kept, so that they can go on where they were.
    app.interrupt_bodies();
    if timeout(last, draining).await.is_err() {
        tracing::warn!("some requests did not finish in {} s", drain_time.as_secs());
    }
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> (io::Result<AcceptedStream>, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(places).acquire_owned().await;
    (listener.accept().await, place.ok())
}

async fn serve(stream: AcceptedStream, app: Arc<App>, served: Arc<ServerState>, watcher: Watcher) {
    let is_tls = served.tls.is_some();
    let connection = |peer| ConnectionInfo { peer, is_tls };
    let config = served.config.load_full();
    // As with the stock registry: without TLS only where that is asked for.
    let plain = match config.http.is_http2_enabled && config.http.is_h2c_enabled {
        true => HttpProtocol::Either,
        false => HttpProtocol::Http1,
    };
    match (stream, &served.tls) {
        (AcceptedStream::Tcp(mut stream, peer), Some(tls)) => {
            if speaks_tls(&mut stream).await
                && let Some(stream) = tls.accept(stream).await
            {
                let agreed = negotiated_protocol(&stream);
                connection::serve(stream, agreed, connection(Some(peer)), app, watcher).await;
            }
        }
        (AcceptedStream::Unix(stream), Some(tls)) => {
            if let Some(stream) = tls.accept(stream).await {
                let agreed = negotiated_protocol(&stream);
                connection::serve(stream, agreed, connection(None), app, watcher).await;
            }
        }
        (AcceptedStream::Tcp(stream, peer), None) => {
            connection::serve(stream, plain, connection(Some(peer)), app, watcher).await;
        }
        (AcceptedStream::Unix(stream), None) => {
            connection::serve(stream, plain, connection(None), app, watcher).await;
        }
    }
}

/// What client and server agreed to speak over TLS (RFC 9113, section 3.2).
fn negotiated_protocol<S>(stream: &TlsStream<S>) -> HttpProtocol {
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => HttpProtocol::Http2,
        Some(_) | None => HttpProtocol::Http1,
    }
}

/// Looks whether a client begins with TLS; tells one that does not what is spoken here.
async fn speaks_tls(stream: &mut TcpStream) -> bool {
    let mut first = [0];
    match timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE_CONTENT_TYPE] => true,
        Ok(Ok(1)) if first[0].is_ascii_alphabetic() => {
            if let Ok(Err(error)) = timeout(FIRST_BYTE_TIMEOUT, reject_plain_http(stream)).await {
                tracing::debug!(%error, "cannot tell a client that this port speaks TLS");
            }
            false
        }
        Ok(Ok(_) | Err(_)) | Err(_) => false,
    }
}

async fn reject_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN_HTTP_RESPONSE).await?;
    stream.shutdown().await?;
    // A connection that is closed before all was read is reset, and the answer lost.
    let mut rest = stream.take(MAX_PLAIN_HTTP_BYTES);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}
