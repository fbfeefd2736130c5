//! The configuration: the stock registry's file format and environment variables.
//!
//! `yaml` parses the file into a `tree`, `overlay` applies variables and options to the tree, `check`
//! reports unknown and unsupported keys, and `build` reads typed values. Each value keeps its origin
//! for messages and for `imgsync-server config`. An unknown key is a warning, except where ignoring
//! the key could weaken security (`auth`, `http.tls`), select another store (`storage`) or concerns
//! our own section (`imgsync`): there it is an error.
//!
//! Only `file` does I/O. Start reading at [`parse_config`].

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
mod restart;
mod scalars;
mod suggestion;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod variable_name;
mod yaml;

use std::sync::Arc;

pub use self::cache::ALLOWED_NETWORKS_KEY;
pub use self::diagnostics::{ConfigError, ConfigErrors, ConfigNotice};
pub use self::file::{ConfigSource, FileStamp, ReadConfigError};
pub use self::host_port::HostPort;
pub use self::network::Network;
pub use self::restart::{keep_auth, keys_needing_restart};
pub use self::tree::ValueOrigin;
pub use self::types::{
    CacheConfig, Config, DeltaConfig, EndpointConfig, GarbageCollectionConfig, HttpConfig,
    ImgsyncConfig, IndexPlatforms, ListenAddress, LogConfig, LogFormat, LogLevel,
    NotificationsConfig, PurgeConfig, QuotaConfig, ReceiverUrl, RetentionRule, Secret,
    SecretSource, SpaceConfig, StorageConfig, TlsConfig, TlsVersion, UpstreamConfig, UpstreamLogin,
    WebhookConfig,
};

use self::diagnostics::Diagnostics;
use self::reader::ConfigReader;
use self::tree::{Node, NodeValue};

/// The only version of the file format.
const CONFIG_VERSION: &str = "0.1";
/// The configuration without a file: a folder in the working directory, for this machine only.
const DEFAULT_CONFIG: &str = "{version: 0.1, storage: {filesystem: {rootdirectory: ./data}, \
                       delete: {enabled: true}}, http: {addr: '127.0.0.1:5000'}}";

/// The sources of a configuration. A later one overrides an earlier one.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfigInput<'a> {
    /// The path of the file, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// Environment variables. Only names that begin with `REGISTRY_` are used.
    pub variables: &'a [(String, String)],
    /// Command-line options: name, key and value, for example `("--addr", "http.addr", ":5000")`.
    pub arguments: &'a [(&'static str, &'static str, String)],
}

/// A valid configuration with its notices.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The effective configuration.
    pub config: Config,
    /// Warnings and notes for the operator.
    pub notices: Vec<ConfigNotice>,
    settings: Vec<reader::EffectiveSetting>,
}

impl LoadedConfig {
    /// Returns the effective configuration as YAML, with the source of each value as a comment.
    /// Secrets are masked.
    pub fn to_yaml(&self) -> String {
        print::to_yaml(&self.settings)
    }
}

/// Merges and checks the sources of a configuration.
///
/// # Errors
/// When a value is invalid, when settings contradict each other, or when ignoring an unknown or
/// unsupported key would weaken security. All errors are returned at once.
pub fn parse_config(input: ConfigInput<'_>) -> Result<LoadedConfig, ConfigErrors> {
    let mut diagnostics = Diagnostics::default();
    let Some(mut tree) = parse_file(input.file, &mut diagnostics) else {
        return Err(ConfigErrors(diagnostics.errors));
    };
    overlay::apply_variables(&mut tree, input.variables, &mut diagnostics);
    overlay::apply_arguments(&mut tree, input.arguments, &mut diagnostics);
    for section in ["storage", "auth"] {
        if let Some(node) = tree.get_mut(section) {
            node.expand_shorthand();
        }
    }
    check::check(&tree, &mut diagnostics);
    let mut reader = ConfigReader {
        tree: &tree,
        settings: Vec::new(),
        diagnostics: &mut diagnostics,
    };
    let config = build::build_config(&mut reader);
    let settings = reader.settings;
    match config {
        Some(config) if diagnostics.errors.is_empty() => Ok(LoadedConfig {
            config: Config {
                file: input.file.map(|(path, _)| path.to_owned()),
                ..config
            },
            notices: diagnostics.notices,
            settings,
        }),
        _ => Err(ConfigErrors(diagnostics.errors)),
    }
}

fn parse_file(file: Option<(&str, &str)>, diagnostics: &mut Diagnostics) -> Option<Node> {
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
    let mut duplicates = Vec::new();
    let tree = yaml::parse(text, &origin, &mut |key, origin| {
        duplicates.push((key.to_owned(), origin))
    });
    for (key, origin) in duplicates {
        let text = "duplicate key in this section; the last one takes precedence";
        diagnostics.warning(&origin, &key, text);
    }
    let tree = match tree {
        Ok(tree) => tree,
        Err(error) => {
            let text = format!("invalid YAML: {}", error.text);
            diagnostics.error(&origin(error.line), "", text);
            return None;
        }
    };
    let version = match tree.get("version").map(|node| &node.value) {
        Some(NodeValue::Scalar(version)) => version.as_str(),
        _ => "",
    };
    if version == CONFIG_VERSION {
        return Some(tree);
    }
    let text = format!(
        "unsupported version: {version:?}; the file must contain `version: {CONFIG_VERSION}`"
    );
    diagnostics.error(&origin(1), "version", text);
    None
}
