//! Tests of connections: TLS, Unix sockets, slow clients, and many clients.

mod body_memory;
mod crowds;
mod memory;
mod raw;
mod slow;
mod tls;
mod unix;
