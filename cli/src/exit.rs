//! How a command ends: what failed, at which end, what to do about it, and the exit code.

use std::process::ExitCode;

use http::StatusCode;
use imgsync_oci::client;

use crate::source;

/// The kinds of failure, one exit code each. The README lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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
    /// The user stopped it.
    Interrupted,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Source => 3,
            Self::Target => 4,
            Self::Authentication => 5,
            Self::Network => 6,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// What happened, and at which end.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
        }
    }

    /// The same failure with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for people: `error:` and, where there is one, `hint:`.
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {}\n hint: {hint}", self.what),
            None => format!("error: {}", self.what),
        }
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.kind.code())
    }
}

impl From<source::Error> for Failure {
    fn from(error: source::Error) -> Self {
        Self {
            kind: Kind::Source,
            what: format!("source: {error}"),
            hint: error.hint(),
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        let kind = match &error {
            client::Error::Setup { .. }
            | client::Error::Connect { .. }
            | client::Error::Broken { .. } => Kind::Network,
            client::Error::Odd { .. } => Kind::Target,
            client::Error::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Authentication,
                _ => Kind::Target,
            },
        };
        Self {
            kind,
            what: format!("target: {error}"),
            hint: hint(&error),
        }
    }
}

fn hint(error: &client::Error) -> Option<String> {
    let text = match error {
        client::Error::Setup { .. } | client::Error::Odd { .. } => return None,
        client::Error::Connect {
            registry,
            tls: true,
            ..
        } => format!(
            "if {registry} speaks plain HTTP, pass --plain-http; if its certificate is not one \
             that this machine trusts, add its CA to the system's"
        ),
        client::Error::Connect { .. } => {
            "check the address and that the registry is running; then push again".to_owned()
        }
        client::Error::Broken { .. } => {
            "push again: blobs that arrived are not sent twice".to_owned()
        }
        client::Error::Refused { status, server, .. } => match *status {
            StatusCode::UNAUTHORIZED => {
                "log in with docker login or podman login, or set IMGSYNC_USERNAME and \
                 IMGSYNC_PASSWORD"
                    .to_owned()
            }
            StatusCode::FORBIDDEN => "nobody may push to this repository as you are".to_owned(),
            StatusCode::PAYLOAD_TOO_LARGE => {
                let proxy = server.as_deref().unwrap_or("a proxy");
                format!(
                    "{proxy} limits the size of a request; raise the limit (for nginx: \
                     client_max_body_size), or pass a smaller --chunk-size"
                )
            }
            StatusCode::INSUFFICIENT_STORAGE => {
                "the registry's disk is full: make room there, then push again".to_owned()
            }
            status if status.is_server_error() => {
                "the registry's own log says more; push again when it is well".to_owned()
            }
            _ => return None,
        },
    };
    Some(text)
}
