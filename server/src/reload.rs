//! Reloads the configuration at SIGHUP, and when its file or a file that it refers to changes.
//!
//! This module sends new configurations; `imgsync_server::run` applies them. Start reading at
//! [`watch_config`].

use std::sync::Arc;
use std::time::Duration;

use imgsync_server::config::{
    Config, ConfigNotice, ConfigSource, FileStamp, LoadedConfig, UpstreamConfig, keep_auth,
    keys_needing_restart,
};
use imgsync_server::log::LogHandle;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::config_loader::Setup;

/// How often files are checked for changes. A changed file is read only after two equal checks, so
/// that a file is not read while it is being written.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Logs the warnings and notes about a configuration.
pub(crate) fn log_notices(notices: &[ConfigNotice]) {
    for notice in notices {
        if notice.is_warning {
            tracing::warn!("configuration: {notice}");
        } else {
            tracing::info!("configuration: {notice}");
        }
    }
}

/// Sends a configuration at each SIGHUP and file change, until the receiver is dropped. An invalid
/// configuration is logged and not sent. `loaded_stamps` are the stamps of the files from before
/// they were read for the first time.
pub(crate) async fn watch_config(
    setup: Setup,
    sender: watch::Sender<Arc<Config>>,
    mut loaded_stamps: FileStamps,
    mut hangup: Signal,
    log: LogHandle,
) {
    let setup = Arc::new(setup);
    let first = Arc::clone(&sender.borrow());
    let mut ticks = interval(FILE_POLL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_stamps = loaded_stamps.clone();
    loop {
        let is_requested = tokio::select! {
            _ = ticks.tick() => false,
            signal = hangup.recv() => signal.is_some(),
            () = sender.closed() => return,
        };
        let current = Arc::clone(&sender.borrow());
        let stamps = stamp_files(&setup, &current).await;
        let is_stable = stamps == std::mem::replace(&mut last_stamps, stamps.clone());
        if !is_requested && (stamps == loaded_stamps || !is_stable) {
            continue;
        }
        // The stamps are older than the read, so a change in between causes another reload.
        loaded_stamps = stamps;
        let Some(mut loaded) = load(&setup).await else {
            continue;
        };
        log_reload(&setup.source, &first, &current, &mut loaded);
        log.apply(&loaded.config.log);
        let config = Arc::new(loaded.config);
        // The new configuration may refer to other files, which are read after this.
        loaded_stamps.referenced_files = stamp_files(&setup, &config).await.referenced_files;
        last_stamps = loaded_stamps.clone();
        sender.send_replace(config);
    }
}

/// Loads the configuration; logs an error and returns `None` when that fails.
async fn load(setup: &Arc<Setup>) -> Option<LoadedConfig> {
    let setup = Arc::clone(setup);
    match spawn_blocking(move || setup.reload()).await {
        Ok(Ok(loaded)) => Some(loaded),
        Ok(Err(error)) => {
            tracing::error!("keeping the old configuration: {error}");
            None
        }
        Err(error) => {
            tracing::error!(%error, "keeping the old configuration");
            None
        }
    }
}

/// Keeps authentication if the new configuration lost it, and logs what the operator should know
/// about the reload. `first` is the configuration at the start of the process.
fn log_reload(source: &ConfigSource, first: &Config, current: &Config, loaded: &mut LoadedConfig) {
    tracing::info!("reloaded the configuration: {source}");
    log_notices(&loaded.notices);
    if keep_auth(current, &mut loaded.config) {
        tracing::error!(
            "configuration: {source} no longer contains auth; authentication stays enabled until \
             the server is restarted"
        );
    }
    for key in keys_needing_restart(first, &loaded.config) {
        tracing::warn!("configuration: the change of {key} takes effect after a restart");
    }
}

/// The stamps of the configuration file and of the files that the configuration refers to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileStamps {
    config_file: Option<FileStamp>,
    referenced_files: Vec<Option<FileStamp>>,
}

impl FileStamps {
    /// Stamps the configuration file. Call this before the file is read.
    pub(crate) fn of(source: &ConfigSource) -> Self {
        let config_file = match source {
            ConfigSource::File(path) => FileStamp::of(path),
            ConfigSource::NoFile => None,
        };
        Self {
            config_file,
            referenced_files: Vec::new(),
        }
    }

    /// Stamps also the files that the configuration refers to. Call this before they are read.
    pub(crate) fn with(self, config: &Config) -> Self {
        let auth = config.auth.iter().map(|auth| &auth.path);
        let tls = config.http.tls.iter();
        let upstreams = config
            .cache
            .upstreams
            .iter()
            .flat_map(UpstreamConfig::referenced_files);
        let files = auth.chain(tls.flat_map(|tls| [&tls.certificate, &tls.key]));
        let files = files.chain(upstreams);
        let webhooks = config.imgsync.webhooks.iter();
        let files = files.chain(webhooks.filter_map(|webhook| webhook.secret.file()));
        Self {
            referenced_files: files.map(|file| FileStamp::of(file)).collect(),
            ..self
        }
    }
}

async fn stamp_files(setup: &Arc<Setup>, config: &Arc<Config>) -> FileStamps {
    let (setup, config) = (Arc::clone(setup), Arc::clone(config));
    let stamps = spawn_blocking(move || FileStamps::of(&setup.source).with(&config));
    stamps.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgsync_server::config::{ConfigInput, parse_config};

    #[test]
    fn a_change_of_any_file_changes_the_stamps() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["config.yml", "users", "certificate", "key"] {
            std::fs::write(path(name), "1").unwrap();
        }
        let text = format!(
            "version: 0.1\nstorage: filesystem\nauth: {{htpasswd: {{path: {0}/users}}}}\n\
             http: {{tls: {{certificate: {0}/certificate, key: {0}/key}}}}\n",
            folder.path().display()
        );
        let input = ConfigInput {
            file: Some(("config.yml", text.as_str())),
            ..ConfigInput::default()
        };
        let config = parse_config(input).unwrap().config;
        let source = ConfigSource::File(path("config.yml"));
        let stamps = || FileStamps::of(&source).with(&config);
        for name in ["config.yml", "users", "certificate", "key"] {
            let before = stamps();
            assert_eq!(before, stamps(), "{name}");
            std::fs::write(path(name), "longer").unwrap();
            assert_ne!(before, stamps(), "{name}");
        }
    }
}
