//! Collects the sources of the configuration (command line, environment, file) and loads them.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io;

use clap::CommandFactory as _;
use imgsync_server::config::{
    ConfigErrors, ConfigInput, ConfigSource, LoadedConfig, ReadConfigError, parse_config,
};

use crate::args::{ServeArgs, ServerArguments};

/// The sources of the configuration, to load it at the start and at each reload.
pub(crate) struct Setup {
    /// The configuration file.
    pub(crate) source: ConfigSource,
    variables: Vec<(String, String)>,
    arguments: Vec<(&'static str, &'static str, String)>,
}

/// The configuration cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigLoadError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadConfigError),
    /// The configuration is invalid.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl ConfigLoadError {
    /// Returns what the user can do about it, in the imperative.
    pub(crate) fn hint(&self) -> Cow<'static, str> {
        if let Self::Unreadable(error) = self
            && let Some(command) = error.path.to_str().filter(|path| is_command(path))
        {
            let hint =
                format!("to run the command, write it first: imgsync-server {command} --root DIR");
            return hint.into();
        }
        let hint = match self {
            Self::Unreadable(error) if error.source.kind() == io::ErrorKind::IsADirectory => {
                "to store images in this folder, pass it with --root: imgsync-server --root DIR"
            }
            Self::Unreadable(_) => {
                "check the path and the permissions of the file; to start without one: imgsync-server \
                 --root /srv/registry --addr 127.0.0.1:5000"
            }
            Self::Invalid(_) => {
                "correct or remove these settings; check the result with `imgsync-server config`"
            }
        };
        hint.into()
    }
}

/// Returns whether a word is a command. After an option, it is taken for a configuration file.
fn is_command(word: &str) -> bool {
    ServerArguments::command().find_subcommand(word).is_some()
}

impl Setup {
    /// Collects the sources. With `--root` no default path is searched for a configuration file,
    /// because it may belong to another registry on the machine.
    pub(crate) fn new(args: ServeArgs) -> Self {
        let ServeArgs { source, addr } = args;
        let (config, root) = (source.config().cloned(), source.root);
        let variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| {
                let text = |text: OsString| text.to_string_lossy().into_owned();
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

    /// Reads the file and parses the whole configuration.
    ///
    /// # Errors
    /// When the file cannot be read, or the configuration is invalid.
    pub(crate) fn load(&self) -> Result<LoadedConfig, ConfigLoadError> {
        self.parse(self.source.read()?)
    }

    /// Loads the configuration again while the server runs.
    ///
    /// # Errors
    /// As [`Setup::load`]; also when the file is a named pipe.
    pub(crate) fn reload(&self) -> Result<LoadedConfig, ConfigLoadError> {
        self.parse(self.source.read_again()?)
    }

    fn parse(&self, file: Option<(String, String)>) -> Result<LoadedConfig, ConfigLoadError> {
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
