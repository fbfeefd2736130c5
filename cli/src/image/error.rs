//! What can be wrong with a source.

use std::io;

use imgsync_oci::{Digest, ParseError};

use crate::exit::{Failure, FailureKind};

/// Why an image could not be had. `from` names the source, such as `the archive app.tar`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The word typed for the image names no place that there is.
    #[error("{input:?} is no image: {reason}")]
    InvalidLocation {
        /// What was typed.
        input: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of a name does not parse.
    #[error(transparent)]
    Invalid(#[from] ParseError),
    /// The operating system refuses a file.
    #[error("cannot {action} {from}: {source}")]
    Io {
        /// `open`, `read`.
        action: &'static str,
        /// Which source.
        from: String,
        /// The system's word.
        source: io::Error,
    },
    /// There is no room for what has to be put aside.
    #[error("cannot write temporary files in {folder}: {source}")]
    Spool {
        /// The folder of the spool.
        folder: String,
        /// The system's word.
        source: io::Error,
    },
    /// The source ends too early.
    #[error("{from} is cut short: {reason}")]
    Truncated {
        /// Which source.
        from: String,
        /// Where it ends.
        reason: String,
    },
    /// The source is not what it should be.
    #[error("{from} is damaged, or not an image: {reason}")]
    Malformed {
        /// Which source.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// Whoever wrote the archive has put an error in the middle of it.
    #[error("{from} broke off with an error: {message}")]
    EmbeddedError {
        /// Which source.
        from: String,
        /// The error.
        message: String,
    },
    /// The archive as a whole is compressed.
    #[error("{from} is compressed with {kind}")]
    CompressedArchive {
        /// Which source.
        from: String,
        /// `gzip`, `zstd`, `xz`, `bzip2`.
        kind: &'static str,
    },
    /// An entry's name points out of the archive, or is not text.
    #[error("{from} has an entry with an unsafe name: {name:?}")]
    UnsafeName {
        /// Which source.
        from: String,
        /// The name.
        name: String,
    },
    /// Content does not have the digest that it goes by.
    #[error("{from}: {what} should be {expected}, but its bytes are {found}")]
    DigestMismatch {
        /// Which source.
        from: String,
        /// Which content.
        what: String,
        /// The digest that it goes by.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// Something that the image needs is not there.
    #[error("{from} lacks {what}")]
    Missing {
        /// Which source.
        from: String,
        /// What is missing.
        what: String,
    },
    /// A bound that guards memory is passed.
    #[error("{from}: {what} is beyond what imgsync takes ({limit})")]
    TooLarge {
        /// Which source.
        from: String,
        /// What is too large.
        what: String,
        /// How much is taken.
        limit: String,
    },
    /// There are several images, and none was chosen.
    #[error("{from} holds several images: {}", names.join(", "))]
    Ambiguous {
        /// Which source.
        from: String,
        /// Their names.
        names: Vec<String>,
    },
    /// The image that was chosen is not there.
    #[error("{from} holds no image {wanted}; it holds {}", list(names))]
    ImageNotFound {
        /// Which source.
        from: String,
        /// What was asked for.
        wanted: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// A platform that was asked for is not there.
    #[error("{from} holds nothing for {wanted}; it holds {}", platforms(available))]
    PlatformNotFound {
        /// Which source.
        from: String,
        /// What was asked for.
        wanted: String,
        /// The platforms that there are.
        available: Vec<String>,
    },
    /// Something that imgsync cannot read yet.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it is.
        what: String,
        /// What to do instead.
        instead: String,
    },
    /// A context of Docker's that is meant cannot be had.
    #[error("cannot use the Docker context {name:?}: {reason}")]
    DockerContext {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The daemon cannot be reached.
    #[error("cannot reach the Docker daemon at {address}: {reason}")]
    DaemonUnreachable {
        /// Its address.
        address: String,
        /// What the system says.
        reason: String,
        /// The way to it is there, and closed to this user.
        is_forbidden: bool,
    },
    /// The daemon has no such image.
    #[error("the Docker daemon has no image {name}")]
    NoSuchImage {
        /// What it was asked for.
        name: String,
    },
    /// The daemon answers with an error.
    #[error("the Docker daemon at {address} answered {status}: {message}")]
    DaemonError {
        /// Its address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "only images without a name".to_owned(),
        names => names.join(", "),
    }
}

fn platforms(there: &[String]) -> String {
    match there {
        [] => "no platform that is whole, or names itself".to_owned(),
        there => there.join(", "),
    }
}

impl Error {
    /// What the user can do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::InvalidLocation { .. } | Self::Invalid(_) => {
                "an image is app:v1, an archive's or OCI layout's path, - for standard input, or \
                 docker-daemon:, docker-archive:, oci:, oci-archive: and what follows them"
            }
            Self::Io { .. } => return None,
            Self::Spool { .. } => {
                "make room there, or set XDG_CACHE_HOME to a folder that has some"
            }
            Self::Truncated { .. } => "make the archive again; nothing of it was taken",
            Self::Malformed { .. } | Self::UnsafeName { .. } => {
                "imgsync reads what docker save, podman save, skopeo and buildx write"
            }
            Self::CompressedArchive { kind, .. } => {
                let program = match *kind {
                    "gzip" => "gzip",
                    "zstd" => "zstd",
                    "xz" => "xz",
                    _ => "bzip2",
                };
                return Some(format!(
                    "decompress it on the way: {program} -dc <file> | imgsync push - <remote>"
                ));
            }
            Self::DigestMismatch { .. } => "the source is damaged: export or build the image again",
            Self::Missing { .. } => {
                "the source is incomplete; of an image that was pulled for one platform only, docker \
                 save --platform exports that one"
            }
            Self::TooLarge { .. } => return None,
            Self::Ambiguous { .. } | Self::ImageNotFound { .. } => {
                "name one of them: docker-archive:<path>:<name>, docker-archive:<path>:@<number>, \
                 or oci:<path>:<tag>"
            }
            Self::PlatformNotFound { .. } => {
                "give --platform one of those; without it everything that is there goes"
            }
            Self::Unsupported { instead, .. } => return Some(instead.clone()),
            Self::DockerContext { .. } => {
                "docker context ls shows what there is; DOCKER_HOST goes before any context"
            }
            Self::DaemonUnreachable {
                is_forbidden: true, ..
            } => {
                "your user may not use the socket: join the group docker (then log in again), or \
                 use sudo"
            }
            Self::DaemonUnreachable { .. } => {
                "is Docker running, or podman's socket (systemctl --user start podman.socket)? Where \
                 it listens elsewhere, set DOCKER_HOST; an archive goes without it: imgsync push \
                 app.tar <remote>"
            }
            Self::NoSuchImage { .. } => {
                "docker image ls lists what is there; an archive in the folder goes by its path, \
                 as in ./app.tar"
            }
            Self::DaemonError { .. } | Self::EmbeddedError { .. } => {
                "the daemon's log says more, often journalctl -u docker"
            }
        };
        Some(hint.to_owned())
    }

    /// Whether the same call may well succeed at another time.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::DaemonUnreachable {
                is_forbidden: false,
                ..
            } | Self::DaemonError { .. }
                | Self::Spool { .. }
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: FailureKind::Source,
            what: format!("source: {error}"),
            hint: error.hint(),
            is_rate_limited: false,
        }
    }
}
