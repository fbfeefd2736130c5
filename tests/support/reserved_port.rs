//! Ports on loopback that no other test can take. Does not help programs that do not set
//! `SO_REUSEADDR`: they cannot listen on a reserved port.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that the system gives to nobody who asks for any free port, until this is dropped.
///
/// While nothing listens on the port, connections to it are refused. Programs that set `SO_REUSEADDR`
/// can listen on it, stop, and listen again. Among them are all servers that use tokio, Rust's `std`
/// or Go, and nginx, sshd and systemd.
pub struct ReservedPort {
    address: SocketAddr,
    /// Bound, but not listening: a second socket could not listen on the port otherwise.
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Reserves a free port of 127.0.0.1.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("a port that is shared");
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(any_port).expect("a free port");
        Self {
            address: socket.local_addr().expect("an address"),
            _socket: socket,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
