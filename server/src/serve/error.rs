//! The reasons for which the server does not start.

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::DEBUG_ADDRESS_KEY;
use crate::events::ReceiverError;
use crate::listen::{BindError, TlsError};
use crate::{auth, store, upstream};

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage folder cannot be used.
    #[error("cannot open the storage folder: {0}")]
    Store(#[from] store::Error),
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The users cannot be read.
    #[error(transparent)]
    Auth(#[from] auth::Error),
    /// A file of an upstream cannot be used. The upstream itself is not contacted.
    #[error(transparent)]
    Upstream(#[from] upstream::UpstreamConfigError),
    /// A receiver of events cannot be set up. It is not contacted.
    #[error(transparent)]
    Receiver(#[from] ReceiverError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A command needs the running server, and no server uses the storage folder.
    #[error("no server is running on the storage folder {0:?}")]
    NotRunning(PathBuf),
    /// A command of the operator failed.
    #[error("{0}")]
    Command(String),
    /// The process itself cannot be set up: threads, signal handlers.
    #[error("cannot start: {0}")]
    Start(String),
}

impl Error {
    /// Returns what the operator can do about it, in the imperative.
    pub fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Store(error @ store::Error::Io { path, .. }) if error.is_forbidden() => {
                let hint = owner_hint(path).map(Cow::Owned);
                hint.or_else(|| self.fixed_hint().map(Cow::Borrowed))
            }
            Self::Auth(auth::Error::Read { path, source })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                let hint = login_file_hint(path).map(Cow::Owned);
                hint.or_else(|| self.fixed_hint().map(Cow::Borrowed))
            }
            _ => self.fixed_hint().map(Cow::Borrowed),
        }
    }

    fn fixed_hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(store::Error::Locked { .. }) => {
                Some("stop the other server, or use another folder with --root")
            }
            Self::Store(store::Error::Full { .. }) => {
                Some("free some disk space, then start again")
            }
            Self::Store(store::Error::Io { .. }) => Some(
                "check the owner and the permissions of the folder, or use another folder with \
                 --root",
            ),
            Self::Bind(BindError {
                key: DEBUG_ADDRESS_KEY,
                source,
                ..
            }) => match source.kind() {
                io::ErrorKind::AddrInUse => Some(
                    "another program uses this address; choose another port in http.debug.addr",
                ),
                _ => Some("choose another address or port in http.debug.addr"),
            },
            Self::Bind(BindError { source, .. }) => match source.kind() {
                io::ErrorKind::AddrInUse => Some(
                    "another program uses this address; choose another port in http.addr or with \
                     --addr, for example --addr 127.0.0.1:5001",
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("ports below 1024 need privileges; choose another port with --addr")
                }
                _ => Some("choose an address of this machine with --addr"),
            },
            Self::NotRunning(_) => Some(
                "start the server, or pass the --root or the configuration file of the server that \
                 runs",
            ),
            Self::Auth(error) => error.hint(),
            Self::Upstream(error) => error.hint(),
            Self::Receiver(error) => error.hint(),
            Self::Tls(error) => error.hint(),
            Self::Store(store::Error::WalkEnded | store::Error::NeedsMemory { .. })
            | Self::Command(_)
            | Self::Start(_) => None,
        }
    }
}

/// Returns the hint for a file or folder that this user may not create or write: often a container that
/// ran as root has left the folder. Returns `None` if the folder belongs to this user.
pub(super) fn owner_hint(path: &Path) -> Option<String> {
    let (folder, metadata) = path
        .ancestors()
        .find_map(|above| Some((above, above.metadata().ok()?)))?;
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    let (owner, owner_group) = (metadata.uid(), metadata.gid());
    (owner != user).then(|| format!(
        "{} belongs to user {owner}, and this program runs as user {user}: as root, run \
         `chown -R {user}:{group} FOLDER` for the storage folder (for a container: the folder on the \
         host that is mounted there), or run the program as the owner (docker run --user \
         {owner}:{owner_group}, or user: \"{owner}:{owner_group}\" in a compose file)",
        folder.display()
    ))
}

/// Returns the hint for a login file that belongs to another user: `htpasswd` as root creates one that only
/// root can read. Returns `None` if the file belongs to this user.
fn login_file_hint(path: &Path) -> Option<String> {
    let owner = path.metadata().ok()?.uid();
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    (owner != user).then(|| {
        format!(
            "the file belongs to user {owner}, and this program runs as user {user}: as root, run \
             `chown {user}:{group} FILE` (for a container: for the file on the host that is \
             mounted there)"
        )
    })
}
