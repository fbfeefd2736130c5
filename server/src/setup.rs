//! What the configuration comes from: the words that were typed, the environment, a file.

use imgsync_server::config::{Input, Problems, Source, Understood, Unreadable, understand};

use crate::args::Serve;

/// Everything that is needed to read the configuration, once or again.
pub(crate) struct Setup {
    /// Which file it is.
    pub(crate) source: Source,
    variables: Vec<(String, String)>,
    arguments: Vec<(&'static str, &'static str, String)>,
}

/// A configuration that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its file.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What is in it.
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl Error {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => {
                "look at the path, and at the file's permissions; --root starts without a file"
            }
            Self::Problems(_) => {
                "put these right, or take them out; imgsync-server config FILE tries it"
            }
        }
    }
}

impl Setup {
    /// Finds out which file it is. Whoever names a folder does not mean the machine's own registry.
    pub(crate) fn new(words: Serve) -> Self {
        let Serve { config, root, addr } = words;
        let variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| {
                let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
                (text(name), text(value))
            })
            .filter(|(name, _)| name.starts_with("REGISTRY_"))
            .collect();
        let source = Source::find(config, &variables, root.is_none());
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
    pub(crate) fn load(&self) -> Result<Understood, Error> {
        let file = self.source.read()?;
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        Ok(understand(Input {
            file,
            variables: &self.variables,
            arguments: &self.arguments,
        })?)
    }
}
