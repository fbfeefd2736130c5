//! A configuration that changes while the server runs: at SIGHUP, and when its file, or one that it
//! names, has changed.

use std::sync::Arc;
use std::time::Duration;

use imgsync_server::config::{
    Config, ConfigNotice, ConfigSource, FileStamp, UpstreamConfig, keep_auth, keys_needing_restart,
};
use imgsync_server::log;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::config_loader::Setup;

/// How often files are looked at. Nothing is read before two looks see the same: who writes a file
/// in place is not interrupted.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Says what there is to know about a configuration.
pub(crate) fn log_notices(remarks: &[ConfigNotice]) {
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
/// `known` is what the files looked like before they were read for the first time.
pub(crate) async fn watch_config(
    setup: Setup,
    sender: watch::Sender<Arc<Config>>,
    known: FileStamps,
    mut hangup: Signal,
    log: log::LogHandle,
) {
    let setup = Arc::new(setup);
    let first = Arc::clone(&sender.borrow());
    let mut looks = interval(FILE_POLL_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = known;
    let mut last = known.clone();
    loop {
        let is_told = tokio::select! {
            _ = looks.tick() => false,
            told = hangup.recv() => told.is_some(),
            () = sender.closed() => return,
        };
        let current = Arc::clone(&sender.borrow());
        let now = stamp_files(&setup, &current).await;
        let is_settled = now == std::mem::replace(&mut last, now.clone());
        if !is_told && (now == known || !is_settled) {
            continue;
        }
        // Seen before it is read: what changes meanwhile is read once more.
        known = now;
        let again = Arc::clone(&setup);
        match spawn_blocking(move || again.load()).await {
            Ok(Ok(mut understood)) => {
                tracing::info!("the configuration was read again: {}", setup.source);
                log_notices(&understood.notices);
                if keep_auth(&current, &mut understood.config) {
                    tracing::error!(
                        "configuration: auth is gone from {}; logins are still asked for, and end \
                         only when the server is started again",
                        setup.source
                    );
                }
                for key in keys_needing_restart(&first, &understood.config) {
                    tracing::warn!("configuration: {key} changes when the server is started again");
                }
                log.apply(&understood.config.log);
                let config = Arc::new(understood.config);
                // It may name other files, which are read from now on.
                known.referenced_files = stamp_files(&setup, &config).await.referenced_files;
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileStamps {
    config_file: Option<FileStamp>,
    referenced_files: Vec<Option<FileStamp>>,
}

impl FileStamps {
    /// Looks at the configuration's own file, which is to be read after this.
    pub(crate) fn of(source: &ConfigSource) -> Self {
        let config_file = match source {
            ConfigSource::File(path) => FileStamp::of(path),
            ConfigSource::NoFile => None,
        };
        let referenced_files = Vec::new();
        Self {
            config_file,
            referenced_files,
        }
    }

    /// Looks at the files that it names as well, which are to be read after this.
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
        let named = files.map(|file| FileStamp::of(file)).collect();
        Self {
            referenced_files: named,
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
    fn what_changes_after_it_was_looked_at_is_seen() {
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
        let look = || FileStamps::of(&source).with(&config);
        for name in ["config.yml", "users", "certificate", "key"] {
            let before = look();
            assert_eq!(before, look(), "{name}");
            std::fs::write(path(name), "longer").unwrap();
            assert_ne!(before, look(), "{name}");
        }
    }
}
