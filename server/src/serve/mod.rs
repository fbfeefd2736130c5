//! Composition root: builds the parts of the server and runs them until shutdown.
//!
//! This module opens the store, the users, the upstreams and the sockets, starts the background
//! jobs (purging of uploads, garbage collection, eviction, debug address, reload) and stops them. It answers no client
//! itself: `listen` accepts connections and `http` handles requests. Start reading at [`run`].

mod access_summary;
mod apply_config;
mod auth_config;
mod check_start;
mod collect;
mod control;
mod debug;
mod error;
mod evict;
mod exposure;
mod forget_lists;
mod measure;
mod open_files;
mod pulls;
mod purge;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};

pub use self::check_start::check_start;
pub use self::control::{CommandOutput, ControlCommand, run_backup, run_command};
pub use self::error::Error;

use self::apply_config::{ReloadableParts, apply_configs};
use self::debug::DebugPages;
use self::exposure::Exposure;
use self::open_files::raise_open_files_limit;
use crate::auth::AccessController;
use crate::config::{Config, ListenAddress, StorageConfig};
use crate::events::Events;
use crate::http::App;
use crate::listen::{ConnectionAcceptor, Listener, ReloadableTls};
use crate::metrics::RequestMetrics;
use crate::registry::{BackupState, Registry};
use crate::status::ServerState;
use crate::upstream::Upstreams;

/// The keys of the configuration that hold addresses.
const ADDRESS_KEY: &str = "http.addr";
const DEBUG_ADDRESS_KEY: &str = "http.debug.addr";

/// Runs the server until `shutdown` is ready, then waits for the running requests.
///
/// `announce` is called once with the URL of the listening socket, whose port is never 0. Each
/// further configuration from `configs` is applied as far as it can change at run time; users,
/// certificates and the files of upstreams are read again.
///
/// # Errors
/// When the store, the address, the users, the certificate or the files of an upstream cannot be
/// used.
pub async fn run(
    mut configs: watch::Receiver<Arc<Config>>,
    announce: impl FnOnce(&str),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    raise_open_files_limit();
    let config = Arc::clone(&configs.borrow_and_update());
    let auth = Arc::new(AccessController::open(&config.as_ref().into())?);
    let tls = open_tls(&config)?;
    let registry = open_registry(&config.storage).await?;
    warn_about_forbidden_folders(registry.clone()).await?;
    if !config.storage.is_read_only {
        adopt_backup(registry.clone()).await?;
    }
    let upstreams = Upstreams::open(registry.clone(), &config)?;
    import_proxied(upstreams.clone()).await?;
    registry.set_space_limits(&config.imgsync.space, upstreams.cache_limits());
    registry.set_delta_config(config.imgsync.delta, config.storage.is_read_only);
    load_untagged_bytes(registry.clone()).await?;
    let events = open_events(registry.clone(), Arc::clone(&config)).await?;
    let parts = Arc::new(ReloadableParts {
        auth: Arc::clone(&auth),
        registry: registry.clone(),
        upstreams: upstreams.clone(),
        events: events.clone(),
        tls: tls.clone(),
        config: Arc::new(ArcSwap::new(Arc::clone(&config))),
    });
    let diff_id_worker = registry
        .start_diff_id_worker()
        .map_err(|error| Error::Start(error.to_string()))?;
    let assembly_worker = registry
        .start_assembly_worker()
        .map_err(|error| Error::Start(error.to_string()))?;
    let listener = Listener::bind(&config.http.listen_address, ADDRESS_KEY).await?;
    let exposure = Exposure::of(&listener, tls.is_some());
    exposure.warn(&auth, &config);
    access_summary::log(&auth, &config);
    let server = Arc::new(ServerState::new(upstreams.clone(), events.clone()));
    let requests = RequestMetrics::new().map_err(|error| Error::Start(error.to_string()))?;
    let requests = Arc::new(requests);
    let is_stopping = Arc::new(AtomicBool::new(false));
    let pages = DebugPages {
        metrics_path: config.http.metrics_path.clone(),
        registry: registry.clone(),
        server: Arc::clone(&server),
        requests: Arc::clone(&requests),
        is_stopping: Arc::clone(&is_stopping),
    };
    let debug_server = start_debug_server(&config, pages).await?;
    // Whoever reads the announcement may run commands: without the socket, they would be refused.
    let control_socket = control::open_control_socket(&config.storage.root).await;
    announce(&exposure.url);
    let current = Arc::clone(&parts.config);
    let commands = control_socket.map(|socket| {
        let (registry, current) = (registry.clone(), Arc::clone(&current));
        let serving = control::serve_commands(socket, registry, current, Arc::clone(&server));
        tokio::spawn(serving).abort_handle()
    });
    let jobs = [
        tokio::spawn(collect::run_collection(
            registry.clone(),
            Arc::clone(&current),
            Arc::clone(&server.collection_schedule),
        ))
        .abort_handle(),
        tokio::spawn(purge::run_purge(registry.clone(), Arc::clone(&current))).abort_handle(),
        tokio::spawn(pulls::run_pull_writer(registry.clone())).abort_handle(),
        tokio::spawn(evict::run_eviction(upstreams.clone())).abort_handle(),
        tokio::spawn(measure::run_measurement(
            registry.clone(),
            Arc::clone(&server),
        ))
        .abort_handle(),
        tokio::spawn(forget_lists::run_forgetting(registry.clone())).abort_handle(),
        tokio::spawn(events.clone().run_upkeep()).abort_handle(),
        tokio::spawn(apply_configs(configs, parts, exposure)).abort_handle(),
    ];
    let writing = registry.clone();
    let acceptor = ConnectionAcceptor {
        listener,
        app: App::new(
            registry,
            upstreams,
            events.clone(),
            auth,
            Arc::clone(&current),
            requests,
            server,
        ),
        tls,
        config: current,
    };
    let shutdown = async {
        shutdown.await;
        is_stopping.store(true, Ordering::Relaxed);
    };
    acceptor.run(shutdown).await;
    debug_server
        .iter()
        .chain(&commands)
        .chain(&jobs)
        .for_each(AbortHandle::abort);
    // Not waited for here, so that a second stop signal is noticed meanwhile.
    let stop = move || {
        writing.write_pulls();
        events.write_waiting();
        assembly_worker.stop();
        diff_id_worker.stop();
    };
    spawn_blocking(stop)
        .await
        .map_err(|error| Error::Start(error.to_string()))
}

