//! Listens on loopback until a test is done with it, so that the sockets and threads of all tests
//! do not add up in one process.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A listening socket; closed when this goes. Connections that are open then end with their clients.
pub struct Listener {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
}

impl Listener {
    /// Listens on a free port. Every connection is served on a thread of its own; `serve` is also
    /// told the listener's address.
    pub fn start(serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::start_on(listener, serve)
    }

    /// Serves the connections of a socket that listens already.
    pub fn start_on(
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let closing = Arc::new(AtomicBool::new(false));
        let (closed, serve) = (Arc::clone(&closing), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if closed.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream.expect("a connection"), address));
            }
        });
        Self { address, closing }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}
