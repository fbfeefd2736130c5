//! Errors of image sources.

mod engine_kind;
mod hint;
mod unreachable;

use std::{io, path::Path};

use imgsync_oci::{Digest, ParseError, Tag, quoted};

use crate::disk::System;
use crate::exit::{Failure, FailureKind};
pub use engine_kind::EngineKind;
use unreachable::unreachable_target_hint;

/// The reason why an image cannot be read. `from` names the source, such as `the archive app.tar`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The argument is no image.
    #[error("{} is not an image: {reason}", quoted(.input))]
    InvalidLocation {
        /// The argument.
        input: String,
        /// The reason.
        reason: String,
    },
    /// A part of a name does not parse.
    #[error(transparent)]
    Invalid(#[from] ParseError),
    /// A file cannot be opened.
    #[error("cannot open {from}: {source}")]
    Open {
        /// The source.
        from: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {from}: {source}")]
    Read {
        /// The source.
        from: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The spool cannot store temporary files.
    #[error("cannot write temporary files in {folder}: {source}")]
    Spool {
        /// The folder of the spool.
        folder: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The source has no bytes.
    #[error("{from} is empty")]
    Empty {
        /// The source.
        from: String,
    },
    /// The source ends too early.
    #[error("{from} is truncated: {reason}")]
    Truncated {
        /// The source.
        from: String,
        /// Where it ends.
        reason: String,
    },
    /// The source is damaged or invalid.
    #[error("{from} is damaged, or not an image: {reason}")]
    Malformed {
        /// The source.
        from: String,
        /// The reason.
        reason: String,
    },
    /// The writer of the archive put an error message into it.
    #[error("{from} ended with an error: {message}")]
    EmbeddedError {
        /// The source.
        from: String,
        /// The error.
        message: String,
    },
    /// The archive is compressed in a way that is not supported there.
    #[error("{from} is compressed with {kind}")]
    CompressedArchive {
        /// The source.
        from: String,
        /// `gzip`, `zstd`, `xz`, `bzip2`.
        kind: &'static str,
    },
    /// The name of an entry leads out of the archive, or is no text.
    #[error("{from} has an entry with an unsafe name: {name:?}")]
    UnsafeName {
        /// The source.
        from: String,
        /// The name.
        name: String,
    },
    /// Content does not match its digest.
    #[error("{from}: {what} should have the digest {expected}, but has {found}")]
    DigestMismatch {
        /// The source.
        from: String,
        /// The content.
        what: String,
        /// The expected digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A part of the image is missing.
    #[error("{from} lacks {what}")]
    Missing {
        /// The source.
        from: String,
        /// The missing part.
        what: String,
    },
    /// A limit that protects the memory is exceeded.
    #[error("{from}: {what} exceeds the limit ({limit})")]
    TooLarge {
        /// The source.
        from: String,
        /// The content that is too large.
        what: String,
        /// The limit.
        limit: String,
    },
    /// There are several images, and none was selected.
    #[error("{from} contains several images: {}", names.join(", "))]
    Ambiguous {
        /// The source.
        from: String,
        /// Their names.
        names: Vec<String>,
    },
    /// The selected image does not exist.
    #[error(
        "{from} has no image {requested}; it has {}",
        list(names, "only images without a name")
    )]
    ImageNotFound {
        /// The source.
        from: String,
        /// The requested name or platform.
        requested: String,
        /// The available names.
        names: Vec<String>,
    },
    /// A requested platform does not exist.
    #[error(
        "{from} has no image for {requested}; it has {}",
        list(available, "no complete platform")
    )]
    PlatformNotFound {
        /// The source.
        from: String,
        /// The requested name or platform.
        requested: String,
        /// The available platforms.
        available: Vec<String>,
    },
    /// The source is not supported.
    #[error("{what} is not supported")]
    Unsupported {
        /// The unsupported kind of source.
        what: String,
        /// The hint for the user.
        instead: String,
    },
    /// A Docker context cannot be used.
    #[error("cannot use the Docker context {name:?}: {reason}")]
    DockerContext {
        /// Its name.
        name: String,
        /// The reason.
        reason: String,
    },
    /// The daemon cannot be reached.
    #[error("cannot reach {engine} at {address}: {reason}")]
    DaemonUnreachable {
        /// The engine.
        engine: EngineKind,
        /// Its address.
        address: String,
        /// The error of the operating system.
        reason: String,
        /// Whether the user lacks the permission to use the socket.
        is_forbidden: bool,
    },
    /// The daemon has no such image.
    #[error("{engine} has no image {name}")]
    NoSuchImage {
        /// The engine.
        engine: EngineKind,
        /// The requested name.
        name: String,
        /// The tags that the image has, if it has others.
        tags: Vec<Tag>,
    },
    /// The content store of the daemon cannot be read.
    #[error("cannot read the content store of the Docker daemon at {address}: {reason}")]
    ContentStore {
        /// Its address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The daemon responds with an error.
    #[error("{engine} at {address} answered {status}: {message}")]
    DaemonError {
        /// The engine.
        engine: EngineKind,
        /// Its address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
}

fn list(names: &[String], none: &str) -> String {
    match names {
        [] => none.to_owned(),
        names => names.join(", "),
    }
}

impl Error {
    /// Returns the error for an argument that is no image.
    pub(crate) fn invalid_location(input: &str, reason: &str) -> Self {
        Self::InvalidLocation {
            input: input.to_owned(),
            reason: reason.to_owned(),
        }
    }

    /// Returns the error for a source that is not supported, with what to do instead.
    pub(crate) fn unsupported(what: impl Into<String>, instead: &str) -> Self {
        Self::Unsupported {
            what: what.into(),
            instead: instead.to_owned(),
        }
    }

    /// Returns the error for damaged or invalid content of the source `from`.
    pub(crate) fn malformed(from: &str, reason: impl Into<String>) -> Self {
        Self::Malformed {
            from: from.to_owned(),
            reason: reason.into(),
        }
    }

    /// Returns the error for a missing part.
    pub(crate) fn missing(from: &str, what: impl Into<String>) -> Self {
        Self::Missing {
            from: from.to_owned(),
            what: what.into(),
        }
    }

    /// Returns the error for content that exceeds a limit.
    pub(crate) fn too_large(from: &str, what: impl Into<String>, limit: impl Into<String>) -> Self {
        Self::TooLarge {
            from: from.to_owned(),
            what: what.into(),
            limit: limit.into(),
        }
    }

    /// Returns the error for content that does not match its digest.
    pub(crate) fn mismatch(from: &str, what: &str, expected: &Digest, found: Digest) -> Self {
        Self::DigestMismatch {
            from: from.to_owned(),
            what: what.to_owned(),
            expected: expected.clone(),
            found,
        }
    }

    /// Returns the error for a failed read.
    pub(crate) fn read(from: &str, source: io::Error) -> Self {
        Self::Read {
            from: from.to_owned(),
            source,
        }
    }

    /// Returns the error for temporary files that cannot be written.
    pub(crate) fn spool(folder: &Path, source: io::Error) -> Self {
        Self::Spool {
            folder: folder.display().to_string(),
            source,
        }
    }

    /// Returns the hint for a daemon that an image is copied to, if there is one.
    pub(crate) fn hint_for_target(&self) -> Option<String> {
        match self {
            Self::DaemonUnreachable { is_forbidden, .. } if !is_forbidden => {
                Some(unreachable_target_hint(System::CURRENT).to_owned())
            }
            _ => self.hint(),
        }
    }

    /// Returns a hint on how to solve the problem, if there is one.
    pub fn hint(&self) -> Option<String> {
        hint::hint(self)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            hint: error.hint(),
            ..Self::new(FailureKind::Source, format!("source: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_shown_on_one_line_with_its_backslashes() {
        let shown = |input| Error::invalid_location(input, "it is a test").to_string();
        assert_eq!(shown(r"C:\x"), r#""C:\x" is not an image: it is a test"#);
        assert_eq!(shown("a\nb"), r#""a\nb" is not an image: it is a test"#);
    }
}
