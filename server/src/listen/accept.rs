//! The accept loop: one task per connection, bounded, and drained at shutdown.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::bind::{AcceptedStream, Listener};
use super::connection::{self, HttpProtocol};
use super::metered_stream::{ByteStream, ConnectionStream};
use super::places::{ConnectionPlace, ConnectionPlaces};
use super::plain_http;
use super::tls::ReloadableTls;
use crate::client_address::ClientAddress;
use crate::config::Config;
use crate::http::{App, ConnectionActivity, ConnectionInfo};

/// The delay before the next `accept` after one that failed, for example without file descriptors.
pub(crate) const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Bounds of the last part of the drain timeout, in which uploads write what they have received.
const MIN_SYNC_TIME: Duration = Duration::from_secs(2);
const MAX_SYNC_TIME: Duration = Duration::from_secs(5);

/// Accepts connections of one listener and serves HTTP on them.
pub(crate) struct ConnectionAcceptor {
    /// The address that clients connect to.
    pub(crate) listener: Listener,
    /// Answers the requests.
    pub(crate) app: Arc<App>,
    /// Encrypts the connections; without it they are plain HTTP.
    pub(crate) tls: Option<Arc<ReloadableTls>>,
    /// The current configuration; a reload replaces it.
    pub(crate) config: Arc<ArcSwap<Config>>,
}

impl ConnectionAcceptor {
    /// Accepts connections until `shutdown` is ready, then lets the running requests finish within
    /// the drain timeout.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) {
        let connections = GracefulShutdown::new();
        let places = ConnectionPlaces::new(self.config.load().imgsync.max_connections);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                next = self.accept_with_place(&places) => next,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, activity, place)) => {
                    let serving = self.serve_stream(stream, activity, connections.watcher());
                    tokio::spawn(async move {
                        tokio::select! {
                            biased;
                            () = place.evicted() => {
                                tracing::debug!("closing a connection to make room for another");
                            }
                            () = serving => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(self.listener);
        drain(
            connections,
            &self.app,
            self.config.load().http.drain_timeout,
        )
        .await;
    }

    /// Accepts the next connection, and waits until there is a place for it. Meanwhile, further
    /// connections wait in the kernel's backlog.
    async fn accept_with_place(
        &self,
        places: &Arc<ConnectionPlaces>,
    ) -> io::Result<(AcceptedStream, Arc<ConnectionActivity>, ConnectionPlace)> {
        let stream = self.listener.accept().await?;
        let config = self.config.load_full();
        let client = stream.peer().and_then(|peer| client_of(peer, &config));
        let activity = Arc::new(ConnectionActivity::from_peer(client));
        let share = config.imgsync.max_connections_per_client;
        let place = places.enter(&activity, share).await;
        Ok((stream, activity, place))
    }

    /// Returns the future that serves HTTP on a stream until the connection ends.
    fn serve_stream(
        &self,
        stream: AcceptedStream,
        activity: Arc<ConnectionActivity>,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (app, tls) = (Arc::clone(&self.app), self.tls.clone());
        let is_tls = tls.is_some();
        let plain_protocol = plain_protocol(&self.config.load());
        async move {
            let (opened, peer): (Option<(ConnectionStream, _)>, _) = match (stream, tls) {
                (AcceptedStream::Tcp(mut stream, peer), Some(tls)) => {
                    let is_tls = plain_http::begins_with_tls(&mut stream).await;
                    let opened = if is_tls {
                        open_tls(stream, &tls).await
                    } else {
                        None
                    };
                    (opened, Some(peer))
                }
                (AcceptedStream::Unix(stream), Some(tls)) => (open_tls(stream, &tls).await, None),
                (AcceptedStream::Tcp(stream, peer), None) => {
                    (Some((Box::new(stream), plain_protocol)), Some(peer))
                }
                (AcceptedStream::Unix(stream), None) => {
                    (Some((Box::new(stream), plain_protocol)), None)
                }
            };
            if let Some((stream, protocol)) = opened {
                let info = ConnectionInfo { peer, is_tls };
                connection::serve(stream, protocol, info, activity, app, watcher).await;
            }
        }
    }
}

/// Accepts TLS on a stream; `None` if the handshake fails.
async fn open_tls(
    stream: impl ByteStream + 'static,
    tls: &ReloadableTls,
) -> Option<(ConnectionStream, HttpProtocol)> {
    let stream = tls.accept(stream).await?;
    let protocol = negotiated_protocol(&stream);
    Some((Box::new(stream), protocol))
}

/// Returns the client behind a peer; `None` for a trusted proxy, which serves many.
fn client_of(peer: SocketAddr, config: &Config) -> Option<ClientAddress> {
    let proxies = &config.imgsync.trusted_proxies;
    let is_proxy = proxies.iter().any(|network| network.contains(peer.ip()));
    (!is_proxy).then(|| ClientAddress::from(Some(peer.ip())))
}

/// Waits for the running requests. Shortly before `drain_timeout` ends, request bodies are
/// interrupted, so that uploads keep what they have received and can resume.
async fn drain(connections: GracefulShutdown, app: &App, drain_timeout: Duration) {
    tracing::info!("shutting down: waiting for running requests");
    let mut draining = std::pin::pin!(async {
        connections.shutdown().await;
        app.drain().await;
    });
    let sync_time = (drain_timeout / 4).clamp(MIN_SYNC_TIME, MAX_SYNC_TIME);
    let finish_time = drain_timeout.saturating_sub(sync_time);
    if timeout(finish_time, &mut draining).await.is_ok() {
        return;
    }
    app.interrupt_bodies();
    if timeout(sync_time, draining).await.is_err() {
        tracing::warn!(
            "some requests did not finish within {} s (http.draintimeout)",
            drain_timeout.as_secs()
        );
    }
}

/// Returns the protocols of connections without TLS. HTTP/2 needs `http.h2c.enabled`, as in the
/// stock registry.
fn plain_protocol(config: &Config) -> HttpProtocol {
    if config.http.is_http2_enabled && config.http.is_h2c_enabled {
        HttpProtocol::Either
    } else {
        HttpProtocol::Http1
    }
}

/// Returns the protocol that ALPN selected (RFC 9113, section 3.2); HTTP/1.1 without ALPN.
fn negotiated_protocol<S>(stream: &TlsStream<S>) -> HttpProtocol {
    match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => HttpProtocol::Http2,
        _ => HttpProtocol::Http1,
    }
}
