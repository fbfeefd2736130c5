//! A TCP listener on loopback that closes when the test ends. All tests share one process, so
//! sockets and threads must not accumulate.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A listening socket, closed on drop. Open connections last until their clients close them.
pub struct Listener {
    address: SocketAddr,
    closing: Arc<AtomicBool>,
}

impl Listener {
    /// Listens on a free port, and calls `serve` for each connection on a new thread, with the
    /// address of the listener.
    pub fn start(serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::start_on(listener, serve)
    }

    /// Serves the connections of a socket that already listens.
    pub fn start_on(
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let closing = Arc::new(AtomicBool::new(false));
        let (is_closing, serve) = (Arc::clone(&closing), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_closing.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream.expect("a connection"), address));
            }
        });
        Self { address, closing }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        // `accept` returns only when a client connects.
        let _ = TcpStream::connect(self.address);
    }
}
