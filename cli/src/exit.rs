//! Describes how a command fails: the error message, the hint and the exit code.
//!
//! This module does not print messages; see
//! [`Report::show_failure`](crate::report::Report::show_failure). Start reading at [`Failure`].

mod body_limit;
mod hints;

use std::fmt::Display;
use std::process::ExitCode;

use http::StatusCode;
use imgsync_oci::client;

pub(crate) use self::hints::PROXY_VARIABLES;

use crate::text::{Language, format_bytes, sanitize, translate};

/// The kinds of failure, one for each exit code. They are listed in docs/push.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The command line or the configuration is invalid.
    Usage,
    /// The local image, the local disk or the source registry failed.
    Source,
    /// The target registry, or a proxy in front of it, refused a request or sent an invalid
    /// response.
    Target,
    /// The registry requires a login, or does not accept the credentials.
    Authentication,
    /// The network connection failed.
    Network,
    /// Some of the work failed, and the rest was done.
    Partial,
    /// The user interrupted the command (SIGINT).
    Interrupted,
    /// The system or a process manager terminated the command (SIGTERM).
    Terminated,
}

impl FailureKind {
    /// Returns the exit code.
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

/// A failure that ends a command.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// The error: the step that failed, the side, and the cause.
    pub what: String,
    /// The action that the user can take.
    pub hint: Option<String>,
    /// Whether the registry limits the rate of requests, so that more requests should not be sent
    /// now.
    pub is_rate_limited: bool,
    /// Whether the image that the command names does not exist.
    pub is_missing_image: bool,
    /// Whether the hint names options that only `imgsync mirror` has.
    pub is_mirror_hint: bool,
}

impl Failure {
    /// Creates a failure without a hint.
    pub fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            is_rate_limited: false,
            is_missing_image: false,
            is_mirror_hint: false,
        }
    }

    /// Creates a failure of an invalid command line or configuration.
    pub fn usage(what: impl Display) -> Self {
        Self::new(FailureKind::Usage, what.to_string())
    }

    /// Creates a failure of the target, which the message names.
    pub fn target(what: impl Display) -> Self {
        Self::new(FailureKind::Target, format!("target: {what}"))
    }

    /// Sets the hint.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets a hint that names options of `imgsync mirror`, which other commands do not have.
    pub fn with_mirror_hint(mut self, hint: impl Into<String>) -> Self {
        self.is_mirror_hint = true;
        self.with_hint(hint)
    }

    /// Returns the lines to show: an `error:` line, and a `hint:` line if there is a hint. The text may
    /// come from a registry or an archive, so characters that control a terminal are replaced.
    pub fn lines(&self, language: Language) -> Vec<String> {
        let what = format!("error: {}", sanitize(&self.what));
        let hint = self.hint.as_deref();
        let hint = hint.map(|hint| format!("hint: {}", sanitize(hint)));
        let lines = [what].into_iter().chain(hint);
        lines.map(|line| translate(&line, language)).collect()
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
    /// Converts an error of the source registry.
    pub fn at_source(error: client::Error) -> Self {
        Self::from_registry("source", FailureKind::Source, &error)
    }

    /// Converts an error of a registry. `side` is `source` or `target`, and `refused` is the kind of
    /// failure if the registry refused the request.
    fn from_registry(side: &str, refused: FailureKind, error: &client::Error) -> Self {
        let kind = match error {
            client::Error::Setup { .. }
            | client::Error::Connect { .. }
            | client::Error::ConnectionLost { .. } => FailureKind::Network,
            client::Error::ForbiddenAddress { .. }
            | client::Error::WebPage { .. }
            | client::Error::InvalidResponse { .. } => refused,
            client::Error::Status {
                status, is_login, ..
            } => match *status {
                _ if error.is_no_space() => refused,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::Authentication,
                status if *is_login && status.is_client_error() => FailureKind::Authentication,
                _ => refused,
            },
        };
        Self {
            kind,
            what: format!("{side}: {error}"),
            hint: hints::hint(error),
            is_rate_limited: error.status() == Some(StatusCode::TOO_MANY_REQUESTS),
            is_missing_image: false,
            is_mirror_hint: false,
        }
    }
}

/// Returns the failure for a request of `size` bytes that was refused as too large and cannot be
/// made smaller. `why` completes the message with the reason.
pub fn request_too_large(error: &client::Error, size: u64, why: &str) -> Failure {
    match refuser(error) {
        Some((proxy, hint)) => {
            let size = format_bytes(size);
            let what = format!("{proxy} refused a request of {size} as too large, and {why}");
            Failure::target(what).with_hint(hint)
        }
        None => error.clone().into(),
    }
}

/// Returns the note for a request of `refused` bytes that was refused as too large, after one of
/// `accepted` bytes was accepted.
pub fn describe_body_limit(error: &client::Error, refused: u64, accepted: u64) -> String {
    let Some((proxy, hint)) = refuser(error) else {
        return error.to_string();
    };
    let (refused, accepted) = (format_bytes(refused), format_bytes(accepted));
    format!(
        "{proxy} refuses requests of {refused} as too large, so chunks of {accepted} are sent; for \
         faster pushes, {hint}"
    )
}

/// Returns who refused a request as too large, and what to do about it; `None` for other errors.
pub fn refuser(error: &client::Error) -> Option<(String, String)> {
    let client::Error::Status {
        registry, server, ..
    } = error
    else {
        return None;
    };
    let server = server.as_deref();
    let proxy = server.unwrap_or("a proxy");
    let hint = body_limit::hint_for_body_limit(server, registry);
    Some((format!("{proxy} in front of {registry}"), hint))
}
