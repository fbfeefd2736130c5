//! The configuration: the stock registry's file and its variables, understood without any I/O.
//!
//! `yaml → tree ← overlay`, then `check` looks for what is not known or not supported, and `build`
//! takes typed values out. A key that is not known is told with what may have been meant; it keeps
//! the server from starting where it could leave a door open (`auth`, `http.tls`), name another
//! store (`storage`), or is our own (`imgsync`); and so does one anywhere that may have been meant for
//! one of these.

mod build;
mod cache;
mod check;
mod diagnostics;
mod file;
mod host_port;
mod keys;
mod network;
mod overlay;
mod print;
mod reader;
mod scalars;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod yaml;

use std::sync::Arc;

pub use self::diagnostics::{ConfigError, ConfigErrors, ConfigNotice};
pub use self::file::{ConfigSource, FileStamp, ReadConfigError};
pub use self::host_port::HostPort;
pub use self::network::Network;
pub use self::tree::ValueOrigin;
pub use self::types::{
    CacheConfig, Config, HttpConfig, ImgsyncConfig, ListenAddress, LogConfig, LogFormat, LogLevel,
    PurgeConfig, Secret, StorageConfig, TlsConfig, TlsVersion, UpstreamConfig, UpstreamLogin,
    UpstreamPassword,
};

use self::diagnostics::Diagnostics;
use self::reader::ConfigReader;
use self::tree::{Node, NodeValue};

/// The one version of the file that there is.
const CONFIG_VERSION: &str = "0.1";
/// What counts where there is no file: a folder beside, for this machine only.
const DEFAULT_CONFIG: &str = "{version: 0.1, storage: {filesystem: {rootdirectory: ./data}, \
                       delete: {enabled: true}}, http: {addr: '127.0.0.1:5000'}}";

/// What a configuration is made of. Later ones count more.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigInput<'a> {
    /// The file: its name, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// The environment. Only what begins with `REGISTRY_` counts.
    pub variables: &'a [(String, String)],
    /// Arguments: name, key and value, as `("--addr", "http.addr", ":5000")`.
    pub arguments: &'a [(&'static str, &'static str, String)],
}

/// A configuration, and what there is to know about it.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// What counts.
    pub config: Config,
    /// What whoever runs the server should know.
    pub notices: Vec<ConfigNotice>,
    settings: Vec<reader::EffectiveSetting>,
}

impl LoadedConfig {
    /// The configuration as YAML, each value with a comment that says where it came from. Secrets
    /// are not in it.
    pub fn to_yaml(&self) -> String {
        print::to_yaml(&self.settings)
    }
}

/// Understands a configuration.
///
/// # Errors
/// It asks for something that is not there, contradicts itself, or is not to be understood. All
/// that is wrong is told, each with its key and where it stands.
pub fn parse_config(input: ConfigInput<'_>) -> Result<LoadedConfig, ConfigErrors> {
    let mut findings = Diagnostics::default();
    let mut tree = match parse_file(input.file, &mut findings) {
        Some(tree) => tree,
        None => return Err(ConfigErrors(findings.errors)),
    };
    overlay::apply_variables(&mut tree, input.variables, &mut findings);
    overlay::apply_arguments(&mut tree, input.arguments, &mut findings);
    for section in ["storage", "auth"] {
        if let Some(node) = tree.get_mut(section) {
            node.expand_shorthand();
        }
    }
    check::check(&tree, &mut findings);
    let mut reader = ConfigReader {
        tree: &tree,
        settings: Vec::new(),
        diagnostics: &mut findings,
    };
    let config = build::build_config(&mut reader);
    let entries = reader.settings;
    match config {
        Some(config) if findings.errors.is_empty() => Ok(LoadedConfig {
            config,
            notices: findings.notices,
            settings: entries,
        }),
        Some(_) | None => Err(ConfigErrors(findings.errors)),
    }
}

fn parse_file(file: Option<(&str, &str)>, findings: &mut Diagnostics) -> Option<Node> {
    let (name, text) = match file {
        Some((name, text)) => (Some(Arc::<str>::from(name)), text),
        None => (None, DEFAULT_CONFIG),
    };
    let origin = |line| match &name {
        Some(path) => ValueOrigin::File {
            path: Arc::clone(path),
            line,
        },
        None => ValueOrigin::Default,
    };
    let mut twice = Vec::new();
    let tree = yaml::parse(text, &origin, &mut |key, at| {
        twice.push((key.to_owned(), at))
    });
    for (key, at) in twice {
        let text = "stands twice in one section; this one counts";
        findings.warning(&at, &key, text);
    }
    let tree = match tree {
        Ok(tree) => tree,
        Err(broken) => {
            findings.error(
                &origin(broken.line),
                "",
                format!("not YAML: {}", broken.text),
            );
            return None;
        }
    };
    let version = match tree.get("version").map(|node| &node.value) {
        Some(NodeValue::Scalar(version)) => version.as_str(),
        Some(NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_)) | None => "",
    };
    if version == CONFIG_VERSION {
        return Some(tree);
    }
    let text =
        format!("unsupported version: {version:?}; the file must say version: {CONFIG_VERSION}");
    findings.error(&origin(1), "version", text);
    None
}

/// Keeps the logins of a running server where its new configuration has none any more: they end only
/// with a restart, so that a file that was cut short lets nobody in. Yields whether it had to.
pub fn keep_auth(old: &Config, new: &mut Config) -> bool {
    let is_lost = old.auth.is_some() && new.auth.is_none();
    if is_lost {
        new.auth.clone_from(&old.auth);
    }
    is_lost
}

/// The keys that differ between two configurations and count only when the server is started again.
pub fn keys_needing_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (was, is) = (&old.http, &new.http);
    let pairs = [
        (
            "storage.filesystem.rootdirectory",
            old.storage.root == new.storage.root,
        ),
        ("http.addr", was.listen_address == is.listen_address),
        ("http.tls", was.tls.is_some() == is.tls.is_some()),
        ("http.debug.addr", was.debug_address == is.debug_address),
        ("http.debug.prometheus", was.metrics_path == is.metrics_path),
        ("log.formatter", old.log.formatter == new.log.formatter),
        ("log.fields", old.log.fields == new.log.fields),
        (
            "imgsync.stall",
            old.imgsync.read_timeout == new.imgsync.read_timeout,
        ),
        (
            "imgsync.limits.connections",
            old.imgsync.max_connections == new.imgsync.max_connections,
        ),
    ];
    let differ = pairs.into_iter().filter(|(_, is_same)| !is_same);
    differ.map(|(key, _)| key).collect()
}
