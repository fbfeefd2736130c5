//! Tests of connections: TLS, Unix sockets, slow clients, and many clients.

mod crowds;
mod slow;
mod tls;
mod unix;
