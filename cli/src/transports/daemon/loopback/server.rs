//! Accepts the connections of an engine on the loopback interface.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::LoopbackError;
use super::registry::LoopbackRegistry;

/// The first byte of a TLS connection. Engines try TLS first, also on the loopback interface.
const TLS_HANDSHAKE: u8 = 0x16;
/// The largest TLS hello that is read, in bytes.
const MAX_HELLO_BYTES: usize = 16 * 1024;
/// The answer to TLS. An engine that gets anything else than HTTP reports an error.
const NO_TLS_RESPONSE: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A server that ends when it is dropped.
#[derive(Debug)]
pub(super) struct LoopbackServer {
    /// The port on 127.0.0.1.
    pub(super) port: u16,
    accepting: JoinHandle<()>,
}

impl LoopbackServer {
    /// Starts a server at a free port.
    ///
    /// # Errors
    /// Returns an error if there is no port.
    pub(super) async fn start(registry: &Arc<LoopbackRegistry>) -> Result<Self, LoopbackError> {
        let no_port = |error: io::Error| {
            LoopbackError::new(format!(
                "no port on the loopback interface is free: {error}"
            ))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        let registry = Arc::clone(registry);
        let accepting = tokio::spawn(async move {
            // Ends all connections when the server is dropped.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        connections.spawn(serve(stream, Arc::clone(&registry)));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, accepting })
    }
}

impl Drop for LoopbackServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, registry: Arc<LoopbackRegistry>) {
    let mut first = [0];
    if stream.peek(&mut first).await.is_ok() && first == [TLS_HANDSHAKE] {
        let mut hello = vec![0; MAX_HELLO_BYTES];
        // The engine tries again without TLS, whether or not it gets the answer.
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(NO_TLS_RESPONSE).await;
        return;
    }
    let respond = service_fn(|request| async {
        Ok::<_, Infallible>(Arc::clone(&registry).respond(request).await)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), respond);
    if let Ok(parts) = connection.without_shutdown().await {
        // A refused upload is not read. Closing the connection now would reset it, and the engine
        // might not get the response.
        registry.ended().await;
        drop(parts.io);
    }
}
