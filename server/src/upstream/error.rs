//! Why something could not be had from an upstream. What is told of it names the upstream and the
//! reason, and nothing that only this server should know.

use std::time::Duration;

use imgsync_oci::Repository;
use imgsync_oci::client;

use crate::registry;

/// Why a request for something that is not ours, or no longer fresh, came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The upstream does not have it, or it is not here and nobody stands behind it.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// Nobody could tell.
    #[error(transparent)]
    Upstream(#[from] UpstreamFailure),
    /// The operator does not want it fetched.
    #[error("{repository} is not among what may be fetched from {upstream}")]
    NotAllowed {
        /// The upstream.
        upstream: String,
        /// The name there.
        repository: Repository,
    },
}

/// An upstream, or this server on its behalf, that did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{upstream} {message}")]
pub(crate) struct UpstreamFailure {
    /// The upstream, as the configuration calls it.
    pub(crate) upstream: String,
    /// What kind of failure it was.
    pub(crate) kind: UpstreamFailureKind,
    /// What happened, following the upstream's name.
    pub(crate) message: String,
    /// How long it is to be left alone, where it says so.
    pub(crate) retry_after: Option<Duration>,
}

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFailureKind {
    /// It cannot be reached, broke off, or has trouble of its own.
    Down,
    /// It did not answer in time.
    TimedOut,
    /// It wants fewer requests.
    RateLimited,
    /// It does not let this server have it.
    Denied,
    /// It answered something that makes no sense, or other bytes than those asked for.
    InvalidResponse,
    /// Too much is being fetched already.
    Busy,
    /// This server's own disk.
    Store,
    /// This server's own disk is full.
    DiskFull,
}

impl UpstreamFailureKind {
    /// Whether it is the upstream as a whole that has trouble: it is left alone for a moment.
    pub(super) fn is_upstream_wide(self) -> bool {
        match self {
            Self::Down | Self::TimedOut | Self::RateLimited => true,
            Self::Denied | Self::InvalidResponse | Self::Busy | Self::Store | Self::DiskFull => {
                false
            }
        }
    }

    /// What it is called in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::TimedOut => "slow",
            Self::RateLimited => "limited",
            Self::Denied => "refused",
            Self::InvalidResponse => "odd",
            Self::Busy => "busy",
            Self::Store | Self::DiskFull => "store",
        }
    }
}

impl UpstreamFailure {
    pub(super) fn new(upstream: &str, kind: UpstreamFailureKind, what: impl Into<String>) -> Self {
        Self {
            upstream: upstream.to_owned(),
            kind,
            message: what.into(),
            retry_after: None,
        }
    }

    /// What the client says of an upstream, in words for those who ask us. The details, which may
    /// name addresses behind it, are for the log.
    pub(super) fn from_client(upstream: &str, error: &client::Error) -> Self {
        let status = error.status();
        let (kind, what) = match (error, status.map(|status| status.as_u16())) {
            (_, Some(429)) => (
                UpstreamFailureKind::RateLimited,
                "limits how much may be fetched".to_owned(),
            ),
            (_, Some(401 | 403)) => (
                UpstreamFailureKind::Denied,
                "does not let this server fetch it: it is not there, or this server's login does \
                 not allow it"
                    .to_owned(),
            ),
            (_, Some(408 | 504)) => (
                UpstreamFailureKind::TimedOut,
                "did not answer in time".to_owned(),
            ),
            (_, Some(status @ 500..)) => (
                UpstreamFailureKind::Down,
                format!("answered with status {status}"),
            ),
            (_, Some(status)) => (
                UpstreamFailureKind::InvalidResponse,
                format!("answered with status {status}"),
            ),
            (client::Error::Connect { .. }, None) => {
                (UpstreamFailureKind::Down, "cannot be reached".to_owned())
            }
            (client::Error::ConnectionLost { .. }, None) => {
                (UpstreamFailureKind::Down, "broke off".to_owned())
            }
            (client::Error::Setup { .. }, None) => {
                (UpstreamFailureKind::Down, "cannot be spoken to".to_owned())
            }
            (client::Error::InvalidResponse { .. } | client::Error::Status { .. }, None) => (
                UpstreamFailureKind::InvalidResponse,
                "gave an answer that makes no sense".to_owned(),
            ),
        };
        Self {
            retry_after: error.retry_after(),
            ..Self::new(upstream, kind, what)
        }
    }

    /// A failure of our own store, which is logged here and told without its details.
    pub(super) fn from_store(upstream: &str, error: &registry::Error) -> Self {
        tracing::error!(%error, upstream, "what was fetched could not be kept");
        match error {
            registry::Error::Store(crate::store::Error::Full { .. }) => {
                let what = "is asked through a server whose disk is full";
                Self::new(upstream, UpstreamFailureKind::DiskFull, what)
            }
            registry::Error::DigestMismatch { .. } => Self::new(
                upstream,
                UpstreamFailureKind::InvalidResponse,
                "sent other content than it should",
            ),
            registry::Error::ManifestInvalid(_) => Self::new(
                upstream,
                UpstreamFailureKind::InvalidResponse,
                "sent something that is no manifest",
            ),
            _ => {
                let what = "is asked through a server that could not keep its answer";
                Self::new(upstream, UpstreamFailureKind::Store, what)
            }
        }
    }
}
