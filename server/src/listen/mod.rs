//! From an address to connections, and back: bind, accept, drain.

mod connection;
mod error;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

pub use self::error::Error;

use crate::http::{App, Patience, Rules};
use crate::registry::Registry;
use crate::settings::Settings;

/// How long running requests may take to finish at the end.
const DRAIN_TIME: Duration = Duration::from_secs(60);
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown` comes, then lets running requests finish. `listening` is called with
/// the address, its port never 0, once connections are taken.
///
/// # Errors
/// The store or the address cannot be had.
pub async fn run(
    settings: Settings,
    listening: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Settings { root, address } = settings;
    let opened = tokio::task::spawn_blocking(move || Registry::open(&root));
    let registry = opened
        .await
        .map_err(|error| Error::Start(error.to_string()))??;
    // Until the last request is done.
    let _diff_ids = registry
        .compute_diff_ids()
        .map_err(|error| Error::Start(error.to_string()))?;
    let bind = |source| Error::Bind {
        address: address.clone(),
        source,
    };
    let listener = TcpListener::bind((address.host.as_str(), address.port))
        .await
        .map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    if !local.ip().is_loopback() {
        tracing::warn!("anyone who reaches {local} may pull and push: there is no authentication");
    }
    listening(local);
    let app = App::new(registry, Patience::default(), Rules::default());
    accept(listener, app, shutdown).await;
    Ok(())
}

async fn accept(listener: TcpListener, app: Arc<App>, shutdown: impl Future<Output = ()>) {
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let watcher = connections.watcher();
                tokio::spawn(connection::serve(stream, Arc::clone(&app), watcher));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!("stopping: running requests may finish");
    let drained = timeout(DRAIN_TIME, async {
        connections.shutdown().await;
        app.settle().await;
    });
    if drained.await.is_err() {
        tracing::warn!("some requests did not finish in {} s", DRAIN_TIME.as_secs());
    }
}