fn open_tls(config: &Config) -> Result<Option<Arc<ReloadableTls>>, Error> {
    let Some(settings) = &config.http.tls else {
        return Ok(None);
    };
    let tls = ReloadableTls::open(settings, config.http.is_http2_enabled)?;
    Ok(Some(Arc::new(tls)))
}

async fn open_registry(storage: &StorageConfig) -> Result<Registry, Error> {
    let (root, is_read_only) = (storage.root.clone(), storage.is_read_only);
    let opening = spawn_blocking(move || {
        if is_read_only {
            Registry::open_read_only(&root)
        } else {
            Registry::open(&root)
        }
    });
    let opened = opening
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    Ok(opened?)
}

/// Logs the folders that another user owns, for example because a container created them as root.
/// Pulls may work, but pushes into these folders fail.
async fn warn_about_forbidden_folders(registry: Registry) -> Result<(), Error> {
    let found = spawn_blocking(move || registry.forbidden_folders());
    let found = found
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    if let Some(first) = found.first() {
        let names: Vec<_> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        tracing::warn!(
            "this user may not write to {}, so pushes fail. {}",
            names.join(", "),
            error::owner_hint(first).unwrap_or_default()
        );
    }
    Ok(())
}

/// Makes a folder with a backup an ordinary storage folder: the next backup must not remove what is
/// pushed from now on.
async fn adopt_backup(registry: Registry) -> Result<(), Error> {
    let adopted = spawn_blocking(move || registry.adopt_backup())
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    match adopted? {
        Some(BackupState::Complete(time)) => {
            tracing::info!("the storage folder is a backup of {time}");
        }
        Some(BackupState::Incomplete) => tracing::warn!(
            "the storage folder is a backup that was interrupted: images can be missing"
        ),
        None => {}
    }
    Ok(())
}

/// Marks what a stock registry with `proxy` has cached in this folder as cached, so that it can be
/// evicted. A failure is only logged: the server can serve without it.
async fn import_proxied(upstreams: Upstreams) -> Result<(), Error> {
    let imported = spawn_blocking(move || upstreams.import_proxied())
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    if let Err(error) = imported {
        tracing::warn!(
            "cannot import the cache of a stock registry; its images count as pushed and are never \
             evicted: {error}"
        );
    }
    Ok(())
}

/// Reads how much space images without a tag take. A failure is only logged.
async fn load_untagged_bytes(registry: Registry) -> Result<(), Error> {
    let loaded = spawn_blocking(move || registry.load_untagged_bytes())
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    if let Err(error) = loaded {
        tracing::warn!(%error, "cannot read how much space images without a tag take");
    }
    Ok(())
}

/// Opens the queues of the receivers of events.
async fn open_events(registry: Registry, config: Arc<Config>) -> Result<Events, Error> {
    let opening = spawn_blocking(move || Events::open(&registry, &config));
    let opened = opening
        .await
        .map_err(|error| Error::Start(error.to_string()))?;
    Ok(opened?)
}

/// Serves health and metrics on the debug address, if one is configured.
async fn start_debug_server(
    config: &Config,
    pages: DebugPages,
) -> Result<Option<AbortHandle>, Error> {
    let Some(address) = config.http.debug_address.clone() else {
        return Ok(None);
    };
    let listener = Listener::bind(&ListenAddress::Tcp(address), DEBUG_ADDRESS_KEY).await?;
    let url = listener.url(false);
    tracing::info!("health check at {url}/debug/health");
    if let Some(path) = &pages.metrics_path {
        tracing::info!("metrics at {url}{path}");
    }
    Ok(Some(
        tokio::spawn(debug::serve(listener, pages)).abort_handle(),
    ))
}
