//! An HTTP proxy that sends every request to one address and records the requested hosts. With it,
//! a test can use any host name without a network.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use super::listener::Listener;

/// A running proxy, stopped on drop.
pub struct HttpProxy {
    listener: Listener,
    request_lines: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    /// Starts a proxy that connects all clients to `target`.
    pub fn start(target: SocketAddr) -> Self {
        let request_lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&request_lines);
        let listener = Listener::start(move |stream, _| {
            // A client may disconnect in the middle of a request.
            let _ = serve(stream, target, &log);
        });
        Self {
            listener,
            request_lines,
        }
    }

    /// Returns the URL for `HTTP_PROXY` and `HTTPS_PROXY`.
    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// Returns the request line of the first request on each connection.
    pub fn request_lines(&self) -> Vec<String> {
        self.request_lines.lock().expect("the log").clone()
    }
}

fn serve(client: TcpStream, target: SocketAddr, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    log.lock()
        .expect("the log")
        .push(first.trim_end().to_owned());
    let tunnel = first.starts_with("CONNECT ");
    let mut server = TcpStream::connect(target)?;
    if tunnel {
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
                break;
            }
        }
        (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // Servers also accept the absolute form of the target (RFC 9112, section 3.2.2).
        server.write_all(first.as_bytes())?;
    }
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let back = std::thread::spawn(move || {
        let copied = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
        copied
    });
    std::io::copy(&mut reader, &mut server)?;
    server.shutdown(Shutdown::Write)?;
    let _ = back.join();
    Ok(())
}
