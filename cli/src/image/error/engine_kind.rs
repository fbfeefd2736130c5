//! The kinds of engines, and their names in messages.

use std::fmt;

/// The engine that was asked for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// Docker, or an engine that did not tell its name.
    #[default]
    Docker,
    /// podman.
    Podman,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "the Docker daemon",
            Self::Podman => "podman",
        })
    }
}
