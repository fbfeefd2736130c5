//! Why a server does not start.

use std::io;

use super::tls;
use crate::{auth, store, upstream};

/// A server that did not come up. Each knows what its operator can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be used.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] store::Error),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody could log in.
    #[error("{0}")]
    Auth(#[from] auth::Error),
    /// An upstream's files could not be used. The upstream itself is not asked.
    #[error("{0}")]
    Upstream(#[from] upstream::UpstreamConfigError),
    /// Nothing could be encrypted.
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    /// Something of the process itself.
    #[error("cannot start: {0}")]
    Start(String),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(store::Error::Locked { .. }) => {
                Some("stop the other server, or use another folder with --root")
            }
            Self::Store(store::Error::Full { .. }) => Some("free some space and start again"),
            Self::Store(store::Error::Io { .. }) => {
                Some("look at the folder's owner and permissions, or use another with --root")
            }
            Self::Bind { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    Some("another program listens there; use another port with --addr")
                }
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need privileges; use another port with --addr")
                }
                _ => Some("use an address of this machine with --addr"),
            },
            Self::Auth(error) => error.hint(),
            Self::Upstream(error) => error.hint(),
            Self::Tls(error) => error.hint(),
            Self::Start(_) => None,
        }
    }
}
