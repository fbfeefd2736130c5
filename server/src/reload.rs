//! A configuration that changes while the server runs: at SIGHUP, and when its file, or one that it
//! names, has changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use imgsync_server::config::{Config, Remark, Source, Stamp, needs_restart};
use imgsync_server::log;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::setup::Setup;

/// How often files are looked at. Nothing is read before two looks see the same: who writes a file
/// in place is not interrupted.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Says what there is to know about a configuration.
pub(crate) fn tell(remarks: &[Remark]) {
    for remark in remarks {
        if remark.is_warning {
            tracing::warn!("configuration: {remark}");
        } else {
            tracing::info!("configuration: {remark}");
        }
    }
}

/// Sends a configuration whenever there is a new one, or a file that it names has changed, for as
/// long as there is a server. One that cannot be used is told and leaves the old one in force.
pub(crate) async fn follow(
    setup: Setup,
    sender: watch::Sender<Arc<Config>>,
    mut hangup: Signal,
    log: log::Handle,
) {
    let setup = Arc::new(setup);
    let first = Arc::clone(&sender.borrow());
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = look(&setup, &first).await;
    let mut last = known.clone();
    loop {
        let is_told = tokio::select! {
            _ = looks.tick() => false,
            told = hangup.recv() => told.is_some(),
            () = sender.closed() => return,
        };
        let current = Arc::clone(&sender.borrow());
        let now = look(&setup, &current).await;
        let is_settled = now == std::mem::replace(&mut last, now.clone());
        if !is_told && (now == known || !is_settled) {
            continue;
        }
        known = now;
        let again = Arc::clone(&setup);
        match spawn_blocking(move || again.load()).await {
            Ok(Ok(understood)) => {
                tracing::info!("the configuration was read again: {}", setup.source);
                tell(&understood.remarks);
                for key in needs_restart(&first, &understood.config) {
                    tracing::warn!("configuration: {key} changes when the server is started again");
                }
                log.set(&understood.config.log);
                let config = Arc::new(understood.config);
                // It may name other files.
                known = look(&setup, &config).await;
                last = known.clone();
                sender.send_replace(config);
            }
            Ok(Err(error)) => {
                tracing::error!("the old configuration stays in force: {error}");
            }
            Err(error) => tracing::error!(%error, "the old configuration stays in force"),
        }
    }
}

/// What the files look like from outside that a configuration was read from and that it names.
async fn look(setup: &Setup, config: &Config) -> Vec<Option<Stamp>> {
    let mut files: Vec<PathBuf> = Vec::new();
    if let Source::File(path) = &setup.source {
        files.push(path.clone());
    }
    files.extend(config.auth.iter().map(|auth| auth.path.clone()));
    if let Some(tls) = &config.http.tls {
        files.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    let stamps = spawn_blocking(move || files.iter().map(|file| Stamp::of(file)).collect());
    stamps.await.unwrap_or_default()
}
