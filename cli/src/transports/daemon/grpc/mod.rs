//! A client of the gRPC services that Docker serves over the socket of its API: containerd's content
//! service, and those of BuildKit.
//!
//! This module knows no service and no message. Start reading at [`open`] and [`call`].

mod call;
mod connection;
mod error;
mod protobuf;

pub(super) use call::{GrpcConnection, MessageStream, call};
pub(super) use connection::open;
pub(super) use error::GrpcError;
pub(super) use protobuf::{FieldReader, FieldValue, MalformedMessage, write_bytes, write_number};
