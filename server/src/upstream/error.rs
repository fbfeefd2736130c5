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
    #[error("the configuration does not allow fetching {repository} from {upstream}")]
    NotAllowed {
        /// The name of the upstream.
        upstream: String,
        /// The name of the repository at the upstream.
        repository: Repository,
    },
}

/// A failed request to an upstream, caused by the upstream or by this server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{upstream}: {message}")]
pub(crate) struct UpstreamFailure {
    /// The name of the upstream in the configuration.
    pub(crate) upstream: String,
    /// The kind of the failure.
    pub(crate) kind: UpstreamFailureKind,
    /// The error, shown after the name of the upstream.
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
        matches!(self, Self::Down | Self::TimedOut | Self::RateLimited)
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
    pub(super) fn new(
        upstream: &str,
        kind: UpstreamFailureKind,
        message: impl Into<String>,
    ) -> Self {
        Self {
            upstream: upstream.to_owned(),
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Converts an error of the HTTP client into a failure whose message clients may see. The
    /// original error may contain internal addresses, so it is only logged.
    pub(super) fn from_client(upstream: &str, error: &client::Error) -> Self {
        let (kind, message) = match (error.status().map(|status| status.as_u16()), error) {
            (Some(429), _) => (UpstreamFailureKind::RateLimited, "rate limit exceeded"),
            (Some(401 | 403), _) => (
                UpstreamFailureKind::Denied,
                "access denied: the repository does not exist, or this server's login does not \
                 allow access",
            ),
            (Some(408 | 504), _) => (UpstreamFailureKind::TimedOut, "no response in time"),
            (Some(500..), _) => (UpstreamFailureKind::Down, "unexpected response"),
            (Some(_), _) | (None, client::Error::Status { .. }) => {
                (UpstreamFailureKind::InvalidResponse, "unexpected response")
            }
            (None, client::Error::ForbiddenAddress { .. }) => (
                UpstreamFailureKind::InvalidResponse,
                "it refers to an internal address, which this server does not contact",
            ),
            (None, client::Error::WebPage { .. }) => (
                UpstreamFailureKind::InvalidResponse,
                "a web page instead of a registry's response",
            ),
            (None, client::Error::InvalidResponse { .. }) => {
                (UpstreamFailureKind::InvalidResponse, "invalid response")
            }
            (None, client::Error::Connect { .. }) => (UpstreamFailureKind::Down, "cannot connect"),
            (None, client::Error::ConnectionLost { .. }) => {
                (UpstreamFailureKind::Down, "connection lost")
            }
            (None, client::Error::Setup { .. }) => {
                (UpstreamFailureKind::Down, "cannot set up the connection")
            }
        };
        let message = match error.status() {
            Some(status) => format!("{message} (status {})", status.as_u16()),
            None => message.to_owned(),
        };
        Self {
            retry_after: error.retry_after(),
            ..Self::new(upstream, kind, message)
        }
    }

    /// Logs an error of the store, and converts it into a failure without its details.
    pub(super) fn from_store(upstream: &str, error: &registry::Error) -> Self {
        tracing::error!(%error, upstream, "cannot store content from an upstream");
        let (kind, message) = match error {
            registry::Error::Store(crate::store::Error::Full { .. }) => (
                UpstreamFailureKind::DiskFull,
                "the disk of this server is full",
            ),
            registry::Error::DigestMismatch { .. } => (
                UpstreamFailureKind::InvalidResponse,
                "the content does not match its digest",
            ),
            registry::Error::ManifestInvalid(_) => (
                UpstreamFailureKind::InvalidResponse,
                "the content is not a manifest",
            ),
            _ => (
                UpstreamFailureKind::Store,
                "this server cannot store the content",
            ),
        };
        Self::new(upstream, kind, message)
    }
}
