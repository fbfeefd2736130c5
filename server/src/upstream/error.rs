//! Errors of requests to upstreams.
//!
//! Messages name the upstream and the reason, because clients see them. They contain no internal
//! addresses or other details; those are only logged. Start reading at [`Error`].

use std::time::Duration;

use imgsync_oci::Repository;
use imgsync_oci::client;

use crate::registry;

/// Error of a request for upstream content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The upstream does not have the content; or the content is not stored here and has no
    /// upstream.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The upstream could not be asked, or did not give a usable answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamFailure),
    /// The configuration excludes this repository.
    #[error("{repository} is not among what may be fetched from {upstream}")]
    NotAllowed {
        /// The name of the upstream.
        upstream: String,
        /// The name of the repository at the upstream.
        repository: Repository,
    },
}

/// A failed request to an upstream, caused by the upstream or by this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{upstream} {message}")]
pub(crate) struct UpstreamFailure {
    /// The name of the upstream in the configuration.
    pub(crate) upstream: String,
    /// The kind of the failure.
    pub(crate) kind: UpstreamFailureKind,
    /// What happened: a phrase that follows the name of the upstream.
    pub(crate) message: String,
    /// How long to wait before the next request, if the upstream sent `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

/// Kind of a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamFailureKind {
    /// The upstream cannot be reached, closed the connection, or answered with a server error.
    Down,
    /// The upstream did not answer in time.
    TimedOut,
    /// The upstream limits the request rate.
    RateLimited,
    /// The upstream denied access to the content.
    Denied,
    /// The upstream sent an invalid response, or content with another digest.
    InvalidResponse,
    /// Too many requests or downloads are in progress, or this server does not fetch at the moment.
    Busy,
    /// This server could not store the content.
    Store,
    /// The disk of this server is full.
    DiskFull,
}

impl UpstreamFailureKind {
    /// Reports whether the failure concerns the upstream as a whole. Then the circuit breaker
    /// opens.
    pub(super) fn is_upstream_wide(self) -> bool {
        match self {
            Self::Down | Self::TimedOut | Self::RateLimited => true,
            Self::Denied | Self::InvalidResponse | Self::Busy | Self::Store | Self::DiskFull => {
                false
            }
        }
    }

    /// Returns the label of this kind in the metrics.
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
    /// Creates a failure without `retry_after`.
    pub(super) fn new(upstream: &str, kind: UpstreamFailureKind, what: impl Into<String>) -> Self {
        Self {
            upstream: upstream.to_owned(),
            kind,
            message: what.into(),
            retry_after: None,
        }
    }

    /// Converts an error of the HTTP client into a failure whose message clients may see. The
    /// original error may contain internal addresses, so it is only logged.
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

    /// Logs an error of the store, and converts it into a failure without its details.
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
