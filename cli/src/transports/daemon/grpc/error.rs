//! Why a request to a gRPC service failed.

use http::StatusCode;

use super::protobuf::MalformedMessage;
use crate::transports::daemon::request::innermost;

/// The status `UNAVAILABLE` of gRPC, which a server sends when it shuts down.
const GRPC_UNAVAILABLE: u32 = 14;

/// The reason why a request to the service failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::transports::daemon) enum GrpcError {
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// The daemon, or a proxy in front of it, refuses the connection to the service.
    #[error("the request POST /grpc was answered {0}")]
    Refused(StatusCode),
    /// The service reports an error.
    #[error("the service answered {}", describe(*code, message))]
    Status {
        /// The status code of gRPC.
        code: u32,
        /// The message of the service.
        message: String,
    },
    /// The response is invalid.
    #[error("{0}")]
    Malformed(String),
}

impl GrpcError {
    /// Returns whether the same request may succeed on another connection.
    pub(in crate::transports::daemon) fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Status { code, .. } => *code == GRPC_UNAVAILABLE,
            Self::Refused(_) | Self::Malformed(_) => false,
        }
    }

    /// Returns the error for a connection that failed, with the innermost cause.
    pub(in crate::transports::daemon) fn connection(
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        Self::Connection(innermost(error))
    }
}

impl From<MalformedMessage> for GrpcError {
    fn from(MalformedMessage: MalformedMessage) -> Self {
        Self::Malformed("the service sent an invalid message".to_owned())
    }
}

/// Describes a status code; the names are those of the gRPC specification.
fn describe(code: u32, message: &str) -> String {
    let name = match code {
        5 => "not found",
        7 => "permission denied",
        11 => "out of range",
        12 => "unimplemented",
        14 => "unavailable",
        16 => "unauthenticated",
        _ => return format!("status {code}: {message}"),
    };
    format!("{name}: {message}")
}
