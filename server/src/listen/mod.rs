//! Sockets: binds the address, accepts connections, agrees on TLS and HTTP version, and drains at
//! shutdown.
//!
//! This module does not know what a request means (`http` does) and starts no background job
//! (`serve` does). Start reading at [`ConnectionAcceptor`].

mod accept;
mod bind;
mod connection;
mod eviction;
mod metered_stream;
mod places;
mod plain_http;
mod tls;

pub use self::bind::BindError;
pub use self::tls::TlsError;

pub(crate) use self::accept::{ACCEPT_RETRY_DELAY, ConnectionAcceptor};
pub(crate) use self::bind::{AcceptedStream, Listener};
pub(crate) use self::tls::{ReloadableTls, certificate_expiries};
