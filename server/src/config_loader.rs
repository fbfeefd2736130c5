//! What the configuration comes from: the words that were typed, the environment, a file.

use imgsync_server::config::{
    ConfigErrors, ConfigInput, ConfigSource, LoadedConfig, ReadConfigError, parse_config,
};

use crate::args::ServeArgs;

/// Everything that is needed to read the configuration, once or again.
pub(crate) struct Setup {
    /// Which file it is.
    pub(crate) source: ConfigSource,
    variables: Vec<(String, String)>,
    arguments: Vec<(&'static str, &'static str, String)>,
}

/// A configuration that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigLoadError {
    /// Its file.
    #[error(transparent)]
    Unreadable(#[from] ReadConfigError),
    /// What is in it.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl ConfigLoadError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => {
                "look at the path, and at the file's permissions; --root starts without a file"
            }
            Self::Invalid(_) => {
                "put these right, or take them out; imgsync-server config FILE tries it"
            }
        }
    }
}

impl Setup {
    /// Finds out which file it is. Whoever names a folder does not mean the machine's own registry.
    pub(crate) fn new(words: ServeArgs) -> Self {
        let ServeArgs { config, root, addr } = words;
        let variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| {
                let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
                (text(name), text(value))
            })
            .filter(|(name, _)| name.starts_with("REGISTRY_"))
            .collect();
        let source = ConfigSource::find(config, &variables, root.is_none());
        let mut arguments = Vec::new();
        if let Some(root) = root {
            let root = root.to_string_lossy().into_owned();
            arguments.push(("--root", "storage.filesystem.rootdirectory", root));
        }
        if let Some(addr) = addr {
            arguments.push(("--addr", "http.net", "tcp".to_owned()));
            arguments.push(("--addr", "http.addr", addr.to_string()));
        }
        Self {
            source,
            variables,
            arguments,
        }
    }

    /// Reads the file and understands all of it.
    pub(crate) fn load(&self) -> Result<LoadedConfig, ConfigLoadError> {
        let file = self.source.read()?;
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        Ok(parse_config(ConfigInput {
            file,
            variables: &self.variables,
            arguments: &self.arguments,
        })?)
    }
}
