//! Tests of connections: TLS, Unix sockets, and slow clients.

mod slow;
mod tls;
mod unix;
