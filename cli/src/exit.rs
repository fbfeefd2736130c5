//! How a command ends: what failed, at which end, what to do about it, and the exit code.

mod body_limit;
mod hints;

use std::process::ExitCode;

use http::StatusCode;
use imgsync_oci::client;

use crate::text::{format_bytes, sanitize};

/// The kinds of failure, one exit code each. docs/push.md lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// What was typed makes no sense.
    Usage,
    /// The local image, or the disk on this side.
    Source,
    /// The registry, or a proxy before it, said no.
    Target,
    /// The registry wants a login, or does not allow this one.
    Authentication,
    /// The line between.
    Network,
    /// Some of what was to be done failed, the rest is done.
    Partial,
    /// The user stopped it.
    Interrupted,
    /// The system, or whoever looks after programs here, stopped it (SIGTERM).
    Terminated,
}

impl FailureKind {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Source => 3,
            Self::Target => 4,
            Self::Authentication => 5,
            Self::Network => 6,
            Self::Partial => 7,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// What happened, and at which end.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Whether the registry has had enough, and is to be left alone for longer than anybody waits.
    pub is_rate_limited: bool,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            is_rate_limited: false,
        }
    }

    /// The same failure with advice.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for people: `error:` and, where there is one, `hint:`. What happened may be told in
    /// the words of a registry or an archive, so whatever would steer a terminal is left out.
    pub fn text(&self) -> String {
        let what = sanitize(&self.what);
        match &self.hint {
            Some(hint) => format!("error: {what}\n hint: {}", sanitize(hint)),
            None => format!("error: {what}"),
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.kind.exit_code())
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::from_registry("target", FailureKind::Target, &error)
    }
}

impl Failure {
    /// A failure at the registry that is copied from.
    pub fn at_source(error: client::Error) -> Self {
        Self::from_registry("source", FailureKind::Source, &error)
    }

    /// A failure at a registry: `end` says which of the two it is, and `said_no` what kind its own
    /// refusals are.
    fn from_registry(end: &str, said_no: FailureKind, error: &client::Error) -> Self {
        let kind = match error {
            client::Error::Setup { .. }
            | client::Error::Connect { .. }
            | client::Error::ConnectionLost { .. } => FailureKind::Network,
            client::Error::InvalidResponse { .. } => said_no,
            client::Error::Status {
                status,
                is_login: login,
                ..
            } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::Authentication,
                status if *login && status.is_client_error() => FailureKind::Authentication,
                _ => said_no,
            },
        };
        Self {
            kind,
            what: format!("{end}: {error}"),
            hint: hints::hint(error),
            is_rate_limited: error.status() == Some(StatusCode::TOO_MANY_REQUESTS),
        }
    }
}

/// A request of `size` bytes was refused as too large, and cannot be made smaller, because `why`.
pub fn request_too_large(error: &client::Error, size: u64, why: &str) -> Failure {
    let client::Error::Status {
        registry, server, ..
    } = error
    else {
        return error.clone().into();
    };
    let (size, server) = (format_bytes(size), server.as_deref());
    let who = server.map_or_else(
        || format!("a proxy before {registry}"),
        |server| format!("{server} before {registry}"),
    );
    let what = format!("target: {who} refuses a request of {size} as too large, and {why}");
    Failure::new(FailureKind::Target, what)
        .with_hint(body_limit::hint_for_body_limit(server, registry))
}
