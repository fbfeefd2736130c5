//! Connections: TLS, sockets in the file system, and clients that are slow.

mod slow;
mod tls;
mod unix;
